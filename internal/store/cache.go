package store

import (
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"

	"authnzerver/internal/token"
)

// Sizes of the cache in rows. A session takes about 400 bytes, a key 600, and a user
// about 1 KiB; the replies that go with sessions and keys are another 1 KiB and 500
// bytes. A full cache stays under 220 MB.
const (
	cachedSessions = 100_000
	cachedKeys     = 50_000
	cachedUsers    = 20_000
)

// A cache holds sessions, API keys and users as they are in the database.
//
// What a transaction changes is forgotten before it is committed, and a row that was
// read before the transaction is acknowledged is never put in after it: a revoked
// session is refused in the very next request.
type cache struct {
	sessions part[token.Digest, Session]
	keys     part[token.Digest, APIKey]
	users    part[int64, User]

	// mu orders putting rows in against forgetting them. generation counts
	// when a transaction that changed something began to be committed, and when
	// it was over; committing is how many are between the two.
	mu         sync.RWMutex
	generation uint64
	committing int
	// loads counts the rows that were read from the database.
	loads atomic.Uint64
}

// A part holds the rows of one kind.
type part[K comparable, V any] struct {
	rows *otter.Cache[K, *V]
	// open are those that a transaction changes which is being committed, with how
	// many of these there are.
	open map[K]int
}

func newPart[K comparable, V any](size int) part[K, V] {
	return part[K, V]{otter.Must(&otter.Options[K, *V]{MaximumSize: size}), map[K]int{}}
}

func newCache() *cache {
	return &cache{
		sessions: newPart[token.Digest, Session](cachedSessions),
		keys:     newPart[token.Digest, APIKey](cachedKeys),
		users:    newPart[int64, User](cachedUsers),
	}
}

// begin notes that rows are being changed.
func (p *part[K, V]) begin(keys []K) {
	for _, key := range keys {
		p.open[key]++
	}
}

// end notes that they have been.
func (p *part[K, V]) end(keys []K) {
	for _, key := range keys {
		p.open[key]--
		if p.open[key] == 0 {
			delete(p.open, key)
		}
	}
}

func (p *part[K, V]) forget(keys []K) {
	for _, key := range keys {
		p.rows.Invalidate(key)
	}
}

// A memo is what a caller has derived from a cached row. It is forgotten with the row, and
// is safe for concurrent use.
type memo struct{ atomic.Value }

// Memo returns what SetMemo was given last; nil if it was not called.
func (s *Session) Memo() any { return s.memo.Load() }

// SetMemo keeps a value with the session for as long as that is in memory. All values
// have the same type, which is not nil.
func (s *Session) SetMemo(value any) { s.memo.Store(value) }

// Memo returns what SetMemo was given last; nil if it was not called.
func (k *APIKey) Memo() any { return k.memo.Load() }

// SetMemo keeps a value with the key as [Session.SetMemo] does.
func (k *APIKey) SetMemo(value any) { k.memo.Store(value) }

// now returns the generation, to be read before the database is.
func (c *cache) now() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.generation
}

// A cacheState is what is known about the cache at some moment.
type cacheState struct {
	generation, loads uint64
	committing        bool
}

func (c *cache) state() cacheState {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return cacheState{c.generation, c.loads.Load(), c.committing > 0}
}

// same reports whether all rows that were read between two moments are of one state:
// nothing began to be committed, and while something was, all came from the cache.
func (s cacheState) same(later cacheState) bool {
	return s.generation == later.generation && (!s.committing || s.loads == later.loads)
}

// cached returns a row from its part of the cache, or else reads it and puts it there,
// unless something was forgotten since before it was read, or it is being changed.
func cached[K comparable, V any](c *cache, p *part[K, V], key K, read func() (*V, error)) (*V, error) {
	if row, ok := p.rows.GetIfPresent(key); ok {
		return row, nil
	}
	before := c.now()
	c.loads.Add(1)
	row, err := read()
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.generation == before && p.open[key] == 0 {
		p.rows.Set(key, row)
	}
	return row, nil
}

// commit commits a transaction and forgets what it changes. From when the change can be
// seen in the database until it is acknowledged, these rows are read from there and not put
// in: who has seen it is never told what was before, and the rows in the cache are of one
// state.
func (c *cache) commit(t *touched, commit func() error) error {
	c.mu.Lock()
	c.committing++
	c.sessions.begin(t.sessions)
	c.keys.begin(t.keys)
	c.users.begin(t.users)
	c.drop(t)
	c.mu.Unlock()
	err := commit()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committing--
	c.sessions.end(t.sessions)
	c.keys.end(t.keys)
	c.users.end(t.users)
	c.generation++ // who is reading has perhaps read what was before
	return err
}

// forget forgets what another process has changed.
func (c *cache) forget(t *touched) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(t)
}

func (c *cache) drop(t *touched) {
	c.generation++
	c.sessions.forget(t.sessions)
	c.keys.forget(t.keys)
	c.users.forget(t.users)
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.sessions.rows.InvalidateAll()
	c.keys.rows.InvalidateAll()
	c.users.rows.InvalidateAll()
}

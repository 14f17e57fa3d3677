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
// What a transaction changed is forgotten before the transaction is
// acknowledged, and a row that was read before that moment is never put in
// after it: a revoked session is refused in the very next request.
type cache struct {
	sessions *otter.Cache[token.Digest, *Session]
	keys     *otter.Cache[token.Digest, *APIKey]
	users    *otter.Cache[int64, *User]

	// mu orders putting rows in against forgetting them. generation counts
	// the transactions that forgot something.
	mu         sync.RWMutex
	generation uint64
}

func newCache() *cache {
	return &cache{
		sessions: otter.Must(&otter.Options[token.Digest, *Session]{MaximumSize: cachedSessions}),
		keys:     otter.Must(&otter.Options[token.Digest, *APIKey]{MaximumSize: cachedKeys}),
		users:    otter.Must(&otter.Options[int64, *User]{MaximumSize: cachedUsers}),
	}
}

// A memo is what a caller has derived from a cached row. It is forgotten with the row.
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

// cached returns a row from the part of the cache that rows of its kind are
// in, or else reads it and puts it there, unless something was forgotten since
// before it was read.
func cached[K comparable, V any](c *cache, rows *otter.Cache[K, *V], key K, read func() (*V, error)) (*V, error) {
	if row, ok := rows.GetIfPresent(key); ok {
		return row, nil
	}
	before := c.now()
	row, err := read()
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.generation == before {
		rows.Set(key, row)
	}
	return row, nil
}

func (c *cache) forget(t *touched) {
	if len(t.users) == 0 && len(t.sessions) == 0 && len(t.keys) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for _, digest := range t.sessions {
		c.sessions.Invalidate(digest)
	}
	for _, digest := range t.keys {
		c.keys.Invalidate(digest)
	}
	for _, id := range t.users {
		c.users.Invalidate(id)
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.sessions.InvalidateAll()
	c.keys.InvalidateAll()
	c.users.InvalidateAll()
}

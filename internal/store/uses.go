package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"authnzerver/internal/token"
)

// How seldom the use of one row is written.
const (
	noteKeyEvery     = time.Hour
	noteSessionEvery = time.Minute
)

// FlushEvery is how often [Store.FlushUses] is to be called.
const FlushEvery = time.Minute

// seenLag is by how much the last use of a session that the database holds lags: uses
// within noteSessionEvery of another are not noted, and another node writes its own
// every FlushEvery.
const seenLag = noteSessionEvery + FlushEvery

// NoteUse notes that a key was used now. Nothing is written before
// [Store.FlushUses].
func (s *Store) NoteUse(k *APIKey) { s.keyUses.note(k.Digest, &k.lastUse, s.now()) }

// NoteSeen notes that a session was used now. Nothing is written before
// [Store.FlushUses].
func (s *Store) NoteSeen(session *Session) {
	s.sessionUses.note(session.Digest, &session.lastUse, s.now())
}

// A lastUse is the use of a row that was last noted, in Unix nanoseconds, 0
// for none. It is the only part of a shared row that changes.
type lastUse struct{ noted atomic.Int64 }

// read takes over what the database holds, unless a later use was noted.
func (l *lastUse) read(at time.Time) {
	if at.IsZero() {
		return
	}
	for last := l.noted.Load(); last < at.UnixNano(); last = l.noted.Load() {
		if l.noted.CompareAndSwap(last, at.UnixNano()) {
			return
		}
	}
}

// uses are the uses of rows of one kind that were not written yet. What cannot
// be written stays for the next try.
type uses struct {
	// every is how seldom the use of one row is noted and written.
	every time.Duration
	// updates write ?1 as the last use of the row with the digest ?2, unless
	// a later one than ?3 is there: another server may have written it.
	updates []string

	mu      sync.Mutex
	pending map[token.Digest]time.Time
}

func usesOfKeys() *uses {
	u := &uses{every: noteKeyEvery}
	for _, table := range keyTables {
		u.updates = append(u.updates, "UPDATE "+table.name+
			" SET last_used = ?1 WHERE apikey = ?2 AND (last_used IS NULL OR last_used <= ?3)")
	}
	return u
}

func usesOfSessions() *uses {
	return &uses{every: noteSessionEvery, updates: []string{
		"UPDATE sessions SET last_seen = ?1 WHERE session_token = ?2 AND (last_seen IS NULL OR last_seen <= ?3)",
	}}
}

// note notes a use unless one was noted a short while ago.
func (u *uses) note(digest token.Digest, l *lastUse, now time.Time) {
	last := l.noted.Load()
	if since := now.UnixNano() - last; last != 0 && since >= 0 && since < int64(u.every) {
		return
	}
	if l.noted.CompareAndSwap(last, now.UnixNano()) {
		u.put(digest, now)
	}
}

func (u *uses) put(digest token.Digest, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[token.Digest]time.Time{}
	}
	u.pending[digest] = at
}

// newest returns the use that was not written yet, or else the one that the
// database holds.
func (u *uses) newest(digest token.Digest, stored time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, ok := u.pending[digest]; ok {
		return at
	}
	return stored
}

// take returns up to limit uses. They stay pending until done.
func (u *uses) take(limit int) map[token.Digest]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	batch := make(map[token.Digest]time.Time, min(limit, len(u.pending)))
	for digest, at := range u.pending {
		if len(batch) == limit {
			break
		}
		batch[digest] = at
	}
	return batch
}

func (u *uses) done(batch map[token.Digest]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for digest, at := range batch {
		if u.pending[digest].Equal(at) {
			delete(u.pending, digest)
		}
	}
}

// FlushUses writes the uses of keys and sessions that were noted, a few hundred
// in a transaction, at most one an hour for each key and one a minute for each
// session. Without any it does nothing.
func (s *Store) FlushUses(ctx context.Context) error {
	const batchSize = 500
	for _, u := range []*uses{s.keyUses, s.sessionUses} {
		for {
			batch := u.take(batchSize)
			if len(batch) == 0 {
				break
			}
			err := s.Update(ctx, func(ctx context.Context, tx *Tx) error { return tx.recordUses(ctx, u, batch) })
			if err != nil {
				return fmt.Errorf("write the uses of keys and sessions: %w", err)
			}
			u.done(batch)
		}
	}
	return nil
}

func (t *Tx) recordUses(ctx context.Context, u *uses, batch map[token.Digest]time.Time) error {
	for _, query := range u.updates {
		for digest, at := range batch {
			_, err := t.exec(ctx, query, at, digest.String(), at.Add(-u.every))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

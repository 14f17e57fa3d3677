package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"authnzerver/internal/dburl"
	"authnzerver/internal/token"
)

// How the nodes that share a database server learn of each other's changes: each
// transaction adds what it changed to the table cache_changes, with the server's
// time, and every node looks there when it is asked for something.
const (
	// lookEvery is how often a node looks, mustLookAfter when nobody is answered
	// from memory before it has: what is served is not older than that and the
	// time that a query takes.
	lookEvery     = 400 * time.Millisecond
	mustLookAfter = 900 * time.Millisecond
	// changesKept is how long changes are kept. A node that has not looked for
	// half of that forgets all it has in memory.
	changesKept = time.Minute
	// purgeAtOnce is how many changes one statement deletes.
	purgeAtOnce = 100
	// longestUpdate is how long a transaction may take, so much that it is not
	// under way any more. Numbers of changes are given out before they can be
	// seen, so that one may come after a larger one; after this time it does not.
	longestUpdate = 3 * updateTimeout
	// changesApart is how many changed rows of a transaction are told apart, and
	// announceAtOnce how many one statement adds.
	changesApart   = 200
	announceAtOnce = 10
	// settleTime is how long it is tried to learn whether a commit was made that
	// got no answer.
	settleTime = 2 * time.Second
)

// The kinds of changes.
const (
	changedUser    = "user"
	changedSession = "session"
	changedKey     = "key"
	changedAll     = "all"
	// changedNothing is in the only row of a transaction that changed nothing that
	// is kept in memory, and changedNever in that of one that was not made.
	changedNothing = "nothing"
	changedNever   = "never"
)

// longAgo is a moment of the server's clock. Both databases understand it.
func longAgo(d time.Duration) string {
	return fmt.Sprintf("CURRENT_TIMESTAMP(6) - INTERVAL '%d' SECOND", int(d/time.Second))
}

// A watch is what a node knows of the changes of others.
type watch struct {
	// done is when the node last looked, Unix nanoseconds.
	done atomic.Int64
	// turn is held by who looks, and guards the rest.
	turn chan struct{}
	// All changes up to low were seen, and those in seen above it, with when.
	low  int64
	seen map[int64]time.Time
	// purge is set when there may be changes to purge.
	purge atomic.Bool
}

func newWatch() *watch { return &watch{turn: make(chan struct{}, 1), seen: map[int64]time.Time{}} }

// startWatching notes from where on changes of others matter.
func (s *Store) startWatching(ctx context.Context) error {
	if s.url.Dialect == dburl.SQLite {
		err := s.writer.QueryRowContext(ctx, "PRAGMA data_version").Scan(&s.dataVersion)
		if err != nil {
			return fmt.Errorf("read data_version: %w", classify(err))
		}
		return nil
	}
	query, _ := s.dialect.translate("SELECT coalesce(max(change_id), 0) FROM cache_changes WHERE changed < "+longAgo(longestUpdate), nil)
	err := s.reader.QueryRowContext(ctx, query).Scan(&s.watch.low)
	if err != nil {
		return fmt.Errorf("read the last change: %w", classify(err))
	}
	s.watch.purge.Store(true)
	s.watch.done.Store(s.now().UnixNano())
	return nil
}

// checkForeignWrites sees to it that what is in memory is not older than it may
// be now. Without requests it does nothing.
func (s *Store) checkForeignWrites(ctx context.Context, now time.Time) error {
	if s.url.Dialect == dburl.SQLite {
		return s.checkFile(ctx, now)
	}
	age := func(now time.Time) time.Duration { return time.Duration(now.UnixNano() - s.watch.done.Load()) }
	since := age(now)
	if since >= 0 && since < lookEvery {
		return nil
	}
	select {
	case s.watch.turn <- struct{}{}:
	default:
		if since >= 0 && since < mustLookAfter {
			return nil // another request is looking
		}
		select {
		case s.watch.turn <- struct{}{}:
		case <-ctx.Done():
			return classify(ctx.Err())
		}
	}
	defer func() { <-s.watch.turn }()
	since = age(s.now())
	if since >= 0 && since < lookEvery {
		return nil // another request has looked
	}
	began := s.now()
	if since < 0 || since > changesKept/2 {
		s.cache.clear()
	}
	_, err := reading(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, s.look(ctx) })
	if err != nil {
		return fmt.Errorf("look for changes by other nodes: %w", err)
	}
	s.watch.done.Store(began.UnixNano())
	return nil
}

// look forgets what others have changed. The caller has the turn.
func (s *Store) look(ctx context.Context) error {
	w := s.watch
	now := s.now()
	query, args := s.dialect.translate("SELECT change_id, kind, row_key FROM cache_changes WHERE change_id > ? ORDER BY change_id", []any{w.low})
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	var changed touched
	all := false
	var ids []int64
	for rows.Next() {
		var id int64
		var kind, key string
		err := rows.Scan(&id, &kind, &key)
		if err != nil {
			return classify(err)
		}
		ids = append(ids, id)
		if _, old := w.seen[id]; old {
			continue
		}
		w.seen[id] = now
		switch kind {
		case changedNothing, changedNever:
		case changedUser:
			n, _ := strconv.ParseInt(key, 10, 64) // written by announce
			changed.users = append(changed.users, n)
		case changedSession, changedKey:
			digest, _ := token.ParseDigest(key) // written by announce
			if kind == changedSession {
				changed.sessions = append(changed.sessions, digest)
			} else {
				changed.keys = append(changed.keys, digest)
			}
		default: // also of a newer version
			all = true
		}
	}
	err = rows.Err()
	if err != nil {
		return classify(err)
	}
	if len(ids) > 0 {
		w.purge.Store(true)
	}
	switch {
	case all:
		s.cache.clear()
	case changed.any():
		s.cache.forget(&changed)
	}
	for _, id := range ids {
		if id != w.low+1 && now.Sub(w.seen[id]) < longestUpdate {
			break
		}
		w.low = id
		delete(w.seen, id)
	}
	return nil
}

// A change is a row of cache_changes.
type change struct{ kind, key string }

// announce tells other nodes what the transaction has changed.
func (s *Store) announce(ctx context.Context, t *Tx) error {
	if s.url.Dialect == dburl.SQLite || !t.changed {
		return nil
	}
	c := &t.touched
	var changes []change
	switch n := len(c.users) + len(c.sessions) + len(c.keys); {
	case n == 0:
		changes = append(changes, change{changedNothing, ""})
	case n > changesApart:
		changes = append(changes, change{changedAll, ""})
	default:
		for _, id := range c.users {
			changes = append(changes, change{changedUser, strconv.FormatInt(id, 10)})
		}
		for _, digest := range c.sessions {
			changes = append(changes, change{changedSession, digest.String()})
		}
		for _, digest := range c.keys {
			changes = append(changes, change{changedKey, digest.String()})
		}
	}
	t.id = NewUUID()
	part := 0
	for chunk := range slices.Chunk(changes, announceAtOnce) {
		var args []any
		for _, one := range chunk {
			args = append(args, t.id, part, one.kind, one.key)
			part++
		}
		_, err := t.exec(ctx, "INSERT INTO cache_changes (transaction_id, part, kind, row_key, changed) VALUES "+
			strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, CURRENT_TIMESTAMP(6)), ", len(chunk)), ", "), args...)
		if err != nil {
			return fmt.Errorf("announce a change: %w", err)
		}
	}
	s.watch.purge.Store(true)
	return nil
}

// settle finds out whether a transaction was committed whose commit failed without
// an answer. It takes the transaction's place in cache_changes: where that is free,
// the transaction was not committed and cannot be any more, and where it is not,
// because it is still under way, the database lets settle wait for its end.
func (s *Store) settle(ctx context.Context, id string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	take, takeArgs := s.dialect.translate("INSERT INTO cache_changes (transaction_id, part, kind, row_key, changed) VALUES (?, ?, ?, ?, CURRENT_TIMESTAMP(6))",
		[]any{id, 0, changedNever, ""})
	read, readArgs := s.dialect.translate("SELECT kind FROM cache_changes WHERE transaction_id = ? AND part = ?", []any{id, 0})
	for try := 0; ; try++ {
		_, err := s.writer.ExecContext(ctx, take, takeArgs...)
		err = classify(err)
		kind := changedNever
		if errors.Is(err, ErrConflict) {
			err = classify(s.writer.QueryRowContext(ctx, read, readArgs...).Scan(&kind))
		}
		switch {
		case err == nil && kind == changedNever: // perhaps by an earlier try, which lost its connection, too
			return fmt.Errorf("%w: %w", errLost, cause)
		case err == nil:
			return nil
		case !pause(ctx, try):
			return fmt.Errorf("%w: %w", ErrUnknown, errors.Join(cause, err))
		}
	}
}

// PurgeChanges deletes what all nodes have seen long ago. When nothing has changed
// since the last time it does nothing.
func (s *Store) PurgeChanges(ctx context.Context) error {
	if s.url.Dialect == dburl.SQLite || !s.watch.purge.Swap(false) {
		return nil
	}
	for {
		n, err := s.purgeChanges(ctx)
		if err != nil {
			s.watch.purge.Store(true)
			return fmt.Errorf("purge changes: %w", err)
		}
		if n < purgeAtOnce {
			return nil
		}
	}
}

func (s *Store) purgeChanges(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	query, args := s.dialect.translate("SELECT change_id FROM cache_changes WHERE changed < "+longAgo(changesKept)+" ORDER BY changed LIMIT ?",
		[]any{purgeAtOnce})
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, classify(err)
	}
	defer rows.Close()
	var ids []any
	for rows.Next() {
		var id int64
		err = rows.Scan(&id)
		if err != nil {
			return 0, classify(err)
		}
		ids = append(ids, id)
	}
	err = rows.Err()
	if err != nil || len(ids) == 0 {
		return 0, classify(err)
	}
	query, args = s.dialect.translate("DELETE FROM cache_changes WHERE change_id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", ids)
	_, err = s.writer.ExecContext(ctx, query, args...)
	return len(ids), classify(err)
}

// noticeInside looks for changes of others at the start of a transaction, on
// SQLite, where that costs next to nothing.
func (s *Store) noticeInside(ctx context.Context, tx *sql.Tx) error {
	if s.url.Dialect == dburl.SQLite {
		return s.noticeForeignWrites(ctx, tx)
	}
	return nil
}

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"authnzerver/internal/dburl"
)

// An EventLog is the event log of a database that servers may be using. It is used by one
// goroutine at a time.
type EventLog struct {
	store *Store
	// All events up to low were read, and those in seen above it, with when.
	low  int64
	seen map[int64]time.Time
}

// OpenEventLog opens the event log of a database of this version, which it does not
// change. Others are ErrSchema and ErrUnfinished.
func OpenEventLog(ctx context.Context, url string) (*EventLog, error) {
	s, err := openRaw(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	err = s.hasCurrentSchema(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the database %s: %w", s.url, err), s.Close())
	}
	return &EventLog{store: s, seen: map[int64]time.Time{}}, nil
}

// Close closes the database.
func (l *EventLog) Close() error { return l.store.Close() }

// Last returns the newest events that a query asks for, the oldest of them first. New
// goes on after them.
func (l *EventLog) Last(ctx context.Context, q EventQuery) ([]Event, error) {
	var events []Event
	err := l.store.View(ctx, func(ctx context.Context, tx *Tx) error {
		newest, err := tx.Events(ctx, EventQuery{Limit: 1})
		if err != nil {
			return err
		}
		for _, e := range newest {
			// Those that were written shortly before are read once more, and those
			// among them that were seen are left out.
			l.low = e.ID
		}
		recent, err := tx.recentEvents(ctx, l.low)
		if err != nil {
			return err
		}
		for _, e := range recent {
			l.low = min(l.low, e.ID-1)
			l.seen[e.ID] = e.Occurred
		}
		events, err = tx.Events(ctx, q)
		return err
	})
	slices.Reverse(events)
	return events, err
}

// recentAtMost is how many events are looked at to find those that were written shortly
// before: more than are written in that time.
const recentAtMost = 10_000

// recentEvents returns events up to one that were written so recently that one with a
// smaller number may still become visible.
func (t *Tx) recentEvents(ctx context.Context, upTo int64) ([]Event, error) {
	events, err := t.Events(ctx, EventQuery{Before: upTo + 1, Limit: recentAtMost})
	return slices.DeleteFunc(events, func(e Event) bool { return t.now.Sub(e.Occurred) > longestUpdate }), err
}

// newAtOnce is how many events New returns at most.
const newAtOnce = 1000

// New returns events that were written since the last call, up to 1,000, in the order of
// their numbers. One that became visible after one with a larger number comes later.
func (l *EventLog) New(ctx context.Context) ([]Event, error) {
	var found []Event
	err := l.store.View(ctx, func(ctx context.Context, tx *Tx) error {
		events, err := tx.Events(ctx, EventQuery{After: &l.low, Limit: newAtOnce + int64(len(l.seen))})
		if err != nil {
			return err
		}
		for _, e := range events {
			if _, seen := l.seen[e.ID]; !seen {
				found = append(found, e)
				l.seen[e.ID] = tx.now
			}
		}
		for id, when := range l.seen {
			if tx.now.Sub(when) > longestUpdate {
				l.low = max(l.low, id)
			}
		}
		for id := range l.seen {
			if id <= l.low {
				delete(l.seen, id)
			}
		}
		return nil
	})
	return found, err
}

// Prune deletes the events from before a moment, a few hundred in a transaction so that
// nobody waits for it, and returns how many there were.
func (l *EventLog) Prune(ctx context.Context, before time.Time) (n int64, err error) {
	const batch, pause = 500, 20 * time.Millisecond
	s := l.store
	if s.url.Dialect == dburl.SQLite && s.writer == nil {
		s.writer, err = openPool(s.url.Path, true, 1)
		if err != nil {
			return 0, err
		}
	}
	for {
		var deleted int64
		err := s.Update(ctx, func(ctx context.Context, tx *Tx) error {
			deleted, err = tx.DeleteOldEvents(ctx, before, batch)
			return err
		})
		n += deleted
		if err != nil || deleted < batch {
			return n, err
		}
		select {
		case <-ctx.Done():
			return n, ctx.Err()
		case <-time.After(pause):
		}
	}
}

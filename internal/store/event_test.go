package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/store"
)

// events returns the ids of the events that a query asks for.
func (f *fixture) events(q store.EventQuery) (ids []int64) {
	f.t.Helper()
	f.view(func(ctx context.Context, tx *store.Tx) error {
		events, err := tx.Events(ctx, q)
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		return err
	})
	return ids
}

func (f *fixture) addEvent(e *store.Event, deliver bool) {
	f.t.Helper()
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.AddEvent(ctx, e, deliver) })
}

func TestEvents(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		full := store.Event{
			Kind: "user.edited", UserID: 4, ActorID: 1, Request: "user-edit", IPAddress: "2001:db8::1",
			UserAgent: "Agent/1.0 (ünix)", Details: []byte(`{"fields":["full_name","é"]}`),
		}
		f.addEvent(&full, false)
		f.clock.advance(time.Second)
		f.addEvent(&store.Event{Kind: "user.login_failed"}, false)
		f.addEvent(&store.Event{Kind: "user.login_failed", UserID: 4}, false)
		var stored []store.Event
		f.view(func(ctx context.Context, tx *store.Tx) error {
			var err error
			stored, err = tx.Events(ctx, store.EventQuery{Limit: 10})
			return err
		})
		full.ID, full.Occurred = 1, start.Truncate(time.Microsecond)
		bare := store.Event{ID: 2, Kind: "user.login_failed", Occurred: full.Occurred.Add(time.Second)}
		if diff := cmp.Diff([]store.Event{bare, full}, stored[1:]); diff != "" {
			t.Error(diff)
		}

		zero, one := int64(0), int64(1)
		for name, test := range map[string]struct {
			query store.EventQuery
			want  []int64
		}{
			"all":        {store.EventQuery{Limit: 10}, []int64{3, 2, 1}},
			"newest":     {store.EventQuery{Limit: 2}, []int64{3, 2}},
			"before":     {store.EventQuery{Limit: 10, Before: 3}, []int64{2, 1}},
			"of a user":  {store.EventQuery{Limit: 10, UserID: 4}, []int64{3, 1}},
			"of a kind":  {store.EventQuery{Limit: 10, Kind: "user.login_failed"}, []int64{3, 2}},
			"both":       {store.EventQuery{Limit: 10, UserID: 4, Kind: "user.edited", Before: 3}, []int64{1}},
			"from first": {store.EventQuery{Limit: 2, After: &zero}, []int64{1, 2}},
			"after":      {store.EventQuery{Limit: 10, After: &one, UserID: 4}, []int64{3}},
			"none":       {store.EventQuery{Limit: 10, UserID: 5}, nil},
		} {
			if diff := cmp.Diff(test.want, f.events(test.query)); diff != "" {
				t.Errorf("%s:\n%s", name, diff)
			}
		}
	})
}

// TestEventsComeAndGoWithTheirTransaction has a transaction fail after an event.
func TestEventsComeAndGoWithTheirTransaction(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			err := tx.AddEvent(ctx, &store.Event{Kind: "a"}, true)
			if err != nil {
				t.Error(err)
			}
			return store.ErrConflict
		})
		wantErr(t, "update", err, store.ErrConflict)
		equal(t, "events", len(f.events(store.EventQuery{Limit: 10})), 0)
		f.view(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.NextDelivery(ctx)
			wantErr(t, "next to send", err, store.ErrNotFound)
			return nil
		})
	})
}

// TestEventIDsAreNotUsedAgain deletes the newest event.
func TestEventIDsAreNotUsedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		f.addEvent(&store.Event{Kind: "a"}, true)
		f.clock.advance(time.Hour)
		f.update(func(ctx context.Context, tx *store.Tx) error {
			n, err := tx.DeleteOldEvents(ctx, tx.Now(), 10)
			equal(t, "deleted", n, 1)
			return err
		})
		f.addEvent(&store.Event{Kind: "b"}, true)
		equal(t, "ids", fmt.Sprint(f.events(store.EventQuery{Limit: 10})), "[2]")
		f.update(func(ctx context.Context, tx *store.Tx) error {
			d, err := tx.NextDelivery(ctx)
			if err == nil {
				equal(t, "next to send", d.Kind, "b")
			}
			return err
		})
	})
}

func TestDeliveries(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		f.addEvent(&store.Event{Kind: "not sent"}, false)
		f.addEvent(&store.Event{Kind: "first"}, true)
		f.addEvent(&store.Event{Kind: "second"}, true)
		next := func(kind string, attempts int, at time.Time) *store.Delivery {
			t.Helper()
			var d *store.Delivery
			f.view(func(ctx context.Context, tx *store.Tx) (err error) {
				d, err = tx.NextDelivery(ctx)
				return err
			})
			equal(t, "kind", d.Kind, kind)
			equal(t, "attempts", d.Attempts, attempts)
			equal(t, "time", d.NextTry, at.Truncate(time.Microsecond))
			return d
		}
		d := next("first", 0, start)
		until := start.Add(time.Minute)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.ClaimDelivery(ctx, d, until) })
		err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.ClaimDelivery(ctx, d, until) })
		wantErr(t, "second claim", err, store.ErrConflict)
		next("first", 1, until)
		f.update(func(ctx context.Context, tx *store.Tx) error {
			return tx.PutOffDelivery(ctx, d.ID, until.Add(time.Hour))
		})
		next("first", 1, until.Add(time.Hour))
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.EndDelivery(ctx, d.ID) })
		next("second", 0, start)
	})
}

// TestDeliveriesOfParallelWriters has several transactions queue events at once: each is
// queued under its own id.
func TestDeliveriesOfParallelWriters(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const writers, each = 4, 10
		var running sync.WaitGroup
		for range writers {
			running.Go(func() {
				for range each {
					err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
						return tx.AddEvent(ctx, &store.Event{Kind: "a"}, true)
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
		last := int64(0)
		for range writers * each {
			f.update(func(ctx context.Context, tx *store.Tx) error {
				d, err := tx.NextDelivery(ctx)
				if err != nil {
					return err
				}
				if d.ID <= last {
					t.Errorf("event %d comes after %d", d.ID, last)
				}
				last = d.ID
				return tx.EndDelivery(ctx, d.ID)
			})
		}
		f.view(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.NextDelivery(ctx)
			wantErr(t, "next to send", err, store.ErrNotFound)
			return nil
		})
	})
}

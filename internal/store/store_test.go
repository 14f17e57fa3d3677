package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

var errTest = errors.New("an error of the test")

// goesOn checks that the store still reads and writes, at once, and that the
// user was not inserted.
func goesOn(t *testing.T, f *fixture, unwanted string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := f.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		taken, err := tx.EmailTaken(ctx, unwanted+"@example.org", 0)
		equal(t, "half done", taken, false)
		return errors.Join(err, tx.InsertSession(ctx, newSession(store.NewUUID(), 2, tx.Now())))
	})
	wantErr(t, "the next change", err, nil)
	err = f.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := usersOf(ctx, tx, store.UserQuery{})
		return err
	})
	wantErr(t, "the next reading", err, nil)
}

func TestUpdateThatFails(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		s := f.insertSession("s", 2)
		_, _, err := f.Session(t.Context(), s.Digest)
		wantErr(t, "session before", err, nil)
		err = f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteSession(ctx, s.Digest)
			return errors.Join(err, tx.InsertUser(ctx, newUser("u")), errTest)
		})
		wantErr(t, "Update", err, errTest)
		_, _, err = f.Session(t.Context(), s.Digest)
		wantErr(t, "session after", err, nil)
		goesOn(t, f, "u")
	})
}

// A transaction in which a change has failed is not made, even if the function
// goes on: not all databases could.
func TestUpdateAfterAFailedStatement(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			u := newUser("u")
			u.Role = "baker"
			wantErr(t, "unknown role", tx.InsertUser(ctx, u), store.ErrReference)
			_ = tx.InsertUser(ctx, newUser("v"))
			return nil
		})
		wantErr(t, "Update", err, store.ErrReference)
		err = f.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.UserByEmail(ctx, "v@example.org")
			return err
		})
		wantErr(t, "the user after it", err, store.ErrNotFound)
		goesOn(t, f, "u")
	})
}

func TestUpdateThatPanics(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		func() {
			defer func() { equal[any](t, "panic", recover(), "a panic of the test") }()
			_ = f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				err := tx.InsertUser(ctx, newUser("u"))
				wantErr(t, "insert", err, nil)
				panic("a panic of the test")
			})
		}()
		goesOn(t, f, "u")
	})
}

// A test's FailNow, for example, ends a goroutine without a panic.
func TestUpdateThatEndsItsGoroutine(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		var wait sync.WaitGroup
		wait.Go(func() {
			_ = f.Update(context.Background(), func(ctx context.Context, tx *store.Tx) error {
				err := tx.InsertUser(ctx, newUser("u"))
				wantErr(t, "insert", err, nil)
				runtime.Goexit()
				return nil
			})
		})
		wait.Wait()
		goesOn(t, f, "u")
	})
}

func TestViewThatPanics(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		for range 50 { // more often than there are connections
			func() {
				defer func() { equal[any](t, "panic", recover(), "a panic of the test") }()
				_ = f.View(t.Context(), func(context.Context, *store.Tx) error { panic("a panic of the test") })
			}()
		}
		goesOn(t, f, "u")
	})
}

func TestViewThatFails(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		err := f.View(t.Context(), func(context.Context, *store.Tx) error { return errTest })
		wantErr(t, "View", err, errTest)
	})
}

func TestViewCannotWrite(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		s := f.insertSession("s", 2)
		err := f.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, deleted := tx.DeleteSession(ctx, s.Digest)
			for what, err := range map[string]error{
				"InsertUser": tx.InsertUser(ctx, newUser("u")), "DeleteSession": deleted, "AddRoles": tx.AddRoles(ctx, []string{"baker"}),
			} {
				if err == nil {
					t.Errorf("%s succeeded", what)
				}
			}
			return nil
		})
		wantErr(t, "View", err, nil)
		_, _, err = f.Session(t.Context(), s.Digest)
		wantErr(t, "session after", err, nil)
		goesOn(t, f, "u")
	})
}

func TestViewIsASnapshot(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		f.view(func(ctx context.Context, tx *store.Tx) error {
			before, err := usersOf(ctx, tx, store.UserQuery{})
			if err != nil {
				return err
			}
			f.insertUser("meanwhile")
			after, err := usersOf(ctx, tx, store.UserQuery{})
			equal(t, "users seen", len(after), len(before))
			return err
		})
	})
}

// A transaction shows one moment.
func TestNow(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		check := func(ctx context.Context, tx *store.Tx) error {
			before := tx.Now()
			equal(t, "moment", before, f.clock.Now())
			f.clock.advance(time.Second)
			equal(t, "moment later", tx.Now(), before)
			return nil
		}
		f.update(check)
		f.view(check)
	})
}

func TestCancelledContexts(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		s := f.insertSession("s", 2)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, sessionErr := f.Session(cancelled, token.Sum("not in memory"))
		_, userErr := f.User(cancelled, 1)
		for what, err := range map[string]error{
			"Update":  f.Update(cancelled, func(context.Context, *store.Tx) error { return errTest }),
			"View":    f.View(cancelled, func(context.Context, *store.Tx) error { return errTest }),
			"Ping":    f.Ping(cancelled),
			"Session": sessionErr, "User": userErr,
		} {
			wantErr(t, what, err, context.Canceled)
		}

		ctx, cancel := context.WithCancel(t.Context())
		err := f.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteSession(ctx, s.Digest)
			err = errors.Join(err, tx.InsertUser(ctx, newUser("u")))
			cancel()
			return err
		})
		wantErr(t, "Update that is cancelled", err, context.Canceled)
		_, _, err = f.Session(t.Context(), s.Digest)
		wantErr(t, "session after", err, nil)
		goesOn(t, f, "u")
	})
}

// Whenever a context ends, a transaction of two rows is made whole or not at
// all, and it is made when Update says so.
func TestContextsThatEndAtAnyTime(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const goroutines, each = 8, 60
		var wait sync.WaitGroup
		for g := range goroutines {
			wait.Go(func() {
				random := rand.New(rand.NewPCG(uint64(g), 3))
				for range each {
					a, b := store.NewUUID(), store.NewUUID()
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(20_000))*time.Microsecond)
					acknowledged := f.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
						err := tx.InsertSession(ctx, newSession(a, 2, tx.Now()))
						if err != nil {
							return err
						}
						return tx.InsertSession(ctx, newSession(b, 2, tx.Now()))
					})
					cancel()
					_, _, errA := f.Session(t.Context(), token.Sum(a))
					_, _, errB := f.Session(t.Context(), token.Sum(b))
					if (errA == nil) != (acknowledged == nil) || (errB == nil) != (acknowledged == nil) {
						t.Errorf("Update: %v, but the rows: %v and %v", acknowledged, errA, errB)
					}
				}
			})
		}
		wait.Wait()
		goesOn(t, f, "u")
	})
}

func TestWritersLoseNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const writers, each = 16, 40
		s := f.insertSession("counter", 2)
		var wait sync.WaitGroup
		for range writers {
			wait.Go(func() {
				for range each {
					err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
						s, err := tx.Session(ctx, s.Digest)
						if err != nil {
							return err
						}
						return tx.SetSessionInfo(ctx, s.Digest, fmt.Appendf(nil, `"%s+"`, strings.Trim(string(s.ExtraInfo), `"`)))
					})
					wantErr(t, "Update", err, nil)
				}
			})
		}
		wait.Wait()
		got, _, err := f.Session(t.Context(), s.Digest)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "increments", string(got.ExtraInfo), `"`+strings.Repeat("+", writers*each)+`"`)
	})
}

func TestClosedStores(t *testing.T) {
	t.Parallel()
	for _, kind := range databases.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, err := open(t, servers.New(t, kind))
			if err != nil {
				t.Fatal(err)
			}
			err = s.Close()
			wantErr(t, "Close", err, nil)
			_, _, sessionErr := s.Session(t.Context(), token.Sum("s"))
			nothing := func(context.Context, *store.Tx) error { return nil }
			for what, err := range map[string]error{
				"Ping": s.Ping(t.Context()), "Session": sessionErr,
				"Update": s.Update(t.Context(), nothing), "View": s.View(t.Context(), nothing),
			} {
				if err == nil {
					t.Errorf("%s succeeded on a closed store", what)
				}
			}
		})
	}
}

// A write lock that another process keeps makes changes fail in time, and
// reading goes on.
func TestForeignWriteLock(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	raw := rawSQLite(t, path)
	mustExec(t, raw, "BEGIN IMMEDIATE")
	began := time.Now()
	err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, newUser("u")) })
	wantErr(t, "Update", err, store.ErrUnavailable)
	// Published clients give up after 5 s.
	if took := time.Since(began); took > 4800*time.Millisecond {
		t.Errorf("Update took %v", took)
	}
	began = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = f.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, newUser("u")) })
	wantErr(t, "Update of a short context", err, store.ErrUnavailable)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("Update of a context of 100 ms took %v", took)
	}
	f.view(func(ctx context.Context, tx *store.Tx) error {
		_, err := usersOf(ctx, tx, store.UserQuery{})
		return err
	})
	mustExec(t, raw, "ROLLBACK")
	goesOn(t, f, "u")
}

// TestNested has what was undone leave nothing, and what was kept, and what comes before and
// after it, stay.
func TestNested(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		before, undone, kept, after := newUser("before"), newUser("undone"), newUser("kept"), newUser("after")
		insert := func(tx *store.Tx, u *store.User) func(context.Context) error {
			return func(ctx context.Context) error { return tx.InsertUser(ctx, u) }
		}
		f.update(func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(
				tx.InsertUser(ctx, before), tx.Nested(ctx, false, insert(tx, undone)), tx.Nested(ctx, true, insert(tx, kept)), tx.InsertUser(ctx, after),
			)
		})
		equal(t, "id of what was kept", kept.ID, before.ID+1)
		equal(t, "id of what came after", after.ID, before.ID+2)
		f.view(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.UserByEmail(ctx, undone.Email)
			wantErr(t, "what was undone", err, store.ErrNotFound)
			_, err = tx.UserByEmail(ctx, kept.Email)
			return err
		})
		err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return tx.Nested(ctx, true, func(context.Context) error { return store.ErrConflict })
		})
		wantErr(t, "one that fails", err, store.ErrConflict)
	})
}

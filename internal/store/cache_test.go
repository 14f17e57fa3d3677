package store_test

import (
	order "cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// A model is what a store should hold, in plain maps.
type model struct {
	users    map[int64]store.User
	sessions map[token.Digest]*store.Session
	lastID   int64
}

func (m *model) clone() *model {
	return &model{users: maps.Clone(m.users), sessions: maps.Clone(m.sessions), lastID: m.lastID}
}

func (m *model) emailOwner(email string) int64 {
	for id, u := range m.users {
		if u.Email == email {
			return id
		}
	}
	return 0
}

// sessionsOf returns the sessions of a user that have not expired, the newest
// first.
func (m *model) sessionsOf(userID int64, now time.Time) []*store.Session {
	var found []*store.Session
	for _, s := range m.sessions {
		if s.UserID == userID && s.Expires.After(now) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *store.Session) int {
		return order.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return found
}

func (m *model) deleteSessionsOf(userID int64, except token.Digest) int {
	before := len(m.sessions)
	maps.DeleteFunc(m.sessions, func(d token.Digest, s *store.Session) bool { return s.UserID == userID && d != except })
	return before - len(m.sessions)
}

// The values that are drawn: few, so that they meet.
var (
	drawUser   = rapid.Int64Range(1, 8)
	drawEmail  = rapid.SampledFrom([]string{"a@example.org", "A@example.org", "b@example.org", "c@example.org"})
	drawRole   = rapid.SampledFrom([]string{"staff", "authenticated", "locked", "no such role"})
	drawSecret = rapid.SampledFrom([]string{"s1", "s2", "s3", "s4", "s5"})
	drawInfo   = rapid.SampledFrom([]string{`{"a": 1}`, `{}`, `[]`})
)

// An operation draws a change and returns it together with what it does to
// the model, which returns the error that the change should end in.
type operation func(t *rapid.T) (change func(context.Context, *store.Tx) error, expect func(*model, time.Time) error)

func operations() map[string]operation {
	// same reports a difference between what store and model return.
	same := func(t *rapid.T, what string, got *int, want int) {
		if *got != want {
			t.Fatalf("%s returned %d, want %d", what, *got, want)
		}
	}
	return map[string]operation{
		"InsertUser": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			u := bareUser("x")
			u.Email, u.Role = drawEmail.Draw(t, "email"), drawRole.Draw(t, "role")
			return func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) },
				func(m *model, now time.Time) error {
					if m.emailOwner(u.Email) != 0 {
						return store.ErrConflict
					}
					if u.Role == "no such role" {
						return store.ErrReference
					}
					m.lastID++
					if u.ID != m.lastID {
						t.Fatalf("id %d, want %d", u.ID, m.lastID)
					}
					want := *u
					want.CreatedOn, want.LastUpdated = now, now
					m.users[u.ID] = want
					return nil
				}
		},
		"UpdateUser": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			u := store.User{
				ID: drawUser.Draw(t, "user"), Email: drawEmail.Draw(t, "email"), Role: drawRole.Draw(t, "role"),
				IsActive: rapid.Bool().Draw(t, "active"), ExtraInfo: []byte(drawInfo.Draw(t, "info")),
			}
			return func(ctx context.Context, tx *store.Tx) error { return tx.UpdateUser(ctx, new(u)) },
				func(m *model, now time.Time) error {
					old, ok := m.users[u.ID]
					if !ok {
						return store.ErrNotFound
					}
					if owner := m.emailOwner(u.Email); owner != 0 && owner != u.ID {
						return store.ErrConflict
					}
					if u.Role == "no such role" {
						return store.ErrReference
					}
					want := u
					want.SystemID, want.PasswordHash, want.CreatedOn = old.SystemID, old.PasswordHash, old.CreatedOn
					want.LastLoginOK, want.LastLoginTry, want.LastUpdated = old.LastLoginOK, old.LastLoginTry, now
					if u.IsActive {
						want.FirstVerified = now
					}
					m.users[u.ID] = want
					return nil
				}
		},
		"SetPassword": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			id, passwords := drawUser.Draw(t, "user"), rapid.SampledFrom([]string{"p", "q", "hash"})
			from, to := passwords.Draw(t, "from"), passwords.Draw(t, "to")
			return func(ctx context.Context, tx *store.Tx) error { return tx.SetPassword(ctx, id, from, to) },
				func(m *model, now time.Time) error {
					u, ok := m.users[id]
					if !ok || u.PasswordHash != from {
						return store.ErrConflict
					}
					u.PasswordHash, u.LastUpdated = to, now
					m.users[id] = u
					return nil
				}
		},
		"RecordLogin": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			id, success := drawUser.Draw(t, "user"), rapid.Bool().Draw(t, "success")
			return func(ctx context.Context, tx *store.Tx) error { return tx.RecordLogin(ctx, id, success) },
				func(m *model, now time.Time) error {
					u, ok := m.users[id]
					if !ok {
						return nil
					}
					u.LastLoginTry = now
					if success {
						u.LastLoginOK = now
					}
					m.users[id] = u
					return nil
				}
		},
		"DeleteUser": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			id := drawUser.Draw(t, "user")
			var found bool
			return func(ctx context.Context, tx *store.Tx) (err error) {
					found, err = tx.DeleteUser(ctx, id)
					return err
				},
				func(m *model, _ time.Time) error {
					_, ok := m.users[id]
					if found != ok {
						t.Fatalf("DeleteUser(%d) is %t", id, found)
					}
					m.deleteSessionsOf(id, token.Digest{})
					delete(m.users, id)
					return nil
				}
		},
		"InsertSession": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			secret, id := drawSecret.Draw(t, "secret"), drawUser.Draw(t, "user")
			hours := rapid.IntRange(-1, 3).Draw(t, "hours")
			var s *store.Session
			return func(ctx context.Context, tx *store.Tx) error {
					s = newSession(secret, id, tx.Now())
					s.Expires = tx.Now().Add(time.Duration(hours) * time.Hour)
					return tx.InsertSession(ctx, s)
				},
				func(m *model, _ time.Time) error {
					if _, ok := m.sessions[s.Digest]; ok {
						return store.ErrConflict
					}
					if _, ok := m.users[id]; !ok {
						return store.ErrReference
					}
					m.sessions[s.Digest] = s
					return nil
				}
		},
		"SetSessionInfo": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			digest, info := token.Sum(drawSecret.Draw(t, "secret")), []byte(drawInfo.Draw(t, "info"))
			return func(ctx context.Context, tx *store.Tx) error { return tx.SetSessionInfo(ctx, digest, info) },
				func(m *model, _ time.Time) error {
					s, ok := m.sessions[digest]
					if !ok {
						return store.ErrNotFound
					}
					m.sessions[digest] = &store.Session{
						Digest: s.Digest, ID: s.ID, IPAddress: s.IPAddress, UserAgent: s.UserAgent, UserID: s.UserID,
						Created: s.Created, Expires: s.Expires, ExtraInfo: info,
					}
					return nil
				}
		},
		"DeleteSession": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			digest := token.Sum(drawSecret.Draw(t, "secret"))
			var found bool
			return func(ctx context.Context, tx *store.Tx) (err error) {
					found, err = tx.DeleteSession(ctx, digest)
					return err
				},
				func(m *model, _ time.Time) error {
					_, ok := m.sessions[digest]
					if found != ok {
						t.Fatalf("DeleteSession is %t", found)
					}
					delete(m.sessions, digest)
					return nil
				}
		},
		"DeleteSessionByID": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			// That of the newest session of one user, in the name of another.
			id, caller := drawUser.Draw(t, "user"), drawUser.Draw(t, "caller")
			limit := rapid.Int64Range(1, 3).Draw(t, "limit")
			var listed []*store.Session
			var found bool
			return func(ctx context.Context, tx *store.Tx) (err error) {
					listed = nil
					for page := (store.Page{Limit: limit}); ; {
						more, err := tx.SessionsOf(ctx, id, page)
						listed = append(listed, more...)
						if err != nil {
							return err
						}
						if int64(len(more)) < limit {
							break
						}
						last := more[limit-1]
						page.After, page.AfterID = last.Created, last.ID
					}
					if len(listed) > 0 {
						found, err = tx.DeleteSessionByID(ctx, caller, listed[0].ID)
					}
					return err
				},
				func(m *model, now time.Time) error {
					want := m.sessionsOf(id, now)
					if diff := cmp.Diff(want, listed, visibleFields, cmpopts.EquateEmpty()); diff != "" {
						t.Fatalf("SessionsOf(%d) (-model +store):\n%s", id, diff)
					}
					if found != (len(want) > 0 && caller == id) {
						t.Fatalf("DeleteSessionByID is %t", found)
					}
					if found {
						delete(m.sessions, want[0].Digest)
					}
					return nil
				}
		},
		"DeleteSessionsOf": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			id, except, n := drawUser.Draw(t, "user"), token.Sum(drawSecret.Draw(t, "except")), 0
			return func(ctx context.Context, tx *store.Tx) (err error) {
					n, err = tx.DeleteSessionsOf(ctx, id, except)
					return err
				},
				func(m *model, _ time.Time) error {
					same(t, "DeleteSessionsOf", &n, m.deleteSessionsOf(id, except))
					return nil
				}
		},
		"DeleteExpiredSessions": func(t *rapid.T) (func(context.Context, *store.Tx) error, func(*model, time.Time) error) {
			n := 0
			return func(ctx context.Context, tx *store.Tx) (err error) {
					n, err = tx.DeleteExpiredSessions(ctx, tx.Now(), 100)
					return err
				},
				func(m *model, now time.Time) error {
					before := len(m.sessions)
					maps.DeleteFunc(m.sessions, func(_ token.Digest, s *store.Session) bool { return s.Expires.Before(now) })
					same(t, "DeleteExpiredSessions", &n, before-len(m.sessions))
					return nil
				}
		},
	}
}

// After every change, made or not, the store shows what a model without
// memory, transactions and SQL shows.
func TestStoreEqualsAModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := 0
	all := operations()
	names := slices.Sorted(maps.Keys(all))
	rapid.Check(t, func(rt *rapid.T) {
		files++
		c := newClock()
		s, err := store.Open(t.Context(), store.Options{
			URL: sqliteURL(filepath.Join(dir, fmt.Sprint(files, ".sqlite"))), NormalizeEmail: strings.ToLower, Now: c.Now,
		})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		err = s.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.Initialize(ctx, initial()) })
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{users: map[int64]store.User{}, sessions: map[token.Digest]*store.Session{}, lastID: 3}
		err = s.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			users, err := usersOf(ctx, tx, store.UserQuery{})
			for _, u := range users {
				m.users[u.ID] = u
			}
			return err
		})
		if err != nil {
			rt.Fatal(err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"wait": func(rt *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(1, 90).Draw(rt, "minutes")) * time.Minute)
			},
			"change": func(rt *rapid.T) {
				next := m.clone()
				chosen := rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(rt, "operations")
				abort := rapid.IntRange(0, 4).Draw(rt, "abort") == 0
				var want error
				got := s.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
					for _, name := range chosen {
						change, expect := all[name](rt)
						err := change(ctx, tx)
						want = expect(next, tx.Now())
						if err != nil || want != nil {
							return err
						}
					}
					if abort {
						want = errTest
					}
					return want
				})
				if !errors.Is(got, want) {
					rt.Fatalf("%v: error %v, want %v", chosen, got, want)
				}
				if got == nil {
					m = next
				}
			},
			"": func(rt *rapid.T) { compare(rt, s, m, c.Now()) },
		})
	})
}

// compare reads everything that was ever drawn and compares it with the
// model.
func compare(t *rapid.T, s *store.Store, m *model, now time.Time) {
	for _, secret := range []string{"s1", "s2", "s3", "s4", "s5"} {
		want, ok := m.sessions[token.Sum(secret)]
		got, user, err := s.Session(context.Background(), token.Sum(secret))
		if !ok || !want.Expires.After(now) {
			if !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("session %s: error %v, want ErrNotFound", secret, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("session %s: %v", secret, err)
		}
		if diff := cmp.Diff(want, got, visibleFields) + cmp.Diff(m.users[want.UserID], *user); diff != "" {
			t.Fatalf("session %s (-model +store):\n%s", secret, diff)
		}
	}
	for id := int64(1); id <= m.lastID; id++ {
		want, ok := m.users[id]
		got, err := s.User(context.Background(), id)
		if !ok {
			if !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("user %d: error %v, want ErrNotFound", id, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("user %d: %v", id, err)
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Fatalf("user %d (-model +store):\n%s", id, diff)
		}
	}
	err := s.View(context.Background(), func(ctx context.Context, tx *store.Tx) error {
		users, err := usersOf(ctx, tx, store.UserQuery{})
		if len(users) != len(m.users) {
			t.Fatalf("%d users, want %d", len(users), len(m.users))
		}
		for _, u := range users {
			if diff := cmp.Diff(m.users[u.ID], u); diff != "" {
				t.Fatalf("user %d in a transaction (-model +store):\n%s", u.ID, diff)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Once a deletion was acknowledged no reader gets the session, and once a
// user was changed no reader gets it as it was.
func TestReadersSeeWhatWasAcknowledged(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const readers, sessions = 8, 150
		u := f.insertUser("u")
		var deleted [sessions]atomic.Bool
		digests := make([]token.Digest, sessions)
		for i := range digests {
			digests[i] = f.insertSession(fmt.Sprint(i), u.ID).Digest
		}
		var logins, current atomic.Int64
		done := make(chan struct{})
		var wait sync.WaitGroup
		for range readers {
			wait.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					// The one that is being deleted, and one from before.
					for _, i := range []int64{current.Load(), current.Load() / 2} {
						gone, tries := deleted[i].Load(), logins.Load()
						_, user, err := f.Session(t.Context(), digests[i])
						if gone && !errors.Is(err, store.ErrNotFound) {
							t.Errorf("session %d after its deletion: error %v", i, err)
							return
						}
						if err != nil && !errors.Is(err, store.ErrNotFound) {
							t.Errorf("session %d: %v", i, err)
							return
						}
						if err == nil && tries > 0 && user.LastLoginTry.Sub(start) < time.Duration(tries)*time.Second {
							t.Errorf("the user is as before login %d", tries)
							return
						}
					}
				}
			})
		}
		for i := range sessions {
			current.Store(int64(i))
			f.clock.advance(time.Second)
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.RecordLogin(ctx, u.ID, false) })
			logins.Store(int64(i + 1))
			f.update(func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.DeleteSession(ctx, digests[i])
				return err
			})
			deleted[i].Store(true)
		}
		close(done)
		wait.Wait()
	})
}

// foreignCheck is the time within which a write of another process is seen.
const foreignCheck = 500 * time.Millisecond

func TestForeignWritesAreSeen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		notice func(*fixture)
	}{
		{"after half a second", func(f *fixture) { f.clock.advance(foreignCheck) }},
		{"with the next change", func(f *fixture) {
			f.update(func(ctx context.Context, tx *store.Tx) error { return nil })
		}},
		{"after a change that failed", func(f *fixture) {
			err := f.Update(f.t.Context(), func(ctx context.Context, tx *store.Tx) error { return errTest })
			wantErr(f.t, "Update", err, errTest)
		}},
		{"when the clock was set back", func(f *fixture) { f.clock.advance(-time.Hour) }},
		{"after a look that was cancelled", func(f *fixture) {
			f.clock.advance(foreignCheck)
			ctx, cancel := context.WithCancel(f.t.Context())
			cancel()
			_, err := f.User(ctx, 2)
			wantErr(f.t, "User", err, context.Canceled)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, path := newFile(t)
			raw := rawSQLite(t, path)
			for round := range 3 {
				u := f.insertUser(fmt.Sprint("u", round))
				s, kept := f.insertSession("s", u.ID), f.insertSession(fmt.Sprint("kept", round), u.ID)
				for _, digest := range []token.Digest{s.Digest, kept.Digest} { // into memory
					_, _, err := f.Session(t.Context(), digest)
					wantErr(t, "session before", err, nil)
				}
				mustExec(t, raw, "DELETE FROM sessions WHERE session_token = ?", s.Digest.String())
				mustExec(t, raw, "UPDATE users SET is_active = 0 WHERE user_id = ?", u.ID)
				tt.notice(f)
				_, _, err := f.Session(t.Context(), s.Digest)
				wantErr(t, "session that another process deleted", err, store.ErrNotFound)
				_, user, err := f.Session(t.Context(), kept.Digest)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "active", user.IsActive, false)
			}
		})
	}
}

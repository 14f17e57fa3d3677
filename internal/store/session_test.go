package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// stored is how the Python server writes a date.
func stored(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

func insertKey(t testing.TB, db *sql.DB, secret string, userID int64, session token.Digest, expires time.Time) {
	t.Helper()
	mustExec(t, db, `INSERT INTO apikeys (apikey, key_id, issued, expires, not_valid_before, user_id, user_role, session_token)
		VALUES (?1, ?1, ?2, ?3, ?2, ?4, 'authenticated', ?5)`,
		token.Sum(secret).String(), stored(start), stored(expires), userID, session.String())
}

func insertSessionlessKey(t testing.TB, db *sql.DB, secret string, userID int64, expires, refreshExpires time.Time) {
	t.Helper()
	mustExec(t, db, `INSERT INTO apikeys_nosession (apikey, key_id, issued, expires, not_valid_before,
		refresh_token, refresh_issued, refresh_expires, refresh_nbf, user_id, user_role)
		VALUES (?1, ?1, ?2, ?3, ?2, 'hash', ?2, ?4, ?2, ?5, 'authenticated')`,
		token.Sum(secret).String(), stored(start), stored(expires), stored(refreshExpires), userID)
}

func TestSession(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u := f.insertUser("u")
		bare := newSession("bare", u.ID, start)
		full := newSession("full", u.ID, start)
		full.ExtraInfo, full.UserAgent, full.IPAddress = []byte(`{"a": "ä"}`), "Agent/1.0 (ünix)", "2001:db8::1"
		for _, s := range []*store.Session{bare, full} {
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertSession(ctx, s) })
			for range 2 { // from the database, then from memory
				got, user, err := f.Session(t.Context(), s.Digest)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(s, got, visibleFields); diff != "" {
					t.Errorf("Store.Session (-inserted +read):\n%s", diff)
				}
				if diff := cmp.Diff(u, user); diff != "" {
					t.Errorf("user of Store.Session (-inserted +read):\n%s", diff)
				}
			}
			f.view(func(ctx context.Context, tx *store.Tx) error {
				got, err := tx.Session(ctx, s.Digest)
				if diff := cmp.Diff(s, got, visibleFields); diff != "" {
					t.Errorf("Tx.Session (-inserted +read):\n%s", diff)
				}
				return err
			})
		}
		for _, digest := range []token.Digest{{}, token.Sum("unknown"), token.Sum(bare.Digest.String())} {
			_, _, err := f.Session(t.Context(), digest)
			wantErr(t, "unknown session", err, store.ErrNotFound)
		}
	})
}

func TestSessionExpires(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		s := f.insertSession("s", 2)
		read := func() (fromStore, fromTx error) {
			_, _, fromStore = f.Session(t.Context(), s.Digest)
			fromTx = f.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.Session(ctx, s.Digest)
				return err
			})
			return fromStore, fromTx
		}
		for _, tt := range []struct {
			name string
			step time.Duration
			want error
		}{
			{"new", 0, nil},
			{"a microsecond before the end", time.Hour - time.Microsecond, nil},
			{"at the end", time.Microsecond, store.ErrNotFound},
			{"later", 24 * time.Hour, store.ErrNotFound},
		} {
			f.clock.advance(tt.step)
			fromStore, fromTx := read()
			wantErr(t, tt.name+": Store.Session", fromStore, tt.want)
			wantErr(t, tt.name+": Tx.Session", fromTx, tt.want)
		}
	})
}

func TestInsertSession(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		f.insertSession("s", 2)
		for _, tt := range []struct {
			name    string
			session *store.Session
			want    error
		}{
			{"same token", newSession("s", 2, start), store.ErrConflict},
			{"unknown user", newSession("t", 99, start), store.ErrReference},
			{"another", newSession("t", 2, start), nil},
		} {
			err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.InsertSession(ctx, tt.session) })
			wantErr(t, tt.name, err, tt.want)
		}
	})
}

func TestDeleteSession(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		live, expired := f.insertSession("live", 2), newSession("expired", 2, start.Add(-24*time.Hour))
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertSession(ctx, expired) })
		_, _, err := f.Session(t.Context(), live.Digest) // into memory
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			digest token.Digest
			want   bool
		}{
			{live.Digest, true},
			{live.Digest, false},
			{expired.Digest, true},
			{token.Sum("unknown"), false},
		} {
			f.update(func(ctx context.Context, tx *store.Tx) error {
				found, err := tx.DeleteSession(ctx, tt.digest)
				equal(t, "found", found, tt.want)
				return err
			})
			_, _, err := f.Session(t.Context(), tt.digest)
			wantErr(t, "deleted session", err, store.ErrNotFound)
		}
	})
}

// TestDeleteSessionByID: the very next read misses the session and its keys,
// although they were in memory.
func TestDeleteSessionByID(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u, v := f.insertUser("u"), f.insertUser("v")
		live, kept, foreign := f.insertSession("live", u.ID), f.insertSession("kept", u.ID), f.insertSession("foreign", v.ID)
		expired := newSession("expired", u.ID, start.Add(-24*time.Hour))
		key := newAPIKey("key", u.ID)
		key.Kind, key.Session, key.Refresh = store.KeyOfSession, live.Digest, store.RefreshToken{}
		f.update(func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.InsertSession(ctx, expired), tx.InsertAPIKey(ctx, key))
		})
		all := []*store.Session{live, kept, foreign}
		ids := map[string]bool{expired.ID: true}
		for _, s := range all { // into memory
			ids[s.ID] = true
			_, _, err := f.Session(t.Context(), s.Digest)
			wantErr(t, "before", err, nil)
		}
		equal(t, "ids", len(ids), 4)
		gone := map[token.Digest]bool{}
		for _, tt := range []struct {
			name   string
			user   int64
			id     string
			digest token.Digest
			want   bool
		}{
			{"of another user", u.ID, foreign.ID, foreign.Digest, false},
			{"of nobody", 99, live.ID, live.Digest, false},
			{"no id", u.ID, "", token.Digest{}, false},
			{"the digest", u.ID, live.Digest.String(), live.Digest, false},
			{"live", u.ID, live.ID, live.Digest, true},
			{"again", u.ID, live.ID, live.Digest, false},
			{"expired", u.ID, expired.ID, expired.Digest, true},
		} {
			f.update(func(ctx context.Context, tx *store.Tx) error {
				found, err := tx.DeleteSessionByID(ctx, tt.user, tt.id)
				equal(t, tt.name, found, tt.want)
				return err
			})
			gone[tt.digest] = gone[tt.digest] || tt.want
			for _, s := range all {
				var want error
				if gone[s.Digest] {
					want = store.ErrNotFound
				}
				_, _, err := f.Session(t.Context(), s.Digest)
				wantErr(t, tt.name+": afterwards", err, want)
			}
		}
		f.view(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.APIKey(ctx, key.Digest)
			wantErr(t, "key of the session", err, store.ErrNotFound)
			return nil
		})
	})
}

func TestSessionsOf(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u, v := f.insertUser("u"), f.insertUser("v")
		list := func(userID int64) (secrets string) {
			f.view(func(ctx context.Context, tx *store.Tx) error {
				sessions, err := tx.SessionsOf(ctx, userID, store.Page{Limit: 10})
				for _, s := range sessions {
					for _, secret := range []string{"a", "b", "c", "v"} {
						if s.Digest == token.Sum(secret) {
							secrets += secret
						}
					}
				}
				return err
			})
			return secrets
		}
		equal(t, "none", list(u.ID), "")
		for _, secret := range []string{"b", "a", "c"} {
			f.insertSession(secret, u.ID)
			f.clock.advance(time.Minute)
		}
		f.insertSession("v", v.ID)
		equal(t, "newest first", list(u.ID), "cab")
		equal(t, "another user", list(v.ID), "v")
		equal(t, "nobody", list(99), "")
		f.clock.advance(57 * time.Minute) // the end of the oldest
		equal(t, "without the expired", list(u.ID), "ca")
		const limit = 100
		f.update(func(ctx context.Context, tx *store.Tx) error {
			var errs []error
			for i := range limit + 1 {
				errs = append(errs, tx.InsertSession(ctx, newSession(fmt.Sprint("many ", i), u.ID, tx.Now())))
			}
			return errors.Join(errs...)
		})
		f.view(func(ctx context.Context, tx *store.Tx) error {
			sessions, err := tx.SessionsOf(ctx, u.ID, store.Page{Limit: limit})
			equal(t, "many", len(sessions), limit)
			return err
		})
	})
}

// TestSeenSessions: a session is noted once a minute, in memory, and what is
// listed has it before and after it is written.
func TestSeenSessions(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u := f.insertUser("u")
	s, never := f.insertSession("s", u.ID), f.insertSession("never", u.ID)
	raw := rawSQLite(t, path)
	seen := func() {
		t.Helper()
		session, _, err := f.Session(t.Context(), s.Digest)
		if err != nil {
			t.Fatal(err)
		}
		f.NoteSeen(session)
	}
	flush := func() {
		t.Helper()
		err := f.FlushUses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	written := func() string {
		t.Helper()
		return one[string](t, raw, "SELECT coalesce(last_seen, '') FROM sessions WHERE session_token = ?", s.Digest.String())
	}
	listed := func(want time.Time) {
		t.Helper()
		f.view(func(ctx context.Context, tx *store.Tx) error {
			sessions, err := tx.SessionsOf(ctx, u.ID, store.Page{Limit: 10})
			for _, session := range sessions {
				if session.Digest == never.Digest {
					equal(t, "last seen of the other", session.LastSeen, time.Time{})
				} else {
					equal(t, "last seen", session.LastSeen, want)
				}
			}
			return err
		})
	}
	listed(time.Time{})
	seen()
	listed(start)
	equal(t, "written before the flush", written(), "")
	flush()
	listed(start)
	equal(t, "written by the flush", written(), stored(start))
	for range 59 {
		f.clock.advance(time.Second)
		seen()
	}
	flush()
	listed(start)
	equal(t, "written within the minute", written(), stored(start))
	f.clock.advance(time.Second)
	seen()
	listed(start.Add(time.Minute))
	flush()
	equal(t, "written after the minute", written(), stored(start.Add(time.Minute)))
	// What another server wrote later is not overwritten.
	f.clock.advance(time.Minute)
	seen()
	mustExec(t, raw, "UPDATE sessions SET last_seen = ? WHERE session_token = ?", stored(start.Add(150*time.Second)), s.Digest.String())
	flush()
	equal(t, "written by another server", written(), stored(start.Add(150*time.Second)))
	// A session that ended meanwhile is in nobody's way.
	f.clock.advance(time.Hour / 4)
	seen()
	f.update(func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.DeleteSession(ctx, s.Digest)
		return err
	})
	flush()
	equal(t, "sessions", one[int](t, raw, "SELECT count(*) FROM sessions WHERE last_seen IS NOT NULL"), 0)
}

// TestIdleSessions: a session ends when no node was asked about it for half an hour, and
// no later than two minutes after that.
func TestIdleSessions(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		idle := store.Options{URL: f.url, SessionIdle: 30 * time.Minute}
		first, other := openWith(t, idle), openWith(t, idle)
		u := f.insertUser("u")
		insert := func(secret string) *store.Session {
			s := newSession(secret, u.ID, f.clock.Now())
			s.Expires = s.Created.Add(24 * time.Hour)
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertSession(ctx, s) })
			return s
		}
		after := func(passed time.Duration) {
			for _, node := range []*fixture{f, first, other} {
				node.clock.advance(passed)
			}
		}
		want := func(node *fixture, what string, s *store.Session, want error) {
			t.Helper()
			_, _, err := node.Session(t.Context(), s.Digest)
			wantErr(t, what, err, want)
			node.view(func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.Session(ctx, s.Digest)
				wantErr(t, what+", in a transaction", err, want)
				sessions, err := tx.SessionsOf(ctx, u.ID, store.Page{Limit: 2})
				listed := slices.ContainsFunc(sessions, func(one *store.Session) bool { return one.Digest == s.Digest })
				equal(t, what+", is listed", listed, want == nil)
				return err
			})
		}
		use := func(node *fixture, s *store.Session) {
			t.Helper()
			session, _, err := node.Session(t.Context(), s.Digest)
			wantErr(t, "in use", err, nil)
			node.NoteSeen(session)
		}
		flush := func(node *fixture) {
			t.Helper()
			wantErr(t, "FlushUses", node.FlushUses(t.Context()), nil)
		}

		never := insert("never used")
		after(30 * time.Minute)
		want(first, "after half an hour", never, nil)
		after(2 * time.Minute)
		want(first, "later", never, store.ErrNotFound)
		want(other, "later, on the other node", never, store.ErrNotFound)
		want(f, "where sessions do not end", never, nil)

		used := insert("used")
		want(first, "to be in memory", used, nil)
		after(20 * time.Minute)
		use(other, used)
		flush(other)
		after(20 * time.Minute)
		want(first, "used on the other node", used, nil)
		after(12 * time.Minute)
		want(first, "used on the other node, long ago", used, store.ErrNotFound)

		always := insert("always used")
		for range 100 {
			use(first, always)
			after(59 * time.Second)
			flush(first)
		}
		want(other, "used all the time on the other node", always, nil)

		again := insert("used while it is not in memory")
		after(20 * time.Minute)
		use(first, again)
		first.update(func(ctx context.Context, tx *store.Tx) error {
			return tx.SetSessionInfo(ctx, again.Digest, []byte("{}"))
		})
		after(20 * time.Minute)
		want(first, "used, and not written", again, nil)

		older := insert("older than pages of others")
		after(time.Second)
		for i := range 5 {
			insert(fmt.Sprint("the others ", i))
		}
		after(20 * time.Minute)
		use(first, older)
		flush(first)
		after(20 * time.Minute)
		want(other, "older than pages of others that have ended", older, nil)
	})
}

// TestSeeingACachedSession allocates nothing within the minute.
func TestSeeingACachedSession(t *testing.T) {
	f, _ := newFile(t)
	session, _, err := f.Session(t.Context(), f.insertSession("s", 2).Digest)
	if err != nil {
		t.Fatal(err)
	}
	f.NoteSeen(session)
	if n := testing.AllocsPerRun(100, func() { f.NoteSeen(session) }); n != 0 {
		t.Errorf("noting a session again makes %v allocations, want none", n)
	}
}

func TestDeleteSessionsOf(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u, v := f.insertUser("u"), f.insertUser("v")
		insert := func() {
			for _, s := range []*store.Session{f.insertSession("a", u.ID), f.insertSession("b", u.ID), f.insertSession("c", u.ID)} {
				_, _, err := f.Session(t.Context(), s.Digest) // into memory
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		f.insertSession("v", v.ID)
		for _, tt := range []struct {
			name   string
			user   int64
			except token.Digest
			want   int
			left   string
		}{
			{"all", u.ID, token.Digest{}, 3, "v"},
			{"all but one", u.ID, token.Sum("b"), 2, "bv"},
			{"all but one of another", u.ID, token.Sum("v"), 3, "v"},
			{"of nobody", 99, token.Digest{}, 0, "abcv"},
		} {
			insert()
			f.update(func(ctx context.Context, tx *store.Tx) error {
				n, err := tx.DeleteSessionsOf(ctx, tt.user, tt.except)
				equal(t, tt.name, n, tt.want)
				return err
			})
			left := ""
			for _, secret := range []string{"a", "b", "c", "v"} {
				_, _, err := f.Session(t.Context(), token.Sum(secret))
				if err == nil {
					left += secret
				}
			}
			equal(t, tt.name+": left", left, tt.left)
			f.update(func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.DeleteSessionsOf(ctx, u.ID, token.Digest{})
				return err
			})
		}
	})
}

func TestSetSessionInfo(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		s := f.insertSession("s", 2)
		for _, info := range []string{`{"a": 1}`, `{"a": 1, "b": ["ü", null, 1.50]}`, `{}`, `"text"`, `[]`, ""} {
			var text []byte
			if info != "" {
				text = []byte(info)
			}
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.SetSessionInfo(ctx, s.Digest, text) })
			got, _, err := f.Session(t.Context(), s.Digest)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, got.ExtraInfo); diff != "" {
				t.Errorf("information (-set +read):\n%s", diff)
			}
		}
		err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return tx.SetSessionInfo(ctx, token.Sum("unknown"), []byte("{}"))
		})
		wantErr(t, "unknown session", err, store.ErrNotFound)
	})
}

func TestDeleteExpiredSessions(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const expired = 25
		f.update(func(ctx context.Context, tx *store.Tx) error {
			var errs []error
			for i := range expired {
				s := newSession(fmt.Sprint("old ", i), 2, start.Add(-time.Duration(i+2)*time.Hour))
				errs = append(errs, tx.InsertSession(ctx, s))
			}
			live := newSession("live", 2, start)
			edge := newSession("edge", 2, start)
			edge.Expires = start
			return errors.Join(append(errs, tx.InsertSession(ctx, live), tx.InsertSession(ctx, edge))...)
		})
		purge := func(limit int) (n int) {
			f.update(func(ctx context.Context, tx *store.Tx) (err error) {
				n, err = tx.DeleteExpiredSessions(ctx, start, limit)
				return err
			})
			return n
		}
		equal(t, "no batch", purge(0), 0)
		for _, want := range []int{10, 10, 5, 0} {
			equal(t, "batch", purge(10), want)
		}
		_, _, err := f.Session(t.Context(), token.Sum("live"))
		wantErr(t, "live session", err, nil)
		f.update(func(ctx context.Context, tx *store.Tx) error {
			found, err := tx.DeleteSession(ctx, token.Sum("edge"))
			equal(t, "the session that expires at the bound is left", found, true)
			return err
		})
	})
}

func TestDeleteExpiredSessionsTakesTheOldestFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		older, newer := newSession("older", 2, start.Add(-48*time.Hour)), newSession("newer", 2, start.Add(-24*time.Hour))
		f.update(func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.InsertSession(ctx, newer), tx.InsertSession(ctx, older))
		})
		f.update(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteExpiredSessions(ctx, start, 1)
			return err
		})
		f.update(func(ctx context.Context, tx *store.Tx) error {
			found, err := tx.DeleteSession(ctx, newer.Digest)
			equal(t, "the newer is left", found, true)
			return err
		})
	})
}

func TestDeleteExpiredKeys(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	s := f.insertSession("s", 2)
	raw := rawSQLite(t, path)
	past, future := start.Add(-time.Hour), start.Add(time.Hour)
	for i := range 7 {
		insertKey(t, raw, fmt.Sprint("old ", i), 2, s.Digest, past)
		insertSessionlessKey(t, raw, fmt.Sprint("old ", i), 2, past, past)
	}
	insertKey(t, raw, "live", 2, s.Digest, future)
	insertKey(t, raw, "edge", 2, s.Digest, start)
	insertSessionlessKey(t, raw, "live", 2, future, future)
	insertSessionlessKey(t, raw, "refreshable", 2, past, future)
	insertSessionlessKey(t, raw, "edge", 2, past, start)
	for _, tt := range []struct {
		limit, want int64
		more        bool
	}{{5, 10, true}, {5, 4, false}, {5, 0, false}} {
		f.update(func(ctx context.Context, tx *store.Tx) error {
			n, more, err := tx.DeleteExpiredKeys(ctx, start, tt.limit)
			equal(t, "batch", n, tt.want)
			equal(t, "more", more, tt.more)
			return err
		})
	}
	equal(t, "keys that are left", one[int](t, raw, "SELECT count(*) FROM apikeys"), 2)
	equal(t, "session-less keys that are left", one[int](t, raw, "SELECT count(*) FROM apikeys_nosession"), 3)
}

package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

// fullUser has a value in every field.
func fullUser(name string) *store.User {
	at := func(hours int) time.Time { return start.Add(-time.Duration(hours) * time.Hour) }
	full := "Full Näme of " + name
	u := newUser(name)
	u.FullName = &full
	u.EmailVerifySent, u.EmailForgotSent, u.EmailChangeSent = at(1), at(2), at(3)
	u.LastLoginOK, u.LastLoginTry, u.FailedLogins = at(4), at(5), 6
	u.ExtraInfo = []byte(`{"a": [1, "zwei", null], "ü": {}}`)
	u.FirstVerified = at(7)
	return u
}

// bareUser has no value that may be absent.
func bareUser(name string) *store.User {
	return &store.User{SystemID: store.NewUUID(), PasswordHash: "p", Email: name + "@example.org", Role: "locked"}
}

func TestUser(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		for _, u := range []*store.User{fullUser("full"), bareUser("bare")} {
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
			for range 2 { // from the database, then from memory
				got, err := f.User(t.Context(), u.ID)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(u, got); diff != "" {
					t.Errorf("Store.User (-inserted +read):\n%s", diff)
				}
			}
			f.view(func(ctx context.Context, tx *store.Tx) error {
				got, err := tx.User(ctx, u.ID)
				if diff := cmp.Diff(u, got); diff != "" {
					t.Errorf("Tx.User (-inserted +read):\n%s", diff)
				}
				return err
			})
		}
		for _, id := range []int64{-1, 0, 6, 1 << 62} {
			_, err := f.User(t.Context(), id)
			wantErr(t, "Store.User of nobody", err, store.ErrNotFound)
			err = f.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.User(ctx, id)
				return err
			})
			wantErr(t, "Tx.User of nobody", err, store.ErrNotFound)
		}
	})
}

func TestInsertUser(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		first := f.insertUser("first")
		equal(t, "id of the first user", first.ID, 4)
		equal(t, "creation", first.CreatedOn, start)
		equal(t, "update", first.LastUpdated, start)

		tests := []struct {
			name   string
			change func(*store.User)
			want   error
		}{
			{"same address", func(u *store.User) { u.Email = first.Email }, store.ErrConflict},
			{"same system id", func(u *store.User) { u.SystemID = first.SystemID }, store.ErrConflict},
			{"unknown role", func(u *store.User) { u.Role = "baker" }, store.ErrReference},
			{"empty role", func(u *store.User) { u.Role = "" }, store.ErrReference},
			{"address in another case", func(u *store.User) { u.Email = "FIRST@example.org" }, nil},
			{"an id that is set", func(u *store.User) { u.ID = 1 }, nil},
		}
		last := first.ID
		for _, tt := range tests {
			u := newUser("other " + tt.name)
			tt.change(u)
			err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
			wantErr(t, tt.name, err, tt.want)
			if err != nil {
				continue
			}
			if u.ID <= last {
				t.Errorf("%s: id %d after %d", tt.name, u.ID, last)
			}
			last = u.ID
		}
	})
}

func TestUserIDsAreNeverReused(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		seen := map[int64]bool{1: true, 2: true, 3: true}
		for range 5 {
			u := f.insertUser("highest")
			if seen[u.ID] {
				t.Fatalf("id %d was used before", u.ID)
			}
			seen[u.ID] = true
			f.update(func(ctx context.Context, tx *store.Tx) error {
				found, err := tx.DeleteUser(ctx, u.ID)
				equal(t, "deleted", found, true)
				return err
			})
		}
	})
}

func TestUserByEmail(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		ids := map[string]int64{}
		for _, email := range []string{"Mixed.Case@Example.org", "plain@example.org", "Twin@example.org", "twin@Example.org"} {
			u := newUser("x")
			u.Email = email
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
			ids[email] = u.ID
		}
		for _, tt := range []struct {
			email string
			want  string // the address of the user that is found
		}{
			{"Mixed.Case@Example.org", "Mixed.Case@Example.org"},
			{"mixed.case@example.org", "Mixed.Case@Example.org"},
			{"PLAIN@EXAMPLE.ORG", "plain@example.org"},
			{"Twin@example.org", "Twin@example.org"},
			{"twin@Example.org", "twin@Example.org"},
			{"twin@example.org", ""}, // either of two
			{"nobody@example.org", ""},
			{"plain@example.org ", ""},
			{"%@example.org", ""},
			{"", ""},
		} {
			err := f.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				u, err := tx.UserByEmail(ctx, tt.email)
				if err == nil && u.ID != ids[tt.want] {
					t.Errorf("UserByEmail(%q) is %s", tt.email, u.Email)
				}
				return err
			})
			if tt.want == "" {
				wantErr(t, tt.email, err, store.ErrNotFound)
			} else if err != nil {
				t.Errorf("UserByEmail(%q): %v", tt.email, err)
			}
		}
	})
}

func TestTaken(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u := f.insertUser("Taken")
		f.view(func(ctx context.Context, tx *store.Tx) error {
			for _, tt := range []struct {
				email  string
				except int64
				want   bool
			}{
				{"Taken@example.org", 0, true},
				{"tAKEN@EXAMPLE.ORG", 0, true},
				{"taken@example.org", u.ID, false},
				{"taken@example.org", 1, true},
				{"free@example.org", 0, false},
			} {
				got, err := tx.EmailTaken(ctx, tt.email, tt.except)
				if err != nil {
					return err
				}
				equal(t, tt.email, got, tt.want)
			}
			for id, want := range map[string]bool{u.SystemID: true, store.NewUUID(): false, "": false} {
				got, err := tx.SystemIDTaken(ctx, id)
				if err != nil {
					return err
				}
				equal(t, "system id", got, want)
			}
			return nil
		})
	})
}

func TestUsers(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u, v := fullUser("u"), bareUser("v")
		f.update(func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.InsertUser(ctx, u), tx.InsertUser(ctx, v))
		})
		f.view(func(ctx context.Context, tx *store.Tx) error {
			users, err := usersOf(ctx, tx, store.UserQuery{})
			if err != nil {
				return err
			}
			equal(t, "number", len(users), 5)
			if diff := cmp.Diff([]store.User{*u, *v}, users[3:]); diff != "" {
				t.Errorf("Users (-inserted +read):\n%s", diff)
			}
			return nil
		})
	})
}

// TestPages lists more users than one statement reads, whole and by pages.
func TestPages(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const many = 2100
		f.insertMany(databases.Filling{Users: many})
		list := func(q store.UserQuery) (users []store.User) {
			f.view(func(ctx context.Context, tx *store.Tx) (err error) {
				users, err = usersOf(ctx, tx, q)
				return err
			})
			return users
		}
		for _, field := range []store.UserQuery{{}, {Field: store.FieldIsActive, Value: true}} {
			all := list(field)
			want := many + 3
			if field.Field != "" {
				want = many*49/50 + 2
			}
			equal(t, "number of users", len(all), want)
			for _, page := range []int64{1000, 1, 999, 1001, 2000} {
				q := field
				q.Limit = page
				var got []store.User
				for range 5 {
					some := list(q)
					if len(some) == 0 {
						break
					}
					got = append(got, some...)
					q.After = got[len(got)-1].ID
				}
				if diff := cmp.Diff(all[:min(len(all), 5*int(page))], got); diff != "" {
					t.Errorf("pages of %d:\n%s", page, diff)
				}
			}
		}
		stop, seen := errors.New("stop"), 0
		err := f.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return tx.EachUser(ctx, store.UserQuery{}, func(*store.User) error {
				seen++
				if seen == 1500 {
					return stop
				}
				return nil
			})
		})
		wantErr(t, "a list that ends early", err, stop)
		equal(t, "users until then", seen, 1500)
	})
}

// TestLongLists: two long lists at a time are read, whatever the deadline of their
// requests; others wait.
func TestLongLists(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		begun, end, done := make(chan bool), make(chan bool), make(chan error, 2)
		short, cancel := context.WithCancel(t.Context())
		for range 2 {
			go func() {
				done <- f.ViewLong(short, func(ctx context.Context, tx *store.Tx) error {
					begun <- true
					<-end
					_, err := usersOf(ctx, tx, store.UserQuery{})
					return err
				})
			}()
			<-begun
		}
		cancel()
		waiting, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer stop()
		err := f.ViewLong(waiting, func(context.Context, *store.Tx) error { return nil })
		wantErr(t, "a third one", err, store.ErrUnavailable)
		for range 2 {
			end <- true
			err := <-done
			if err != nil {
				t.Error(err)
			}
		}
		err = f.ViewLong(t.Context(), func(context.Context, *store.Tx) error { return nil })
		if err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestUsersByField(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u, v := fullUser("u"), bareUser("v")
		f.update(func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.InsertUser(ctx, u), tx.InsertUser(ctx, v))
		})
		f.clock.advance(time.Minute)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.UpdateUser(ctx, u) })
		for _, tt := range []struct {
			field store.UserField
			value any
			want  []int64
		}{
			{store.FieldUserID, int64(2), []int64{2}},
			{store.FieldUserID, int64(99), nil},
			{store.FieldSystemID, u.SystemID, []int64{4}},
			{store.FieldSystemID, "%", nil},
			{store.FieldFullName, *u.FullName, []int64{4}},
			{store.FieldFullName, "' OR 1=1 --", nil},
			{store.FieldEmailVerified, true, []int64{1, 2, 3, 4}},
			{store.FieldEmailVerified, false, []int64{5}},
			{store.FieldIsActive, false, []int64{3, 5}},
			{store.FieldEmailVerifySent, u.EmailVerifySent, []int64{4}},
			{store.FieldEmailForgotSent, u.EmailForgotSent, []int64{4}},
			{store.FieldEmailChangeSent, u.EmailChangeSent, []int64{4}},
			{store.FieldLastLoginOK, u.LastLoginOK, []int64{4}},
			{store.FieldLastLoginTry, u.LastLoginTry.In(time.FixedZone("east", 7200)), []int64{4}},
			{store.FieldLastLoginTry, u.LastLoginTry.Add(time.Microsecond), nil},
			{store.FieldFailedLogins, int64(6), []int64{4}},
			{store.FieldFailedLogins, int64(0), []int64{1, 2, 3, 5}},
			{store.FieldCreatedOn, start, []int64{1, 2, 3, 4, 5}},
			{store.FieldLastUpdated, start.Add(time.Minute), []int64{4}},
			{store.FieldRole, "locked", []int64{3, 5}},
		} {
			f.view(func(ctx context.Context, tx *store.Tx) error {
				users, err := usersOf(ctx, tx, store.UserQuery{Field: tt.field, Value: tt.value})
				var got []int64
				for _, u := range users {
					got = append(got, u.ID)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("%s = %v: users %v, want %v", tt.field, tt.value, got, tt.want)
				}
				return err
			})
		}
	})
}

func TestUpdateUser(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		other := f.insertUser("other")
		u := bareUser("before")
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
		_, err := f.User(t.Context(), u.ID) // so that the old row is in memory
		if err != nil {
			t.Fatal(err)
		}

		f.clock.advance(time.Hour)
		changed := fullUser("After")
		changed.ID, changed.SystemID, changed.PasswordHash = u.ID, "ignored", "ignored"
		changed.CreatedOn = start.Add(-time.Hour)
		changed.Role, changed.FirstVerified = "staff", time.Time{}
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.UpdateUser(ctx, changed) })

		want := *changed
		want.SystemID, want.PasswordHash, want.CreatedOn = u.SystemID, u.PasswordHash, u.CreatedOn
		want.LastUpdated, want.FirstVerified = start.Add(time.Hour), start.Add(time.Hour)
		want.LastLoginOK, want.LastLoginTry, want.FailedLogins = u.LastLoginOK, u.LastLoginTry, u.FailedLogins
		got, err := f.User(t.Context(), u.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("after UpdateUser (-want +got):\n%s", diff)
		}

		f.view(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.UserByEmail(ctx, "after@example.org") // the normalised form follows
			return err
		})

		for _, tt := range []struct {
			name   string
			change func(*store.User)
			want   error
		}{
			{"nobody", func(u *store.User) { u.ID = 99 }, store.ErrNotFound},
			{"taken address", func(u *store.User) { u.Email = other.Email }, store.ErrConflict},
			{"unknown role", func(u *store.User) { u.Role = "baker" }, store.ErrReference},
		} {
			u := *got
			tt.change(&u)
			err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.UpdateUser(ctx, &u) })
			wantErr(t, tt.name, err, tt.want)
		}
	})
}

func TestFirstVerified(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		earlier := start.Add(-time.Hour)
		for _, tt := range []struct {
			name             string
			verified, active bool
			before, want     time.Time
		}{
			{"never verified", false, false, time.Time{}, time.Time{}},
			{"verified", true, false, time.Time{}, start},
			{"active", false, true, time.Time{}, start},
			{"again", true, true, earlier, earlier},
			{"no longer", false, false, earlier, earlier},
		} {
			u := bareUser(tt.name)
			f.update(func(ctx context.Context, tx *store.Tx) error {
				err := tx.InsertUser(ctx, u)
				u.EmailVerified, u.IsActive, u.FirstVerified = tt.verified, tt.active, tt.before
				return errors.Join(err, tx.UpdateUser(ctx, u))
			})
			got, err := f.User(t.Context(), u.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, tt.name, got.FirstVerified, tt.want)
		}
	})
}

func TestSetPassword(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u := f.insertUser("u")
		f.clock.advance(time.Minute)
		for _, tt := range []struct {
			name     string
			id       int64
			from, to string
			want     error
		}{
			{"right", u.ID, u.PasswordHash, "second", nil},
			{"the former one", u.ID, u.PasswordHash, "third", store.ErrConflict},
			{"nobody", 99, "second", "third", store.ErrConflict},
			{"to itself", u.ID, "second", "second", nil},
		} {
			err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				return tx.SetPassword(ctx, tt.id, tt.from, tt.to)
			})
			wantErr(t, tt.name, err, tt.want)
			got, err := f.User(t.Context(), u.ID)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, tt.name+": hash", got.PasswordHash, "second")
			equal(t, tt.name+": update", got.LastUpdated, start.Add(time.Minute))
		}
	})
}

func TestRecordLogin(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u := f.insertUser("u")
		login := func(id int64, success bool) *store.User {
			f.clock.advance(time.Minute)
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.RecordLogin(ctx, id, success) })
			got, err := f.User(t.Context(), u.ID)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		got := login(u.ID, true)
		equal(t, "try", got.LastLoginTry, start.Add(time.Minute))
		equal(t, "success", got.LastLoginOK, start.Add(time.Minute))
		got = login(u.ID, false)
		equal(t, "second try", got.LastLoginTry, start.Add(2*time.Minute))
		equal(t, "former success", got.LastLoginOK, start.Add(time.Minute))
		equal(t, "update", got.LastUpdated, start)
		got = login(99, true) // nobody, who has nothing to record
		equal(t, "try of another", got.LastLoginTry, start.Add(2*time.Minute))
	})
}

func TestDeleteUser(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u, v := f.insertUser("u"), f.insertUser("v")
		mine, theirs := f.insertSession("mine", u.ID), f.insertSession("theirs", v.ID)
		for _, s := range []*store.Session{mine, theirs} { // into memory
			_, _, err := f.Session(t.Context(), s.Digest)
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []bool{true, false} {
			f.update(func(ctx context.Context, tx *store.Tx) error {
				found, err := tx.DeleteUser(ctx, u.ID)
				equal(t, "found", found, want)
				return err
			})
		}
		_, err := f.User(t.Context(), u.ID)
		wantErr(t, "deleted user", err, store.ErrNotFound)
		_, _, err = f.Session(t.Context(), mine.Digest)
		wantErr(t, "session of the deleted user", err, store.ErrNotFound)
		_, _, err = f.Session(t.Context(), theirs.Digest)
		wantErr(t, "session of another", err, nil)
	})
}

func TestOtherSuperusers(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		superuser := func(name string, verified, active bool) *store.User {
			u := newUser(name)
			u.Role, u.EmailVerified, u.IsActive = "superuser", verified, active
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
			return u
		}
		count := func(id int64) int {
			var n int
			f.view(func(ctx context.Context, tx *store.Tx) (err error) {
				n, err = tx.OtherSuperusers(ctx, id)
				return err
			})
			return n
		}
		equal(t, "besides the only one", count(1), 0)
		equal(t, "besides nobody", count(0), 1)
		superuser("unverified", false, true)
		superuser("inactive", true, false)
		equal(t, "with two who cannot log in", count(1), 0)
		second := superuser("second", true, true)
		equal(t, "with a second", count(1), 1)
		equal(t, "besides the second", count(second.ID), 1)
	})
}

func TestRoles(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		for range 2 {
			f.update(func(ctx context.Context, tx *store.Tx) error {
				return tx.AddRoles(ctx, []string{"baker", "staff", "baker", "Staff"})
			})
		}
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.AddRoles(ctx, nil) })
		want := map[string]string{}
		for _, name := range []string{"superuser", "staff", "authenticated", "anonymous", "locked", "baker", "Staff"} {
			want[name] = "Role with " + name + " privileges"
		}
		f.view(func(ctx context.Context, tx *store.Tx) error {
			got, err := tx.Roles(ctx)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Roles (-want +got):\n%s", diff)
			}
			return err
		})
	})
}

// What refers to a user in tables that no method writes.

func TestDeleteUserWhoOwnsAGroup(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u := f.insertUser("owner")
	s := f.insertSession("s", u.ID)
	raw := rawSQLite(t, path)
	mustExec(t, raw, `INSERT INTO groups (system_id, group_name, visibility, created_by, is_active, created_on, last_updated, group_role)
		VALUES ('g', 'g', 'public', ?, 1, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', 'staff')`, u.ID)
	err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.DeleteUser(ctx, u.ID)
		return err
	})
	wantErr(t, "owner of a group", err, store.ErrReference)
	_, _, err = f.Session(t.Context(), s.Digest)
	wantErr(t, "the session, which must be back", err, nil)
}

func TestKeysGoWithWhatTheyBelongTo(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u, v := f.insertUser("u"), f.insertUser("v")
	raw := rawSQLite(t, path)
	keys := func() [2]int {
		return [2]int{one[int](t, raw, "SELECT count(*) FROM apikeys"), one[int](t, raw, "SELECT count(*) FROM apikeys_nosession")}
	}
	for i, user := range []*store.User{u, v} {
		name := string(rune('a' + i))
		s := f.insertSession(name, user.ID)
		insertKey(t, raw, name, user.ID, s.Digest, start)
		insertSessionlessKey(t, raw, name, user.ID, start, start)
	}
	equal(t, "keys at first", keys(), [2]int{2, 2})
	f.update(func(ctx context.Context, tx *store.Tx) error {
		n, err := tx.DeleteSessionlessKeysOf(ctx, u.ID)
		equal(t, "keys that were revoked", n, 1)
		return err
	})
	equal(t, "keys after DeleteSessionlessKeysOf", keys(), [2]int{2, 1})
	f.update(func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.DeleteSession(ctx, token.Sum("a"))
		return err
	})
	equal(t, "keys after DeleteSession", keys(), [2]int{1, 1})
	f.update(func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.DeleteUser(ctx, v.ID)
		return err
	})
	equal(t, "keys after DeleteUser", keys(), [2]int{0, 0})
	f.update(func(ctx context.Context, tx *store.Tx) error {
		n, err := tx.DeleteSessionlessKeysOf(ctx, 99)
		equal(t, "keys of nobody", n, 0)
		return err
	})
}

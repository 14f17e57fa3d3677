package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

// manySessions are more than are copied at once.
const manySessions = 2300

// fill puts rows into every table.
func (f *fixture) fill(url string) {
	f.t.Helper()
	f.initialize()
	first := f.insertUser("ada")
	f.insertUser("bob")
	name := "Åda Łovelace 🂡 日本"
	f.update(func(ctx context.Context, tx *store.Tx) error {
		first.FullName, first.ExtraInfo = &name, []byte(`{"häufig": [1, 2.50, null], "quote": "'\"\\"}`)
		first.EmailVerifySent = start.Add(time.Microsecond)
		return tx.UpdateUser(ctx, first)
	})
	ofSession := f.insertSession("s", first.ID)
	for n := 0; n < manySessions; n += 100 {
		f.update(func(ctx context.Context, tx *store.Tx) error {
			for i := n; i < n+100; i++ {
				s := newSession(fmt.Sprint("session ", i), first.ID, start.Add(time.Duration(i)*time.Millisecond))
				s.UserAgent = strings.Repeat("ü", i%100)
				err := tx.InsertSession(ctx, s)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	f.update(func(ctx context.Context, tx *store.Tx) error {
		sessionless, next, tied := newAPIKey("a", first.ID), newAPIKey("b", first.ID), newAPIKey("c", first.ID)
		sessionless.Scopes, next.ID = []string{"view:object"}, sessionless.ID
		tied.Kind, tied.Session, tied.Refresh = store.KeyOfSession, ofSession.Digest, store.RefreshToken{}
		for _, step := range []error{
			tx.InsertAPIKey(ctx, sessionless),
			tx.ReplaceAPIKey(ctx, sessionless, next, token.Sum("refresh a"), []byte("salt")),
			tx.InsertAPIKey(ctx, tied),
			tx.PutEmailToken(ctx, first, store.PurposeSignUp, token.Sum("code"), start.Add(time.Hour)),
			tx.PutLoginFailures(ctx, &store.LoginFailures{Subject: "subject", Count: 3, First: start, Last: start, LockedUntil: start.Add(time.Hour)}),
			tx.PutDevice(ctx, first.ID, "device"),
			tx.AddEvent(ctx, &store.Event{Kind: "user.edited", UserID: first.ID, Details: []byte(`{"fields":["é"]}`)}, true),
		} {
			if step != nil {
				return step
			}
		}
		_, err := tx.AddNotice(ctx, &store.Notice{UserID: first.ID, Kind: "newdevice", IPAddress: "192.0.2.1"}, start)
		return err
	})
	db, err := databases.Open(url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	const moment = "'2026-01-02 03:04:05.678901'"
	for _, statement := range []string{
		"INSERT INTO groups (group_id, system_id, group_name, visibility, created_by, is_active, created_on, last_updated, group_role) " +
			"VALUES (1, 'id', 'name', 'public', 1, true, " + moment + ", " + moment + ", 'staff')",
		"INSERT INTO user_groups (user_id, group_id) VALUES (1, 1)",
		"INSERT INTO preferences (pref_id, user_id, pref_name) VALUES (7, 1, 'name')",
	} {
		mustExec(f.t, db, statement)
	}
}

// moves moves a database and returns the digests.
func moves(t *testing.T, from, to string) *store.MoveResult {
	t.Helper()
	result, err := store.Move(t.Context(), store.MoveOptions{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// checks checks a database that must be sound, and returns the digests.
func checks(t *testing.T, url string) []store.TableDigest {
	t.Helper()
	result, err := store.Check(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Findings) > 0 {
		t.Errorf("the check found %q", result.Findings)
	}
	return result.Tables
}

// newSource fills a database of a kind.
func newSource(t *testing.T, kind databases.Kind) (url string, f *fixture) {
	t.Helper()
	url = servers.New(t, kind)
	f = openFixture(t, url)
	f.fill(url)
	return url, f
}

// TestMove moves from each kind of database to each.
func TestMove(t *testing.T) {
	t.Parallel()
	for _, from := range databases.Kinds() {
		t.Run("from "+string(from), func(t *testing.T) {
			t.Parallel()
			source, old := newSource(t, from)
			want := checks(t, source)
			for _, table := range want {
				if table.Rows == 0 {
					t.Errorf("%s has no rows: this test shows nothing about it", table.Table)
				}
			}
			for _, to := range databases.Kinds() {
				t.Run("to "+string(to), func(t *testing.T) {
					t.Parallel()
					target := servers.New(t, to)
					result := moves(t, source, target)
					byName := func(tables []store.TableDigest) map[string]store.TableDigest {
						found := map[string]store.TableDigest{}
						for _, table := range tables {
							found[table.Table] = table
						}
						return found
					}
					if diff := cmp.Diff(byName(want), byName(result.Tables)); diff != "" {
						t.Errorf("what was moved differs from the source (-want +got):\n%s", diff)
					}
					if diff := cmp.Diff(byName(want), byName(checks(t, target))); diff != "" {
						t.Errorf("the target differs from the source (-want +got):\n%s", diff)
					}
					equal(t, "resumed", result.Resumed, false)
					moved := openFixture(t, target)
					sameContent(t, old, moved)
					u := moved.insertUser("new")
					equal(t, "number of the next user", u.ID, 6)
					moved.update(func(ctx context.Context, tx *store.Tx) error {
						added, err := tx.AddNotice(ctx, &store.Notice{UserID: u.ID, Kind: "newdevice"}, start)
						equal(t, "next notice", added, true)
						return err
					})
				})
			}
		})
	}
}

// sameContent reads some of everything through both stores.
func sameContent(t *testing.T, old, moved *fixture) {
	t.Helper()
	equal(t, "key of token checksums", string(moved.TokenKey()), string(old.TokenKey()))
	for _, secret := range []string{"s", "session 0", "session 1234"} {
		want, wantUser, err := old.Session(t.Context(), token.Sum(secret))
		if err != nil {
			t.Fatal(err)
		}
		got, gotUser, err := moved.Session(t.Context(), token.Sum(secret))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, visibleFields) + cmp.Diff(wantUser, gotUser); diff != "" {
			t.Errorf("session %q (-want +got):\n%s", secret, diff)
		}
	}
	for _, secret := range []string{"b", "c"} {
		want, err := old.APIKey(t.Context(), token.Sum(secret))
		if err != nil {
			t.Fatal(err)
		}
		got, err := moved.APIKey(t.Context(), token.Sum(secret))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "key "+secret, fmt.Sprint(got.ID, got.Scopes, got.Expires, got.Refresh), fmt.Sprint(want.ID, want.Scopes, want.Expires, want.Refresh))
	}
}

// TestMoveResumes stops a move after each of its steps and goes on.
func TestMoveResumes(t *testing.T) {
	t.Parallel()
	for _, kinds := range [][2]databases.Kind{
		{databases.SQLite, databases.PostgreSQL},
		{databases.PostgreSQL, databases.MariaDB},
		{databases.MariaDB, databases.SQLite},
	} {
		t.Run(fmt.Sprint(kinds), func(t *testing.T) {
			t.Parallel()
			source, _ := newSource(t, kinds[0])
			want := checks(t, source)
			for stop := 1; ; stop++ {
				target := servers.New(t, kinds[1])
				ctx, cancel := context.WithCancel(t.Context())
				steps, interrupted := 0, false
				_, err := store.Move(ctx, store.MoveOptions{From: source, To: target, Report: func(store.Progress) {
					steps++
					if steps == stop {
						cancel()
					}
				}})
				cancel()
				if err == nil { // too late
					if stop < 15 {
						t.Fatalf("the move has %d steps only", stop)
					}
					return
				}
				wantErr(t, "interrupted", err, context.Canceled)
				_, err = store.Open(t.Context(), store.Options{URL: target, NormalizeEmail: strings.ToLower})
				if errors.Is(err, store.ErrUnfinished) {
					interrupted = true
				} else {
					t.Errorf("a target that is not finished opens: error %v", err)
				}
				_, err = store.Check(t.Context(), target, nil)
				wantErr(t, "check of a target that is not finished", err, store.ErrUnfinished)
				_, err = store.Move(t.Context(), store.MoveOptions{From: target, To: servers.New(t, databases.SQLite)})
				wantErr(t, "move from a target that is not finished", err, store.ErrUnfinished)
				result := moves(t, source, target)
				equal(t, "resumed", result.Resumed, interrupted)
				if diff := cmp.Diff(want, checks(t, target)); diff != "" {
					t.Errorf("stopped at step %d: the target differs from the source (-want +got):\n%s", stop, diff)
				}
			}
		})
	}
}

// interrupt begins a move that does not end.
func interrupt(t *testing.T, from, to string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := store.Move(ctx, store.MoveOptions{From: from, To: to, Report: func(p store.Progress) {
		if p.Table == "sessions" {
			cancel()
		}
	}})
	wantErr(t, "interrupted", err, context.Canceled)
}

// TestMoveRefuses tries what must not be done.
func TestMoveRefuses(t *testing.T) {
	t.Parallel()
	source, f := newSource(t, databases.SQLite)
	before := checks(t, source)
	move := func(t *testing.T, from, to string, want error, words ...string) {
		t.Helper()
		_, err := store.Move(t.Context(), store.MoveOptions{From: from, To: to})
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("move: error %v, want %v", err, want)
		}
		for _, word := range words {
			if err != nil && !strings.Contains(err.Error(), word) {
				t.Errorf("the error does not say %q: %v", word, err)
			}
		}
	}
	for _, kind := range databases.Kinds() {
		t.Run("filled "+string(kind), func(t *testing.T) {
			target := servers.New(t, kind)
			openFixture(t, target).initialize()
			was := checks(t, target)
			move(t, source, target, store.ErrNotEmpty, "roles")
			if diff := cmp.Diff(was, checks(t, target)); diff != "" {
				t.Errorf("the target was changed:\n%s", diff)
			}
		})
		t.Run("empty "+string(kind), func(t *testing.T) {
			if kind == databases.SQLite {
				missing := filepath.Join(t.TempDir(), "missing.sqlite")
				move(t, sqliteURL(missing), servers.New(t, kind), os.ErrNotExist)
				_, err := os.Stat(missing)
				wantErr(t, "the missing file", err, os.ErrNotExist)
				return
			}
			move(t, servers.New(t, kind), servers.New(t, databases.SQLite), store.ErrSchema, "no tables")
		})
		t.Run("of another program "+string(kind), func(t *testing.T) {
			target := servers.New(t, kind)
			db, err := databases.Open(target)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			mustExec(t, db, "CREATE TABLE users (id INTEGER)")
			move(t, source, target, store.ErrNotEmpty)
		})
	}
	t.Run("itself", func(t *testing.T) { move(t, source, source, store.ErrNotEmpty) })
	t.Run("no database", func(t *testing.T) { move(t, source, "oracle://host/db", nil, "oracle") })
	t.Run("half of another", func(t *testing.T) {
		target := servers.New(t, databases.SQLite)
		interrupt(t, source, target)
		other, _ := newSource(t, databases.SQLite)
		move(t, other, target, store.ErrUnfinished, "another database")
		moves(t, source, target)
	})
	t.Run("unknown column", func(t *testing.T) {
		other, _ := newSource(t, databases.SQLite)
		db := rawSQLite(t, strings.TrimPrefix(other, "sqlite:///"))
		mustExec(t, db, "ALTER TABLE users ADD COLUMN shoe_size INTEGER")
		mustExec(t, db, "CREATE TABLE horses (name TEXT)")
		move(t, other, servers.New(t, databases.SQLite), store.ErrSchema, "shoe_size of users")
		mustExec(t, db, "ALTER TABLE users DROP COLUMN shoe_size")
		result := moves(t, other, servers.New(t, databases.SQLite))
		if diff := cmp.Diff([]string{"horses"}, result.Ignored); diff != "" {
			t.Errorf("tables that were not copied (-want +got):\n%s", diff)
		}
	})
	t.Run("does not fit", func(t *testing.T) {
		other, _ := newSource(t, databases.SQLite)
		db := rawSQLite(t, strings.TrimPrefix(other, "sqlite:///"))
		mustExec(t, db, "UPDATE users SET full_name = ? WHERE user_id = 5", strings.Repeat("x", 300))
		for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB} {
			target := servers.New(t, kind)
			move(t, other, target, store.ErrUnavailable, "copy users", `["5"]`)
			_, err := store.Open(t.Context(), store.Options{URL: target, NormalizeEmail: strings.ToLower})
			wantErr(t, "target without the row", err, store.ErrUnfinished)
		}
	})
	if diff := cmp.Diff(before, checks(t, source)); diff != "" {
		t.Errorf("the source was changed:\n%s", diff)
	}
	t.Run("changed meanwhile", func(t *testing.T) {
		target := servers.New(t, databases.MariaDB)
		interrupt(t, source, target)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.RecordLogin(ctx, 1, true) })
		move(t, source, target, store.ErrDiffers, "users", "stop all servers")
		move(t, source, target, store.ErrDiffers)
		_, err := store.Open(t.Context(), store.Options{URL: target, NormalizeEmail: strings.ToLower})
		wantErr(t, "target that differs", err, store.ErrUnfinished)
	})
}

// TestBackup backs up while others write.
func TestBackup(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u := f.insertUser("u")
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				s := newSession(fmt.Sprint(i), u.ID, start)
				err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
					err := tx.InsertSession(ctx, s)
					if err != nil {
						return err
					}
					k := newAPIKey(fmt.Sprint(i), u.ID)
					k.Kind, k.Session, k.Refresh = store.KeyOfSession, s.Digest, store.RefreshToken{}
					return tx.InsertAPIKey(ctx, k)
				})
				if err != nil {
					t.Errorf("write during a backup: %v", err)
				}
			}
		}()
		folder := t.TempDir()
		for i := range 3 {
			file := filepath.Join(folder, fmt.Sprint("backup", i))
			result, err := store.Backup(t.Context(), f.url, file, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			rows := map[string]int64{}
			for _, table := range result.Tables {
				rows[table.Table] = table.Rows
			}
			equal(t, "sessions without a key", rows["sessions"]-rows["apikeys"], 0)
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "mode", info.Mode().Perm(), 0o600)
			if diff := cmp.Diff(result.Tables, checks(t, sqliteURL(file))); diff != "" {
				t.Errorf("the backup holds something else:\n%s", diff)
			}
		}
		close(stop)
		<-done
		_, err := store.Backup(t.Context(), f.url, filepath.Join(folder, "backup1"), nil, nil)
		wantErr(t, "a file that is there", err, os.ErrExist)
		names, err := filepath.Glob(filepath.Join(folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "files", len(names), 3)
		_, err = store.Backup(t.Context(), f.url, filepath.Join(folder, "no", "backup"), nil, nil)
		wantErr(t, "no folder", err, os.ErrNotExist)
	})
}

// TestCheck damages databases.
func TestCheck(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		u := f.insertUser("u")
		f.insertSession("s", u.ID)
		checks(t, f.url)
		db, err := databases.Open(f.url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		for _, statement := range map[databases.Kind][]string{
			databases.SQLite:     {},
			databases.PostgreSQL: {"SET session_replication_role = replica"},
			databases.MariaDB:    {"SET foreign_key_checks = 0", "SET check_constraint_checks = 0"},
		}[f.kind] {
			mustExec(t, db, statement)
		}
		mustExec(t, db, "UPDATE sessions SET user_id = 999, session_token = 'in the clear'")
		mustExec(t, db, "DELETE FROM user_id_sequence")
		want := []string{
			"sessions has rows whose session_token is not well-formed, 1 of them: they are no digests, and may be tokens in the clear, as another server writes them",
			"sessions has rows whose user_id is not in users, 1 of them",
			"user_id_sequence must have one row, and has 0",
		}
		if f.kind != databases.PostgreSQL { // which does not store it
			mustExec(t, db, "UPDATE users SET extra_info = '{' WHERE user_id = 1")
			want = append(want, "users has rows whose extra_info is not well-formed, 1 of them: it is no JSON")
		}
		result, err := store.Check(t.Context(), f.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(result.Findings))); diff != "" {
			t.Errorf("findings (-want +got):\n%s", diff)
		}
	})
}

// TestCheckFile damages a file.
func TestCheckFile(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u := f.insertUser("u")
	for i := range 200 {
		f.insertSession(fmt.Sprint(i), u.ID)
	}
	db := rawSQLite(t, path)
	mustExec(t, db, "UPDATE sessions SET created = 'yesterday' WHERE session_token = ?", token.Sum("7").String())
	result, err := store.Check(t.Context(), sqliteURL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Findings) != 1 || !strings.Contains(result.Findings[0], "of sessions") {
		t.Errorf("findings about a date: %q", result.Findings)
	}
	mustExec(t, db, "PRAGMA writable_schema = ON")
	mustExec(t, db, "UPDATE sqlite_schema SET sql = replace(sql, 'expires)', 'created)') WHERE name = 'ix_sessions_expires'")
	result, err = store.Check(t.Context(), sqliteURL(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(result.Findings, "\n"), "the file: ") {
		t.Errorf("findings about a damaged index: %q", result.Findings)
	}
}

// TestPending lists what there is to do, without doing it.
func TestPending(t *testing.T) {
	t.Parallel()
	for _, kind := range databases.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			url := servers.New(t, kind)
			if kind == databases.SQLite {
				_, err := store.Pending(t.Context(), url)
				wantErr(t, "no file", err, os.ErrNotExist)
				mustExec(t, rawSQLite(t, strings.TrimPrefix(url, "sqlite:///")), "VACUUM")
			}
			for range 2 {
				pending, err := store.Pending(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				for i, migration := range pending {
					equal(t, "version", migration.Version, int64(i+1))
					if migration.Name == "" || !strings.HasSuffix(migration.About, ".") {
						t.Errorf("migration %d says %q: %q", migration.Version, migration.Name, migration.About)
					}
				}
				if len(pending) == 0 {
					t.Error("nothing is pending for an empty database")
				}
			}
			openFixture(t, url)
			pending, err := store.Pending(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "pending", len(pending), 0)
			db, err := databases.Open(url)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			mustExec(t, db, "UPDATE authnzerver_migrations SET version_id = 999 WHERE version_id = 1")
			_, err = store.Pending(t.Context(), url)
			wantErr(t, "a newer one", err, store.ErrSchema)
		})
	}
}

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

// TestMain runs the tests, or one of the children that they start from the
// same binary.
func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		// A check of the model is a database of its own with dozens of
		// commits. The command line can ask for more.
		err := flag.Set("rapid.checks", "25")
		if err != nil {
			panic(err)
		}
		code := m.Run()
		unserved, err := checkQueries()
		for _, text := range unserved {
			fmt.Fprintln(os.Stderr, text)
			code = 1
		}
		err = errors.Join(err, servers.Close())
		if err != nil {
			panic(err)
		}
		os.Exit(code)
	case childWriter:
		os.Exit(runWriter())
	case childUnprivileged:
		os.Exit(runUnprivileged())
	default:
		os.Exit(2)
	}
}

// The children, named in an environment variable, and the database that they
// open.
const (
	childVariable     = "AUTHNZERVER_STORE_TEST_CHILD"
	childURL          = "AUTHNZERVER_STORE_TEST_URL"
	childWriter       = "writer"
	childUnprivileged = "unprivileged"
)

// start is when the clock of a test starts: with a fraction that does not fit
// into milliseconds.
var start = time.Date(2026, 2, 3, 4, 5, 6, 789012000, time.UTC)

// A clock shows what it was set to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// servers are the database servers of this process.
var servers databases.Servers

func sqliteURL(path string) string { return "sqlite:///" + path }

// everywhere runs a conformance test over an initialised database of each
// kind.
func everywhere(t *testing.T, test func(*testing.T, *fixture)) {
	t.Helper()
	t.Parallel()
	for _, kind := range databases.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := openFixture(t, servers.New(t, kind))
			f.kind = kind
			f.initialize()
			test(t, f)
		})
	}
}

// A fixture is an open store with a clock that stands still.
type fixture struct {
	*store.Store
	t     testing.TB
	clock *clock
	url   string
	kind  databases.Kind // with everywhere
}

// openFixture opens a store with a normaliser that lower-cases ASCII.
func openFixture(t testing.TB, url string) *fixture {
	t.Helper()
	return openWith(t, store.Options{URL: url})
}

// openWith is openFixture with more options.
func openWith(t testing.TB, o store.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: newClock(), url: o.URL}
	o.NormalizeEmail, o.Now = strings.ToLower, f.clock.Now
	var err error
	f.Store, err = store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		queries.add(f.Store)
		err := f.Close()
		if err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

// newFile is a store on a new initialised SQLite file, whose path it returns.
func newFile(t testing.TB) (*fixture, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.sqlite")
	f := openFixture(t, sqliteURL(path))
	f.initialize()
	return f, path
}

func (f *fixture) initialize() {
	f.t.Helper()
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.Initialize(ctx, initial()) })
}

func initial() store.Initial {
	return store.Initial{
		Roles:      []string{"superuser", "staff", "authenticated", "anonymous", "locked"},
		AdminEmail: "Root.Keeper@Example.org", AdminHash: "admin hash",
		NoPassword: func() string { return "no password" },
	}
}

// update makes a change that must succeed.
func (f *fixture) update(fn func(context.Context, *store.Tx) error) {
	f.t.Helper()
	err := f.Update(context.Background(), fn)
	if err != nil {
		f.t.Fatal(err)
	}
}

// view reads what must be readable.
func (f *fixture) view(fn func(context.Context, *store.Tx) error) {
	f.t.Helper()
	err := f.View(context.Background(), fn)
	if err != nil {
		f.t.Fatal(err)
	}
}

// usersOf returns the users of a query.
func usersOf(ctx context.Context, tx *store.Tx, q store.UserQuery) ([]store.User, error) {
	var users []store.User
	err := tx.EachUser(ctx, q, func(u *store.User) error {
		users = append(users, *u)
		return nil
	})
	return users, err
}

// newUser is a verified user who is not in any database yet.
func newUser(name string) *store.User {
	return &store.User{
		SystemID: store.NewUUID(), PasswordHash: "hash of " + name, Email: name + "@example.org",
		EmailVerified: true, IsActive: true, Role: "authenticated", FirstVerified: start,
	}
}

func (f *fixture) insertUser(name string) *store.User {
	f.t.Helper()
	u := newUser(name)
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
	return u
}

// raw returns the database, for statements past the store.
func (f *fixture) raw() *sql.DB {
	f.t.Helper()
	db, err := databases.Open(f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		err := db.Close()
		if err != nil {
			f.t.Errorf("close: %v", err)
		}
	})
	return db
}

// insertMany adds many rows, past the store.
func (f *fixture) insertMany(many databases.Filling) {
	f.t.Helper()
	err := databases.Fill(context.Background(), f.raw(), many)
	if err != nil {
		f.t.Fatal(err)
	}
}

// newSession is a session of an hour.
func newSession(secret string, userID int64, now time.Time) *store.Session {
	return &store.Session{
		Digest: token.Sum(secret), IPAddress: "192.0.2.7", UserAgent: "agent", UserID: userID,
		Created: now, Expires: now.Add(time.Hour),
	}
}

// visibleFields compares sessions by what their readers see.
var visibleFields = cmpopts.IgnoreUnexported(store.Session{})

func (f *fixture) insertSession(secret string, userID int64) *store.Session {
	f.t.Helper()
	s := newSession(secret, userID, f.clock.Now())
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertSession(ctx, s) })
	return s
}

// rawSQLite opens a second connection to an SQLite file, as an operator's
// shell would.
func rawSQLite(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(4000)&_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		err := db.Close()
		if err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	_, err := db.Exec(query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// one returns the only value of the only row of a query.
func one[T any](t testing.TB, db *sql.DB, query string, args ...any) T {
	t.Helper()
	var v T
	err := db.QueryRow(query, args...).Scan(&v)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// sound checks the file itself and the references between its rows.
func sound(t testing.TB, db *sql.DB) {
	t.Helper()
	if got := one[string](t, db, "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("integrity_check: %s", got)
	}
	if n := one[int](t, db, "SELECT count(*) FROM pragma_foreign_key_check"); n != 0 {
		t.Errorf("foreign_key_check: %d rows refer to none", n)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// wantErr checks an error by errors.Is; nil wants success.
func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

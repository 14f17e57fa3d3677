// Package store keeps all durable state: users, sessions, API keys and roles.
//
// Every change is made in a transaction of [Store.Update], of which a request
// makes at most one, and is on the disk when Update returns nil. Tokens are
// stored only as digests. The tables, names and text dates are those of the
// Python server, so that a reader of an adopted database sees what it saw
// before; columns of our own are added beside them.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"authnzerver/internal/token"
)

// Errors of this package. They are wrapped with what was attempted; use
// errors.Is.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a unique value is taken, or the row changed meanwhile.
	ErrConflict = errors.New("conflict")
	// ErrReference: a row that is referred to does not exist, or one that
	// should be deleted is still referred to.
	ErrReference = errors.New("referenced row")
	// ErrUnavailable: the database could not be used and nothing was
	// changed; the same call may succeed later.
	ErrUnavailable = errors.New("database unavailable")
)

// Options configure a Store.
type Options struct {
	// URL is an SQLAlchemy database URL, for example sqlite:////var/lib/a.db.
	URL string
	// NormalizeEmail returns the form in which addresses are compared.
	NormalizeEmail func(string) string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Log takes notices about migrations and about the cache; discarded when nil.
	Log *slog.Logger
}

// A Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	path      string
	writer    *sql.DB // one connection; every transaction takes the write lock at its start
	reader    *sql.DB // read-only connections
	normalize func(string) string
	now       func() time.Time
	log       *slog.Logger

	sessionByDigest *sql.Stmt
	userByID        *sql.Stmt
	keyByDigest     *sql.Stmt

	cache       *cache
	keyUses     *uses
	sessionUses *uses
	oldKeys     bool
	tokenKey    []byte

	foreignCheck atomic.Int64 // when data_version was last looked at, Unix nanoseconds
	foreignMu    sync.Mutex
	dataVersion  int64
}

// updateTimeout bounds a transaction, waiting for the write lock included. It
// lies under the 5 s after which published clients give up.
const updateTimeout = 4 * time.Second

// Open opens the database, creating an empty SQLite file when there is none,
// and brings its schema up to date.
//
// A database of the Python server is converted in one transaction, after a
// backup beside the file; the conversion cannot be undone.
func Open(ctx context.Context, o Options) (*Store, error) {
	path, err := sqlitePath(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		path: path, normalize: o.NormalizeEmail, now: o.Now, log: o.Log,
		cache: newCache(), keyUses: usesOfKeys(), sessionUses: usesOfSessions(),
	}
	err = s.open(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	err := prepareFile(s.path)
	if err != nil {
		return err
	}
	s.writer, err = openPool(s.path, true, 1)
	if err != nil {
		return err
	}
	err = s.migrate(ctx)
	if err != nil {
		return err
	}
	s.reader, err = openPool(s.path, false, max(4, 2*runtime.GOMAXPROCS(0)))
	if err != nil {
		return err
	}
	s.sessionByDigest, err = s.reader.PrepareContext(ctx, "SELECT "+sessionColumns+" FROM sessions WHERE session_token = ?")
	if err != nil {
		return classify(err)
	}
	s.userByID, err = s.reader.PrepareContext(ctx, "SELECT "+userColumns+" FROM users WHERE user_id = ?")
	if err != nil {
		return classify(err)
	}
	err = s.prepareKeys(ctx)
	if err != nil {
		return err
	}
	err = s.writer.QueryRowContext(ctx, "PRAGMA data_version").Scan(&s.dataVersion)
	if err != nil {
		return classify(err)
	}
	return nil
}

// Close waits for running queries and closes the database.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Ping reports whether the database answers a query.
func (s *Store) Ping(ctx context.Context) error {
	var hasRoles bool
	err := s.reader.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM roles)").Scan(&hasRoles)
	if err != nil {
		return fmt.Errorf("ping database: %w", classify(err))
	}
	return nil
}

// A Tx is a transaction. It is valid only inside the function that it was
// given to, and is used by one goroutine at a time.
type Tx struct {
	tx        *sql.Tx
	now       time.Time
	normalize func(string) string
	seen      *uses // of sessions
	touched   touched
}

func (s *Store) newTx(tx *sql.Tx) *Tx {
	return &Tx{tx: tx, now: s.now(), normalize: s.normalize, seen: s.sessionUses}
}

// Now is the transaction's one reading of the clock.
func (t *Tx) Now() time.Time { return t.now }

// View runs fn on a consistent snapshot of the database. fn cannot write.
func (s *Store) View(ctx context.Context, fn func(context.Context, *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", classify(err))
	}
	defer tx.Rollback() // a read transaction has nothing to lose
	return fn(ctx, s.newTx(tx))
}

// Update runs fn in a transaction and commits when fn returns nil. When it
// returns nil itself, the change is on the disk and every later call sees it.
// When it returns an error, nothing was changed; only when the disk fails while
// the commit is written is that not certain.
//
// fn must have no effect except through its Tx, and must not hash, send or
// wait: all other writers wait for it.
func (s *Store) Update(ctx context.Context, fn func(context.Context, *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel() // rolls back when fn panics
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", classify(err))
	}
	t := s.newTx(tx)
	err = s.noticeForeignWrites(ctx, tx)
	if err == nil {
		err = fn(ctx, t)
	}
	if err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	err = tx.Commit()
	// A commit that reported an error may have been made all the same.
	s.cache.forget(&t.touched)
	if err != nil {
		return fmt.Errorf("commit: %w", classify(err))
	}
	return nil
}

// ignoreDone drops the error of rolling back what a cancelled context has
// rolled back already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func (t *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, classify(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, classify(err)
	}
	return n, nil
}

// touched collects what a transaction changes, so that the cache forgets it
// before the change is acknowledged.
type touched struct {
	users    []int64
	sessions []token.Digest
	keys     []token.Digest
}

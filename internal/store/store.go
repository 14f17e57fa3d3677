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
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"authnzerver/internal/dburl"
	"authnzerver/internal/token"
	"authnzerver/internal/tracing"
)

// Options configure a Store.
type Options struct {
	// URL is an SQLAlchemy database URL, for example sqlite:////var/lib/a.db.
	URL string
	// NormalizeEmail returns the form in which addresses are compared.
	NormalizeEmail func(string) string
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// SessionIdle is after how long sessions end that nobody uses; 0 for never. They may go
	// on for two minutes more.
	SessionIdle time.Duration
	// Queued, when not nil, is called after a change that has put a notice or an event
	// into its queue. It must not wait.
	Queued func()
	// Log takes notices about migrations and about the cache; discarded when nil.
	Log *slog.Logger
}

// A Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	url     *dburl.URL
	dialect *dialect
	// writer is for what changes something. On SQLite it has one connection,
	// and every transaction takes the write lock at its start.
	writer *sql.DB
	// reader is for what only reads. On SQLite, its connections are read-only.
	reader    *sql.DB
	normalize func(string) string
	now       func() time.Time
	queued    func()
	log       *slog.Logger

	sessionByDigest *sql.Stmt
	userByID        *sql.Stmt
	keyByDigest     *sql.Stmt

	cache       *cache
	watch       *watch // of a server
	keyUses     *uses
	sessionUses *uses
	idle        idleness
	oldKeys     bool
	lists       chan struct{} // has one for each long list that is being read
	tokenKey    []byte

	// changesFail is set while changes cannot be made, and refused is when the
	// database last refused one for a reason of its own, in Unix nanoseconds.
	changesFail atomic.Bool
	refused     atomic.Int64

	retries atomic.Uint64 // of transactions

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
	u, err := dburl.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	s := newStore(u, o)
	err = s.open(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", u, err), s.Close())
	}
	return s, nil
}

// newStore returns a store that is not connected.
func newStore(u *dburl.URL, o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Queued == nil {
		o.Queued = func() {}
	}
	return &Store{
		url: u, dialect: dialectOf(u.Dialect), normalize: o.NormalizeEmail, now: o.Now, queued: o.Queued, log: o.Log,
		cache: newCache(), watch: newWatch(), keyUses: usesOfKeys(), sessionUses: usesOfSessions(), idle: idleness(o.SessionIdle),
		lists: make(chan struct{}, listsAtOnce),
	}
}

func (s *Store) open(ctx context.Context) error {
	err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.isFinished(ctx, s.writer)
	if err != nil {
		return err
	}
	err = s.migrate(ctx)
	if err != nil {
		return err
	}
	if s.url.Dialect == dburl.SQLite {
		s.reader, err = openPool(s.url.Path, false, max(4, 2*runtime.GOMAXPROCS(0)))
		if err != nil {
			return err
		}
	}
	s.sessionByDigest, err = s.prepare(ctx, "SELECT "+sessionColumns+" FROM sessions WHERE session_token = ?", "")
	if err != nil {
		return classify(err)
	}
	s.userByID, err = s.prepare(ctx, "SELECT "+userColumns+" FROM users WHERE user_id = ?", int64(0))
	if err != nil {
		return classify(err)
	}
	err = s.prepareKeys(ctx)
	if err != nil {
		return err
	}
	return s.startWatching(ctx)
}

// prepare prepares a statement with arguments of the types of the examples.
func (s *Store) prepare(ctx context.Context, query string, examples ...any) (*sql.Stmt, error) {
	return s.reader.PrepareContext(ctx, s.dialect.statement(query, examples).text)
}

// connect opens the database, or the file for writing.
func (s *Store) connect(ctx context.Context) (err error) {
	switch s.url.Dialect {
	case dburl.SQLite:
		err = prepareFile(s.url.Path)
		if err != nil {
			return err
		}
		s.writer, err = openPool(s.url.Path, true, 1)
		return err
	case dburl.PostgreSQL:
		s.writer, err = openPostgreSQL(s.url)
	default:
		s.writer, err = openMySQL(s.url)
	}
	if err != nil {
		return err
	}
	s.reader = s.writer
	return classify(s.writer.PingContext(ctx))
}

// Close waits for running queries and closes the database. Connections that a server
// has ended before are no error.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db == nil {
			continue
		}
		err := db.Close() // closing a pool twice does nothing
		// An error of a server's pool is that a connection had ended before it could be told
		// goodbye. No change hangs on that, and MariaDB's driver has no value for it.
		if s.url.Dialect == dburl.SQLite {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pingTime bounds a ping.
const pingTime = 2 * time.Second

// refusedTime is how long a database counts as broken that has refused a change, as
// one does whose disk is full: it may still take others.
const refusedTime = 5 * time.Second

// Ping reports whether the database answers a query, and when the last change
// failed, whether it takes changes again.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	var hasRoles bool
	err := s.reader.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM roles)").Scan(&hasRoles)
	if err != nil {
		return fmt.Errorf("ping database: %w", classify(err))
	}
	if since := s.now().Sub(time.Unix(0, s.refused.Load())); since < refusedTime {
		return fmt.Errorf("%w: it refused a change %v ago", ErrUnavailable, since.Round(time.Millisecond))
	}
	if !s.changesFail.Load() {
		return nil
	}
	err = s.Update(ctx, func(ctx context.Context, tx *Tx) error {
		_, err := tx.exec(ctx, "UPDATE user_id_sequence SET last_id = last_id")
		return err
	})
	if err != nil {
		return fmt.Errorf("try a change: %w", err)
	}
	return nil
}

// A Tx is a transaction. It is valid only inside the function that it was
// given to, and is used by one goroutine at a time.
type Tx struct {
	tx        *sql.Tx
	dialect   *dialect
	now       time.Time
	normalize func(string) string
	seen      *uses // of sessions
	idle      idleness
	touched   touched
	// changed is set when a change was made, and id is then what tells later
	// that the transaction was committed; not on SQLite.
	changed bool
	id      string
	// queued is set when something was put into a queue.
	queued bool
	// failed is the error of the first change that could not be made.
	failed error
}

func (s *Store) newTx(tx *sql.Tx) *Tx {
	return &Tx{tx: tx, dialect: s.dialect, now: s.now(), normalize: s.normalize, seen: s.sessionUses, idle: s.idle}
}

// Now is the transaction's one reading of the clock.
func (t *Tx) Now() time.Time { return t.now }

// snapshot are the options of a transaction that only reads. SQLite's driver has none:
// there, all connections for reading are read-only.
func (s *Store) snapshot() *sql.TxOptions {
	return &sql.TxOptions{Isolation: s.dialect.snapshot, ReadOnly: s.dialect.snapshot != 0}
}

// View runs fn on a consistent snapshot of the database. fn cannot write.
func (s *Store) View(ctx context.Context, fn func(context.Context, *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	return s.view(ctx, fn)
}

func (s *Store) view(ctx context.Context, fn func(context.Context, *Tx) error) (err error) {
	ctx, span := tracing.Start(ctx, "database view")
	defer func() { span.End(err) }()
	tx, err := again(ctx, func(ctx context.Context) (*sql.Tx, error) {
		tx, err := s.reader.BeginTx(ctx, s.snapshot())
		return tx, classify(err)
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // a read transaction has nothing to lose
	return fn(ctx, s.newTx(tx))
}

// listsAtOnce is how many long lists are made at a time: each has a connection for as
// long as its reader takes, listTime at most.
const (
	listsAtOnce = 2
	listTime    = time.Minute
)

// ViewLong is View for lists of any length: fn may take a minute, whatever the deadline
// of the context that ViewLong is given; that one is for waiting until less than two
// others are running. Longer, and a database must keep too much of what others change.
func (s *Store) ViewLong(ctx context.Context, fn func(context.Context, *Tx) error) error {
	waiting, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	case <-waiting.Done():
		return fmt.Errorf("%w: other long lists are being read", ErrUnavailable)
	}
	ctx, cancelLong := context.WithTimeout(context.WithoutCancel(ctx), listTime)
	defer cancelLong()
	return s.view(ctx, fn)
}

// reconnectTime is how long an operation may be tried again because there was no
// connection, as after a restart of the database. Longer, and too many would wait
// for a database that is down.
const reconnectTime = 2 * time.Second

// again reads once more while there is no connection.
func again[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	connecting, cancel := context.WithTimeout(ctx, reconnectTime)
	defer cancel()
	for try := 0; ; try++ {
		value, err := read(ctx)
		if !errors.Is(err, errLost) || !pause(connecting, try) {
			return value, err
		}
	}
}

// reading is again with the time of a transaction.
func reading[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	ctx, span := tracing.Start(ctx, "database read")
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	value, err := again(ctx, read)
	span.End(err)
	return value, err
}

// Update runs fn in a transaction and commits when fn returns nil. When it
// returns nil itself, the change is on the disk and every later call sees it.
// When it returns an error other than ErrUnknown, nothing was changed.
//
// After a change that failed, a transaction can only be rolled back, whatever fn
// returns.
//
// Transactions are serializable: each sees what it would see if there were no
// other at the same time. Where that comes out only in the end, and when the
// connection is lost, fn runs again. So fn must have no effect except through its
// Tx, and must not hash, send or wait: others may wait for it.
func (s *Store) Update(ctx context.Context, fn func(context.Context, *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel() // rolls back when fn panics
	ctx, span := tracing.Start(ctx, "database change")
	connecting, stopConnecting := context.WithTimeout(ctx, reconnectTime)
	defer stopConnecting()
	for try := 0; ; try++ {
		err := s.update(ctx, fn)
		switch {
		case errors.Is(err, errAgain) && pause(ctx, try), errors.Is(err, errLost) && pause(connecting, try):
			span.Event("tried again")
			s.retries.Add(1)
			continue
		case err == nil:
			s.changesFail.Store(false)
		case errors.Is(err, errLost), errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrUnknown):
			s.changesFail.Store(true)
		case errors.Is(err, ErrUnavailable) && !errors.Is(err, errAgain):
			s.changesFail.Store(true)
			s.refused.Store(s.now().UnixNano())
		}
		span.End(err)
		return err
	}
}

// pause waits before the next try of a transaction, a random time so that two
// that are in each other's way do not meet again. It reports whether there is
// time for one.
func pause(ctx context.Context, try int) bool {
	longest := time.Millisecond << min(try, 7)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(rand.N(longest)):
		return true
	}
}

// commitTime is how long a commit on a server may go on after the time of its
// transaction is over. Cut off, it would be unknown whether it was made.
const commitTime = time.Second

// begin begins a transaction that writes, with what releases it.
func (s *Store) begin(ctx context.Context) (tx *sql.Tx, release func(err error), err error) {
	if s.url.Dialect == dburl.SQLite {
		tx, err = s.writer.BeginTx(ctx, nil)
		return tx, func(error) {}, err
	}
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	// Package database/sql would roll back, and cut off a commit, when ctx ends.
	all, cancel := context.WithTimeout(context.WithoutCancel(ctx), updateTimeout+commitTime)
	release = func(err error) {
		cancel() // rolls back when fn panics
		if errors.Is(err, errLost) {
			// The connection may still be there: to a server that takes no changes
			// any more.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		_ = conn.Close() // it goes back to the pool
	}
	tx, err = conn.BeginTx(all, &sql.TxOptions{Isolation: s.dialect.isolation})
	if err != nil {
		release(classify(err))
	}
	return tx, release, err
}

func (s *Store) update(ctx context.Context, fn func(context.Context, *Tx) error) (err error) {
	tx, release, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", classify(err))
	}
	defer func() { release(err) }()
	t := s.newTx(tx)
	err = s.noticeInside(ctx, tx)
	if err == nil {
		err = fn(ctx, t)
	}
	if err == nil {
		err = t.failed
	}
	if err == nil {
		err = s.announce(ctx, t)
	}
	if err == nil {
		err = classify(ctx.Err())
	}
	if err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if t.touched.any() {
		err = s.cache.commit(&t.touched, func() error { return s.commit(ctx, t) })
	} else {
		err = s.commit(ctx, t)
	}
	if err == nil && t.queued {
		s.queued()
	}
	return err
}

// commit commits a transaction, and learns whether that was done when there is no answer.
func (s *Store) commit(ctx context.Context, t *Tx) error {
	err := t.tx.Commit()
	if err == nil {
		return nil
	}
	failed := fmt.Errorf("commit: %w", classify(err))
	switch {
	case unsynced(err):
		return fmt.Errorf("%w: %w", ErrUnknown, failed)
	case t.id == "", answered(err):
		return failed
	default:
		return s.settle(ctx, t.id, failed)
	}
}

// dialectOf returns the dialect of a kind of database.
func dialectOf(name dburl.Dialect) *dialect {
	switch name {
	case dburl.PostgreSQL:
		return postgresqlDialect()
	case dburl.MySQL:
		return mysqlDialect()
	default:
		return sqliteDialect()
	}
}

// ignoreDone drops the error of rolling back what a cancelled context has
// rolled back already, or the end of the connection.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(classify(err), errLost) {
		return nil
	}
	return err
}

func (t *Tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	query, args = t.dialect.translate(query, args)
	return t.tx.QueryContext(ctx, query, args...)
}

// queryAsGiven is query for a statement whose best plan depends on its arguments.
func (t *Tx) queryAsGiven(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	query, args = t.dialect.translate(query, args)
	return t.tx.QueryContext(ctx, query, slices.Concat(t.dialect.asGiven, args)...)
}

func (t *Tx) row(ctx context.Context, query string, args ...any) *sql.Row {
	query, args = t.dialect.translate(query, args)
	return t.tx.QueryRowContext(ctx, query, args...)
}

func (t *Tx) exec(ctx context.Context, query string, args ...any) (int64, error) {
	query, args = t.dialect.translate(query, args)
	result, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		err = classify(err)
		if t.failed == nil {
			t.failed = err
		}
		return 0, err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, classify(err)
	}
	t.changed = t.changed || n > 0
	return n, nil
}

// Nested runs fn, and undoes what it has changed unless keep is set. Both cost about the
// same, so that time does not tell which of the two was done. An error of fn ends the
// transaction.
func (t *Tx) Nested(ctx context.Context, keep bool, fn func(context.Context) error) error {
	err := t.run(ctx, "SAVEPOINT nested")
	if err != nil {
		return fmt.Errorf("begin a nested transaction: %w", classify(err))
	}
	err = fn(ctx)
	if err != nil {
		return err
	}
	end := "RELEASE SAVEPOINT nested"
	if !keep {
		end = "ROLLBACK TO SAVEPOINT nested" // it goes with the transaction
	}
	err = t.run(ctx, end)
	if err != nil {
		return fmt.Errorf("end a nested transaction: %w", classify(err))
	}
	return nil
}

// touched collects what a transaction changes, so that the cache forgets it
// before the change is acknowledged.
type touched struct {
	users    []int64
	sessions []token.Digest
	keys     []token.Digest
}

func (t *touched) any() bool { return len(t.users) > 0 || len(t.sessions) > 0 || len(t.keys) > 0 }

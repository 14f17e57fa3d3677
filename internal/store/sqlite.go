package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"authnzerver/internal/dburl"
)

// sqliteDialect returns what is SQLite's own.
func sqliteDialect() *dialect {
	return &dialect{
		name: dburl.SQLite, placeholders: questions, textTimes: true,
		goose: goose.DialectSQLite3, migrations: "migrations",
		table:           "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?",
		column:          "SELECT 1 FROM pragma_table_info(?) WHERE name = ?",
		listTables:      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
		listColumns:     "SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid",
		listReferences:  `SELECT "from", "table", "to" FROM pragma_foreign_key_list(?) ORDER BY id`,
		moment:          "DATETIME",
		lastID:          "last_insert_rowid()",
		withoutHistory:  `CASE WHEN json_valid(extra_info) THEN json_remove(extra_info, '$.previous_user_roles') ELSE extra_info END`,
		deferReferences: "PRAGMA defer_foreign_keys = ON",
	}
}

// fileHeader is how every SQLite file begins.
const fileHeader = "SQLite format 3\x00"

// prepareFile creates the file when it is missing, refuses what is no
// database, and sets the mode that the Python server insists on: the file
// holds password hashes.
func prepareFile(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	// SQLite takes a file of a few bytes for an empty database and would
	// overwrite it.
	header := make([]byte, len(fileHeader))
	n, err := io.ReadFull(file, header)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if n > 0 && string(header[:n]) != fileHeader {
		return errors.New("file is not a database")
	}
	if info.Mode().Perm() != 0o600 {
		return file.Chmod(0o600)
	}
	return nil
}

// openPool opens connections to the file.
//
// WAL with synchronous=FULL syncs the log at every commit, so that what was
// acknowledged survives a power failure. The journal limit is the Python
// server's, 5 MiB.
func openPool(path string, writer bool, size int) (*sql.DB, error) {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout(4000)")
	q.Add("_pragma", "foreign_keys(1)")
	q.Add("_pragma", "synchronous(FULL)")
	if writer {
		q.Add("_pragma", "journal_mode(WAL)")
		q.Add("_pragma", "journal_size_limit(5242880)")
		q.Set("_txlock", "immediate")
	} else {
		q.Add("_pragma", "query_only(1)")
		q.Set("_txlock", "deferred")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

// classifySQLite turns an error of SQLite into one of this package's, by its
// code.
func classifySQLite(err *sqlite.Error) error {
	switch code := err.Code(); code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: unique value (SQLite code %d)", ErrConflict, code)
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return fmt.Errorf("%w (SQLite code %d)", ErrReference, code)
	default:
		// The text of an SQLite error names tables and files, never values.
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// unsynced reports whether a commit failed after all of it had been written to the log:
// then it is taken back, and yet it is made when the process ends before the next commit
// overwrites it.
func unsynced(err error) bool {
	var ofSQLite *sqlite.Error
	if !errors.As(err, &ofSQLite) {
		return false
	}
	code := ofSQLite.Code()
	return code == sqlite3.SQLITE_IOERR_FSYNC || code == sqlite3.SQLITE_IOERR_DIR_FSYNC
}

// noticeForeignWrites drops the cache when somebody else has written to the
// file: an operator's sqlite3 shell, or a second server. PRAGMA data_version
// changes only with commits of other connections, and this connection makes
// all of ours.
func (s *Store) noticeForeignWrites(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) error {
	var version int64
	err := q.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	if err != nil {
		return fmt.Errorf("read data_version: %w", classify(err))
	}
	s.foreignCheck.Store(s.now().UnixNano())
	s.foreignMu.Lock()
	defer s.foreignMu.Unlock()
	if version != s.dataVersion {
		s.dataVersion = version
		s.cache.clear()
	}
	return nil
}

// foreignCheckEvery bounds how long the cache may serve what another process
// has changed.
const foreignCheckEvery = 500 * time.Millisecond

// checkFile looks for writes of other processes when nobody has for a while.
func (s *Store) checkFile(ctx context.Context, at time.Time) error {
	last, now := s.foreignCheck.Load(), at.UnixNano()
	if since := now - last; since >= 0 && since < int64(foreignCheckEvery) {
		return nil
	}
	if !s.foreignCheck.CompareAndSwap(last, now) {
		return nil // another request is looking
	}
	err := s.noticeForeignWrites(ctx, s.writer)
	if err != nil {
		s.foreignCheck.CompareAndSwap(now, last) // the next request has to look
	}
	return err
}

// timeFormat is how SQLAlchemy writes a DATETIME on SQLite: text in UTC with
// six fraction digits, so that comparing the text compares the time.
const timeFormat = "2006-01-02 15:04:05.000000"

// formatTime returns the stored form.
func formatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// nullTime returns the argument for a moment, or NULL for the zero time.
func nullTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// A timeColumn scans a DATETIME; NULL is the zero time.
type timeColumn struct{ t *time.Time }

// Scan implements sql.Scanner.
func (c timeColumn) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*c.t = time.Time{}
	case time.Time:
		*c.t = v.UTC()
	case string:
		t, err := time.Parse("2006-01-02 15:04:05.999999", v)
		if err != nil {
			return errors.New("stored date is not of the form YYYY-MM-DD HH:MM:SS.ffffff")
		}
		*c.t = t
	default:
		return fmt.Errorf("stored date has type %T", value)
	}
	return nil
}

// A jsonColumn scans a JSON column; NULL is nil. SQLite gives such a column
// numeric affinity, so that a bare number comes back as one.
type jsonColumn struct{ text *[]byte }

// Scan implements sql.Scanner.
func (c jsonColumn) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*c.text = nil
	case string:
		*c.text = []byte(v)
	case []byte:
		*c.text = append([]byte(nil), v...)
	default:
		*c.text = fmt.Append(nil, v)
	}
	// SQLAlchemy writes the JSON null where None was meant.
	if string(*c.text) == "null" {
		*c.text = nil
	}
	return nil
}

// jsonText returns the stored form of JSON text; nil is NULL.
func jsonText(text []byte) any {
	if text == nil {
		return nil
	}
	return string(text)
}

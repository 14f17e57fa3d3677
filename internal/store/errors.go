package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
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
	// ErrUnknown: the database failed while a change was being committed, and
	// has not answered since, or its disk did not say that it has it. The change was
	// made whole or not at all.
	ErrUnknown = errors.New("it is not known whether the change was made")
)

// errAgain: another transaction was in the way of this one, which was rolled
// back and may succeed when it is tried again.
var errAgain = fmt.Errorf("%w: another transaction was in the way", ErrUnavailable)

// errLost: the connection was lost, or could not be made. What was under way was
// rolled back and may succeed with the next connection, unless it was a commit.
var errLost = fmt.Errorf("%w: no connection", ErrUnavailable)

// classify turns a driver's error into one of this package's.
func classify(err error) error {
	var ofSQLite *sqlite.Error
	var ofPostgreSQL *pgconn.PgError
	var ofMySQL *mysql.MySQLError
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.As(err, &ofSQLite):
		return classifySQLite(ofSQLite)
	case errors.As(err, &ofPostgreSQL):
		return classifyPostgreSQL(ofPostgreSQL)
	case errors.As(err, &ofMySQL):
		return classifyMySQL(ofMySQL)
	case errors.As(err, &network), errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn), pgconn.SafeToRetry(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, sql.ErrConnDone):
		return fmt.Errorf("%w: %w", errLost, err)
	default:
		return err
	}
}

// classifyPostgreSQL goes by the code (PostgreSQL manual, Appendix A). The text of
// an error may hold values, and is not shown.
func classifyPostgreSQL(err *pgconn.PgError) error {
	switch {
	case err.Code == "23505": // unique_violation
		return fmt.Errorf("%w: unique value (PostgreSQL code %s)", ErrConflict, err.Code)
	case err.Code == "23503": // foreign_key_violation
		return fmt.Errorf("%w (PostgreSQL code %s)", ErrReference, err.Code)
	case err.Code == "40001", err.Code == "40P01": // serialization_failure, deadlock_detected
		return fmt.Errorf("%w (PostgreSQL code %s)", errAgain, err.Code)
	// Class 08 are connection exceptions. 57P01 to 57P05: the server or the session
	// is being ended, or the server is starting. 53300: too_many_connections. 25006:
	// read_only_sql_transaction, as by a server that has become a standby.
	case strings.HasPrefix(err.Code, "08"), strings.HasPrefix(err.Code, "57P"), err.Code == "53300", err.Code == "25006":
		return fmt.Errorf("%w (PostgreSQL code %s)", errLost, err.Code)
	default:
		return fmt.Errorf("%w (PostgreSQL code %s)", ErrUnavailable, err.Code)
	}
}

// Codes of MySQL and MariaDB (MySQL manual, "Server Error Message Reference").
const (
	mysqlTooMany        = 1040 // connections
	mysqlShutdown       = 1053
	mysqlDuplicate      = 1062
	mysqlLockWait       = 1205
	mysqlDeadlock       = 1213
	mysqlRowReferenced  = 1451
	mysqlNoReferenced   = 1452
	mysqlKilled         = 1927 // MariaDB: the connection was
	mysqlRecordsChanged = 1020 // MariaDB, since 10.6.18: the snapshot is too old
)

// classifyMySQL goes by the code. The text of an error may hold values, and is
// not shown.
func classifyMySQL(err *mysql.MySQLError) error {
	switch err.Number {
	case mysqlDuplicate:
		return fmt.Errorf("%w: unique value (MySQL code %d)", ErrConflict, err.Number)
	case mysqlRowReferenced, mysqlNoReferenced:
		return fmt.Errorf("%w (MySQL code %d)", ErrReference, err.Number)
	case mysqlDeadlock, mysqlLockWait, mysqlRecordsChanged:
		return fmt.Errorf("%w (MySQL code %d)", errAgain, err.Number)
	case mysqlTooMany, mysqlShutdown, mysqlKilled:
		return fmt.Errorf("%w (MySQL code %d)", errLost, err.Number)
	default:
		return fmt.Errorf("%w (MySQL code %d)", ErrUnavailable, err.Number)
	}
}

// answered reports whether a commit failed by the server's own word: then the
// change was not made.
func answered(err error) bool {
	var ofSQLite *sqlite.Error
	var ofPostgreSQL *pgconn.PgError
	var ofMySQL *mysql.MySQLError
	switch {
	case errors.Is(err, pgx.ErrTxCommitRollback), errors.As(err, &ofSQLite):
		return true
	case errors.As(err, &ofPostgreSQL):
		return !errors.Is(classify(err), errLost)
	case errors.As(err, &ofMySQL):
		return !errors.Is(classify(err), errLost)
	default:
		return false
	}
}

package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"authnzerver/internal/token"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// versionTable records which migrations a database has had.
const versionTable = "authnzerver_migrations"

// migrate brings the schema up to date, after a backup when the file holds
// data. The migration of the schema is one transaction.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.writer, files,
		goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(goose.NewGoMigration(1, &goose.GoFunc{RunTx: s.adopt}, nil)))
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", classify(err))
	}
	if current > target {
		return fmt.Errorf("the schema has version %d, from a newer authnzerver; this one knows versions up to %d", current, target)
	}
	if current == target {
		return nil
	}
	started := time.Now()
	hasData, err := tableExists(ctx, s.writer, "users")
	if err != nil {
		return err
	}
	if hasData {
		backup, err := s.backup(ctx)
		if err != nil {
			return fmt.Errorf("back up before migrating: %w", err)
		}
		s.log.Warn("converting the database; this cannot be undone, and other servers must not use the file any more",
			"file", s.path, "backup", backup)
	}
	_, err = provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", classify(err))
	}
	if hasData {
		s.log.Info("the database was converted", "file", s.path, "took", time.Since(started).Round(time.Millisecond).String())
	}
	return nil
}

// backup copies the database to a file beside it that only the owner can
// read, and checks the copy.
func (s *Store) backup(ctx context.Context) (path string, err error) {
	path = s.path + ".backup-" + s.now().UTC().Format("20060102T150405.000000Z")
	// VACUUM INTO writes into an empty file, whose mode it keeps.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	err = file.Close()
	if err != nil {
		return "", err
	}
	_, err = s.writer.ExecContext(ctx, "VACUUM INTO ?", path)
	if err == nil {
		err = checkFile(ctx, path)
	}
	if err != nil {
		return "", errors.Join(classify(err), os.Remove(path))
	}
	return path, nil
}

// checkFile opens a database file and checks that it is sound and has users.
func checkFile(ctx context.Context, path string) (err error) {
	db, err := openPool(path, false, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var result string
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result)
	if err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("the copy is damaged: %s", result)
	}
	found, err := tableExists(ctx, db, "users")
	if err == nil && !found {
		return errors.New("the copy is empty")
	}
	return err
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func tableExists(ctx context.Context, q querier, name string) (bool, error) {
	return exists(ctx, q, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", name)
}

func columnExists(ctx context.Context, q querier, table, column string) (bool, error) {
	return exists(ctx, q, "SELECT 1 FROM pragma_table_info(?) WHERE name = ?", table, column)
}

func exists(ctx context.Context, q querier, query string, args ...any) (bool, error) {
	var one int
	err := q.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, classify(err)
	}
	return true, nil
}

// adopt turns an empty file, or a database of either generation of the Python
// server, into ours.
//
// 0.1.3 lacks users.extra_info, two columns of groups and two tables. Both
// generations hold session tokens and API keys in the clear; here they become
// digests, so that the tokens that clients hold go on working.
func (s *Store) adopt(ctx context.Context, tx *sql.Tx) error {
	// Digests replace primary keys that other rows refer to.
	_, err := tx.ExecContext(ctx, "PRAGMA defer_foreign_keys = ON")
	if err != nil {
		return err
	}
	steps := []struct {
		what string
		do   func(context.Context, *sql.Tx) error
	}{
		{"groups", adoptGroups},
		{"tables", script("migrations/schema.sql")},
		{"users", s.adoptUsers},
		{"indexes", script("migrations/indexes.sql")},
		{"session tokens", digestTokens("sessions", "session_token")},
		{"session tokens of keys", digestTokens("apikeys", "session_token")},
		{"keys", digestTokens("apikeys", "apikey")},
		{"session-less keys", digestTokens("apikeys_nosession", "apikey")},
	}
	for _, step := range steps {
		err := step.do(ctx, tx)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func script(name string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, string(text))
		return err
	}
}

// adoptGroups gives the table of 0.1.3 its later columns.
func adoptGroups(ctx context.Context, tx *sql.Tx) error {
	found, err := tableExists(ctx, tx, "groups")
	if err != nil || !found {
		return err
	}
	old, err := columnExists(ctx, tx, "groups", "user_role")
	if err != nil {
		return err
	}
	if old {
		_, err = tx.ExecContext(ctx, `DROP INDEX IF EXISTS ix_groups_user_role;
			ALTER TABLE groups RENAME COLUMN user_role TO group_role`)
		if err != nil {
			return err
		}
	}
	err = addColumn(ctx, tx, "groups", "extra_info", "JSON")
	if err != nil {
		return err
	}
	hasID, err := columnExists(ctx, tx, "groups", "system_id")
	if err != nil || hasID {
		return err
	}
	err = addColumn(ctx, tx, "groups", "system_id", "VARCHAR(50) NOT NULL DEFAULT ''")
	if err != nil {
		return err
	}
	ids, err := integers(ctx, tx, "SELECT group_id FROM groups")
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := tx.ExecContext(ctx, "UPDATE groups SET system_id = ? WHERE group_id = ?", NewUUID(), id)
		if err != nil {
			return err
		}
	}
	return nil
}

// adoptUsers adds the columns that 0.1.3 lacks and those of our own.
func (s *Store) adoptUsers(ctx context.Context, tx *sql.Tx) error {
	for _, column := range [][2]string{
		{"extra_info", "JSON"},
		{"email_normalized", "VARCHAR(280) NOT NULL DEFAULT ''"},
		{"first_verified", "DATETIME"},
	} {
		err := addColumn(ctx, tx, "users", column[0], column[1])
		if err != nil {
			return err
		}
	}
	err := uniqueSystemIDs(ctx, tx)
	if err != nil {
		return err
	}
	err = s.normalizeEmails(ctx, tx)
	if err != nil {
		return err
	}
	// Locking notes the former role, so a user with a history was active once.
	// Where the address was never verified, the history may be one that the
	// user sent along with the sign-up: the account stays as closed as it is,
	// but no role can come back from it.
	_, err = tx.ExecContext(ctx, `
		DROP INDEX IF EXISTS ix_users_system_id;
		CREATE UNIQUE INDEX ix_users_system_id ON users (system_id);
		CREATE INDEX ix_users_email_normalized ON users (email_normalized);
		UPDATE users SET first_verified = created_on
			WHERE email_verified OR is_active OR user_role <> 'locked' OR extra_info LIKE '%"previous_user_roles"%';
		UPDATE users SET extra_info = json_remove(extra_info, '$.previous_user_roles')
			WHERE NOT email_verified AND NOT is_active AND user_role = 'locked'
			AND extra_info LIKE '%"previous_user_roles"%' AND json_valid(extra_info);
		CREATE TABLE user_id_sequence (last_id INTEGER NOT NULL);
		INSERT INTO user_id_sequence (last_id) SELECT max(3, coalesce(max(user_id), 0)) FROM users;`)
	return err
}

// uniqueSystemIDs gives new ids to the later of users that share one, which
// the schema of 0.1.3 allowed.
func uniqueSystemIDs(ctx context.Context, tx *sql.Tx) error {
	ids, err := integers(ctx, tx, `SELECT user_id FROM users AS later WHERE EXISTS
		(SELECT 1 FROM users AS earlier WHERE earlier.system_id = later.system_id AND earlier.user_id < later.user_id)`)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := tx.ExecContext(ctx, "UPDATE users SET system_id = ? WHERE user_id = ?", NewUUID(), id)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) normalizeEmails(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT user_id, email FROM users")
	if err != nil {
		return err
	}
	emails := map[int64]string{}
	for rows.Next() {
		var id int64
		var email string
		err := rows.Scan(&id, &email)
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		emails[id] = s.normalize(email)
	}
	err = rows.Err()
	if err != nil {
		return err
	}
	update, err := tx.PrepareContext(ctx, "UPDATE users SET email_normalized = ? WHERE user_id = ?")
	if err != nil {
		return err
	}
	defer update.Close()
	for id, email := range emails {
		_, err := update.ExecContext(ctx, email, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// digestTokens replaces the tokens in a column by their digests.
func digestTokens(table, column string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT DISTINCT "+column+" FROM "+table)
		if err != nil {
			return err
		}
		var tokens []string
		for rows.Next() {
			var t string
			err := rows.Scan(&t)
			if err != nil {
				return errors.Join(err, rows.Close())
			}
			tokens = append(tokens, t)
		}
		err = rows.Err()
		if err != nil {
			return err
		}
		update, err := tx.PrepareContext(ctx, "UPDATE "+table+" SET "+column+" = ? WHERE "+column+" = ?")
		if err != nil {
			return err
		}
		defer update.Close()
		for _, t := range tokens {
			_, err := update.ExecContext(ctx, token.Sum(t).String(), t)
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func addColumn(ctx context.Context, tx *sql.Tx, table, column, definition string) error {
	found, err := columnExists(ctx, tx, table, column)
	if err != nil || found {
		return err
	}
	_, err = tx.ExecContext(ctx, "ALTER TABLE "+table+" ADD COLUMN "+column+" "+definition)
	return err
}

func integers(ctx context.Context, tx *sql.Tx, query string) ([]int64, error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []int64
	for rows.Next() {
		var n int64
		err := rows.Scan(&n)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// NewUUID returns a random UUID (RFC 9562 version 4).
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails since Go 1.24
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	text := fmt.Sprintf("%x", b)
	return strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-")
}

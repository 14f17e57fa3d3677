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
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"authnzerver/internal/dburl"
	"authnzerver/internal/token"
)

//go:embed migrations/*.sql migrations/postgresql/*.sql migrations/mysql/*.sql
var migrationFiles embed.FS

// versionTable records which migrations a database has had.
const versionTable = "authnzerver_migrations"

// compatibilityTable has one row: the oldest version of the schema that a server must
// know to use the database.
const compatibilityTable = "schema_compatibility"

// migrate brings the schema up to date, after a backup when the file holds
// data. The migration of the schema is one transaction.
func (s *Store) migrate(ctx context.Context) (err error) {
	files, err := fs.Sub(migrationFiles, s.dialect.migrations)
	if err != nil {
		return err
	}
	options, unlock, err := s.gooseOptions(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	provider, err := goose.NewProvider(s.dialect.goose, s.writer, files, options...)
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", classify(err))
	}
	if current > target {
		return s.worksWithNewer(ctx, current, target)
	}
	if current == target {
		return nil
	}
	started := time.Now()
	hasData, err := s.dialect.tableExists(ctx, s.writer, "users")
	if err != nil {
		return err
	}
	switch {
	case !hasData:
	case s.dialect.name == dburl.SQLite:
		backup, err := s.backup(ctx)
		if err != nil {
			return fmt.Errorf("back up before migrating: %w", err)
		}
		s.log.Warn("converting the database; this cannot be undone, and other servers must not use the file any more",
			"file", s.url.String(), "backup", backup)
	default:
		s.log.Warn("converting the database; this cannot be undone", "database", s.url.String(), "from", current, "to", target)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", classify(err))
	}
	if hasData {
		for _, migration := range done {
			s.log.Info("migrated", "to", migration.Source.Version, "took", migration.Duration.Round(time.Millisecond).String())
		}
		s.log.Info("the database was converted", "database", s.url.String(), "took", time.Since(started).Round(time.Millisecond).String())
	}
	return nil
}

// worksWithNewer fails unless servers of this version may use a schema that a newer one
// has made. During an upgrade, both run side by side.
func (s *Store) worksWithNewer(ctx context.Context, current, ours int64) error {
	oldest := current
	noted, err := s.dialect.tableExists(ctx, s.writer, compatibilityTable)
	if err == nil && noted {
		err = classify(s.writer.QueryRowContext(ctx, "SELECT oldest_version FROM "+compatibilityTable).Scan(&oldest))
	}
	if err != nil {
		return fmt.Errorf("read which versions may use the schema: %w", err)
	}
	if ours < oldest {
		return fmt.Errorf("%w: it has version %d, from a newer authnzerver, for servers that know version %d; this one knows versions up to %d",
			ErrSchema, current, oldest, ours)
	}
	s.log.Warn("a newer authnzerver has converted the database; this one can use it, too, but should be replaced soon",
		"database", s.url.String(), "version", current, "known", ours)
	return nil
}

// backup copies the database to a file beside it that only the owner can
// read, and checks the copy.
func (s *Store) backup(ctx context.Context) (path string, err error) {
	path = s.url.Path + ".backup-" + s.now().UTC().Format("20060102T150405.000000Z")
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
	found, err := sqliteDialect().tableExists(ctx, db, "users")
	if err == nil && !found {
		return errors.New("the copy is empty")
	}
	return err
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (d *dialect) tableExists(ctx context.Context, q querier, name string) (bool, error) {
	query, args := d.translate(d.table, []any{name})
	return exists(ctx, q, query, args...)
}

func (d *dialect) columnExists(ctx context.Context, q querier, table, column string) (bool, error) {
	query, args := d.translate(d.column, []any{table, column})
	return exists(ctx, q, query, args...)
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

// adopt turns an empty database, or one of either generation of the Python
// server, into ours.
//
// 0.1.3 lacks users.extra_info, two columns of groups and two tables. Both
// generations hold session tokens and API keys in the clear; here they become
// digests, so that the tokens that clients hold go on working.
func (s *Store) adopt(ctx context.Context, tx *sql.Tx) error {
	t := s.newTx(tx)
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"groups", t.adoptGroups},
		{"tables", t.script(s.dialect.migrations + "/schema.sql")},
		{"users", t.adoptUsers},
		{"indexes", t.script("migrations/indexes.sql")},
		{"tokens", t.digestTokens},
	}
	for _, step := range steps {
		err := step.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (t *Tx) script(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return err
		}
		return t.run(ctx, string(text))
	}
}

// run runs statements without arguments.
func (t *Tx) run(ctx context.Context, statements string) error {
	_, err := t.tx.ExecContext(ctx, statements)
	return err
}

// adoptGroups gives the table of 0.1.3 its later columns.
func (t *Tx) adoptGroups(ctx context.Context) error {
	found, err := t.dialect.tableExists(ctx, t.tx, "groups")
	if err != nil || !found {
		return err
	}
	old, err := t.dialect.columnExists(ctx, t.tx, "groups", "user_role")
	if err != nil {
		return err
	}
	if old {
		err = t.run(ctx, `DROP INDEX IF EXISTS ix_groups_user_role;
			ALTER TABLE groups RENAME COLUMN user_role TO group_role`)
		if err != nil {
			return err
		}
	}
	err = t.addColumn(ctx, "groups", "extra_info", "JSON")
	if err != nil {
		return err
	}
	hasID, err := t.dialect.columnExists(ctx, t.tx, "groups", "system_id")
	if err != nil || hasID {
		return err
	}
	err = t.addColumn(ctx, "groups", "system_id", "VARCHAR(50) NOT NULL DEFAULT ''")
	if err != nil {
		return err
	}
	return t.newSystemIDs(ctx, "groups", "group_id", "1 = 1")
}

// newSystemIDs gives new ids to the rows that fulfil a condition.
func (t *Tx) newSystemIDs(ctx context.Context, table, key, condition string) error {
	keys, err := t.keysOf(ctx, table, []string{key}, condition)
	if err != nil {
		return err
	}
	for i, id := range keys {
		keys[i] = []any{id[0], NewUUID()}
	}
	return t.rewrite(ctx, table, key, "system_id", keys)
}

// adoptUsers adds the columns that 0.1.3 lacks and those of our own.
func (t *Tx) adoptUsers(ctx context.Context) error {
	for _, column := range [][2]string{
		{"extra_info", "JSON"},
		{"email_normalized", "VARCHAR(280) NOT NULL DEFAULT ''"},
		{"first_verified", t.dialect.moment},
	} {
		err := t.addColumn(ctx, "users", column[0], column[1])
		if err != nil {
			return err
		}
	}
	// The schema of 0.1.3 allowed several users to share one.
	err := t.newSystemIDs(ctx, "users", "user_id", `EXISTS
		(SELECT 1 FROM users AS earlier WHERE earlier.system_id = users.system_id AND earlier.user_id < users.user_id)`)
	if err != nil {
		return err
	}
	err = t.normalizeEmails(ctx)
	if err != nil {
		return err
	}
	// Locking notes the former role, so a user with a history was active once.
	// Where the address was never verified, the history may be one that the
	// user sent along with the sign-up: the account stays as closed as it is,
	// but no role can come back from it.
	return t.run(ctx, `
		DROP INDEX IF EXISTS ix_users_system_id;
		CREATE UNIQUE INDEX ix_users_system_id ON users (system_id);
		CREATE INDEX ix_users_email_normalized ON users (email_normalized);
		UPDATE users SET first_verified = created_on
			WHERE email_verified OR is_active OR user_role <> 'locked' OR CAST(extra_info AS TEXT) LIKE '%"previous_user_roles"%';
		UPDATE users SET extra_info = `+t.dialect.withoutHistory+`
			WHERE NOT email_verified AND NOT is_active AND user_role = 'locked'
			AND CAST(extra_info AS TEXT) LIKE '%"previous_user_roles"%';
		CREATE TABLE user_id_sequence (last_id INTEGER NOT NULL);
		INSERT INTO user_id_sequence (last_id) SELECT CASE WHEN max(user_id) > 3 THEN max(user_id) ELSE 3 END FROM users;`)
}

func (t *Tx) normalizeEmails(ctx context.Context) error {
	emails, err := t.keysOf(ctx, "users", []string{"user_id", "email"}, "1 = 1")
	if err != nil {
		return err
	}
	for _, row := range emails {
		email, _ := row[1].(string)
		row[1] = t.normalize(email)
	}
	return t.rewrite(ctx, "users", "user_id", "email_normalized", emails)
}

// rewrittenAtOnce is how many rows a statement rewrites: one statement for each row
// takes three times as long.
const rewrittenAtOnce = 500

// rewrite sets a column of a table where another, or the same, has given values: each
// pair is such a value and what to set.
func (t *Tx) rewrite(ctx context.Context, table, key, column string, pairs [][]any) error {
	for some := range slices.Chunk(pairs, rewrittenAtOnce) {
		values := strings.Repeat(", (?, ?)", len(some))[len(", "):]
		_, err := t.exec(ctx, "UPDATE "+table+" SET "+column+" = pairs.column2 FROM (VALUES "+values+") AS pairs WHERE "+key+" = pairs.column1",
			slices.Concat(some...)...)
		if err != nil {
			return err
		}
	}
	return nil
}

// digestTokens replaces all tokens by their digests.
func (t *Tx) digestTokens(ctx context.Context) error {
	// Digests replace primary keys that other rows refer to.
	err := t.run(ctx, t.dialect.deferReferences)
	if err != nil {
		return err
	}
	for _, column := range [][2]string{
		{"sessions", "session_token"}, {"apikeys", "session_token"}, {"apikeys", "apikey"}, {"apikeys_nosession", "apikey"},
	} {
		rows, err := t.keysOf(ctx, column[0], []string{column[1]}, "1 = 1")
		if err != nil {
			return fmt.Errorf("%s of %s: %w", column[1], column[0], err)
		}
		digested := map[any]bool{}
		var pairs [][]any
		for _, row := range rows {
			text, isText := row[0].(string)
			if !isText || digested[text] {
				continue // other keys of the same session
			}
			digested[text] = true
			pairs = append(pairs, []any{text, token.Sum(text).String()})
		}
		err = t.rewrite(ctx, column[0], column[1], column[1], pairs)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", column[1], column[0], err)
		}
	}
	return nil
}

func (t *Tx) addColumn(ctx context.Context, table, column, definition string) error {
	found, err := t.dialect.columnExists(ctx, t.tx, table, column)
	if err != nil || found {
		return err
	}
	return t.run(ctx, "ALTER TABLE "+table+" ADD COLUMN "+column+" "+definition)
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

// CheckEmpty returns what a database is for people to read, without a password, and fails
// with ErrNotEmpty when it holds tables of ours. An SQLite file need not be there.
func CheckEmpty(ctx context.Context, url string) (described string, err error) {
	u, err := dburl.Parse(url)
	if err != nil {
		return "", err
	}
	if u.Dialect == dburl.SQLite {
		info, err := os.Stat(u.Path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return u.String(), nil
		}
	}
	s := newStore(u, Options{})
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.connect(ctx)
	if err != nil {
		return "", fmt.Errorf("open database %s: %w", u, err)
	}
	for _, table := range []string{"users", "sessions"} {
		found, err := s.dialect.tableExists(ctx, s.writer, table)
		if err == nil && found {
			err = fmt.Errorf("%w: it has a table %s", ErrNotEmpty, table)
		}
		if err != nil {
			return "", fmt.Errorf("look into database %s: %w", u, err)
		}
	}
	return u.String(), nil
}

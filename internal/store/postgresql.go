package store

import (
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"authnzerver/internal/dburl"
)

// postgresqlDialect returns what is PostgreSQL's own.
func postgresqlDialect() *dialect {
	return &dialect{
		name: dburl.PostgreSQL, placeholders: dollars,
		isolation: sql.LevelSerializable, snapshot: sql.LevelRepeatableRead,
		goose: goose.DialectPostgres, migrations: "migrations/postgresql",
		table:      "SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?",
		column:     "SELECT 1 FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ? AND column_name = ?",
		listTables: "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'",
		listColumns: `SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(array_position(k.conkey::smallint[], a.attnum), 0)
			FROM pg_attribute a LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p'
			WHERE a.attrelid = to_regclass(quote_ident(?)) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
		listReferences: `SELECT a.attname, r.relname, b.attname FROM pg_constraint k
			JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
			JOIN pg_class r ON r.oid = k.confrelid
			JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
			WHERE k.conrelid = to_regclass(quote_ident(?)) AND k.contype = 'f' ORDER BY k.conname`,
		moment:         "TIMESTAMP WITHOUT TIME ZONE",
		withoutHistory: `CAST(CAST(extra_info AS jsonb) - 'previous_user_roles' AS json)`,
		lastID:         "lastval()",
		asGiven:        []any{pgx.QueryExecModeExec},
		deferReferences: `ALTER TABLE apikeys ALTER CONSTRAINT apikeys_session_token_fkey DEFERRABLE;
			SET CONSTRAINTS apikeys_session_token_fkey DEFERRED`,
	}
}

// openPostgreSQL opens a pool of connections to a server.
func openPostgreSQL(u *dburl.URL) (*sql.DB, error) {
	query := url.Values{}
	for name, value := range map[string]string{
		"host": u.Host, "port": strconv.Itoa(int(u.Port)), "user": u.User, "password": u.Password, "dbname": u.Database,
		"sslmode": u.TLS.Mode, "sslrootcert": u.TLS.RootCert, "sslcert": u.TLS.Cert, "sslkey": u.TLS.Key,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	config, err := pgx.ParseConfig("postgres://?" + query.Encode())
	if err != nil {
		// Its text shows the URL, with the password.
		return nil, fmt.Errorf("the options for PostgreSQL do not fit together")
	}
	config.ConnectTimeout = u.ConnectTimeout
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["application_name"] = "authnzerver"
	if u.NoPrepare {
		config.DefaultQueryExecMode = pgx.QueryExecModeExec
	} else {
		// A node that has lost its network must not hold its locks for long. Poolers
		// refuse the setting.
		config.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
	}
	for _, name := range slices.Sorted(maps.Keys(u.Parameters)) {
		config.RuntimeParams[name] = u.Parameters[name]
	}
	if config.TLSConfig != nil {
		config.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return pool(stdlib.GetConnector(*config)), nil
}

// poolSize is how many connections a node makes to a server at most, and
// connectionLife how long one is used: shorter than the time after which usual
// proxies and servers drop those that are idle.
const (
	poolSize       = 16
	connectionLife = 3 * time.Minute
)

// pool makes a pool of connections to a server.
func pool(connector driver.Connector) *sql.DB {
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
	db.SetConnMaxLifetime(connectionLife)
	return db
}

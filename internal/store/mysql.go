package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"

	"authnzerver/internal/dburl"
)

// mysqlDialect returns what MySQL and MariaDB have of their own.
func mysqlDialect() *dialect {
	return &dialect{
		name: dburl.MySQL, placeholders: inOrder,
		isolation: sql.LevelSerializable, snapshot: sql.LevelRepeatableRead,
		goose: goose.DialectMySQL, migrations: "migrations/mysql",
		table:      "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?",
		column:     "SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?",
		listTables: "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
		listColumns: `SELECT c.column_name, c.column_type, coalesce(k.ordinal_position, 0) FROM information_schema.columns c
			LEFT JOIN information_schema.key_column_usage k ON k.table_schema = c.table_schema AND k.table_name = c.table_name
				AND k.column_name = c.column_name AND k.constraint_name = 'PRIMARY'
			WHERE c.table_schema = DATABASE() AND c.table_name = ? ORDER BY c.ordinal_position`,
		listReferences: `SELECT column_name, referenced_table_name, referenced_column_name FROM information_schema.key_column_usage
			WHERE table_schema = DATABASE() AND table_name = ? AND referenced_table_name IS NOT NULL ORDER BY constraint_name`,
		lastID: "LAST_INSERT_ID()",
	}
}

// openMySQL opens a pool of connections to a server.
func openMySQL(u *dburl.URL) (*sql.DB, error) {
	config := mysql.NewConfig()
	config.User, config.Passwd, config.DBName = u.User, u.Password, u.Database
	config.Net, config.Addr = u.Network, u.Host
	if u.Network == "tcp" {
		config.Addr = net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
	}
	config.Timeout = u.ConnectTimeout
	config.Logger = &mysql.NopLogger{} // what goes wrong is returned, too
	config.ParseTime, config.Loc = true, time.UTC
	config.Collation = "utf8mb4_bin"
	// An UPDATE that finds a row counts it, also when it changes nothing.
	config.ClientFoundRows = true
	// A server that has become a standby is left for the one in its place.
	config.RejectReadOnly = true
	// Double quotes are for names, and what does not fit is an error.
	config.Params = map[string]string{
		"sql_mode": "'ANSI_QUOTES,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'", "time_zone": "'+00:00'",
	}
	err := mysqlTLS(config, u)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("options for MySQL: %w", err)
	}
	return pool(connector), nil
}

// mysqlTLS sets how a connection is secured.
func mysqlTLS(config *mysql.Config, u *dburl.URL) error {
	if u.TLS.Mode == "disable" || u.Network == "unix" {
		return nil
	}
	if u.TLS.Mode == "prefer" {
		config.TLSConfig = "preferred"
		return nil
	}
	config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Host}
	if u.TLS.RootCert != "" {
		text, err := os.ReadFile(u.TLS.RootCert)
		if err != nil {
			return fmt.Errorf("ssl_ca: %w", err)
		}
		config.TLS.RootCAs = x509.NewCertPool()
		if !config.TLS.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("ssl_ca: %s has no certificate in PEM form", u.TLS.RootCert)
		}
	}
	if u.TLS.Cert != "" {
		certificate, err := tls.LoadX509KeyPair(u.TLS.Cert, u.TLS.Key)
		if err != nil {
			return fmt.Errorf("ssl_cert and ssl_key: %w", err)
		}
		config.TLS.Certificates = []tls.Certificate{certificate}
	}
	switch u.TLS.Mode {
	case "require":
		config.TLS.InsecureSkipVerify = true // what "require" means, as with libpq
	case "verify-ca":
		config.TLS.InsecureSkipVerify = true // but for the chain, which is verified here
		roots := config.TLS.RootCAs
		config.TLS.VerifyConnection = func(state tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for _, certificate := range state.PeerCertificates[1:] {
				intermediates.AddCert(certificate)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
			return err
		}
	}
	return nil
}

// makeTables makes all tables.
func (s *Store) makeTables(ctx context.Context, db *sql.DB) error {
	text, err := migrationFiles.ReadFile(s.dialect.migrations + "/schema.sql")
	if err != nil {
		return err
	}
	var version string
	err = db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version)
	if err != nil {
		return err
	}
	collation := "utf8mb4_0900_bin"
	if strings.Contains(version, "MariaDB") {
		collation = "utf8mb4_nopad_bin"
	}
	for statement := range strings.SplitSeq(strings.ReplaceAll(string(text), "COLLATION;", collation+";"), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		_, err := db.ExecContext(ctx, statement)
		if err != nil {
			return err
		}
	}
	return nil
}

// migrationLock is the name of the lock that a node holds while it migrates, and
// migrationWait how long others wait for it, in seconds.
const (
	migrationLock = "authnzerver_migrations"
	migrationWait = 3600
)

// lockMigrations waits until no other node migrates, and returns what lets the
// next one.
func (s *Store) lockMigrations(ctx context.Context) (unlock func() error, err error) {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, classify(err)
	}
	var got sql.NullInt64
	err = conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", migrationLock, migrationWait).Scan(&got)
	if err == nil && got.Int64 != 1 {
		err = errors.New("another node has been migrating the database for an hour")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the migrations: %w", classify(err)), conn.Close())
	}
	// The lock ends with the connection at the latest.
	return func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(?)", migrationLock)
		return errors.Join(classify(err), conn.Close())
	}, nil
}

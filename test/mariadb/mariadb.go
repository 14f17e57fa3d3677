// Package mariadb starts real MariaDB servers for tests: private ones that keep
// everything in a temporary folder and end with the test's process.
package mariadb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-sql-driver/mysql"

	"authnzerver/test/daemon"
	"authnzerver/test/parts"
)

// User is the superuser of every server here. It needs no password.
const User = "root"

// Server is a MariaDB server. Its methods are for one goroutine at a time.
type Server struct {
	daemon.Daemon
	// Port is where it listens on 127.0.0.1, beside the socket in Dir.
	Port int
}

// New makes an empty server, not started yet, which takes everybody. It has the
// settings given, as name=value.
//
// It does not sync its files, so that only the machine's crash would lose what was
// committed, not its own.
func New(settings ...string) (*Server, error) {
	root, lib, err := find()
	if err != nil {
		return nil, err
	}
	dir, err := daemon.TempDir("maria")
	if err != nil {
		return nil, err
	}
	s := &Server{Daemon: daemon.Daemon{Dir: dir, Lib: lib, Unprivileged: true}}
	err = s.make(root, settings)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a MariaDB server: %w", err), os.RemoveAll(dir))
	}
	return s, nil
}

func (s *Server) make(root string, settings []string) error {
	root, err := daemon.Readable(root, s.Dir)
	if err != nil {
		return err
	}
	s.Port, err = daemon.FreePort()
	if err != nil {
		return err
	}
	data, share := filepath.Join(s.Dir, "data"), filepath.Join(root, "usr", "share", "mysql")
	err = os.Mkdir(data, 0o700)
	if err == nil {
		err = daemon.Own(data)
	}
	if err != nil {
		return err
	}
	statements := []byte("create database mysql;\nuse mysql;\n")
	for _, name := range []string{"mysql_system_tables.sql", "mysql_system_tables_data.sql"} {
		text, err := os.ReadFile(filepath.Join(share, name))
		if err != nil {
			return err
		}
		statements = append(statements, text...)
	}
	s.Command = []string{
		filepath.Join(root, "usr", "sbin", "mariadbd"), "--no-defaults", "--datadir=" + data, "--lc-messages-dir=" + share,
		"--socket=" + s.socket(), "--tmpdir=" + s.Dir, "--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0",
	}
	err = s.Run(bytes.NewReader(statements), append(s.Command, "--bootstrap", "--skip-networking")...)
	if err != nil {
		return err
	}
	s.Command = append(s.Command, "--skip-grant-tables", "--skip-networking=0", "--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.Port),
		"--max-connections=400", "--default-time-zone=+05:30", "--character-set-server=latin1", "--skip-log-bin")
	for _, setting := range settings {
		s.Command = append(s.Command, "--"+setting)
	}
	s.Probe = func() error {
		db, err := s.Connect("")
		if err != nil {
			return err
		}
		return errors.Join(db.Ping(), db.Close())
	}
	return nil
}

func (s *Server) socket() string { return filepath.Join(s.Dir, "socket") }

// find returns the root of the MariaDB unpacked by scripts/test-requirements with
// the folder of its libraries, or else of the one that is installed.
func find() (root, lib string, err error) {
	root, err = parts.Folder("mariadb")
	if err != nil {
		return "", "", err
	}
	for _, place := range []struct{ root, lib string }{{root, filepath.Join(root, "lib")}, {"/", ""}} {
		_, err = os.Stat(filepath.Join(place.root, "usr/sbin/mariadbd"))
		if err == nil {
			return place.root, place.lib, nil
		}
	}
	return "", "", errors.New("there is no MariaDB server; run make test, or scripts/test-requirements")
}

// Connect returns a pool of connections to one of the server's databases.
func (s *Server) Connect(database string) (*sql.DB, error) {
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.DBName = User, "unix", s.socket(), database
	config.Logger = &mysql.NopLogger{} // probing fails until the server is up
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// Exec runs a statement in one of the server's databases.
func (s *Server) Exec(ctx context.Context, database, statement string) error {
	db, err := s.Connect(database)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statement)
	if err != nil {
		err = fmt.Errorf("%s: %w", statement, err)
	}
	return errors.Join(err, db.Close())
}

// Create makes an empty database and returns the URL with which authnzerver opens
// it.
func (s *Server) Create(ctx context.Context, database string) (url string, err error) {
	return s.URL(database), s.Exec(ctx, "", "CREATE DATABASE "+database)
}

// URL returns the URL with which authnzerver opens a database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("mariadb://%s@/%s?unix_socket=%s", User, database, s.socket())
}

// Drop drops a database, whoever uses it.
func (s *Server) Drop(ctx context.Context, database string) error {
	return s.Exec(ctx, "", "DROP DATABASE "+database)
}

// Package postgres starts real PostgreSQL servers for tests: private ones that
// keep everything in a temporary folder and end with the test's process.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"authnzerver/test/daemon"
	"authnzerver/test/parts"
)

// User is the superuser of every server here. It needs no password.
const User = "authnz"

// Server is a PostgreSQL server. Its methods are for one goroutine at a time.
type Server struct {
	daemon.Daemon
	// Port is where it listens: on a socket in Dir, and on 127.0.0.1 if asked to.
	Port int
}

// New makes an empty server, not started yet, which takes everybody for whom he
// says he is. It has the settings given, as name=value.
//
// It does not sync its files, so that only the machine's crash would lose what was
// committed, not its own.
func New(settings ...string) (*Server, error) {
	programs, lib, err := find()
	if err != nil {
		return nil, err
	}
	dir, err := daemon.TempDir("pg")
	if err != nil {
		return nil, err
	}
	s := &Server{Daemon: daemon.Daemon{Dir: dir, Lib: lib, End: "QUIT", Unprivileged: true}}
	err = s.make(programs, settings)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a PostgreSQL server: %w", err), os.RemoveAll(dir))
	}
	return s, nil
}

func (s *Server) make(programs string, settings []string) error {
	root, err := daemon.Readable(filepath.Join(programs, "..", "..", "..", "..", ".."), s.Dir)
	if err != nil {
		return err
	}
	programs = filepath.Join(root, "usr", "lib", "postgresql", filepath.Base(filepath.Dir(programs)), "bin")
	s.Port, err = daemon.FreePort()
	if err != nil {
		return err
	}
	data := filepath.Join(s.Dir, "data")
	err = s.Run(nil, filepath.Join(programs, "initdb"), "--pgdata="+data, "--username="+User, "--auth=trust",
		"--no-locale", "--encoding=UTF8", "--no-sync", "--wal-segsize=1")
	if err != nil {
		return err
	}
	s.Command = []string{
		filepath.Join(programs, "postgres"), "-D", data, "-k", s.Dir, "-p", strconv.Itoa(s.Port),
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=400", "-c", "timezone=Asia/Kolkata",
	}
	for _, setting := range settings {
		s.Command = append(s.Command, "-c", setting)
	}
	s.Probe = func() error {
		conn, err := s.Connect(context.Background(), "postgres")
		if err != nil {
			return err
		}
		return conn.Close(context.Background())
	}
	return nil
}

// find returns the folder of the programs of the PostgreSQL unpacked by
// scripts/test-requirements with that of its libraries, or else of the newest one
// that is installed.
func find() (programs, lib string, err error) {
	root, err := parts.Folder("postgresql")
	if err != nil {
		return "", "", err
	}
	for _, place := range []struct{ root, lib string }{{root, filepath.Join(root, "lib")}, {"/", ""}} {
		found, err := filepath.Glob(filepath.Join(place.root, "usr/lib/postgresql/*/bin/postgres"))
		if err != nil {
			return "", "", err
		}
		if len(found) > 0 {
			return filepath.Dir(found[len(found)-1]), place.lib, nil
		}
	}
	return "", "", errors.New("there is no PostgreSQL server; run make test, or scripts/test-requirements")
}

// Connect connects to one of the server's databases.
func (s *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=%s", s.Dir, s.Port, User, database))
}

// Exec runs a statement in one of the server's databases.
func (s *Server) Exec(ctx context.Context, database, statement string) error {
	conn, err := s.Connect(ctx, database)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	if err != nil {
		err = fmt.Errorf("%s: %w", statement, err)
	}
	return errors.Join(err, conn.Close(ctx))
}

// Create makes an empty database and returns the URL with which authnzerver opens
// it.
func (s *Server) Create(ctx context.Context, database string) (url string, err error) {
	return s.URL(database), s.Exec(ctx, "postgres", "CREATE DATABASE "+database)
}

// URL returns the URL with which authnzerver opens a database.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgresql://%s@:%d/%s?host=%s", User, s.Port, database, s.Dir)
}

// Drop drops a database, whoever uses it.
func (s *Server) Drop(ctx context.Context, database string) error {
	return s.Exec(ctx, "postgres", "DROP DATABASE "+database+" WITH (FORCE)")
}

// Package databases gives tests empty databases of every kind that authnzerver
// knows, on real servers.
package databases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/go-sql-driver/mysql" // the drivers of Open
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"authnzerver/test/mariadb"
	"authnzerver/test/postgres"
)

// A Kind is a kind of database.
type Kind string

// The kinds.
const (
	SQLite     Kind = "sqlite"
	PostgreSQL Kind = "postgresql"
	MariaDB    Kind = "mariadb"
)

// Kinds returns all of them.
func Kinds() []Kind { return []Kind{SQLite, PostgreSQL, MariaDB} }

// Servers are the servers that the tests of a process share. Each is started when
// the first test asks for it. The zero value is ready to use, from several
// goroutines.
type Servers struct {
	mu       sync.Mutex
	postgres *postgres.Server
	mariadb  *mariadb.Server
	number   atomic.Int64
}

// A server is one that databases can be made on.
type server interface {
	Create(ctx context.Context, database string) (url string, err error)
	Drop(ctx context.Context, database string) error
}

// New makes an empty database of a kind and returns its URL. It ends with the test.
func (s *Servers) New(t testing.TB, kind Kind) (url string) {
	t.Helper()
	url, drop, err := s.Make(context.Background(), kind, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := drop(context.Background())
		if err != nil {
			t.Error(err)
		}
	})
	return url
}

// Make makes an empty database of a kind, and returns its URL and what removes it. A
// file goes into the folder, whose owner removes it.
func (s *Servers) Make(ctx context.Context, kind Kind, folder string) (url string, drop func(context.Context) error, err error) {
	if kind == SQLite {
		return "sqlite:///" + filepath.Join(folder, "auth.sqlite"), func(context.Context) error { return nil }, nil
	}
	on, err := s.server(kind)
	if err != nil {
		return "", nil, err
	}
	name := fmt.Sprintf("test%d", s.number.Add(1))
	url, err = on.Create(ctx, name)
	if err != nil {
		return "", nil, err
	}
	return url, func(ctx context.Context) error { return on.Drop(ctx, name) }, nil
}

// Empty takes away all that is in a database that New has made, under whoever uses
// it.
func (s *Servers) Empty(t testing.TB, kind Kind, where string) {
	t.Helper()
	on, err := s.server(kind)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	err = on.Drop(context.Background(), name)
	if err == nil {
		_, err = on.Create(context.Background(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Open opens a database that New has made, for a test's own statements.
func Open(where string) (*sql.DB, error) {
	if path, ok := strings.CutPrefix(where, "sqlite:///"); ok {
		return sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(4000)")
	}
	u, err := url.Parse(where)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "mariadb" {
		return sql.Open("mysql", fmt.Sprintf("%s@unix(%s)%s?sql_mode=ANSI_QUOTES", u.User, u.Query().Get("unix_socket"), u.Path))
	}
	return sql.Open("pgx", where)
}

func (s *Servers) server(kind Kind) (server, error) {
	switch kind {
	case PostgreSQL:
		return s.PostgreSQL()
	case MariaDB:
		return s.MariaDB()
	default:
		return nil, fmt.Errorf("there is no server of the kind %q", kind)
	}
}

// PostgreSQL returns the PostgreSQL server.
func (s *Servers) PostgreSQL() (*postgres.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres != nil {
		return s.postgres, nil
	}
	server, err := postgres.New()
	if err != nil {
		return nil, err
	}
	err = server.Start()
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	s.postgres = server
	return server, nil
}

// MariaDB returns the MariaDB server.
func (s *Servers) MariaDB() (*mariadb.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mariadb != nil {
		return s.mariadb, nil
	}
	server, err := mariadb.New()
	if err != nil {
		return nil, err
	}
	err = server.Start()
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	s.mariadb = server
	return server, nil
}

// Close ends the servers.
func (s *Servers) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.postgres != nil {
		errs = append(errs, s.postgres.Close())
	}
	if s.mariadb != nil {
		errs = append(errs, s.mariadb.Close())
	}
	return errors.Join(errs...)
}

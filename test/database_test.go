package test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"authnzerver/test/databases"
)

// openDatabase opens the database behind a URL of databaseOf for a test's own
// statements.
func openDatabase(t testing.TB, where string) *sql.DB {
	t.Helper()
	db, err := databases.Open(where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := db.Close()
		if err != nil {
			t.Error(err)
		}
	})
	return db
}

// tables returns the names of all tables of a database.
func tables(t testing.TB, db *sql.DB) []string {
	t.Helper()
	names := rows(t, db, map[databases.Kind]string{
		databases.SQLite:     "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
		databases.PostgreSQL: "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
		databases.MariaDB:    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
	}[kind])
	return slices.Concat(names...)
}

// rows returns the rows of a query, each value as text and NULL as "NULL".
func rows(t testing.TB, db *sql.DB, query string, args ...any) [][]string {
	t.Helper()
	found, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer found.Close()
	columns, err := found.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for found.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		err = found.Scan(into...)
		if err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(columns))
		for i, value := range values {
			row[i] = value.String
			if !value.Valid {
				row[i] = "NULL"
			}
		}
		all = append(all, row)
	}
	err = found.Err()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stored returns all that is in the server's database.
func (s *server) stored() string {
	s.t.Helper()
	if kind == databases.SQLite {
		return read(s.t, s.dir+"/auth.sqlite")
	}
	db := openDatabase(s.t, databaseOf(s.t, s.dir))
	var all strings.Builder
	for _, name := range tables(s.t, db) {
		for _, row := range rows(s.t, db, "SELECT * FROM "+name) {
			fmt.Fprintln(&all, name, row)
		}
	}
	return all.String()
}

// breakDatabase makes the database useless under the server.
func (s *server) breakDatabase() {
	s.t.Helper()
	if kind != databases.SQLite {
		servers.Empty(s.t, kind, databaseOf(s.t, s.dir))
		return
	}
	file, err := os.OpenFile(s.dir+"/auth.sqlite", os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	_, err = file.WriteAt(bytes.Repeat([]byte("not a database. "), 1<<14), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	err = os.Truncate(s.dir+"/auth.sqlite-wal", 0)
	if err != nil {
		s.t.Fatal(err)
	}
}

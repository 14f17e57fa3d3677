package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"authnzerver/internal/dburl"
)

// A Migration brings the schema from one version to the next.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	// About says what it does, in sentences.
	About string `json:"about"`
}

// allMigrations returns all of them, the first one first. That is the one in Go, which
// makes all tables, or adopts those of the Python server.
func (d *dialect) allMigrations() ([]Migration, error) {
	all := []Migration{{1, "adopt", "Makes the tables; those of the Python server are taken over, and its session tokens and API keys become digests."}}
	files, err := fs.Glob(migrationFiles, d.migrations+"/0*.sql")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := migrationFiles.ReadFile(file)
		if err != nil {
			return nil, err
		}
		number, name, _ := strings.Cut(strings.TrimSuffix(path.Base(file), ".sql"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, Migration{version, name, about(string(text))})
	}
	return all, nil
}

// about returns the comment at the beginning of a file.
func about(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(line, "-- ")
		if !ok || strings.HasPrefix(comment, "+goose") {
			break
		}
		words = append(words, strings.Fields(comment)...)
	}
	return strings.Join(words, " ")
}

// pending returns the migrations that the database has not had, ErrSchema when it
// has had more than this version knows.
func (s *Store) pending(ctx context.Context, q querier) ([]Migration, error) {
	all, err := s.dialect.allMigrations()
	if err != nil {
		return nil, err
	}
	var current int64
	found, err := s.dialect.tableExists(ctx, q, versionTable)
	if err != nil {
		return nil, err
	}
	if found {
		err = classify(q.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable).Scan(&current))
		if err != nil {
			return nil, fmt.Errorf("read schema version: %w", err)
		}
	}
	for i, migration := range all {
		if migration.Version > current {
			return all[i:], nil
		}
	}
	if last := all[len(all)-1].Version; current > last {
		return nil, fmt.Errorf("%w: version %d, from a newer authnzerver; this one knows versions up to %d", ErrSchema, current, last)
	}
	return []Migration{}, nil
}

// Pending returns the migrations that a database has not had, and changes nothing.
// All of them are pending when the database has no tables.
func Pending(ctx context.Context, url string) (_ []Migration, err error) {
	s, err := openRaw(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.pending(ctx, s.reader)
}

// gooseOptions returns how package goose is to run the migrations, and what to call when
// it has. However many nodes start, one migrates.
func (s *Store) gooseOptions(ctx context.Context) (options []goose.ProviderOption, unlock func() error, err error) {
	options = []goose.ProviderOption{
		goose.WithTableName(versionTable),
		goose.WithDisableGlobalRegistry(true),
	}
	first := &goose.GoFunc{RunTx: s.adopt}
	unlock = func() error { return nil }
	switch s.dialect.name {
	case dburl.PostgreSQL:
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return nil, nil, err
		}
		options = append(options, goose.WithSessionLocker(locker))
	case dburl.MySQL:
		first = &goose.GoFunc{RunDB: s.makeTables} // the Python server could not use it
		unlock, err = s.lockMigrations(ctx)
		if err != nil {
			return nil, nil, err
		}
	}
	return append(options, goose.WithGoMigrations(goose.NewGoMigration(1, first, nil))), unlock, nil
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// Backup copies a database, as it is at one moment, into a new SQLite file that only
// its owner can read, and verifies it. The file has its name when it is whole and on
// the disk; while it is written, it has the name with ".part" and some digits after it.
// A file of that name is [os.ErrExist]. [Move] makes a database of a backup again.
func Backup(ctx context.Context, url, file string, log *slog.Logger, report func(Progress)) (_ *MoveResult, err error) {
	file, err = filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	_, err = os.Lstat(file)
	if err == nil {
		return nil, fmt.Errorf("%s: %w", file, os.ErrExist)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	part, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".part*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeDatabase(part.Name())) }()
	err = part.Close()
	if err != nil {
		return nil, err
	}
	result, err := Move(ctx, MoveOptions{From: url, To: "sqlite:///" + part.Name(), Log: log, Report: report})
	if err != nil {
		return nil, err
	}
	err = os.Link(part.Name(), file) // unlike a renaming, it replaces nothing
	if err != nil && !errors.Is(err, os.ErrExist) {
		err = os.Rename(part.Name(), file) // there are file systems without links
	}
	if err != nil {
		return nil, err
	}
	return result, syncFolder(filepath.Dir(file))
}

// removeDatabase removes a database file with what SQLite has beside it.
func removeDatabase(path string) error {
	for _, suffix := range []string{"-wal", "-shm", ""} {
		err := os.Remove(path + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// syncFolder has the names in a folder survive a power failure.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

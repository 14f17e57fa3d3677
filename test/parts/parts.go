// Package parts finds the programs that scripts/test-requirements has unpacked
// for the tests.
package parts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// Find returns the path of a program of the part named, as usr/bin/redis-server
// of redis, and the folder of the libraries that it is to be started with. It
// fails when the part was not unpacked.
func Find(part, program string) (path, lib string, err error) {
	folder, err := Folder(part)
	if err != nil {
		return "", "", err
	}
	path, err = exec.LookPath(filepath.Join(folder, program))
	return path, filepath.Join(folder, "lib"), err
}

// Folder returns where a part is, if it was unpacked.
func Folder(part string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "bin", "parts", part), nil
}

// moduleRoot returns the folder of go.mod above the working directory, which
// go test sets to the package's folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err = os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}

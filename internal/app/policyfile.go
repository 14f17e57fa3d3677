package app

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"

	"authnzerver/internal/policy"
)

// A policyFile is the permission policy in force and the file that it came
// from. A new version of the file that is not valid is refused; the old policy
// stays in force.
type policyFile struct {
	path string // "" for the built-in policy
	log  *slog.Logger
	// addRoles makes the roles of a new policy known to the database.
	addRoles func(context.Context, []string) error

	inForce atomic.Pointer[policy.Policy]
	refused atomic.Pointer[error]
	loaded  []fs.FileInfo // the version that was read first
}

func openPolicy(path string, log *slog.Logger) (*policyFile, error) {
	f := &policyFile{path: path, log: log}
	if path == "" {
		f.inForce.Store(policy.Default())
		return f, nil
	}
	var err error
	f.loaded, err = look(path)
	if err != nil {
		return nil, fmt.Errorf("%w; give a policy file, for example one that starts as authnzrv policy show prints it", err)
	}
	p, err := f.read()
	if err != nil {
		return nil, err
	}
	f.inForce.Store(p)
	return f, nil
}

// current returns the policy in force.
func (f *policyFile) current() *policy.Policy { return f.inForce.Load() }

// problem says why the newest version of the file is not in force, or nil.
func (f *policyFile) problem() error {
	if err := f.refused.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *policyFile) read() (*policy.Policy, error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return p, nil
}

// watch reloads the policy whenever its file changes, until ctx ends.
func (f *policyFile) watch(ctx context.Context) {
	if f.path == "" {
		return
	}
	watchFiles(ctx, []string{f.path}, f.loaded, f.refuse, f.reload)
}

// reload puts the file's policy in force, or refuses it. It returns false when that should
// be tried again although the file is right.
func (f *policyFile) reload(ctx context.Context) (done bool) {
	p, err := f.read()
	if err != nil {
		f.refuse(err)
		return true
	}
	err = f.addRoles(ctx, p.Roles())
	if err != nil {
		f.refuse(err)
		return false
	}
	f.inForce.Store(p)
	f.refused.Store(nil)
	f.log.Info("the permission policy was reloaded", "file", f.path)
	return true
}

// refuse keeps the policy in force, and says so once for each reason.
func (f *policyFile) refuse(err error) {
	if last := f.problem(); last == nil || last.Error() != err.Error() {
		f.log.Error("the permission policy was not reloaded; the one before stays in force", "file", f.path, "error", err)
	}
	f.refused.Store(&err)
}

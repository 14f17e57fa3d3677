package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"authnzerver/internal/config"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	key      = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	slashKey = "//////////////////////////////////////////8="
)

// required are values for the options that have no default.
var required = []string{"AUTHNZERVER_AUTHDB=sqlite:////a.sqlite", "AUTHNZERVER_SECRET=" + key, "AUTHNZERVER_PIISALT=salt"}

// A place is a directory in which a test starts the server.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) place {
	t.Helper()
	return place{t, t.TempDir()}
}

// file writes a file and returns its path.
func (p place) file(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// source has flags in the form name=value and the environment. Nothing that
// is required is missing.
func (p place) source(flags []string, environ ...string) config.Source {
	given := map[string]string{}
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		given[name] = value
	}
	return config.Source{
		Flags:   given,
		Environ: append(slices.Clone(required), environ...),
		Dir:     p.dir, Home: "/home/someone", User: "someone",
	}
}

// load expects success.
func load(t *testing.T, src config.Source) (*config.Config, []config.Notice) {
	t.Helper()
	c, notices, err := config.Load(src)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c, notices
}

// loadErrors expects errors.
func loadErrors(t *testing.T, src config.Source) []*config.Error {
	t.Helper()
	c, _, err := config.Load(src)
	if err == nil {
		t.Fatal("Load succeeds")
	}
	if c != nil {
		t.Error("Load returns a configuration with an error")
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("Load returns a %T", err)
	}
	var all []*config.Error
	for _, err := range joined.Unwrap() {
		var e *config.Error
		if !errors.As(err, &e) {
			t.Fatalf("Load returns a %T: %v", err, err)
		}
		all = append(all, e)
	}
	return all
}

// wantError expects one error.
func wantError(t *testing.T, src config.Source, option string, code config.Code, parts ...string) {
	t.Helper()
	all := loadErrors(t, src)
	if len(all) != 1 || all[0].Option != option || all[0].Code != code {
		t.Fatalf("got %d errors, want one of %s, %s:\n%v", len(all), option, code, errors.Join(toErrors(all)...))
	}
	for _, part := range parts {
		if !strings.Contains(all[0].Error(), part) {
			t.Errorf("error %q doesn't contain %q", all[0], part)
		}
	}
}

func toErrors(all []*config.Error) []error {
	errs := make([]error, len(all))
	for i, err := range all {
		errs[i] = err
	}
	return errs
}

// wantNotice expects a notice of the option that contains the parts.
func wantNotice(t *testing.T, notices []config.Notice, option string, parts ...string) {
	t.Helper()
	for _, n := range notices {
		if n.Option == option && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(n.String(), part) }) {
			return
		}
	}
	t.Errorf("no notice of %q with %q among %v", option, parts, notices)
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got; go test -update rewrites it):\n%s", path, diff)
	}
}

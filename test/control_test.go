package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"authnzerver/test/databases"
)

// TestFuzzingFindsABrokenParser has scripts/fuzz run a target whose parser fails on some
// inputs, and one whose parser does not: it must tell them apart.
func TestFuzzingFindsABrokenParser(t *testing.T) {
	t.Parallel()
	if kind != databases.SQLite {
		return // once is enough: there is no database in it
	}
	for name, broken := range map[string]bool{"sound": false, "broken": true} {
		dir := t.TempDir()
		try(t, "make a folder", os.Mkdir(filepath.Join(dir, "scripts"), 0o700))
		write(t, filepath.Join(dir, "scripts", "fuzz"), read(t, "../scripts/fuzz"))
		write(t, filepath.Join(dir, "go.mod"), "module "+name+"\n\ngo 1.26.0\n")
		const target = "FuzzParse" // not where scripts/fuzz would take it for one of this package
		condition := "false"
		if broken {
			condition = "len(text) > 1 && text[0] != 'a'"
		}
		write(t, filepath.Join(dir, "parse_test.go"), `package parse

import "testing"

func `+target+`(f *testing.F) {
	f.Add("abc")
	f.Fuzz(func(t *testing.T, text string) {
		if `+condition+` {
			t.Error("broken")
		}
	})
}
`)
		cmd := exec.Command("sh", filepath.Join(dir, "scripts", "fuzz"), "10000x")
		cmd.Env = append(os.Environ(), "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		if (err != nil) != broken || !strings.Contains(string(out), target) {
			t.Errorf("the %s parser: %v\n%s", name, err, out)
		}
	}
}

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

// TestKnownVulnerabilityIsFound has scripts/vulnerabilities look into a database that knows of
// one in what the server calls.
func TestKnownVulnerabilityIsFound(t *testing.T) {
	t.Parallel()
	if kind != databases.SQLite {
		return // once is enough: there is no database in it
	}
	dir := t.TempDir()
	const id, long = "GO-2000-0001", "2000-01-01T00:00:00Z"
	for name, text := range map[string]string{
		"index/db.json":      `{"modified": "` + long + `"}`,
		"index/modules.json": `[{"path": "stdlib", "vulns": [{"id": "` + id + `", "modified": "` + long + `"}]}]`,
		"index/vulns.json":   `[{"id": "` + id + `", "modified": "` + long + `", "aliases": []}]`,
		"ID/" + id + ".json": `{"schema_version": "1.3.1", "id": "` + id + `", "modified": "` + long + `", "published": "` + long + `",
			"summary": "Planted", "details": "Planted", "database_specific": {"url": "https://example.com/"}, "affected": [{"package": {"name": "stdlib", "ecosystem": "Go"},
			"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
			"ecosystem_specific": {"imports": [{"path": "net/http", "symbols": ["Server.Serve"]}]}}]}`,
	} {
		path := filepath.Join(dir, name)
		try(t, "make a folder", os.MkdirAll(filepath.Dir(path), 0o700))
		write(t, path, text)
	}
	out, err := exec.Command("sh", "../scripts/vulnerabilities", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), id) || !strings.Contains(string(out), "Server.Serve") {
		t.Errorf("a planted vulnerability is not found: %v\n%s", err, out)
	}
}

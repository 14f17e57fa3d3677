package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/config"
)

// TestReference checks that docs/configuration.md has the tables that the
// declarations lead to. Run it with -update after changing a declaration.
func TestReference(t *testing.T) {
	t.Parallel()
	const path = "../../docs/configuration.md"
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(document)
	for name, text := range map[string]string{"options": config.Reference(), "sources": config.SourcesReference()} {
		start, end := "<!-- "+name+": generated -->\n\n", "\n<!-- end of "+name+" -->"
		before, rest, found := strings.Cut(want, start)
		_, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			t.Fatalf("%s has no part %s", path, name)
		}
		want = before + start + text + end + after
	}
	if *update {
		err := os.WriteFile(path, []byte(want), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(document), want); diff != "" {
		t.Errorf("%s is stale; run go test ./internal/config -update:\n%s", path, diff)
	}
}

// Every row of a table has as many cells as its heading.
func TestReferenceTablesAreWhole(t *testing.T) {
	t.Parallel()
	columns := 0
	for line := range strings.Lines(config.Reference() + "\n" + config.SourcesReference()) {
		cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		switch {
		case cells == 0:
			columns = 0
		case columns == 0:
			columns = cells
		case cells != columns:
			t.Errorf("%d cells instead of %d: %s", cells-1, columns-1, line)
		}
	}
}

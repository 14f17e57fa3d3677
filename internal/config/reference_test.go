package config_test

import (
	"strings"
	"testing"

	"authnzerver/internal/config"
)

func TestReference(t *testing.T) {
	t.Parallel()
	golden(t, "options.md", config.Reference())
	golden(t, "sources.md", config.SourcesReference())
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

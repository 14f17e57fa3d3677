package docs_test

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testNames returns the names of all tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range declared.FindAllStringSubmatch(string(text), -1) {
			names[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// requirements returns how many rows the table of requirements has, how many of them are met,
// and what is wrong with it.
func requirements(text string, names map[string]bool) (rows, met int, wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		id := strings.TrimSpace(cells[0])
		if !regexp.MustCompile(`^(ASVS|NIST) [0-9.]+$`).MatchString(id) {
			continue
		}
		rows++
		if len(cells) != 5 {
			complain("%s: %d cells", id, len(cells))
			continue
		}
		state, reason, _ := strings.Cut(strings.TrimSpace(cells[2]), ":")
		switch {
		case state == "yes":
			met++
		case (state == "partly" || state == "no") && (reason != "" || state == "no"):
		default:
			complain("%s: %q does not say whether it is met", id, cells[2])
		}
		where, tests := quoted.FindAllStringSubmatch(cells[3], -1), quoted.FindAllStringSubmatch(cells[4], -1)
		if where == nil || tests == nil {
			complain("%s has no place or no test", id)
		}
		for _, found := range where {
			if _, err := os.Stat(filepath.Join("..", found[1])); err != nil {
				complain("%s: %v", id, err)
			}
		}
		for _, found := range tests {
			if !names[found[1]] {
				complain("%s: there is no test %s", id, found[1])
			}
		}
	}
	return rows, met, wrong
}

// TestRequirements checks the table of requirements: every row says whether it is met, where
// and by which tests, and these exist. Rows that do not are the control.
func TestRequirements(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("security.md")
	if err != nil {
		t.Fatal(err)
	}
	names := testNames(t)
	rows, met, wrong := requirements(string(text), names)
	for _, one := range wrong {
		t.Error(one)
	}
	t.Logf("%d of %d requirements are met", met, rows)
	if rows < 90 || met*10 < rows*8 {
		t.Errorf("%d of %d requirements are met", met, rows)
	}
	for _, row := range []string{
		"| ASVS 1.1.1 | what | yes | `docs/security.md` | `TestOfNothing` |",
		"| ASVS 1.1.1 | what | yes | `docs/nothing.md` | `TestRequirements` |",
		"| ASVS 1.1.1 | what | yes | | `TestRequirements` |",
		"| ASVS 1.1.1 | what | yes | `docs/security.md` | |",
		"| ASVS 1.1.1 | what | perhaps | `docs/security.md` | `TestRequirements` |",
		"| ASVS 1.1.1 | what | partly | `docs/security.md` | `TestRequirements` |",
		"| NIST 3.1 | what | yes | `docs/security.md` |",
	} {
		if _, _, wrong := requirements(row, names); len(wrong) == 0 {
			t.Errorf("nothing is found in %s", row)
		}
	}
}

// TestTimeouts compares the table of time-outs with the constants that it names.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("running.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\|[^|]*\\| ([0-9.]+) (s|min)\\b[^|]*\\|[^|]*\\| `([^`]+)` `([^`]+)` \\|$")
	units := map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "s": time.Second, "min": time.Minute}
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 15 {
		t.Errorf("only %d rows name a constant", len(rows))
	}
	for _, cells := range rows {
		written, err := strconv.ParseFloat(cells[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		source, err := os.ReadFile(filepath.Join("..", cells[3]))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^\s*(?:const )?` + cells[4] + `\s*=\s*(?:(\d+) \* )?time\.(\w+)`).FindStringSubmatch(string(source))
		if found == nil {
			t.Errorf("%s has no %s", cells[3], cells[4])
			continue
		}
		n := 1
		if found[1] != "" {
			n, err = strconv.Atoi(found[1])
			if err != nil {
				t.Fatal(err)
			}
		}
		if is, want := time.Duration(n)*units[found[2]], time.Duration(written*float64(units[cells[2]])); is != want {
			t.Errorf("%s is %v, and %v in the documentation", cells[4], is, want)
		}
	}
}

// anchor returns the anchor of a heading, as it is shown on the common sites.
func anchor(heading string) string {
	kept := regexp.MustCompile(`[^\p{L}\p{N}\s_-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(strings.TrimSpace(kept), " ", "-")
}

// TestLinks follows every link of the documentation that stays within it.
func TestLinks(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../README.md", "../CHANGELOG.md")
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchors := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range heading.FindAllStringSubmatch(string(text), -1) {
			anchors[filepath.Clean(file)] = append(anchors[filepath.Clean(file)], anchor(found[1]))
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target, err := url.Parse(found[1])
			if err != nil || target.Scheme != "" {
				continue
			}
			path := filepath.Clean(file)
			if target.Path != "" {
				path = filepath.Join(filepath.Dir(file), target.Path)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: %s: %v", file, found[1], err)
			}
			if target.Fragment != "" && strings.HasSuffix(path, ".md") && !slices.Contains(anchors[path], target.Fragment) {
				t.Errorf("%s: %s has no heading %s", file, path, target.Fragment)
			}
		}
	}
}

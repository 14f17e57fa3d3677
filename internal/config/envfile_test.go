package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"authnzerver/internal/config"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseEnvfile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       map[string]string
		notice     string
	}{
		{"nothing", "", map[string]string{}, ""},
		{"both signs", "A=1\nB: 2\nC = 3 : 4\nD:5=6", map[string]string{"A": "1", "B": "2", "C": "3 : 4", "D": "5=6"}, ""},
		{"letter case", "aB_c=1", map[string]string{"AB_C": "1"}, ""},
		{"comments and blank lines", "# x=1\n  ; y=2\n\n\t\nA=1 # not ; a comment\n", map[string]string{"A": "1 # not ; a comment"}, ""},
		{"no value", "A=\nB:", map[string]string{"A": "", "B": ""}, ""},
		{"quotes", "A=\"x\"\nB=' x '\nC=''\nD=\"x'\nE=\"\nF=\"\"x\"\"", map[string]string{"A": "x", "B": " x ", "C": "", "D": "\"x'", "E": "\"", "F": "\"x\""}, ""},
		{"export", "export A=1\nexport\tB=2\nexport=3\nexported=4", map[string]string{"A": "1", "B": "2", "EXPORT": "3", "EXPORTED": "4"}, ""},
		{"per cent signs", "A=100%\nB=%%\nC=%(a)s/%(D)s%\nE=%s%(\nF=%(A)\n", map[string]string{"A": "100%", "B": "%", "C": "100%/%(D)s%", "E": "%s%(", "F": "%(A)"}, ""},
		{"names that stand for names", "A=%(B)s\nB=%(C)s%(C)s\nC=c%%", map[string]string{"A": "c%c%", "B": "c%c%", "C": "c%"}, ""},
		{"dollars", "A=$B ${B}\nB=1", map[string]string{"A": "$B ${B}", "B": "1"}, ""},
		{"the last one", "A=1\nB=2\na=3", map[string]string{"A": "3", "B": "2"}, "/x:3: A stands in line 1 too"},
		{"continuation", "A=1\n  2\n\t # comment\n  3=4\nB=\n 5", map[string]string{"A": "1\n2\n3=4", "B": "\n5"}, ""},
		{"continuation in quotes", "A='1\n 2'", map[string]string{"A": "1\n2"}, ""},
		{"continuation by mistake", "A=1\n AUTHNZERVER_PORT=2", map[string]string{"A": "1\nAUTHNZERVER_PORT=2"}, "/x:2: the indented line"},
		{"a blank line ends a value", "A=1\n\n  B=2", map[string]string{"A": "1", "B": "2"}, ""},
		{"indented first line", "  A=1", map[string]string{"A": "1"}, ""},
		{"byte order mark", "\ufeffA=1", map[string]string{"A": "1"}, ""},
		{"line ends of Windows", "A=1\r\nB=2\r\n", map[string]string{"A": "1", "B": "2"}, ""},
		{"sections", "[main]\nA=1", map[string]string{"A": "1"}, "/x:1: the section line"},
		{"a line ends a section", "A=1\n[main]\n B=1", map[string]string{"A": "1", "B": "1"}, "/x:2: the section line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			variables, notices, err := config.ParseEnvfile("/x", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for name, v := range variables {
				got[name] = v.Value
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			switch {
			case tt.notice == "" && len(notices) > 0:
				t.Errorf("notices: %v", notices)
			case tt.notice != "" && (len(notices) != 1 || !strings.HasPrefix(notices[0].String(), tt.notice)):
				t.Errorf("notices: %v, want %q", notices, tt.notice)
			}
		})
	}
}

func TestParseEnvfileErrors(t *testing.T) {
	t.Parallel()
	circle := "A=%(B)s\nB=%(C)s\nC=%(A)s"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"no sign", "A=1\nnonsense", []string{"/x:2: the line is not of the form NAME=VALUE"}},
		{"no name", "=1\n: 2\nA B=1\nÄ=1", []string{"/x:1: what", "/x:2: what", "/x:3: what", "/x:4: what"}},
		{"NUL", "A=\x00", []string{"/x:1: the line holds a NUL byte"}},
		{"itself", "A=%(A)s", []string{"/x:1: the value stands for itself by way of A"}},
		{"circle", circle, []string{"/x:3: the value stands for itself by way of A"}},
		{"large value", "A=" + strings.Repeat("x", 65537), []string{"/x:1: the value of A has more than 65536 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := config.ParseEnvfile("/x", []byte(tt.text))
			if err == nil {
				t.Fatal("ParseEnvfile succeeds")
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("errors %q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("error %q, want %q", got[i], want)
				}
			}
		})
	}
}

// Names that stand for many names that stand for many names must cost neither
// memory nor time, even where all are empty in the end.
func TestEnvfileExpansionIsBounded(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"", "x"} {
		var b strings.Builder
		for level := range 30 {
			fmt.Fprintf(&b, "L%d=%s\n", level, strings.Repeat(fmt.Sprintf("%%(L%d)s", level+1), 100))
		}
		fmt.Fprintf(&b, "L30=%s\n", last)
		variables, _, err := config.ParseEnvfile("/x", []byte(b.String()))
		if (err != nil) != (last != "") {
			t.Errorf("ParseEnvfile: %v", err)
		}
		if n := len(variables["L0"].Value); n > 200<<10 {
			t.Errorf("a value has %d bytes", n)
		}
	}
}

// FuzzParseEnvfile checks that errors and notices carry a line number that
// exists, and that a value without line ends can be written and read again.
func FuzzParseEnvfile(f *testing.F) {
	for _, seed := range []string{"A=1\nB: '2'\n", "\ufeff# c\nexport A=%(B)s\n x\nB=%%\r\n", "[s]\nA=1\nA=2", "A=%(A)s", "nonsense"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		variables, notices, err := config.ParseEnvfile("f", []byte(text))
		lines := strings.Count(text, "\n") + 1
		check := func(origin string) {
			var line int
			if _, err := fmt.Sscanf(origin, "f:%d", &line); err != nil || line < 1 || line > lines {
				t.Fatalf("origin %q in a text of %d lines", origin, lines)
			}
		}
		for _, n := range notices {
			check(n.Origin)
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, err := range joined.Unwrap() {
				var e *config.Error
				if !errors.As(err, &e) {
					t.Fatalf("error of type %T", err)
				}
				check(e.Origin)
			}
			return
		}
		for name, v := range variables {
			if name != strings.ToUpper(name) || v.Line < 1 || v.Line > lines {
				t.Fatalf("variable %q in line %d", name, v.Line)
			}
			var b bytes.Buffer
			if err := config.WriteEnvfile(&b, map[string]string{"emailpass": v.Value}); err == nil {
				again, _, err := config.ParseEnvfile("f", b.Bytes())
				if err != nil || again["AUTHNZERVER_EMAILPASS"].Value != v.Value {
					t.Fatalf("%q is written as %q", v.Value, b.String())
				}
			}
		}
	})
}

// writable are the options that an envfile may hold, with their names in it.
var writable = map[string]string{
	"allowedhosts": "AUTHNZERVER_ALLOWEDHOSTS", "authdb": "AUTHNZERVER_AUTHDB", "emailpass": "AUTHNZERVER_EMAILPASS",
	"emailsender": "AUTHNZERVER_EMAILSENDER", "port": "AUTHNZERVER_PORT", "tlscertkey": "AUTHNZERVER_TLSCERTKEY",
}

func TestWrittenEnvfileReadsBack(t *testing.T) {
	t.Parallel()
	piece := rapid.SampledFrom([]string{" ", "\t", "%", "%%", "%(", ")s", "AUTHNZERVER_PORT", "\"", "'", "#", ";", "=", ":", "[", "]", "\\", "$", "a", "é", "\u00a0", "\u2028", "\ufeff", "export "})
	rapid.Check(t, func(t *rapid.T) {
		values := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(writable)) {
			if rapid.Bool().Draw(t, name) {
				values[name] = strings.ReplaceAll(strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "value"), ""), "\t", "")
			}
		}
		var b bytes.Buffer
		if err := config.WriteEnvfile(&b, values); err != nil {
			t.Fatal(err)
		}
		variables, notices, err := config.ParseEnvfile("f", b.Bytes())
		if err != nil || len(notices) > 0 {
			t.Fatalf("%v, %v in %s", err, notices, b.String())
		}
		got := map[string]string{}
		for name, v := range variables {
			got[name] = v.Value
		}
		want := map[string]string{}
		for name, value := range values {
			want[writable[name]] = value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s\n%s", diff, b.String())
		}
	})
}

func TestWriteEnvfile(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := config.WriteEnvfile(&b, map[string]string{
		"authdb": "sqlite:////srv/auth/.authdb.sqlite", "basedir": "/srv/auth", "secret": "/srv/auth/.authnzerver-secret-key",
		"piisalt": "[[basedir]]/.authnzerver-salt", "permissions": "/srv/auth/default-permissions-model.json", "emailpass": " 100%% ",
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "envfile.txt", b.String())
}

func TestWriteEnvfileRefuses(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"nonsense":      "x",
		"autosetup":     "true",
		"log-to-stderr": "true",
		"authdb":        "two\nlines",
		"emailuser":     "\xff",
		"emailpass":     strings.Repeat("x", 1<<17),
		"secret":        key,
		"piisalt":       slashKey,
	} {
		var b bytes.Buffer
		err := config.WriteEnvfile(&b, map[string]string{name: value})
		var e *config.Error
		if !errors.As(err, &e) || e.Option != name {
			t.Errorf("%s: error %v", name, err)
		} else if strings.Contains(err.Error(), value) && len(value) > 4 {
			t.Errorf("%s: the error %v shows the value", name, err)
		}
		if b.Len() > 0 {
			t.Errorf("%s: something is written", name)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteEnvfileReportsWriteErrors(t *testing.T) {
	t.Parallel()
	if err := config.WriteEnvfile(fullDisk{}, nil); err == nil || err.Error() != "disk full" {
		t.Errorf("error %v", err)
	}
}

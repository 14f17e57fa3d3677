package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the scripts in testdata/script, which use the program as an
// operator does. Beside the commands of testscript they have
//
//	serve [name=value ...]
//
// which starts a server with these options beside the usual ones and sets
// $AUTHNZERVER_URL, $AUTHNZERVER_SECRET, and $EMAIL, $PASSWORD and $USER_ID of
// a user of it,
//
//	authnzrv argument ...
//
// which runs the program, with the file stdin as its standard input if there is
// one; with ! in front it must end with status 1. The files out and err then hold
// its output.
func TestScripts(t *testing.T) {
	t.Parallel()
	docs, err := filepath.Abs("../docs")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return fmt.Errorf("the scripts run in a %T", env.T())
			}
			env.Values[scriptTB{}] = tb
			env.Setenv("DOCS", docs)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"serve": serveScript, "authnzrv": runScript},
	})
}

// scriptTB is the key of a script's testing.TB.
type scriptTB struct{}

func serveScript(script *testscript.TestScript, _ bool, options []string) {
	tb := script.Value(scriptTB{}).(testing.TB)
	s := start(tb, options...)
	u := s.newUser()
	script.Setenv("AUTHNZERVER_URL", s.url)
	script.Setenv("AUTHNZERVER_SECRET", s.key)
	script.Setenv("USER_ID", strconv.Itoa(u.id))
	script.Setenv("EMAIL", u.email)
	script.Setenv("PASSWORD", u.password)
}

func runScript(script *testscript.TestScript, negated bool, args []string) {
	tb := script.Value(scriptTB{}).(testing.TB)
	stdin := ""
	if _, err := os.Stat(script.MkAbs("stdin")); err == nil {
		stdin = script.ReadFile("stdin")
	}
	var env []string
	for _, name := range []string{"AUTHNZERVER_URL", "AUTHNZERVER_SECRET"} {
		env = append(env, name+"="+script.Getenv(name))
	}
	got := authnzrv(tb, script.MkAbs("."), stdin, env, args...)
	for _, file := range []struct{ name, text string }{{"out", got.stdout}, {"err", got.stderr}} {
		script.Check(os.WriteFile(script.MkAbs(file.name), []byte(file.text), 0o600))
	}
	want := 0
	if negated {
		want = 1
	}
	if got.status != want {
		script.Fatalf("status %d, want %d\noutput: %s\nerrors: %s", got.status, want, got.stdout, got.stderr)
	}
}

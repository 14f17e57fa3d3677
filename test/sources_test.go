package test

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestSources checks which of several values counts: that of the flag, then of
// the environment, then of the envfile; blank ones never do.
func TestSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := newKey()
	write(t, dir+"/env", `# Made by hand.
export AUTHNZERVER_AUTHDB="sqlite:///auth.sqlite"
authnzerver_secret: `+key+`
AUTHNZERVER_PIISALT='50% salt'
AUTHNZERVER_ARGON2=m=7168,t=1,p=1
AUTHNZERVER_PORT = 1
AUTHNZERVER_ALLOWEDHOSTS=file;127.0.0.1
AUTHNZERVER_WORKERS=7
AUTHNZERVER_PWNEDURL=none
AUTHNZERVER_MESSAGETTL=
; another comment
`)
	for _, row := range []struct {
		name  string
		env   []string
		flags []string
		host  string
		note  string
	}{
		{"envfile", nil, nil, "file", ""},
		{"environment", []string{"AUTHNZERVER_ALLOWEDHOSTS=environment;127.0.0.1"}, nil, "environment", "allowedhosts"},
		{"blank environment", []string{"AUTHNZERVER_ALLOWEDHOSTS= "}, nil, "file", ""},
		{"flag", []string{"AUTHNZERVER_ALLOWEDHOSTS=environment"}, []string{"--allowedhosts=flag;127.0.0.1"}, "flag", "allowedhosts"},
		{"blank flag", nil, []string{"--allowedhosts="}, "file", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := exec.Command("authnzrv", append(row.flags, "--envfile="+dir+"/env")...)
			cmd.Dir = dir
			// PORT is what a platform sets; the server's own name for it counts
			// more, and a blank one does not count.
			cmd.Env = environment(append(row.env, "AUTHNZERVER_PORT=0", "PORT=2", "AUTHNZERVER_SECRET=")...)
			s := launch(t, cmd, dir, key)
			for _, host := range []string{"file", "environment", "flag"} {
				from, _ := s.dialog(rawPost("Host: "+host+"\r\n", seal(key, absent, time.Now())))
				response, _ := answer(t, from, "POST")
				want := 404
				if host == row.host {
					want = 200
				}
				if response.StatusCode != want {
					t.Errorf("host %s: status %d, want %d", host, response.StatusCode, want)
				}
			}
			if _, _, text := s.send("GET", "health", ""); !strings.Contains(text, `"Expected-Workers":7`) {
				t.Errorf("workers of the envfile: health is %s", text)
			}
			if row.note != "" && !strings.Contains(s.log.String(), row.note) {
				t.Errorf("the log does not say that %s has two values", row.note)
			}
		})
	}
}

// TestEnvfileWhole starts the server by the envfile of the set-up with every
// line of it in force: each option stands in it with its default, under a name
// that is known.
func TestEnvfileWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ask(t, dir, "", nil, "--basedir="+dir)
	text := strings.ReplaceAll(read(t, dir+"/.env"), "\n#AUTHNZERVER_", "\nAUTHNZERVER_")
	names := strings.Count(text, "\nAUTHNZERVER_")
	if names < 25 {
		t.Errorf("the envfile names %d options", names)
	}
	write(t, dir+"/whole.env", text)
	cmd := exec.Command("authnzrv", "--envfile="+dir+"/whole.env", "--port=0", "--argon2=m=7168,t=1,p=1", "--pwnedurl=none")
	cmd.Env = environment()
	s := launch(t, cmd, dir, read(t, dir+"/.authnzerver-secret-key"))
	if strings.Contains(s.log.String(), "there is no option of this name") {
		t.Error("the envfile has a name that is not known")
	}
	email, password := credentials(t, dir+"/.authnzerver-admin-credentials")
	s.login(email, password).ok()
}

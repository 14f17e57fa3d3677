package test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A result is what the program left behind when it ended.
type result struct {
	stdout, stderr string
	status         int
}

// authnzrv runs the program to its end.
func authnzrv(t testing.TB, dir, stdin string, env []string, args ...string) result {
	t.Helper()
	cmd := exec.Command("authnzrv", args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, environment(env...), strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // it has ended already if this fails
	defer kill.Stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// modes checks the permissions of files.
func modes(t testing.TB, dir string, want map[string]fs.FileMode) {
	t.Helper()
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %04o, want %04o", name, info.Mode().Perm(), mode)
		}
	}
}

// TestStartErrors goes through what keeps the server from starting: it says
// which option is wrong and what would be right, and ends with status 1.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // after the subtests
	takenPort := taken.Addr().(*net.TCPAddr).Port
	certFile, keyFile, _ := writeCertificate(t, dir)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		write(t, path, text)
		return path
	}
	const unsound = "bm90LWEta2V5LW9mLTMyLWJ5dGVz"
	for _, row := range []struct {
		name string
		// without drops the usual option.
		without string
		options []string
		want    []string
	}{
		{"no authdb", "authdb", nil, []string{"authdb", "--authdb", "AUTHNZERVER_AUTHDB", "--autosetup"}},
		{"no secret", "secret", nil, []string{"secret", "--secret", "AUTHNZERVER_SECRET", "--autosetup"}},
		{"no piisalt", "piisalt", nil, []string{"piisalt", "--piisalt", "AUTHNZERVER_PIISALT", "--autosetup"}},
		{"secret that is no key", "", []string{"--secret=" + unsound}, []string{"secret", "32 random bytes", "44 characters"}},
		{"second key that is none", "", []string{"--secret=" + newKey() + "," + unsound}, []string{"secret", "key 2", "44 characters"}},
		{"secret's file is missing", "", []string{"--secret=" + dir + "/" + unsound}, []string{"secret", "no such file"}},
		{"secret's file is empty", "", []string{"--secret=" + file("empty", "\n")}, []string{"secret", "empty"}},
		{"secret's file holds no key", "", []string{"--secret=" + file("nokey", unsound)}, []string{"secret", "44 characters"}},
		{"piisalt's file is missing", "", []string{"--piisalt=[[basedir]]/salt"}, []string{"piisalt", "no such file"}},
		{"policy is missing", "", []string{"--permissions=" + dir + "/policy.json"}, []string{"permissions", dir + "/policy.json", "no such file"}},
		{"policy is not JSON", "", []string{"--permissions=" + file("broken.json", "{")}, []string{"permissions", "broken.json"}},
		{"policy is wrong", "", []string{"--permissions=" + file("wrong.json", `{"roles": 5, "items": {}}`)}, []string{"permissions", "wrong.json", "$.roles", "$.items"}},
		{"TLS without a key", "", []string{"--tlscertfile=" + certFile}, []string{"tlscertkey", "tlscertfile"}},
		{"TLS without a certificate", "", []string{"--tlscertkey=" + keyFile}, []string{"tlscertfile", "tlscertkey"}},
		{"TLS with a missing file", "", []string{"--tlscertfile=" + certFile, "--tlscertkey=" + dir + "/none"}, []string{"tlscert", "no such file"}},
		{"TLS with a wrong file", "", []string{"--tlscertfile=" + keyFile, "--tlscertkey=" + keyFile}, []string{"tlscertfile"}},
		{"envfile is missing", "", []string{"--envfile=" + dir + "/none.env"}, []string{"envfile", "none.env", "doesn't exist"}},
		{"envfile is malformed", "", []string{"--envfile=" + file("bad.env", "A=1\nno delimiter\n")}, []string{"envfile", "bad.env:2"}},
		{"Python confvars", "", []string{"--confvars=" + file("confvars.py", "CONF = {}")}, []string{"confvars", "confvars.py", "JSON"}},
		{"confvars is missing", "", []string{"--confvars=" + dir + "/none.json"}, []string{"confvars", "none.json"}},
		{"unknown option", "", []string{"--permision=x"}, []string{"--permision", "--help"}},
		{"unknown command", "", []string{"server"}, []string{"server", "--help"}},
		{"option without a value", "", []string{"--workers"}, []string{"workers", "value", "--help"}},
		{"port is taken", "", []string{fmt.Sprintf("--port=%d", takenPort)}, []string{"port", fmt.Sprintf("127.0.0.1:%d", takenPort), "in use"}},
		{"port is too large", "", []string{"--port=65536"}, []string{"port", "65536", "65535"}},
		{"port is no number", "", []string{"--port=http"}, []string{"port", "http", "65535"}},
		{"listen has a port", "", []string{"--listen=127.0.0.1:80"}, []string{"listen", "127.0.0.1:80", "port"}},
		{"listen elsewhere", "", []string{"--listen=203.0.113.7"}, []string{"listen", "203.0.113.7"}},
		{"no workers", "", []string{"--workers=0"}, []string{"workers", "1 to 1024"}},
		{"no hosts", "", []string{"--allowedhosts= ; "}, []string{"allowedhosts", "no name"}},
		{"argon2", "", []string{"--argon2=m=1"}, []string{"argon2", "m="}},
		{"passpolicy", "", []string{"--passpolicy=long:please"}, []string{"passpolicy", "min_pass_length"}},
		{"ratelimits", "", []string{"--ratelimits=user:many"}, []string{"ratelimits", "user"}},
		{"messagettl", "", []string{"--messagettl=-1"}, []string{"messagettl", "0 to 86400"}},
		{"logging", "", []string{"--logging=loud"}, []string{"logging", "debug, info"}},
		{"authdb without a scheme", "", []string{"--authdb=auth.sqlite"}, []string{"authdb", "sqlite:///"}},
		{"authdb of another kind", "", []string{"--authdb=mysql+pymysql://u:" + unsound + "@localhost/db"}, []string{"authdb", "mysql"}},
		{"authdb in a missing folder", "", []string{"--authdb=sqlite:///" + dir + "/none/auth.sqlite"}, []string{"authdb", "no such file or directory"}},
		{"authdb is another file", "", []string{"--authdb=sqlite:///" + certFile}, []string{"authdb"}},
		{"basedir is a file", "", []string{"--basedir=" + certFile}, []string{"cachedir", certFile}},
		{"several", "secret", []string{"--port=x", "--tlscertfile=" + certFile}, []string{"secret", "port", "tlscertkey"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			set := settings(t, home)
			if row.without != "" {
				delete(set, row.without)
			}
			for _, option := range row.options {
				name, _, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
				delete(set, name)
			}
			args := row.options
			for name, value := range set {
				args = append(args, "--"+name+"="+value)
			}
			got := authnzrv(t, home, "", nil, args...)
			if got.status != 1 || got.stdout != "" {
				t.Errorf("status %d, want 1; output %q", got.status, got.stdout)
			}
			for _, want := range row.want {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("the message does not hold %q", want)
				}
			}
			if strings.Contains(got.stderr, unsound) || strings.Contains(got.stderr, "goroutine") {
				t.Error("the message holds a secret or a stack")
			}
			if t.Failed() {
				t.Logf("message:\n%s", got.stderr)
			}
		})
	}
}

// ask runs the set-up with the lines of stdin as answers.
func ask(t testing.TB, dir, stdin string, env []string, args ...string) result {
	t.Helper()
	got := authnzrv(t, dir, stdin, env, append([]string{"--autosetup", "--argon2=m=7168,t=1,p=1"}, args...)...)
	if got.status != 0 {
		t.Fatalf("set-up ended with status %d: %s", got.status, got.stderr)
	}
	return got
}

// startLine starts the server by the line that set-up printed last, and
// returns it once it serves.
func startLine(t testing.TB, dir string, setup result, secretFile string) *server {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(setup.stdout, "\n"), "\n")
	// With exec, a signal reaches the server and not the shell.
	cmd := exec.Command("sh", "-c", "exec "+lines[len(lines)-1])
	cmd.Dir = dir
	cmd.Env = environment("AUTHNZERVER_PORT=0", "AUTHNZERVER_ARGON2=m=7168,t=1,p=1", "AUTHNZERVER_PWNEDURL=none")
	return launch(t, cmd, dir, read(t, secretFile))
}

// credentials returns the two words of a credentials file.
func credentials(t testing.TB, path string) (email, password string) {
	t.Helper()
	text := read(t, path)
	words := strings.Fields(text)
	if len(words) != 2 || text != words[0]+" "+words[1]+"\n" {
		t.Fatalf("the credentials file holds %d words in %d bytes, want an address, a blank and a password", len(words), len(text))
	}
	return words[0], words[1]
}

// TestAutosetupBlank takes all defaults, and starts the server by the line
// that the set-up ends with.
func TestAutosetupBlank(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, folder, stdin string }{
		{"blank answers", "auth", "\n\n\n\n"},
		{"no answers", "auth", ""},
		{"folder to quote", "it's \"the\" $HOME of auth", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			work := t.TempDir()
			dir := filepath.Join(work, "var", row.folder)
			got := ask(t, work, row.stdin, nil, "--basedir="+filepath.Join("var", row.folder))
			email, password := credentials(t, dir+"/.authnzerver-admin-credentials")
			if email != "somebody@localhost" || !regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`).MatchString(password) {
				t.Errorf("credentials of %s with a password of %d characters", email, len(password))
			}
			modes(t, dir, map[string]fs.FileMode{
				".": 0o700, ".authdb.sqlite": 0o600, ".authnzerver-admin-credentials": 0o400, ".authnzerver-secret-key": 0o400,
				".authnzerver-salt": 0o400, ".env": 0o600, "default-permissions-model.json": 0o644,
			})
			for _, name := range []string{".authnzerver-secret-key", ".authnzerver-salt"} {
				if len(secretOf(read(t, dir+"/"+name))) != 32 {
					t.Errorf("%s does not hold 32 bytes", name)
				}
			}
			if shown := authnzrv(t, work, "", nil, "policy", "show").stdout; read(t, dir+"/default-permissions-model.json") != shown {
				t.Error("the policy file is not the built-in policy")
			}
			if strings.Contains(got.stdout+got.stderr, password) {
				t.Error("set-up shows the password")
			}
			s := startLine(t, work, got, dir+"/.authnzerver-secret-key")
			has(t, s.login(email, password).ok().Response, map[string]any{"user_id": 1, "user_role": "superuser"})
			checkSystemUsers(t, s, email)
			// The envfile is all that call needs on the same machine.
			_, port, _ := strings.Cut(s.addr, ":")
			call := authnzrv(t, work, "", nil, "call", "--envfile="+dir+"/.env", "--port="+port, "user-list", `{"user_id": 1}`)
			if call.status != 0 || !strings.Contains(call.stdout, `"success": true`) {
				t.Errorf("call with the envfile: status %d, %s", call.status, call.stderr)
			}
		})
	}
}

// checkSystemUsers checks the three users and the roles of a new database.
func checkSystemUsers(t testing.TB, s *server, email string) {
	t.Helper()
	rows := s.call("user-list", params{"user_id": nil}).ok().Response["user_info"].([]any)
	want := []map[string]any{
		{
			"user_id": 1, "email": email, "user_role": "superuser", "is_active": true, "email_verified": true, "full_name": "Superuser account",
			"extra_info": map[string]any{"provenance": "auto-created", "type": "system-user"},
		},
		{
			"user_id": 2, "email": "anonuser@localhost", "user_role": "anonymous", "is_active": true, "email_verified": true,
			"full_name": "The systemwide anonymous user", "extra_info": map[string]any{"provenance": "auto-created", "type": "system-user"},
		},
		{
			"user_id": 3, "email": "dummyuser@localhost", "user_role": "locked", "is_active": false, "email_verified": true,
			"full_name": "The systemwide locked user", "extra_info": map[string]any{"provenance": "auto-created", "type": "locked-user"},
		},
	}
	if len(rows) != len(want) {
		t.Fatalf("a new database has %d users, want 3", len(rows))
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for i, row := range rows {
		row := row.(map[string]any)
		has(t, row, want[i])
		if id, _ := row["system_id"].(string); !uuid.MatchString(id) {
			t.Errorf("user %d: system_id is %v, want a random UUID", i+1, row["system_id"])
		}
	}
}

// TestAutosetupAnswers gives every answer, as lines and by the options and the
// environment that set-up looks at.
func TestAutosetupAnswers(t *testing.T) {
	t.Parallel()
	const email, password = "root@auth.example.com", "  spaces count in passwords  "
	for _, way := range []string{"answers", "options"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			work := t.TempDir()
			shown := authnzrv(t, work, "", nil, "policy", "show").stdout
			write(t, work+"/own.json", strings.ReplaceAll(shown, `"staff"`, `"librarian"`))
			database := filepath.Join(work, "elsewhere.sqlite")
			var stdin string
			var env, args []string
			secret := password
			if way == "answers" {
				secret = strings.TrimSpace(password) // a line is trimmed
				stdin = "sqlite:///" + database + "\nown.json\n" + email + "\n" + password + "\n"
			} else {
				env = []string{"AUTHNZERVER_ADMIN_EMAIL=" + email, "AUTHNZERVER_ADMIN_PASSWORD=" + password}
				args = []string{"--authdb=sqlite:///" + database, "--permissions=own.json"}
			}
			got := ask(t, work, stdin, env, append(args, "--basedir=base")...)
			dir := filepath.Join(work, "base")
			if text := read(t, dir+"/.authnzerver-admin-credentials"); text != email+" password-was-user-generated\n" {
				t.Errorf("the credentials file does not hold the address and the note that a person chose the password")
			}
			if strings.Contains(got.stdout+got.stderr, secret) {
				t.Error("set-up shows the password")
			}
			if _, err := os.Stat(dir + "/.authdb.sqlite"); !errors.Is(err, fs.ErrNotExist) {
				t.Error("there is a database in the base directory as well")
			}
			modes(t, work, map[string]fs.FileMode{"elsewhere.sqlite": 0o600})
			text := read(t, dir+"/.env")
			for _, line := range []string{
				"AUTHNZERVER_AUTHDB=sqlite:///" + database, "AUTHNZERVER_PERMISSIONS=" + work + "/own.json", "AUTHNZERVER_BASEDIR=" + dir,
			} {
				if !strings.Contains(text, "\n"+line+"\n") {
					t.Errorf("the envfile has no line %s", line)
				}
			}
			if strings.Contains(text, secret) {
				t.Error("the envfile holds the password")
			}
			s := startLine(t, work, got, dir+"/.authnzerver-secret-key")
			s.hide(secret)
			s.login(email, secret).ok()
			u := s.newUser()
			edit := params{"target_userid": u.id, "update_dict": params{"user_role": "librarian"}}
			has(t, s.call("internal-user-edit", edit).ok().object("user_info"), map[string]any{"user_role": "librarian"})
			edit["update_dict"] = params{"user_role": "staff"}
			s.call("internal-user-edit", edit).failed("unknown_role")
		})
	}
}

// TestAutosetupAgain runs set-up where everything exists, and where something
// is missing or other answers are given: nothing is overwritten.
func TestAutosetupAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ask(t, dir, "", nil, "--basedir="+dir)
	write(t, dir+"/default-permissions-model.json", read(t, dir+"/default-permissions-model.json")+"\n")
	snapshot := func() map[string]string {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			files[entry.Name()] = info.Mode().String() + read(t, filepath.Join(dir, entry.Name()))
		}
		return files
	}
	compare := func(before, after map[string]string) {
		t.Helper()
		for name, text := range before {
			if after[name] != text {
				t.Errorf("%s has changed", name)
			}
		}
	}
	before := snapshot()
	got := ask(t, dir, "\n\nother@example.com\nanother password\n", nil, "--basedir="+dir)
	after := snapshot()
	compare(before, after)
	if len(after) != len(before) {
		t.Errorf("the second run made files: %d, then %d", len(before), len(after))
	}
	if !strings.Contains(got.stdout, "not used") {
		t.Error("set-up does not say that the administrator's address and password were not used")
	}

	// Other answers lead to another envfile beside the one that is kept.
	ask(t, dir, "sqlite:///"+dir+"/second.sqlite\n", nil, "--basedir="+dir)
	after = snapshot()
	compare(before, after)
	if !strings.Contains(after[".env.new"], "AUTHNZERVER_AUTHDB=sqlite:///"+dir+"/second.sqlite") {
		t.Error("there is no envfile for the new answers")
	}
	// The credentials of the second database stand beside those of the first.
	found, err := filepath.Glob(dir + "/.authnzerver-admin-credentials-*")
	if err != nil || len(found) != 1 || !regexp.MustCompile(`-\d{10}$`).MatchString(found[0]) {
		t.Errorf("credentials of the second database: %v, %v; want one file with the time in its name", found, err)
	}
}

func TestAutosetupErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, stdin, want string }{
		{"policy is missing", "\nnone.json\n\n\n", "none.json"},
		{"policy is wrong", "\nwrong.json\n\n\n", `$: the key "roles"`},
		{"no address", "\n\nnobody\n\n", "e-mail"},
		{"no database", "nonsense\n\n\n\n", "scheme"},
		{"database in a missing folder", "sqlite:////nonexistent/auth.sqlite\n\n\n\n", "/nonexistent"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			work := t.TempDir()
			write(t, work+"/wrong.json", "{}")
			got := authnzrv(t, work, row.stdin, nil, "--autosetup", "--basedir=base")
			if got.status != 1 || !strings.Contains(got.stderr, row.want) {
				t.Errorf("status %d, message %q; want 1 and a message with %q", got.status, got.stderr, row.want)
			}
			entries, err := os.ReadDir(work + "/base")
			if err != nil || len(entries) > 0 {
				t.Errorf("set-up left %d files behind, %v", len(entries), err)
			}
		})
	}
}

// TestFirstStart starts a server without set-up, from nothing but variables.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := newKey()
	start := func(database string, env ...string) *server {
		t.Helper()
		cmd := exec.Command("authnzrv")
		cmd.Dir = dir
		cmd.Env = environment(append(env, "AUTHNZERVER_AUTHDB=sqlite:///"+database, "AUTHNZERVER_SECRETKEY="+key,
			"AUTHNZERVER_PIISALT=salty", "PORT=0", "AUTHNZERVER_ARGON2=m=7168,t=1,p=1", "AUTHNZERVER_EMAILPASS=")...)
		return launch(t, cmd, dir, key)
	}
	const file = "/.authnzerver-admin-credentials"
	s := start("auth.sqlite")
	email, password := credentials(t, dir+file)
	if email != "somebody@localhost" || len(password) != 22 {
		t.Errorf("credentials of %s with a password of %d characters", email, len(password))
	}
	s.login(email, password).ok()
	checkSystemUsers(t, s, email)
	modes(t, dir, map[string]fs.FileMode{"auth.sqlite": 0o600, file: 0o400})
	s.stop()

	// The second start finds users and keeps everything.
	before := read(t, dir+file)
	s = start("auth.sqlite")
	s.login(email, password).ok()
	s.stop()
	if found, err := filepath.Glob(dir + file + "*"); err != nil || len(found) != 1 || read(t, dir+file) != before {
		t.Errorf("after the second start: %v, %v", found, err)
	}

	// A new database beside the old one's credentials, with a given address,
	// then with a given password.
	for i, row := range []struct {
		env             []string
		email, password string
	}{
		{[]string{"AUTHNZERVER_ADMIN_EMAIL=chief@example.com"}, "chief@example.com", ""},
		{[]string{"AUTHNZERVER_ADMIN_PASSWORD=a given passphrase"}, "somebody@localhost", "a given passphrase"},
	} {
		began := time.Now().Unix()
		s = start(fmt.Sprintf("auth-%d.sqlite", i), row.env...)
		s.stop()
		path, _ := s.record("the database was empty and has been initialised")["admin_credentials"].(string)
		var at int64
		_, err := fmt.Sscanf(strings.TrimPrefix(path, dir+file), "-%d", &at)
		if err != nil || at < began || at > time.Now().Unix() {
			t.Fatalf("the credentials are in %s, want the time in the name: %v", path, err)
		}
		modes(t, "/", map[string]fs.FileMode{path: 0o400})
		email, password := credentials(t, path)
		if row.password != "" && password != "password-was-user-generated" {
			t.Error("the credentials file shows a given password")
		}
		if row.password != "" {
			password = row.password
		}
		s = start(fmt.Sprintf("auth-%d.sqlite", i))
		s.hide(password)
		s.login(row.email, password).ok()
		s.stop()
		if email != row.email {
			t.Errorf("the credentials are those of %s, want %s", email, row.email)
		}
		err = os.Remove(path) // so that the next name differs within the same second
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFirstStartFails checks that nobody is locked out when the first start
// cannot write the administrator's password down.
func TestFirstStartFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/file", "")
	set := settings(t, dir)
	set["basedir"] = dir + "/file"
	set["cachedir"] = "none"
	var args []string
	for name, value := range set {
		args = append(args, "--"+name+"="+value)
	}
	if got := authnzrv(t, dir, "", nil, args...); got.status != 1 || !strings.Contains(got.stderr, "credentials") {
		t.Errorf("status %d, message %q", got.status, got.stderr)
	}
	s := startIn(t, dir)
	s.login(adminEmail, adminPassword).ok()
}

// TestSetUpKeepsOptions gives options along with --autosetup, which the line
// that set-up prints must not lose.
func TestSetUpKeepsOptions(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey()
	got := authnzrv(t, dir, "", nil, "--autosetup", "--basedir="+dir, "--port=14000", "--workers=2", "--secret="+key, "--argon2=m=7168,t=1,p=1")
	if got.status != 0 {
		t.Fatal(got.stderr)
	}
	env := "\n" + read(t, dir+"/.env")
	for _, line := range []string{"AUTHNZERVER_PORT=14000", "AUTHNZERVER_WORKERS=2", "AUTHNZERVER_SECRET=" + dir + "/.authnzerver-secret-key"} {
		if !strings.Contains(env, "\n"+line+"\n") {
			t.Errorf("the envfile does not hold %s", line)
		}
	}
	if read(t, dir+"/.authnzerver-secret-key") != key {
		t.Error("the secret that was given is not the one that was kept")
	}
}

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"authnzerver/test/databases"
	"authnzerver/test/smtpd"
)

// belongings are what people have and know before their database is moved.
type belongings struct {
	user, locked      *user
	session, sentCode string
	tied, sessionless map[string]any
	refresh           params
	info              map[string]any
}

// collect has people sign up, log in, make keys and ask for mail.
func collect(t *testing.T, s *server, mailbox *smtpd.Server) *belongings {
	t.Helper()
	b := &belongings{user: s.newUser(), locked: s.newUser(), info: map[string]any{"Größe": 1.5, "名": []any{"🂡", nil}}}
	admin := s.superuser()
	s.call("user-lock", params{"user_id": 1, "user_role": "superuser", "session_token": admin, "target_userid": b.locked.id, "action": "lock"}).ok()
	s.login(b.user.email, b.user.password).ok()
	b.session = s.session(b.user.id)
	s.call("session-setinfo", params{"session_token": b.session, "extra_info": b.info}).ok()
	b.tied = key(t, s.call("apikey-new", params{
		"audience": "a", "issuer": "i", "subject": "s", "apiversion": 1, "expires_days": 7, "not_valid_before": 0, "user_id": b.user.id,
		"user_role": "authenticated", "ip_address": sessionAddress, "user_agent": sessionAgent, "session_token": b.session,
	}).ok())
	made := s.call("apikey-new-nosession", newSessionlessKey(b.user.id)).ok()
	b.refresh = refreshOf(t, made, b.user.id)
	b.sessionless = key(t, s.call("apikey-refresh-nosession", b.refresh).ok())
	s.call("user-sendemail-forgotpass", forgotPass(b.user.email, s.session(nil))).ok()
	b.sentCode = code(t, mailbox.Wait(t, 1)[0], "password reset")
	return b
}

// check uses all of it on a server with the moved database.
func (b *belongings) check(t *testing.T, s *server) {
	t.Helper()
	has(t, s.call("session-exists", params{"session_token": b.session}).ok().object("session_info"), map[string]any{
		"user_id": b.user.id, "email": b.user.email, "ip_address": sessionAddress, "extra_info_json": b.info,
	})
	verify := params{"user_id": b.user.id, "user_role": "authenticated"}
	s.call("apikey-verify", verify.with(params{"apikey_dict": b.tied})).ok()
	s.call("apikey-verify-nosession", verify.with(params{"apikey_dict": b.sessionless})).ok()
	// The same refresh again, within its time of grace, has the same answer.
	if again := key(t, s.call("apikey-refresh-nosession", b.refresh).ok()); again["tkn"] != b.sessionless["tkn"] {
		t.Error("a repeated refresh got another key")
	}
	has(t, s.login(b.user.email, b.user.password).ok().Response, map[string]any{"user_id": b.user.id})
	s.login(adminEmail, adminPassword).ok()
	s.login(b.locked.email, b.locked.password).failed("invalid_credentials")
	unlock := params{"user_id": 1, "user_role": "superuser", "session_token": s.superuser(), "target_userid": b.locked.id, "action": "unlock"}
	has(t, s.call("user-lock", unlock).ok().object("user_info"), map[string]any{"user_role": "authenticated"})
	s.call("user-new", params{"full_name": "Another", "email": b.user.email, "password": "Vivid-passphrase-of-nobody"}).failed("user_exists")
	if next := s.newUser().id; next != b.locked.id+1 {
		t.Errorf("the next user has id %d, want %d", next, b.locked.id+1)
	}
	reset := params{"email_address": b.user.email, "new_password": "Vivid-passphrase-afterwards", "session_token": s.session(nil), "verification_token": b.sentCode}
	s.call("user-resetpass", reset).ok()
	s.call("session-exists", params{"session_token": b.session}).failed("session_not_found")
	s.call("apikey-verify", verify.with(params{"apikey_dict": b.tied})).failed("key_not_valid")
}

// TestMove moves the database of a server to each kind.
func TestMove(t *testing.T) {
	t.Parallel()
	mailbox := smtpd.Start(t, smtpd.Options{})
	dir := t.TempDir()
	from := databaseOf(t, dir)
	s := startIn(t, dir, withMail(mailbox, "refreshgrace=300")...)
	b := collect(t, s, mailbox)
	s.stop()
	for _, to := range databases.Kinds() {
		// Not in parallel: their turn may come when the time of grace is over.
		t.Run("to "+string(to), func(t *testing.T) {
			target := servers.New(t, to)
			got := authnzrv(t, dir, "", nil, "db", "move", "--from="+from, "--to="+target)
			if got.status != 0 || !strings.Contains(got.stdout, "moved and verified in") || got.stderr != "" {
				t.Fatalf("status %d:\n%s%s", got.status, got.stdout, got.stderr)
			}
			moved := startIn(t, t.TempDir(), withMail(mailbox, "authdb="+target, "secret="+s.key, "refreshgrace=300")...)
			b.check(t, moved)
			if records := moved.records("made the first users"); len(records) > 0 {
				t.Error("the server filled a database that was not empty")
			}
			moved.stop()
			checked := authnzrv(t, dir, "", nil, "db", "check", "--authdb="+target)
			if checked.status != 0 || !strings.Contains(checked.stdout, "all is well") {
				t.Errorf("the check of the moved database: status %d:\n%s%s", checked.status, checked.stdout, checked.stderr)
			}
			again := authnzrv(t, dir, "", nil, "db", "move", "--from="+from, "--to="+target)
			if again.status != 1 || !strings.Contains(again.stderr, "not empty") {
				t.Errorf("a second move: status %d:\n%s%s", again.status, again.stdout, again.stderr)
			}
		})
	}
}

// TestMoveIsKilled kills a move and goes on with it.
func TestMoveIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := databaseOf(t, dir)
	s := startIn(t, dir)
	u := s.newUser()
	session := s.session(u.id)
	s.stop()
	source := openDatabase(t, from)
	for round := range 12 {
		err := addSessions(source, u.id, round)
		if err != nil {
			t.Fatal(err)
		}
	}
	want := rows(t, source, "SELECT count(*) FROM sessions")[0][0]
	for _, to := range databases.Kinds() {
		t.Run("to "+string(to), func(t *testing.T) {
			t.Parallel()
			target := servers.New(t, to)
			args := []string{"db", "move", "--json", "--from=" + from, "--to=" + target}
			cmd := exec.Command("authnzrv", args...)
			cmd.Env = environment()
			err := cmd.Start()
			if err != nil {
				t.Fatal(err)
			}
			watching := openDatabase(t, target)
			waitFor(t, "the move copies sessions", func() bool {
				var n int
				err := watching.QueryRow("SELECT copied FROM db_move WHERE table_name = 'sessions'").Scan(&n)
				return err == nil && n > 0
			})
			err = cmd.Process.Kill()
			if err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
			if cmd.ProcessState.Success() {
				t.Fatal("the move ended before it was killed")
			}
			refused := authnzrv(t, t.TempDir(), "", nil, "--authdb="+target, "--basedir=.", "--secret="+s.key, "--piisalt=salt", "--port=0")
			if refused.status != 1 || !strings.Contains(refused.stderr, "a move into this database was not finished") {
				t.Errorf("a server on half a database: status %d:\n%s", refused.status, refused.stderr)
			}
			got := authnzrv(t, dir, "", nil, args...)
			var result struct {
				Resumed bool
				Tables  []struct {
					Table, Digest string
					Rows          int
				}
			}
			err = json.Unmarshal([]byte(got.stdout), &result)
			if err != nil || got.status != 0 || !result.Resumed {
				t.Fatalf("going on: status %d, %v:\n%s%s", got.status, err, got.stdout, got.stderr)
			}
			for _, table := range result.Tables {
				if table.Table == "sessions" && fmt.Sprint(table.Rows) != want {
					t.Errorf("%d sessions were moved, not %s", table.Rows, want)
				}
			}
			moved := startIn(t, t.TempDir(), "authdb="+target, "secret="+s.key)
			moved.call("session-exists", params{"session_token": session}).ok()
		})
	}
}

// TestBackup backs a server up while people use it, and restores the backup.
func TestBackup(t *testing.T) {
	t.Parallel()
	mailbox := smtpd.Start(t, smtpd.Options{})
	dir := t.TempDir()
	from := databaseOf(t, dir)
	s := startIn(t, dir, withMail(mailbox, "refreshgrace=300")...)
	b := collect(t, s, mailbox)
	file := filepath.Join(dir, "backup of the server.sqlite")
	env := []string{"AUTHNZERVER_AUTHDB=" + from}
	got := authnzrv(t, dir, "", env, "db", "backup", file)
	if got.status != 0 || !strings.Contains(got.stdout, "backed up and verified in") || got.stderr != "" {
		t.Fatalf("status %d:\n%s%s", got.status, got.stdout, got.stderr)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info, err)
	}
	late := s.newUser()
	again := authnzrv(t, dir, "", env, "db", "backup", file)
	if again.status != 1 || !strings.Contains(again.stderr, "exists") {
		t.Errorf("a second backup: status %d:\n%s%s", again.status, again.stdout, again.stderr)
	}
	onFull := authnzrv(t, dir, "", env, "db", "restore", file)
	if onFull.status != 1 || !strings.Contains(onFull.stderr, "not empty") {
		t.Errorf("restoring into a database in use: status %d:\n%s%s", onFull.status, onFull.stdout, onFull.stderr)
	}
	s.login(late.email, late.password).ok()
	s.stop()
	target := servers.New(t, kind)
	restored := authnzrv(t, dir, "", nil, "db", "restore", file, "--authdb="+target)
	if restored.status != 0 || !strings.Contains(restored.stdout, "restored and verified in") {
		t.Fatalf("status %d:\n%s%s", restored.status, restored.stdout, restored.stderr)
	}
	after := startIn(t, t.TempDir(), withMail(mailbox, "authdb="+target, "secret="+s.key, "refreshgrace=300")...)
	after.login(late.email, late.password).failed("invalid_credentials")
	b.check(t, after)
	after.stop()

	// The file is a database of its own.
	directly := startIn(t, t.TempDir(), withMail(mailbox, "authdb=sqlite:///"+file, "secret="+s.key, "refreshgrace=300")...)
	b.check(t, directly)
}

// TestDatabaseCommands tries what else an operator does with a database.
func TestDatabaseCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	u := s.newUser()
	s.session(u.id)
	url := databaseOf(t, dir)
	envfile := filepath.Join(dir, "settings")
	err := os.WriteFile(envfile, []byte("AUTHNZERVER_AUTHDB="+url+"\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	run := func(status int, words string, args ...string) string {
		t.Helper()
		got := authnzrv(t, dir, "", nil, append([]string{"db"}, args...)...)
		if got.status != status || !strings.Contains(got.stdout+got.stderr, words) {
			t.Errorf("db %s: status %d, want %d and %q:\n%s%s", strings.Join(args, " "), got.status, status, words, got.stdout, got.stderr)
		}
		return got.stdout
	}
	run(0, "up to date", "migrate", "--plan", "--envfile="+envfile)
	run(0, "up to date", "migrate", "--envfile="+envfile)
	run(0, "all is well", "check", "--envfile="+envfile)
	run(1, "authdb", "check")
	run(1, "--from", "move", "--to="+url)
	run(1, "no such file", "check", "--authdb=sqlite:///"+dir+"/missing.sqlite")
	run(1, "--autosetup", "migrate", "--authdb=sqlite:///"+dir+"/missing.sqlite")
	empty := servers.New(t, kind)
	if kind != databases.SQLite {
		run(1, "no tables", "check", "--authdb="+empty)
		run(0, "Makes the tables", "migrate", "--plan", "--authdb="+empty)
		run(0, "done", "migrate", "--authdb="+empty)
		run(0, "all is well", "check", "--authdb="+empty)
	}
	s.stop()
	db := openDatabase(t, url)
	_, err = db.Exec("UPDATE sessions SET session_token = 'token in the clear'")
	try(t, "damage the database", err)
	out := run(1, "wrong: sessions has rows whose session_token is not well-formed", "check", "--authdb="+url)
	if strings.Contains(out, "token in the clear") {
		t.Errorf("the check shows a token:\n%s", out)
	}
	var result struct{ Findings []string }
	err = json.Unmarshal([]byte(run(1, "findings", "check", "--json", "--authdb="+url)), &result)
	if err != nil || len(result.Findings) != 1 {
		t.Errorf("findings as JSON: %v, %v", result.Findings, err)
	}
}

package test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAdopt starts the server on the databases of both generations of the
// Python server: users log in with their passwords, and sessions go on.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, generation := range []string{"0.1.3", "head"} {
		t.Run(generation, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var tokens []string
			for range 2 {
				secret := make([]byte, 32)
				_, _ = rand.Read(secret)
				tokens = append(tokens, base64.RawURLEncoding.EncodeToString(secret))
			}
			schema := fmt.Sprintf("../internal/store/testdata/python-%s.sql", generation)
			fill := exec.Command(python, "testdata/fill_database.py", schema, dir+"/auth.sqlite", tokens[0], tokens[1])
			if out, err := fill.CombinedOutput(); err != nil {
				t.Fatalf("fill the database: %v\n%s", err, out)
			}
			database := "sqlite:///" + dir + "/auth.sqlite" // whatever the other tests run on
			const email, password = "Jean.Bartik@eniac.example.com", "correct horse battery staple"
			s := startIn(t, dir, "authdb="+database)
			for range 2 { // as adopted, and as opened again
				info := s.call("session-exists", params{"session_token": tokens[0]}).ok().object("session_info")
				has(t, info, map[string]any{
					"user_id": 4, "email": email, "ip_address": "192.0.2.55", "extra_info_json": map[string]any{"cards": 7.0},
					"expires": "2099-01-02T03:04:05.000000", "created": "2021-12-06T10:11:12", "session_token": tokens[0],
				})
				s.call("session-exists", params{"session_token": tokens[1]}).failed("session_not_found")
				for _, spelling := range []string{email, strings.ToLower(email), strings.ToUpper(email)} {
					has(t, s.login(spelling, password).ok().Response, map[string]any{"user_id": 4, "user_role": "authenticated"})
				}
				s.stop()
				s = startIn(t, dir, "authdb="+database, "secret="+s.key)
			}
			if next := s.newUser().id; next != 5 {
				t.Errorf("the next user has id %d, want 5", next)
			}
			// A copy from before stays beside the database.
			copies, err := filepath.Glob(dir + "/auth.sqlite?*")
			if err != nil || len(copies) == 0 {
				t.Errorf("no copy of the database as it was: %v", err)
			}
			if credentials, err := filepath.Glob(dir + "/.authnzerver-admin-credentials*"); err != nil || len(credentials) > 0 {
				t.Errorf("credentials of an administrator whom the database has already: %v, %v", credentials, err)
			}
			s.stop()
			if found := leaks([]byte(read(t, dir+"/auth.sqlite")), tokens); found != nil {
				t.Errorf("the database still holds tokens")
			}
		})
	}
}

// TestPortTakenLeavesDatabase starts the server on a port that is taken, as it
// is while the Python server still runs: its database must not be converted.
func TestPortTakenLeavesDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	database := dir + "/auth.sqlite"
	fill := exec.Command(python, "testdata/fill_database.py", "../internal/store/testdata/python-head.sql", database, "a", "b")
	if out, err := fill.CombinedOutput(); err != nil {
		t.Fatalf("fill the database: %v\n%s", err, out)
	}
	before := read(t, database)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	args := []string{fmt.Sprintf("--port=%d", taken.Addr().(*net.TCPAddr).Port)}
	for name, value := range settings(t, dir) {
		if name != "port" {
			args = append(args, "--"+name+"="+value)
		}
	}
	got := authnzrv(t, dir, "", nil, append(args, "--secret="+newKey())...)
	if got.status != 1 || !strings.Contains(got.stderr, "in use") {
		t.Errorf("status %d: %s", got.status, got.stderr)
	}
	if read(t, database) != before {
		t.Error("the database was changed")
	}
}

package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"authnzerver/test/redis"
)

// nodes starts servers on one database that share a store. They have the limits
// of TestLimitOfAGroup.
func nodes(t *testing.T, n int, storeURL string, options ...string) []*server {
	t.Helper()
	dir := t.TempDir()
	key := newKey()
	servers := make([]*server, n)
	for i := range servers {
		servers[i] = startIn(t, dir, append([]string{
			tightLimits, "limitstore=" + storeURL, "secret=" + key, "cachedir=" + fmt.Sprintf("%s/cache-%d", dir, i),
		}, options...)...)
	}
	return servers
}

// storeOK returns what /health says about the store.
func (s *server) storeOK() bool {
	s.t.Helper()
	status, _, answer := s.send(http.MethodGet, "health", "")
	var health struct {
		StoreOK *bool `json:"Limitstore-Ok"`
	}
	err := json.Unmarshal([]byte(answer), &health)
	if status != http.StatusOK || err != nil || health.StoreOK == nil {
		s.t.Fatalf("health: status %d, %v: %s", status, err, answer)
	}
	return *health.StoreOK
}

// TestNodesShareLimits sends 300 requests to three nodes in turns: as many pass
// as at one. The control without a store lets more through.
func TestNodesShareLimits(t *testing.T) {
	admitted := func(servers []*server) (n int) {
		t.Helper()
		for i := range 300 {
			let, _ := servers[i%len(servers)].admitted(1, "192.0.2.1", "session-new", newSession())
			n += let
		}
		return n
	}
	store := redis.Start(t, redis.Options{Password: "a secret of the store", TCP: true})
	servers := nodes(t, 3, store.URL)
	for _, s := range servers {
		s.hide("a secret of the store", store.URL)
	}
	wantAdmitted(t, "three nodes", admitted(servers), 150)
	alone := nodes(t, 3, "none")
	if n := admitted(alone); n <= 150 {
		t.Errorf("nodes that share nothing let %d through: the test finds nothing", n)
	}
}

// TestNodesShareQuotas counts against a limit of the policy at two nodes.
func TestNodesShareQuotas(t *testing.T) {
	store := redis.Start(t, redis.Options{})
	servers := nodes(t, 2, store.URL)
	u := servers[0].newUser()
	count := params{"user_id": u.id, "user_role": "authenticated", "limit_name": "max_requests_per_minute", "cost": 3000}
	servers[0].call("user-count-limit", count).ok()
	r := servers[1].call("user-count-limit", count).ok()
	has(t, r.Response, map[string]any{"limit": 6000, "remaining": 0})
	for _, s := range servers {
		r := s.call("user-count-limit", count).failed("over_limit")
		has(t, r.Response, map[string]any{"limit": 6000, "remaining": 0})
		if wait := r.id("retry_after"); wait < 1 || wait > 60 {
			t.Errorf("retry_after is %d", wait)
		}
	}
}

// TestNodesShareReplays is the part of figure 12 with several nodes: a message
// passes once, whichever node it is sent to. The control without a store accepts
// it again.
func TestNodesShareReplays(t *testing.T) {
	accepted := func(servers []*server) (n int) {
		t.Helper()
		for i := range 20 {
			text := `{"request":"session-exists","body":{"session_token":"none"},"reqid":1,"client_ipaddr":"192.0.2.1"}`
			message := seal(servers[0].key, text, time.Now())
			for j := range 4 {
				status, _, _ := servers[(i+j)%len(servers)].post(message)
				switch {
				case status == http.StatusOK && j > 0:
					n++
				case status != http.StatusOK && j == 0, status != http.StatusOK && status != http.StatusUnauthorized:
					t.Fatalf("try %d: status %d", j+1, status)
				}
			}
		}
		return n
	}
	store := redis.Start(t, redis.Options{})
	if n := accepted(nodes(t, 2, store.URL)); n > 0 {
		t.Errorf("%d messages were accepted again", n)
	}
	if n := accepted(nodes(t, 2, "none")); n == 0 {
		t.Error("nodes that share nothing accept nothing twice: the test finds nothing")
	}
}

// TestStoreIsDown takes the store away, and gives it back: limits go on, and log
// and health tell.
func TestStoreIsDown(t *testing.T) {
	store := redis.Start(t, redis.Options{AppendOnly: true})
	s := nodes(t, 1, store.URL)[0]
	n, _ := s.admitted(100, "192.0.2.1", "session-new", newSession())
	wantAdmitted(t, "with the store", n, 100)
	if !s.storeOK() {
		t.Error("health says that the store is down")
	}
	for _, take := range []struct {
		name       string
		down, back func(testing.TB)
	}{{"killed", store.Kill, store.Restart}, {"silent", store.Pause, store.Resume}} {
		take.down(t)
		client := "198.51.100.1"
		if take.name == "silent" {
			client = "198.51.100.2"
		}
		n, _ := s.admitted(200, client, "session-new", newSession())
		wantAdmitted(t, "when the store is "+take.name, n, 150)
		n, _ = s.admitted(60, "192.0.2.1", "session-new", newSession())
		if take.name == "killed" {
			wantAdmitted(t, "of what was counted before", n, 50)
		}
		s.wait("health to tell that the store is "+take.name, func() bool { return !s.storeOK() })
		take.back(t)
		s.wait("the store to be back", s.storeOK)
		// What is counted in the store alone counts again.
		n, _ = s.admitted(1, "203.0.113.1", "session-new", newSession())
		wantAdmitted(t, "when the store is back", n, 1)
	}
	warned, told := 0, 0
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "shared store") || strings.Contains(line, "limitstore") {
			if strings.Contains(line, `"WARN"`) {
				warned++
			}
			if strings.Contains(line, `"INFO"`) {
				told++
			}
		}
	}
	if warned != 2 || told != 2 {
		t.Errorf("the log told %d times that the store is down and %d times that it is back, want twice each", warned, told)
	}
}

// TestStoreIsMissingAtTheStart starts without the store, and with URLs that are
// none.
func TestStoreIsMissingAtTheStart(t *testing.T) {
	s := nodes(t, 1, "redis://127.0.0.1:1/0")[0]
	if s.storeOK() {
		t.Error("health says that a store is up that there is not")
	}
	n, _ := s.admitted(200, "192.0.2.1", "session-new", newSession())
	wantAdmitted(t, "without the store", n, 150)

	for _, url := range []string{"redis://user:hunter-and-prey@", "http://user:hunter-and-prey@127.0.0.1/", "redis://user:hunter-and-prey@127.0.0.1:x/0"} {
		dir := t.TempDir()
		set := settings(t, dir)
		set["limitstore"] = url
		var args []string
		for name, value := range set {
			args = append(args, "--"+name+"="+value)
		}
		cmd := exec.Command("authnzrv", args...)
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "limitstore") || strings.Contains(string(out), "hunter") {
			t.Errorf("%q: %v, want an error that names the option and tells no password:\n%s", url, err, out)
		}
	}
}

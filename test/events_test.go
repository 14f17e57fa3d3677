package test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// webhookSecret is the key of the signatures of webhooks.
var webhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))

// A receiver is a service to which events are sent. It checks their signatures.
type receiver struct {
	t    *testing.T
	url  string
	mu   sync.Mutex
	code int // what it answers with
	got  []delivered
	seen int // requests
}

// A delivered event is one that the receiver has taken.
type delivered struct {
	id   string
	kind string
	data map[string]any
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, code: http.StatusNoContent}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/hooks?token=abc"
	return r
}

// options are those of a server that sends events to the receiver.
func (r *receiver) options() []string {
	return []string{"webhookurl=" + r.url, "webhooksecret=" + webhookSecret}
}

// answer sets the status that the receiver answers with.
func (r *receiver) answer(code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.code = code
}

// requests returns how many requests there were.
func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// taken returns the events that were taken.
func (r *receiver) taken() []delivered {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	body, err := io.ReadAll(q.Body)
	if err != nil {
		r.t.Errorf("read a webhook: %v", err)
	}
	verifier, err := standardwebhooks.NewWebhook(webhookSecret)
	if err == nil {
		err = verifier.Verify(body, q.Header)
	}
	if err != nil {
		r.t.Errorf("verify a webhook: %v", err)
	}
	var event struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	err = json.Unmarshal(body, &event)
	if err != nil {
		r.t.Errorf("read a webhook: %v", err)
	}
	if time.Since(event.Timestamp).Abs() > time.Hour {
		r.t.Errorf("the time stamp is %v", event.Timestamp)
	}
	if r.code < 300 {
		r.got = append(r.got, delivered{q.Header.Get("webhook-id"), event.Type, event.Data})
	}
	w.WriteHeader(r.code)
}

// TestWebhook has a webhook fail, and its server restart, and every event arrive once and
// in order all the same.
func TestWebhook(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	dir := t.TempDir()
	s := startIn(t, dir, r.options()...)
	u := s.newUser()
	s.wait("two events", func() bool { return len(r.taken()) == 2 })
	r.answer(http.StatusServiceUnavailable)
	s.login(u.email, "wrong password").failed("invalid_credentials")
	tried := r.requests()
	s.wait("a second try", func() bool { return r.requests() >= tried+2 })
	s.login(u.email, u.password).ok()
	s.wait("a record of the failure", func() bool {
		return s.record("something queued could not be sent; it is tried again unless the error says otherwise") != nil
	})
	key := s.key
	s.stop()
	r.answer(http.StatusOK)
	s = startIn(t, dir, append(r.options(), "secret="+key)...)
	s.wait("all events", func() bool { return len(r.taken()) >= 4 })
	s.login(u.email, u.password).ok()
	s.wait("another event", func() bool { return len(r.taken()) >= 5 })

	list := s.call("event-list", params{"session_token": s.superuser(), "user_id": u.id}).ok().Response["events"].([]any)
	slices.Reverse(list)
	taken := r.taken()[:5]
	if len(list) != len(taken) {
		t.Fatalf("%d events are listed, and %d were taken", len(list), len(taken))
	}
	kinds := []string{"user.signed_up", "user.verified", "user.login_failed", "user.logged_in", "user.logged_in"}
	for i, event := range list {
		event := event.(map[string]any)
		if taken[i].kind != kinds[i] || event["kind"] != kinds[i] {
			t.Errorf("event %d is a %v, and a %s was taken; want %s", i, event["kind"], taken[i].kind, kinds[i])
		}
		has(t, taken[i].data, event)
	}
	ids := map[string]bool{}
	for _, event := range taken {
		if ids[event.id] {
			t.Errorf("%s was taken twice", event.id)
		}
		ids[event.id] = true
	}
}

// TestWebhookOptions starts servers with options that cannot be right.
func TestWebhookOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, secret, want string }{
		{"http://example.org/", webhookSecret, "webhookurl: must be an https URL"},
		{"https://example.org/#canary", webhookSecret, "webhookurl: must be an https URL"},
		{"https://example.org/canary", "canary-secret", "webhooksecret: must be whsec_"},
		{"https://example.org/canary", "", "webhooksecret: must be whsec_"},
	} {
		dir := t.TempDir()
		got := authnzrv(t, dir, "", []string{"AUTHNZERVER_AUTHDB=" + databaseOf(t, dir)},
			"--secret="+newKey(), "--piisalt=salt", "--port=0", "--webhookurl="+test.url, "--webhooksecret="+test.secret)
		if got.status == 0 || !strings.Contains(got.stderr, test.want) || strings.Contains(got.stderr, "canary") {
			t.Errorf("with %s and %s: status %d:\n%s", test.url, test.secret, got.status, got.stderr)
		}
	}
}

// TestEventsCommand follows the event log of a running server, and prunes it.
func TestEventsCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	env := []string{"AUTHNZERVER_AUTHDB=" + databaseOf(t, dir)}
	first := s.newUser()
	tail := exec.Command("authnzrv", "events", "tail", "-f", "-n", "1", "--json")
	tail.Env = environment(env...)
	out := &buffer{}
	tail.Stdout, tail.Stderr = out, out
	try(t, "follow the events", tail.Start())
	followed := func() (kinds []string) {
		for line := range strings.Lines(out.String()) {
			var event struct{ Kind string }
			try(t, "read "+line, json.Unmarshal([]byte(line), &event))
			kinds = append(kinds, event.Kind)
		}
		return kinds
	}
	s.wait("the newest event", func() bool { return strings.HasSuffix(out.String(), "\n") })
	s.login(first.email, "wrong password").failed("invalid_credentials")
	second := s.newUser()
	s.wait("the next events", func() bool { return strings.Count(out.String(), "\n") >= 4 })
	want := []string{"user.verified", "user.login_failed", "user.signed_up", "user.verified"}
	if got := followed(); !slices.Equal(got, want) {
		t.Errorf("the events are %v, want %v", got, want)
	}
	try(t, "interrupt", tail.Process.Signal(syscall.SIGINT))
	try(t, "end", tail.Wait())

	run := func(args ...string) string {
		t.Helper()
		got := authnzrv(t, dir, "", env, append([]string{"events"}, args...)...)
		if got.status != 0 || got.stderr != "" {
			t.Fatalf("events %v: status %d:\n%s", args, got.status, got.stderr)
		}
		return got.stdout
	}
	lines := strings.Split(strings.TrimSpace(run("tail", "-n", "100", "--kind=user.signed_up")), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], " user.signed_up user=") {
		t.Errorf("the sign-ups are %q", lines)
	}
	if got := run("tail", "--user="+strings.Split(strings.Split(lines[1], "user=")[1], " ")[0]); strings.Count(got, "\n") != 2 {
		t.Errorf("the events of the second user (%d) are %q", second.id, got)
	}
	if got := run("prune", "--older-than=1h"); got != "0 events were deleted\n" {
		t.Errorf("pruning says %q", got)
	}
	if got := run("prune", "--older-than=0m"); got != "5 events were deleted\n" {
		t.Errorf("pruning says %q", got)
	}
	if got := run("tail"); got != "" {
		t.Errorf("after pruning there are %q", got)
	}
	got := authnzrv(t, dir, "", []string{"AUTHNZERVER_AUTHDB=sqlite:///" + filepath.Join(dir, "none.sqlite")}, "events", "tail")
	if got.status == 0 || !strings.Contains(got.stderr, "no such file") {
		t.Errorf("without a database: status %d:\n%s", got.status, got.stderr)
	}
}

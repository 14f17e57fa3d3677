package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"authnzerver/test/daemon"
	"authnzerver/test/databases"
	"authnzerver/test/parts"
	"authnzerver/test/redis"
	"authnzerver/test/smtpd"
)

// get returns the status and the text of a page.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	try(t, "get "+url, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	try(t, "read "+url, err)
	return response.StatusCode, string(text)
}

// operations returns the base URL of the listener for operators.
func (s *server) operations() string {
	s.t.Helper()
	at, _ := s.record("serving metrics")["url"].(string)
	if at == "" {
		s.t.Fatal("the server serves no metrics")
	}
	return strings.TrimSuffix(at, "/metrics")
}

// busyServer returns a server of which every kind of metric has something to tell.
func busyServer(t *testing.T) *server {
	t.Helper()
	mailbox := smtpd.Start(t, smtpd.Options{})
	r := newReceiver(t)
	store := redis.Start(t, redis.Options{})
	options := slices.Concat(withMail(mailbox), r.options(), []string{
		"metricslisten=127.0.0.1:0", "limitstore=" + store.URL, "ratelimits=user:1000; session:1000; burst:1000", "pwnedurl=http://127.0.0.1:1",
	})
	certFile, keyFile, roots := writeCertificate(t, t.TempDir())
	s := start(t, append(options, "tlscertfile="+certFile, "tlscertkey="+keyFile)...)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	u := s.newUser()
	s.login(u.email, u.password).ok()
	s.login(u.email, "wrong password").failed("invalid_credentials")
	s.call("session-exists", params{"session_token": s.session(u.id)}).ok()
	s.call("user-sendemail-forgotpass", params{
		"email_address": u.email, "session_token": s.session(nil), "server_name": "Metrics", "server_baseurl": "https://metrics.example.com",
		"password_forgot_url": "/forgot", "verification_token": nil, "verification_expiry": 900,
	}).ok()
	if status, _, _ := s.post("not sealed"); status != http.StatusUnauthorized {
		t.Fatalf("status %d", status)
	}
	s.wait("the events to be taken", func() bool { return len(r.taken()) >= 4 })
	return s
}

// TestMetrics looks at what the listener for operators shows, and has promtool judge it.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := busyServer(t)
	status, text := get(t, s.operations()+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{
		`authnzerver_requests_total{request="user-login",code="ok"} 1`,
		`authnzerver_requests_total{request="user-login",code="invalid_credentials"} 1`,
		`authnzerver_request_duration_seconds_count{request="user-login"} 2`,
		`authnzerver_refused_total{reason="not_authentic"} 1`,
		`authnzerver_mails_total{outcome="ok"} 1`,
		`authnzerver_sent_total{queue="events",outcome="ok"}`,
		`authnzerver_breach_list_failures_total 1`,
		`authnzerver_limitstore_up 1`,
		`authnzerver_policy_current 1`,
		`authnzerver_certificate_expires_seconds 1`, // the first digit of Unix times until 2033
		`authnzerver_db_writable 1`,
		`authnzerver_password_workers 4`,
		`authnzerver_build_info{version="`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, leak := range leaks([]byte(text), []string{adminEmail, sessionAddress, sessionAgent}) {
		t.Errorf("the metrics hold %s", leak)
	}
	program, _, err := parts.Find("prometheus", "usr/bin/promtool")
	try(t, "find promtool", err)
	check := exec.Command(program, "check", "metrics")
	// What it finds to object to in metrics of the Go runtime and of the process is the
	// library's, and their names are what dashboards know.
	var own []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "authnzerver_") {
			own = append(own, line)
		}
	}
	check.Stdin = strings.NewReader(strings.Join(own, ""))
	out, err := check.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("promtool objects (%v):\n%s", err, out)
	}
	if status, _, _ := s.send(http.MethodGet, "metrics", ""); status != http.StatusNotFound {
		t.Errorf("the port of the frontends answers /metrics with %d", status)
	}
	for _, path := range []string{"/", "/echo", "/debug/pprof/"} {
		if status, _ := get(t, s.operations()+path); status != http.StatusNotFound {
			t.Errorf("the listener for operators answers %s with %d", path, status)
		}
	}
}

// metricName matches the names of metrics in a query.
var metricName = regexp.MustCompile(`\b(authnzerver|process|go)_[a-z_]+\b`)

// TestDashboard has Prometheus read the metrics, and asks it all that the dashboard and
// the alerts ask.
func TestDashboard(t *testing.T) {
	t.Parallel()
	s := busyServer(t)
	text, err := os.ReadFile("../deploy/grafana-dashboard.json")
	try(t, "read the dashboard", err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	try(t, "read the dashboard", json.Unmarshal(text, &dashboard))
	alerts, err := filepath.Abs("../deploy/prometheus-alerts.yml")
	try(t, "find the alerts", err)
	asked := startPrometheus(t, strings.TrimPrefix(s.operations(), "http://"), alerts)
	waitFor(t, "two readings of the metrics", func() bool {
		return len(asked("rate(authnzerver_start_time_seconds[1m])")) > 0
	})
	known := map[string]bool{}
	for _, name := range asked(`group by (__name__) ({__name__=~".+"})`) {
		known[name["__name__"]] = true
	}
	queries := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries++
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$job", ".*").Replace(target.Expr)
			if len(asked(expr)) == 0 {
				t.Errorf("%s: nothing answers %s", panel.Title, expr)
			}
			for _, name := range metricName.FindAllString(expr, -1) {
				if !known[name] {
					t.Errorf("%s: there is no metric %s", panel.Title, name)
				}
			}
		}
	}
	if queries < 20 {
		t.Errorf("the dashboard has %d queries", queries)
	}
	rules, err := os.ReadFile(alerts)
	try(t, "read the alerts", err)
	for _, name := range metricName.FindAllString(string(rules), -1) {
		if !known[name] {
			t.Errorf("the alerts ask for %s, which there is not", name)
		}
	}
}

// startPrometheus starts a Prometheus that reads the metrics of a target every second. It
// returns what asks it a query, and returns the labels of what answers.
func startPrometheus(t *testing.T, target, rules string) func(query string) []map[string]string {
	t.Helper()
	program, _, err := parts.Find("prometheus", "usr/bin/prometheus")
	try(t, "find Prometheus", err)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: authnzerver, static_configs: [{targets: [%q]}]}]
`, rules, target))
	port, err := daemon.FreePort()
	try(t, "find a free port", err)
	at := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+at)
	log := &buffer{}
	cmd.Stderr = log
	try(t, "start Prometheus", cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the log of Prometheus:\n%s", log)
		}
	})
	client := http.Client{Timeout: patience}
	ask := func(query string) ([]map[string]string, error) {
		response, err := client.Get("http://" + at + "/api/v1/query?query=" + url.QueryEscape(query))
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		var answer struct {
			Status, Error string
			Data          struct {
				Result []struct{ Metric map[string]string }
			}
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		if err == nil && answer.Status != "success" {
			err = fmt.Errorf("%s: %s", query, answer.Error)
		}
		var labels []map[string]string
		for _, result := range answer.Data.Result {
			labels = append(labels, result.Metric)
		}
		return labels, err
	}
	waitFor(t, "Prometheus", func() bool {
		_, err := ask("up")
		return err == nil
	})
	return func(query string) []map[string]string {
		t.Helper()
		labels, err := ask(query)
		try(t, "ask Prometheus", err)
		return labels
	}
}

// TestHealthStates asks whether a server is live and ready, while its database comes and
// goes and when it stops.
func TestHealthStates(t *testing.T) {
	t.Parallel()
	s := start(t, "metricslisten=127.0.0.1:0", "shutdowntimeout=30")
	at := s.operations()
	for _, base := range []string{at, strings.TrimSuffix(s.url, "/")} {
		for path, want := range map[string]string{"/health/live": "live\n", "/health/ready": "ready\n"} {
			if status, text := get(t, base+path); status != http.StatusOK || text != want {
				t.Errorf("%s%s: %d %q", base, path, status, text)
			}
		}
	}
	if status, text := get(t, at+"/health"); status != http.StatusOK || !strings.Contains(text, `"Health-Ok":true`) {
		t.Errorf("/health: %d %s", status, text)
	}
	// A request that is still being sent keeps the server from ending.
	conn, err := net.Dial("tcp", s.addr)
	try(t, "connect", err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	try(t, "begin a request", err)
	_, err = io.ReadFull(conn, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n")))
	try(t, "wait until the server reads it", err)
	s.signal(syscall.SIGTERM)
	s.wait("the server to be stopping", func() bool {
		status, text := get(t, at+"/health/ready")
		return status == http.StatusServiceUnavailable && text == "not ready: the server is stopping\n"
	})
	if status, _ := get(t, at+"/health/live"); status != http.StatusOK {
		t.Errorf("while it stops, the server is said not to be live: %d", status)
	}
	_, err = io.WriteString(conn, "1234567890")
	try(t, "end the request", err)
	s.await()
}

// TestNotReady has a database server be gone for a while. (That a full disk makes a file
// not ready is in TestFullDisk.)
func TestNotReady(t *testing.T) {
	t.Parallel()
	if kind == databases.SQLite {
		return // a file does not go away
	}
	db := ownDatabase(t)
	s := start(t, "authdb="+db.url, "metricslisten=127.0.0.1:0")
	ready := func() int {
		status, _ := get(t, s.operations()+"/health/ready")
		return status
	}
	if status := ready(); status != http.StatusOK {
		t.Errorf("the status is %d", status)
	}
	try(t, "kill the database", db.Kill())
	s.wait("the server not to be ready", func() bool { return ready() == http.StatusServiceUnavailable })
	if status, _ := get(t, s.operations()+"/health/live"); status != http.StatusOK {
		t.Errorf("without its database, the server is said not to be live: %d", status)
	}
	try(t, "start the database", db.Start())
	s.wait("the server to be ready", func() bool { return ready() == http.StatusOK })
}

// A spanCollector takes spans.
type spanCollector struct {
	mu    sync.Mutex
	spans []map[string]any
}

func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var message struct {
		ResourceSpans []struct {
			ScopeSpans []struct{ Spans []map[string]any }
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&message) // what it cannot read is missed
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range message.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	w.WriteHeader(http.StatusOK)
}

// named returns the spans with a name.
func (c *spanCollector) named(name string) (found []map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans {
		if span["name"] == name {
			found = append(found, span)
		}
	}
	return found
}

// TestTraces follows a login through the server.
func TestTraces(t *testing.T) {
	t.Parallel()
	collector := &spanCollector{}
	at := httptest.NewServer(collector)
	t.Cleanup(at.Close)
	mailbox := smtpd.Start(t, smtpd.Options{})
	s := start(t, append(withMail(mailbox), "tracesurl="+at.URL)...)
	u := s.newUser()
	s.login(u.email, u.password).ok()
	s.call("user-sendemail-forgotpass", params{
		"email_address": u.email, "session_token": s.session(nil), "server_name": "Traces", "server_baseurl": "https://traces.example.com",
		"password_forgot_url": "/forgot", "verification_token": nil, "verification_expiry": 900,
	}).ok()
	s.stop() // which sends what was not sent yet
	login := collector.named("user-login")
	if len(login) != 1 {
		t.Fatalf("there are %d spans of logins", len(login))
	}
	within := func(name, request string) bool {
		outer := collector.named(request)
		return slices.ContainsFunc(collector.named(name), func(span map[string]any) bool {
			return len(outer) > 0 && span["traceId"] == outer[0]["traceId"] && span["parentSpanId"] == outer[0]["spanId"]
		})
	}
	for _, test := range [][2]string{
		{"password hash", "user-login"}, {"database change", "user-login"}, {"database view", "user-login"}, {"mail", "user-sendemail-forgotpass"},
	} {
		if !within(test[0], test[1]) {
			t.Errorf("there is no span %q within %s", test[0], test[1])
		}
	}
	text, err := json.Marshal(collector.spans)
	try(t, "encode the spans", err)
	for _, leak := range leaks(text, []string{u.email, u.password, u.name, sessionAddress}) {
		t.Errorf("the spans hold %s", leak)
	}
}

// TestSampledLog has more requests that end alike than the log takes.
func TestSampledLog(t *testing.T) {
	t.Parallel()
	s := start(t, "logging=info", "logsample=1:1000000")
	for range 50 {
		s.call("session-exists", params{"session_token": "none"}).failed("session_not_found")
	}
	if n := len(s.records("request")); n > 45 || n < 1 {
		t.Errorf("there are %d lines about 50 requests", n)
	}
}

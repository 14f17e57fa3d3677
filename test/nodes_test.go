package test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authnzerver/test/daemon"
	"authnzerver/test/databases"
	"authnzerver/test/parts"
	"authnzerver/test/redis"
)

// othersKnow is after how long every node knows what one has changed.
const othersKnow = time.Second

// A cluster is nodes on one database with what they share.
type cluster struct {
	t       *testing.T
	dir     string
	options []string
	ports   []int
	nodes   []*server
	key     string
}

// newCluster starts n nodes at the same time on an empty database; on SQLite one.
func newCluster(t *testing.T, n int, options ...string) *cluster {
	t.Helper()
	if kind == databases.SQLite {
		n = 1
	}
	store := redis.Start(t, redis.Options{})
	c := &cluster{t: t, dir: t.TempDir(), key: newKey(), nodes: make([]*server, n)}
	c.options = append([]string{"limitstore=" + store.URL, "secret=" + c.key}, options...)
	databaseOf(t, c.dir) // not in several goroutines
	for i := range n {
		port, err := daemon.FreePort()
		if err == nil {
			err = os.Mkdir(filepath.Join(c.dir, strconv.Itoa(i)), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.ports = append(c.ports, port)
	}
	var starting sync.WaitGroup
	for i := range n {
		starting.Go(func() { c.start(i) })
	}
	starting.Wait()
	if slices.Contains(c.nodes, nil) {
		t.FailNow()
	}
	return c
}

// start starts a node, also again.
func (c *cluster) start(i int) {
	c.nodes[i] = startIn(c.t, c.dir, append([]string{
		fmt.Sprint("port=", c.ports[i]), fmt.Sprintf("basedir=%s/%d", c.dir, i), fmt.Sprintf("cachedir=%s/%d/cache", c.dir, i),
	}, c.options...)...)
}

// proxy starts nginx before the nodes, with the configuration that is recommended,
// and returns its URL.
func (c *cluster) proxy() string {
	c.t.Helper()
	program, lib, err := parts.Find("nginx", "usr/sbin/nginx")
	if err != nil {
		c.t.Fatal(err)
	}
	port, err := daemon.FreePort()
	if err != nil {
		c.t.Fatal(err)
	}
	dir, err := daemon.TempDir("nginx")
	if err != nil {
		c.t.Fatal(err)
	}
	text := read(c.t, "../deploy/nginx.conf")
	put := func(old, replacement string) {
		c.t.Helper()
		if strings.Count(text, old) != 1 {
			c.t.Fatalf("deploy/nginx.conf has not one %q", old)
		}
		text = strings.Replace(text, old, replacement, 1)
	}
	const settings = " max_fails=1 fail_timeout=2s;\n"
	servers := ""
	for _, port := range c.ports {
		servers += fmt.Sprint("server 127.0.0.1:", port, settings)
	}
	put("server node1:13431"+settings, servers)
	put("server node2:13431"+settings, "")
	put("listen 13431;", fmt.Sprintf("listen 127.0.0.1:%d;", port))
	write(c.t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
		daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1;
		events { worker_connections 1024; }
		http {
			client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
			uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
			%[2]s
		}`, dir, text))
	err = daemon.Own(dir)
	if err != nil {
		c.t.Fatal(err)
	}
	nginx := &daemon.Daemon{
		Dir: dir, Lib: lib, End: "QUIT", Unprivileged: true, Command: []string{program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf")},
		Probe: func() error {
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
	c.t.Cleanup(func() {
		log := nginx.Log()
		err := nginx.Close()
		if err != nil {
			c.t.Errorf("end nginx: %v", err)
		}
		if c.t.Failed() {
			c.t.Logf("nginx:\n%s", log)
		}
	})
	err = nginx.Start()
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d/", port)
}

// A failedTry is a request that was sent and failed in a way that may pass.
type failedTry struct {
	sent  time.Time
	code  string // none without an answer
	again bool   // not the first try of its request
}

// A frontend asks several nodes, and asks again when it should.
type frontend struct {
	key  atomic.Pointer[string]
	urls []string // asked in turns
	http *http.Client
}

// use has the frontend seal with another key from now on.
func (f *frontend) use(key string) { f.key.Store(&key) }

// An outcome is the end of a request.
type outcome struct {
	Success  bool           `json:"success"`
	Code     string         `json:"failure_code"`
	Response map[string]any `json:"response"`
	// unsure is set when an earlier try may have been done, too.
	unsure bool
}

// ask sends a request until it is answered for good, and calls again, with the try that
// failed, before it sends it again. It fails when that takes too long or an answer is none that a frontend
// could expect.
func (f *frontend) ask(name string, body params, again func(failedTry)) (*outcome, error) {
	text, err := json.Marshal(params{"request": name, "body": body, "reqid": newReqID(), "client_ipaddr": "192.0.2.81"})
	if err != nil {
		return nil, err
	}
	unsure := false
	for end, try := time.Now().Add(patience), 1; time.Now().Before(end); try++ {
		sent := time.Now()
		got, retry, done, err := f.once(f.urls[(try+int(text[len(text)/2]))%len(f.urls)], string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !retry {
			got.unsure = unsure
			return got, nil
		}
		unsure = unsure || done
		failed := failedTry{sent: sent, again: try > 1}
		if got != nil {
			failed.code = got.Code
		}
		again(failed)
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("%s was not answered within %v", name, patience)
}

// once sends a request once. It reports whether to send it again, and then whether
// it may have been done; got is the answer, if there was one.
func (f *frontend) once(url, text string) (got *outcome, again, done bool, err error) {
	key := *f.key.Load()
	response, err := f.http.Post(url, "text/plain", strings.NewReader(seal(key, text, time.Now())))
	if err != nil {
		return nil, true, true, nil // the connection broke
	}
	defer response.Body.Close()
	sealed, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, true, true, nil
	}
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized: // by a node that does not know what it did before it was killed
		return nil, true, false, nil
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return nil, true, true, nil
	default:
		return nil, false, false, fmt.Errorf("status %d: %s", response.StatusCode, sealed)
	}
	opened, _, err := unseal(key, string(sealed))
	if err != nil {
		return nil, false, false, err
	}
	got = &outcome{}
	err = json.Unmarshal([]byte(opened), got)
	if err != nil {
		return nil, false, false, err
	}
	switch got.Code {
	case "db_error", "server_busy":
		return got, true, false, nil
	case "unknown_outcome":
		return got, true, true, nil
	default:
		return got, false, false, nil
	}
}

func newFrontend(key string, urls ...string) *frontend {
	f := &frontend{urls: urls, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 50}, Timeout: patience,
	}}
	f.use(key)
	return f
}

// A book has what frontends were told.
type book struct {
	mu sync.Mutex
	// tried has the address of everybody who was signed up, and users those for whom
	// that was acknowledged, with their ids.
	tried map[string]bool
	users map[string]int
	// alive are sessions that were made, and ended those that were deleted, and when.
	alive map[string]bool
	ended map[string]time.Time
	// wrong is what should not have happened.
	wrong []string
	// failed are the tries that failed and were repeated.
	failed []failedTry
}

func newBook() *book {
	return &book{tried: map[string]bool{}, users: map[string]int{}, alive: map[string]bool{}, ended: map[string]time.Time{}}
}

func (b *book) write(write func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	write()
}

func (b *book) complain(format string, args ...any) {
	b.write(func() { b.wrong = append(b.wrong, fmt.Sprintf(format, args...)) })
}

// A visitor does what people do, through one frontend.
type visitor struct {
	*frontend
	*book
}

func (v visitor) count(try failedTry) { v.write(func() { v.failed = append(v.failed, try) }) }

// expect asks, and reports whether the request succeeded. A failure is a complaint,
// unless an earlier try may have been done and code is what comes of a second one.
func (v visitor) expect(name string, body params, code string) (*outcome, bool) {
	got, err := v.ask(name, body, v.count)
	if err != nil {
		v.complain("%v", err)
		return nil, false
	}

	if !got.Success && (!got.unsure || got.Code != code) {
		v.complain("%s: %s, unsure: %v", name, got.Code, got.unsure)
	}
	return got, got.Success
}

// live signs somebody up, who makes sessions and keys and ends some, and looks
// whether all is as it was told, whichever node is asked.
func (v visitor) live() {
	email := "visitor-" + strings.ToLower(rand.Text()[:16]) + "@mail.example.com"
	v.write(func() { v.tried[email] = true })
	_, _ = v.expect("user-new", params{"full_name": "V", "email": email, "password": randomPassword()}, "user_exists")
	found, ok := v.expect("user-lookup-email", params{"email": email}, "")
	if !ok {
		return
	}
	info, _ := found.Response["user_info"].(map[string]any)
	number, _ := info["user_id"].(float64)
	id := int(number)
	v.write(func() { v.users[email] = id })
	_, ok = v.expect("user-set-emailverified", params{"email": email}, "user_not_found")
	if !ok {
		return
	}
	for i := range 3 {
		made, ok := v.expect("session-new", params{
			"ip_address": sessionAddress, "user_agent": sessionAgent, "user_id": id, "expires": later(), "extra_info_json": nil,
		}, "")
		if !ok {
			return
		}
		session, _ := made.Response["session_token"].(string)
		v.write(func() { v.alive[session] = true })
		_, _ = v.expect("session-exists", params{"session_token": session}, "")
		if i > 0 {
			v.write(func() { delete(v.alive, session) })
			_, _ = v.expect("session-delete", params{"session_token": session}, "session_not_found")
			v.write(func() { v.ended[session] = time.Now() })
		}
	}
	v.refresh(id)
	v.look()
}

// refresh makes a key and refreshes it twice with the same token.
func (v visitor) refresh(user int) {
	made, ok := v.expect("apikey-new-nosession", newSessionlessKey(user), "")
	if !ok {
		return
	}
	keyOf := func(o *outcome) (key map[string]any) {
		text, _ := o.Response["apikey"].(string)
		err := json.Unmarshal([]byte(text), &key)
		if err != nil {
			v.complain("a key that cannot be read: %v", err)
		}
		return key
	}
	refresh := params{
		"user_id": user, "user_role": "authenticated", "apikey_dict": keyOf(made), "refresh_token": made.Response["refresh_token"],
		"ip_address": "192.0.2.4", "expires_seconds": 3600, "not_valid_before": 0, "refresh_expires": 86400, "refresh_nbf": 0,
	}
	first, ok := v.expect("apikey-refresh-nosession", refresh, "")
	if !ok {
		return
	}
	second, ok := v.expect("apikey-refresh-nosession", refresh, "")
	if ok && second.Response["apikey"] != first.Response["apikey"] {
		v.complain("two refreshes with one token gave two keys")
	}
	_, _ = v.expect("apikey-verify-nosession", params{"user_id": user, "user_role": "authenticated", "apikey_dict": keyOf(first)}, "")
}

// look asks for a session that is alive and one that has ended.
func (v visitor) look() {
	var alive, ended string
	v.write(func() {
		for session := range v.alive {
			alive = session
			break
		}
		for session, at := range v.ended {
			if time.Since(at) > othersKnow {
				ended = session
				break
			}
		}
	})
	if alive != "" {
		got, err := v.ask("session-exists", params{"session_token": alive}, v.count)
		v.write(func() {
			if err == nil && !got.Success && v.alive[alive] { // it may have been deleted meanwhile
				v.wrong = append(v.wrong, "a session is gone: "+got.Code)
			}
		})
	}
	if ended != "" {
		got, err := v.ask("session-exists", params{"session_token": ended}, v.count)
		if err == nil && got.Success {
			v.complain("a session was deleted and is back")
		}
	}
}

// load has n visitors live until the function that it returns is called.
func (b *book) load(f *frontend, n int) (stop func()) {
	var visiting sync.WaitGroup
	done := make(chan struct{})
	for range n {
		visiting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					visitor{f, b}.live()
				}
			}
		})
	}
	return func() {
		close(done)
		visiting.Wait()
	}
}

// check compares what is there with the book, and returns what is wrong.
func (b *book) check(t *testing.T, key string, urls []string, database string) []string {
	t.Helper()
	time.Sleep(othersKnow)
	b.mu.Lock()
	defer b.mu.Unlock()
	wrong := slices.Clone(b.wrong)
	for i, url := range urls {
		f := newFrontend(key, url)
		exists := func(session string) bool {
			got, err := f.ask("session-exists", params{"session_token": session}, func(failedTry) {})
			if err != nil {
				t.Fatal(err)
			}
			return got.Success
		}
		for session := range b.alive {
			if !exists(session) {
				wrong = append(wrong, fmt.Sprintf("node %d has lost a session", i))
			}
		}
		for session := range b.ended {
			if exists(session) {
				wrong = append(wrong, fmt.Sprintf("node %d still has a session", i))
			}
		}
	}
	stored := map[string]bool{}
	for _, row := range rows(t, openDatabase(t, database), "SELECT email FROM users WHERE email LIKE 'visitor-%'") {
		if stored[row[0]] {
			wrong = append(wrong, "somebody is there twice")
		}
		if !b.tried[row[0]] {
			wrong = append(wrong, "somebody is there who never signed up")
		}
		stored[row[0]] = true
	}
	for email := range b.users {
		if !stored[email] {
			wrong = append(wrong, "somebody who signed up is gone")
		}
	}
	t.Logf("%d users, %d sessions that live, %d that ended; %d tries failed and were repeated", len(b.users), len(b.alive), len(b.ended), len(b.failed))
	if len(b.users) == 0 || len(b.alive) == 0 || len(b.ended) == 0 {
		wrong = append(wrong, "nothing happened")
	}
	return wrong
}

// control has a session be lost, which check must find on every node.
func (b *book) control(t *testing.T, key string, urls []string, database string) {
	t.Helper()
	for session := range b.ended {
		b.alive[session] = true
		break
	}
	if len(b.check(t, key, urls, database)) < len(urls) {
		t.Error("a lost session is not found: the test finds nothing")
	}
}

func (c *cluster) urls() []string {
	urls := make([]string, len(c.nodes))
	for i, node := range c.nodes {
		urls[i] = node.url
	}
	return urls
}

// TestNodesComeAndGo has people live on three nodes behind a proxy. One node is
// killed and comes back, one is stopped and comes back: no answer is wrong,
// nothing is lost, nothing is there twice.
func TestNodesComeAndGo(t *testing.T) {
	c := newCluster(t, 3)
	f := newFrontend(c.key, c.proxy())
	b := newBook()
	stop := b.load(f, 8)
	progress := func() {
		t.Helper()
		was := 0
		b.write(func() { was = len(b.users) })
		waitFor(t, "more people", func() (more bool) {
			b.write(func() { more = len(b.users) >= was+15 })
			return more
		})
	}
	progress()
	c.nodes[0].kill()
	if len(c.nodes) > 1 {
		progress()
	}
	c.start(0)
	progress()
	last := len(c.nodes) - 1
	c.nodes[last].stop()
	if len(c.nodes) > 1 {
		progress()
	}
	c.start(last)
	progress()
	stop()
	for _, wrong := range b.check(t, c.key, c.urls(), databaseOf(t, c.dir)) {
		t.Error(wrong)
	}
	b.control(t, c.key, c.urls(), databaseOf(t, c.dir))
}

// onEach asks every node the same, n times in all at the same time, and returns the
// replies.
func (c *cluster) onEach(n int, name string, body params) []*reply {
	c.t.Helper()
	replies := make([]*reply, n)
	var asking sync.WaitGroup
	for i := range replies {
		asking.Go(func() {
			for end := time.Now().Add(patience); ; {
				r := c.nodes[i%len(c.nodes)].call(name, body)
				// Others can be in the way, in the database and where passwords are hashed.
				if r.Code != "db_error" && r.Code != "server_busy" || time.Now().After(end) {
					replies[i] = r
					return
				}
			}
		})
	}
	asking.Wait()
	if slices.Contains(replies, nil) {
		c.t.FailNow()
	}
	return replies
}

// TestNodesAreOne has three nodes, started at the same time on an empty database,
// asked at the same time what only one of them can grant.
func TestNodesAreOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	builtIn := authnzrv(t, dir, "", nil, "policy", "show").stdout
	path := filepath.Join(dir, "policy.json")
	write(t, path, builtIn)
	c := newCluster(t, 3, "permissions="+path, "userlocktries=6")
	db := openDatabase(t, databaseOf(t, c.dir))
	if users := rows(t, db, "SELECT user_id FROM users ORDER BY user_id"); !slices.Equal(slices.Concat(users...), []string{"1", "2", "3"}) {
		t.Errorf("nodes that started at the same time made the users %v", users)
	}
	first, last := c.nodes[0], c.nodes[len(c.nodes)-1]

	for i := range 4 {
		email := fmt.Sprintf("racer%d@mail.example.com", i)
		made := 0
		for _, r := range c.onEach(12, "user-new", params{"full_name": "R", "email": email, "password": randomPassword()}) {
			if r.Success {
				made++
			} else {
				r.failed("user_exists")
			}
		}
		if found := rows(t, db, "SELECT user_id FROM users WHERE email = '"+email+"'"); made != 1 || len(found) != 1 {
			t.Errorf("a race to sign up was won %d times and made %d users", made, len(found))
		}
	}

	u := first.newUser()
	refresh := refreshOf(t, first.call("apikey-new-nosession", newSessionlessKey(u.id)).ok(), u.id)
	replies := c.onEach(24, "apikey-refresh-nosession", refresh)
	for _, r := range replies {
		if r.ok().text("apikey") != replies[0].text("apikey") {
			t.Error("refreshes at the same time gave two keys")
		}
	}
	last.call("apikey-verify-nosession", params{"user_id": u.id, "user_role": "authenticated", "apikey_dict": key(t, replies[0])}).ok()

	guesses := 0
	for _, r := range c.onEach(30, "user-passcheck-nosession", params{"email": u.email, "password": "wrong words"}) {
		if r.Code == "too_many_failures" {
			continue
		}
		r.failed("invalid_credentials")
		guesses++
	}
	if guesses != 6 {
		t.Errorf("%d guesses were evaluated, want 6", guesses)
	}
	for _, node := range c.nodes {
		node.call("user-passcheck-nosession", params{"email": u.email, "password": u.password}).failed("too_many_failures")
	}

	// A message passes once.
	message := seal(c.key, `{"request":"session-exists","body":{"session_token":"none"},"reqid":1,"client_ipaddr":"192.0.2.1"}`, time.Now())
	for i, node := range slices.Concat(c.nodes, c.nodes) {
		status, _, _ := node.post(message)
		if want := map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[i == 0]; status != want {
			t.Errorf("try %d of a message: status %d", i+1, status)
		}
	}

	// Every node takes a new policy.
	write(t, path+".new", strings.Replace(builtIn, `"unlisted": ["view"]`, `"unlisted": []`, 1))
	err := os.Rename(path+".new", path)
	if err != nil {
		t.Fatal(err)
	}
	for i, node := range c.nodes {
		node.wait(fmt.Sprintf("node %d to have the policy", i), func() bool {
			return node.call("user-check-access", params{
				"user_id": u.id, "user_role": "authenticated", "action": "view", "target_name": "dataset", "target_owner": 1,
				"target_visibility": "unlisted", "target_sharedwith": nil,
			}).Code == "action_not_permitted"
		})
	}

	// What one ends has ended on all.
	session := first.session(u.id)
	for _, node := range c.nodes {
		node.call("session-exists", params{"session_token": session}).ok()
	}
	first.call("session-delete", params{"session_token": session}).ok()
	first.call("session-exists", params{"session_token": session}).failed("session_not_found")
	time.Sleep(othersKnow)
	for _, node := range c.nodes {
		node.call("session-exists", params{"session_token": session}).failed("session_not_found")
	}
}

// Package test holds the tests of the whole program: they build the binary,
// start it in folders of their own, and talk to it as a frontend or an operator
// does. They share no code with the server, except for its list of requests.
package test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"authnzerver/test/databases"
	"authnzerver/test/figures"
)

// patience bounds every wait for the server. Nothing should come near it, even
// with the race detector on a machine that is busy.
const patience = time.Minute

func TestMain(m *testing.M) { os.Exit(run(m)) }

// The databases that the tests run on: all of them, once for each kind that the
// flag names.
var (
	kinds       = flag.String("databases", "sqlite,postgresql,mariadb", "the kinds of `databases` to run the tests on")
	figuresFile = flag.String("figures", "", "a `file` to which the tests of the scorecard append what they found")
	// kind is the one that is on, and servers has its server.
	kind    databases.Kind
	servers databases.Servers
	// urls are the URLs of the databases of the folders of servers.
	urls sync.Map
)

// found writes down a figure of the scorecard, which passes when the test has.
func found(t *testing.T, f figures.Figure) {
	t.Helper()
	var err error
	f.Name += ", " + string(kind)
	f.Pass = !t.Failed()
	f.Commit, err = figures.Commit()
	try(t, "write down a figure", err)
	line, err := f.Line()
	try(t, "write down a figure", err)
	t.Log(line)
	if *figuresFile != "" {
		try(t, "write down a figure", f.Append(*figuresFile))
	}
}

// run builds the server, puts it first in the path, and runs the tests on every
// kind of database.
func run(m *testing.M) (code int) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "authnzrv-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	args := []string{"build", "-o", filepath.Join(dir, "authnzrv")}
	if raceDetector {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "authnzerver/cmd/authnzrv")...)
	build.Stderr = os.Stderr
	err = build.Run()
	if err == nil {
		err = os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the server:", err)
		return 1
	}
	defer func() {
		err := servers.Close()
		if err != nil {
			fmt.Fprintln(os.Stderr, "end the database servers:", err)
			code = 1
		}
	}()
	for name := range strings.SplitSeq(*kinds, ",") {
		kind = databases.Kind(name)
		if !slices.Contains(databases.Kinds(), kind) {
			fmt.Fprintf(os.Stderr, "there is no kind of database %q\n", name)
			return 1
		}
		fmt.Println("database:", kind)
		code = max(code, m.Run())
	}
	return code
}

// databaseOf returns the URL of the database of a server that keeps the rest in
// dir. It ends with the test that asks for it first.
func databaseOf(t testing.TB, dir string) string {
	t.Helper()
	if kind == databases.SQLite {
		return "sqlite:///" + filepath.Join(dir, "auth.sqlite")
	}
	if url, ok := urls.Load(dir); ok {
		return url.(string)
	}
	url := servers.New(t, kind)
	urls.Store(dir, url)
	t.Cleanup(func() { urls.Delete(dir) })
	return url
}

// The first superuser of every server here.
const (
	adminEmail    = "admin@frontend.example.com"
	adminPassword = "first superuser's passphrase"
)

// environment is what the program finds around it: nothing of the machine's.
func environment(more ...string) []string {
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LOGNAME=somebody"}, more...)
}

// A server is a running authnzrv.
type server struct {
	t    testing.TB
	url  string // of /
	addr string // host and port
	dir  string
	key  string
	log  *buffer
	cmd  *exec.Cmd
	http *http.Client

	exited chan struct{}

	mu      sync.Mutex
	secrets map[string]bool // what the log must not show
}

// settings returns the options of a server that keeps all it has in dir. It
// hashes cheaply and asks no network, and no limit of calls or lock of accounts
// gets in a test's way.
func settings(t testing.TB, dir string) map[string]string {
	t.Helper()
	return map[string]string{
		"authdb": databaseOf(t, dir), "basedir": dir, "secret": newKey(),
		"piisalt": "salt of the tests", "port": "0", "argon2": "m=7168,t=1,p=1", "pwnedurl": "none",
		"emailpace": "0", "logging": "debug", "ratelimits": "none", "userlocktries": "100000", "maxloginwait": "0",
	}
}

// start starts a server in a folder of its own, with options of the form
// name=value beside the usual ones, and ends it with the test.
func start(t testing.TB, options ...string) *server {
	t.Helper()
	return startIn(t, t.TempDir(), options...)
}

// startIn starts a server in dir, which may hold an earlier one's files.
func startIn(t testing.TB, dir string, options ...string) *server {
	t.Helper()
	cmd, key := serve(t, dir, []string{"authnzrv"}, options...)
	return launch(t, cmd, dir, key)
}

// serve returns the command that starts a server in dir, by a program with arguments that
// come first, and the server's key.
func serve(t testing.TB, dir string, program []string, options ...string) (cmd *exec.Cmd, key string) {
	t.Helper()
	set := settings(t, dir)
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		set[name] = value
	}
	args := slices.Clone(program[1:])
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "--"+name+"="+set[name])
	}
	key, _, _ = strings.Cut(set["secret"], ",")
	cmd = exec.Command(program[0], args...)
	cmd.Env = environment("AUTHNZERVER_ADMIN_EMAIL="+adminEmail, "AUTHNZERVER_ADMIN_PASSWORD="+adminPassword)
	return cmd, key
}

// launch starts the command, which must be a server that logs JSON, and waits
// until it serves.
func launch(t testing.TB, cmd *exec.Cmd, dir, key string) *server {
	t.Helper()
	s := newServer(t, cmd, dir, key)
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(s.exited)
	}()
	t.Cleanup(s.finish)
	var ready map[string]any
	s.wait("the server to be ready", func() bool {
		ready = s.record("ready")
		return ready != nil || s.ended()
	})
	if ready == nil {
		t.Fatalf("the server ended instead of starting:\n%s", s.log)
	}
	s.at(ready)
	return s
}

// newServer returns a server that is to be started.
func newServer(t testing.TB, cmd *exec.Cmd, dir, key string) *server {
	s := &server{
		t: t, dir: dir, key: key, cmd: cmd, log: &buffer{}, exited: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: patience}, secrets: map[string]bool{},
	}
	cmd.Stderr = s.log
	return s
}

// at notes where the server listens, as its record says.
func (s *server) at(ready map[string]any) {
	s.url, _ = ready["url"].(string)
	_, s.addr, _ = strings.Cut(strings.TrimSuffix(s.url, "/"), "://")
}

// wait waits until done.
func (s *server) wait(what string, done func() bool) {
	s.t.Helper()
	waitFor(s.t, what, done)
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// ended tells whether the server's process has ended.
func (s *server) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// stop asks the server to end and waits for it.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.await()
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the server ended with %v, want exit status 0", s.cmd.ProcessState)
	}
}

// kill ends the server as a power cut does.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.await()
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	err := s.cmd.Process.Signal(sig)
	if err != nil {
		s.t.Errorf("send %v: %v", sig, err)
	}
}

// await waits until the process has ended.
func (s *server) await() {
	s.t.Helper()
	s.http.CloseIdleConnections()
	s.wait("the server to end", s.ended)
}

// finish ends the server if it still runs, and checks what it logged.
func (s *server) finish() {
	if !s.ended() {
		s.stop()
	}
	text := s.log.Bytes()
	for _, bad := range []string{"panic", "DATA RACE", "goroutine "} {
		if bytes.Contains(text, []byte(bad)) {
			s.t.Errorf("the log holds %q", bad)
		}
	}
	for _, leak := range leaks(text, slices.Sorted(maps.Keys(s.secrets))) {
		s.t.Errorf("the log holds %s", leak)
	}
	if s.t.Failed() {
		const most = 20_000
		if len(text) > most {
			text = text[len(text)-most:]
		}
		s.t.Logf("the end of the server's log:\n%s", text)
	}
}

// records returns the records of the log with this message.
func (s *server) records(message string) []map[string]any {
	var found []map[string]any
	for line := range bytes.Lines(s.log.Bytes()) {
		var record map[string]any
		if json.Unmarshal(line, &record) == nil && record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// record returns the first record with this message, or nil.
func (s *server) record(message string) map[string]any {
	if found := s.records(message); found != nil {
		return found[0]
	}
	return nil
}

// hide notes texts that the log must not show. Short ones are left out: they
// would be found by chance.
func (s *server) hide(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if len(text) >= shortestSecret && text != "127.0.0.1" {
			s.secrets[text] = true
		}
	}
}

// personal are the parameters and keys whose values no log may show.
var personal = map[string]bool{
	"email": true, "email_address": true, "user_email": true, "full_name": true,
	"password": true, "current_password": true, "new_password": true,
	"session_token": true, "target_session_token": true,
	"ip_address": true, "client_ipaddr": true, "user_agent": true,
	"refresh_token": true, "verification_token": true, "tkn": true, "ipa": true, "usa": true,
}

// hideIn hides the personal members of a body or a response.
func (s *server) hideIn(members map[string]any) {
	for name, value := range members {
		switch value := value.(type) {
		case string:
			if personal[name] {
				s.hide(value)
			}
			var object map[string]any
			if name == "apikey" && json.Unmarshal([]byte(value), &object) == nil {
				s.hideIn(object)
			}
		case map[string]any:
			s.hideIn(value)
		case params:
			s.hideIn(value)
		}
	}
}

// post sends bytes as the body of POST / and returns the answer.
func (s *server) post(body string) (status int, header http.Header, answer string) {
	s.t.Helper()
	return s.send(http.MethodPost, "", body)
}

func (s *server) send(method, path, body string) (status int, header http.Header, answer string) {
	s.t.Helper()
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := s.http.Do(request)
	if err != nil {
		s.t.Fatalf("%s /%s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%s /%s: %v", method, path, err)
	}
	return response.StatusCode, response.Header, string(text)
}

// status seals a text, sends it and returns the HTTP status of the answer.
func (s *server) status(text string) int {
	s.t.Helper()
	status, _, _ := s.post(seal(s.key, text, time.Now()))
	return status
}

// A params holds the parameters of a request.
type params map[string]any

// A reply is an opened reply.
type reply struct {
	t        testing.TB
	name     string
	Success  bool            `json:"success"`
	Response map[string]any  `json:"response"`
	Messages []string        `json:"messages"`
	Message  []string        `json:"message"`
	ReqID    json.RawMessage `json:"reqid"`
	Code     string          `json:"failure_code"`
	Reason   *string         `json:"failure_reason"`
}

// call sends a request as the second generation of clients does.
func (s *server) call(name string, body params) *reply {
	s.t.Helper()
	return s.callFrom("192.0.2.81", name, body)
}

// callWhenFree is call that asks again while the server has too many passwords to hash, as on a
// machine that is busy with other tests: nothing was done then.
func (s *server) callWhenFree(name string, body params) *reply {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		r := s.call(name, body)
		if r.Code != "server_busy" || time.Now().After(end) {
			return r
		}
	}
}

// callFrom is call for an end user's address.
func (s *server) callFrom(client, name string, body params) *reply {
	s.t.Helper()
	inner := params{"client_ipaddr": client}
	maps.Copy(inner, body)
	return s.exchange(name, params{"request": name, "body": inner, "reqid": newReqID(), "client_ipaddr": client})
}

// callOld sends a request as the first generation of clients does: without the
// end user's address, and with a small number for an id.
func (s *server) callOld(name string, body params) *reply {
	s.t.Helper()
	id := make([]byte, 1)
	_, _ = rand.Read(id)
	return s.exchange(name, params{"request": name, "body": body, "reqid": int(id[0])})
}

func newReqID() string { return rand.Text()[:11] }

// randomPassword returns a password that the password policy takes. All its letters are
// different: of letters that may repeat, a few in a million passwords are refused for that.
func randomPassword() string {
	letters := []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
	mathrand.Shuffle(len(letters), func(i, j int) { letters[i], letters[j] = letters[j], letters[i] })
	return "Vivid-" + string(letters[:16])
}

// exchange seals and sends an envelope, and opens and checks the reply.
func (s *server) exchange(name string, envelope params) *reply {
	s.t.Helper()
	if body, ok := envelope["body"].(params); ok {
		s.hideIn(body)
	}
	text, err := json.Marshal(envelope)
	if err != nil {
		s.t.Fatal(err)
	}
	reqid, err := json.Marshal(envelope["reqid"])
	if err != nil {
		s.t.Fatal(err)
	}
	return s.exchangeText(name, string(text), string(reqid))
}

// exchangeText is exchange for the text of an envelope.
func (s *server) exchangeText(name, text, reqid string) *reply {
	s.t.Helper()
	status, header, answer := s.post(seal(s.key, text, time.Now()))
	if status != http.StatusOK {
		s.t.Fatalf("%s: status %d: %s", name, status, answer)
	}
	if got := header.Get("Content-Type"); got != "text/plain; charset=UTF-8" {
		s.t.Errorf("%s: Content-Type is %q", name, got)
	}
	opened, _, err := unseal(s.key, answer)
	if err != nil {
		s.t.Fatalf("%s: the reply cannot be opened: %v", name, err)
	}
	r := s.parse(name, opened)
	if string(r.ReqID) != reqid {
		s.t.Errorf("%s: reqid is %s, want %s", name, r.ReqID, reqid)
	}
	return r
}

// parse reads a reply and checks what holds for every reply.
func (s *server) parse(name, text string) *reply {
	s.t.Helper()
	r := &reply{t: s.t, name: name}
	err := json.Unmarshal([]byte(text), r)
	if err != nil {
		s.t.Fatalf("%s: the reply is not what a reply is: %v", name, err)
	}
	s.hideIn(r.Response)
	inner := struct {
		Success  bool     `json:"success"`
		Messages []string `json:"messages"`
		Code     string   `json:"failure_code"`
		Reason   *string  `json:"failure_reason"`
	}{}
	nested, err := json.Marshal(r.Response)
	if err == nil {
		err = json.Unmarshal(nested, &inner)
	}
	if err != nil {
		s.t.Fatalf("%s: the response is not what a response is: %v", name, err)
	}
	// This one says that nothing is wrong by saying nothing.
	silent := name == "user-validatepass" && r.Success
	switch {
	case inner.Success != r.Success:
		s.t.Errorf("%s: success is %v outside and %v inside", name, r.Success, inner.Success)
	case silent != (len(r.Messages) == 0), !slices.Equal(r.Messages, r.Message), !slices.Equal(r.Messages, inner.Messages):
		s.t.Errorf("%s: messages %q, message %q, response.messages %q: want the same, at least one (none: %v)", name, r.Messages, r.Message, inner.Messages, silent)
	case r.Success && (r.Code != "" || r.Reason != nil || inner.Code != "" || inner.Reason != nil):
		s.t.Errorf("%s: a success with a failure's code or reason", name)
	case !r.Success && (r.Code == "" || r.Code != inner.Code):
		s.t.Errorf("%s: failure_code is %q outside and %q inside", name, r.Code, inner.Code)
	case !r.Success && (r.Reason == nil || inner.Reason == nil || *r.Reason == "" || *r.Reason != *inner.Reason):
		s.t.Errorf("%s: failure_reason is missing, or differs inside", name)
	}
	return r
}

// ok ends the test unless the request succeeded.
func (r *reply) ok() *reply {
	r.t.Helper()
	if !r.Success {
		r.t.Fatalf("%s failed: %s: %q", r.name, r.Code, *r.Reason)
	}
	return r
}

// failed checks that the request failed with this code.
func (r *reply) failed(code string) *reply {
	r.t.Helper()
	if r.Success || r.Code != code {
		r.t.Fatalf("%s: success %v, code %q; want a failure with %q", r.name, r.Success, r.Code, code)
	}
	return r
}

// text returns a key of the response that must be a text.
func (r *reply) text(key string) string {
	r.t.Helper()
	value, ok := r.Response[key].(string)
	if !ok {
		r.t.Fatalf("%s: %s is %v, want a text", r.name, key, r.Response[key])
	}
	return value
}

// keyToken returns the token of the API key in the response.
func (r *reply) keyToken() string {
	r.t.Helper()
	var key struct {
		Token string `json:"tkn"`
	}
	err := json.Unmarshal([]byte(r.text("apikey")), &key)
	if err != nil {
		r.t.Fatalf("%s: read the key: %v", r.name, err)
	}
	return key.Token
}

// id returns a key of the response that must be a whole number.
func (r *reply) id(key string) int {
	r.t.Helper()
	value, ok := r.Response[key].(float64)
	if !ok || value != float64(int(value)) {
		r.t.Fatalf("%s: %s is %v, want an id", r.name, key, r.Response[key])
	}
	return int(value)
}

// object returns a key of the response that must be an object.
func (r *reply) object(key string) map[string]any {
	r.t.Helper()
	value, ok := r.Response[key].(map[string]any)
	if !ok {
		r.t.Fatalf("%s: %s is %v, want an object", r.name, key, r.Response[key])
	}
	return value
}

// has checks keys of an object in a response.
func has(t testing.TB, object map[string]any, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if n, isInt := value.(int); isInt {
			value = float64(n)
		}
		if got, present := object[key]; !present || !reflect.DeepEqual(got, value) {
			t.Errorf("%s is %v (present: %v), want %v", key, got, present, value)
		}
	}
}

// later is an expiry that no test outlives.
func later() string { return time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05.000000") }

// session makes a session of a user; nil means the anonymous one.
func (s *server) session(userID any) string {
	s.t.Helper()
	return s.call("session-new", params{
		"ip_address": sessionAddress, "user_agent": sessionAgent, "user_id": userID, "expires": later(),
		"extra_info_json": nil,
	}).ok().text("session_token")
}

// From where sessions are made.
const (
	sessionAddress = "198.51.100.23"
	sessionAgent   = "Testing/1.0 (agent of the tests)"
)

// A user is somebody who signed up.
type user struct {
	id                    int
	email, password, name string
}

// newUser signs somebody up and has the address verified.
func (s *server) newUser() *user {
	s.t.Helper()
	word := strings.ToLower(rand.Text()[:12])
	u := &user{email: "person-" + word + "@mail.example.com", password: randomPassword(), name: "Persona " + word}
	r := s.call("user-new", params{"full_name": u.name, "email": u.email, "password": u.password}).ok()
	u.id = r.id("user_id")
	s.call("user-set-emailverified", params{"email": u.email}).ok()
	return u
}

// login returns the reply to a login under a new anonymous session.
func (s *server) login(email, password string) *reply {
	s.t.Helper()
	return s.call("user-login", params{"session_token": s.session(nil), "email": email, "password": password})
}

// superuser returns a session of the first superuser.
func (s *server) superuser() string {
	s.t.Helper()
	return s.session(s.login(adminEmail, adminPassword).ok().id("user_id"))
}

// A buffer is a log that one goroutine writes and others read.
type buffer struct {
	mu   sync.Mutex
	text []byte
}

// Write appends to the buffer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

// Bytes returns what was written so far. It must not be changed.
func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text[:len(b.text):len(b.text)]
}

// String returns what was written so far.
func (b *buffer) String() string { return string(b.Bytes()) }

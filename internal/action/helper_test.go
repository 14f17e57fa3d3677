package action_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/event"
	"authnzerver/internal/identity"
	"authnzerver/internal/limit"
	"authnzerver/internal/mail"
	"authnzerver/internal/passpolicy"
	"authnzerver/internal/passwd"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// Passwords that the default policy accepts.
const (
	goodPassword  = "plum-Quartz-violin-77"
	otherPassword = "nine-Zebra-harbour-52"
)

// adminEmail is the address of user 1.
const adminEmail = "root-keeper@example.org"

// A clock shows what it was set to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A fixture is a server on a database of its own. What its calls ended in is
// noted in seen.
type fixture struct {
	*action.Server
	t      testing.TB
	clock  *clock
	policy *policy.Policy
	raw    *sql.DB // beside the store, for what no request can do
	seen   map[string][]api.Code
	outbox outbox
	path   string
	queued atomic.Int64 // how often the store told that something was queued
}

// reopen restarts the store, which then knows nothing but what is in the file.
func (f *fixture) reopen() {
	f.t.Helper()
	err := f.Store.Close()
	if err != nil {
		f.t.Fatal(err)
	}
	f.Store, err = f.openStore()
	if err != nil {
		f.t.Fatal(err)
	}
}

// refreshGrace is the grace period of refresh tokens in tests.
const refreshGrace = 30 * time.Second

// An outbox takes messages in place of a mail server.
type outbox struct {
	mu       sync.Mutex
	messages []mail.Message
	err      error // what sending ends in
}

func (o *outbox) send(_ context.Context, m *mail.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.messages = append(o.messages, *m)
	}
	return o.err
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{
		t: t, clock: newClock(), policy: policy.Default(), seen: map[string][]api.Code{},
	}
	f.path = filepath.Join(t.TempDir(), "auth.sqlite")
	file, err := initialized()
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(f.path, file, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	db, err := f.openStore()
	if err != nil {
		t.Fatal(err)
	}
	f.raw, err = sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(4000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, close := range []func() error{f.raw.Close, f.Store.Close} {
			err := close()
			if err != nil {
				t.Error(err)
			}
		}
	})
	tokens, err := token.NewMinter(token.DefaultPrefix, db.TokenKey())
	if err != nil {
		t.Fatal(err)
	}
	templates, _, err := mail.LoadTemplates(nil)
	if err != nil {
		t.Fatal(err)
	}
	limiter := limit.NewLimiter(0, f.clock.Now)
	f.Server = &action.Server{
		Store: db, Passwords: cheapPool(), Now: f.clock.Now, Tokens: tokens, RefreshGrace: refreshGrace,
		Templates: templates, SendMail: f.outbox.send, Keys: limit.NewKeyer([]byte("secret of the tests")), SiteName: "Example",
		PasswordRules: passpolicy.New(passpolicy.Options{Rules: passpolicy.DefaultRules(), ServerName: "auth.example.org"}),
		Policy:        func() *policy.Policy { return f.policy },
		Spend: func(_ context.Context, each []limit.Decision, charges ...limit.Charge) limit.Decision {
			return limiter.Spend(each, charges...)
		},
	}
	return f
}

func cheapPool() *passwd.Pool {
	return passwd.NewPool(passwd.Options{Params: passwd.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}, Workers: 2, Queue: 1000})
}

func newClock() *clock { return &clock{now: time.Date(2026, 2, 3, 4, 5, 6, 789000, time.UTC)} }

func (f *fixture) openStore() (*store.Store, error) {
	return openStore(f.path, f.clock, func() { f.queued.Add(1) })
}

func openStore(path string, c *clock, queued func()) (*store.Store, error) {
	return store.Open(context.Background(), store.Options{
		URL: "sqlite:///" + path, NormalizeEmail: identity.NormalizeEmail, Now: c.Now, Queued: queued,
	})
}

// initialized returns the file of a database that has just been initialised.
// Every test starts with a copy, which takes less time than to make it anew.
var initialized = sync.OnceValues(func() (file []byte, err error) {
	dir, err := os.MkdirTemp("", "authnzerver-test")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "auth.sqlite")
	db, err := openStore(path, newClock(), nil)
	if err != nil {
		return nil, err
	}
	pool := cheapPool()
	hash, err := pool.Hash(context.Background(), goodPassword)
	if err != nil {
		return nil, err
	}
	err = db.Update(context.Background(), func(ctx context.Context, tx *store.Tx) error {
		return tx.Initialize(ctx, store.Initial{
			Roles: policy.Default().Roles(), AdminEmail: adminEmail, AdminHash: hash, NoPassword: pool.Unusable,
		})
	})
	err = errors.Join(err, db.Close())
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func (f *fixture) hash(password string) string {
	f.t.Helper()
	hash, err := f.Passwords.Hash(f.t.Context(), password)
	if err != nil {
		f.t.Fatal(err)
	}
	return hash
}

func (f *fixture) update(change func(context.Context, *store.Tx) error) {
	f.t.Helper()
	err := f.Store.Update(f.t.Context(), change)
	if err != nil {
		f.t.Fatal(err)
	}
}

// exec changes the database behind the store's back, and lets the time pass
// after which the store has noticed.
func (f *fixture) exec(query string, args ...any) {
	f.t.Helper()
	_, err := f.raw.ExecContext(f.t.Context(), query, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.clock.advance(time.Second)
}

// user adds an active, verified user with goodPassword, after the changes.
func (f *fixture) user(name, role string, changes ...func(*store.User)) *store.User {
	f.t.Helper()
	fullName := "Some " + name
	u := &store.User{
		SystemID: store.NewUUID(), FullName: &fullName, Email: name + "@example.org", PasswordHash: f.hash(goodPassword),
		Role: role, IsActive: true, EmailVerified: true, FirstVerified: f.clock.Now(),
	}
	for _, change := range changes {
		change(u)
	}
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
	return u
}

func inactive(u *store.User)   { u.IsActive = false }
func unverified(u *store.User) { u.EmailVerified = false }

func withInfo(text string) func(*store.User) {
	return func(u *store.User) { u.ExtraInfo = []byte(text) }
}

func withHash(hash string) func(*store.User) {
	return func(u *store.User) { u.PasswordHash = hash }
}

func withEmail(email string) func(*store.User) {
	return func(u *store.User) { u.Email = email }
}

// signUp makes a user who was never verified.
func (f *fixture) signUp(name string) *store.User {
	f.t.Helper()
	result := f.newUser(api.UserNewParams{
		FullName: "Some " + name, Email: api.Email(name + "@example.org"), Password: goodPassword,
	}).succeeds()
	return f.stored(*result.UserID)
}

// stored returns a user as it is in the database, nil for none.
func (f *fixture) stored(id int64) *store.User {
	f.t.Helper()
	var found *store.User
	err := f.Store.View(f.t.Context(), func(ctx context.Context, tx *store.Tx) error {
		return tx.EachUser(ctx, store.UserQuery{Field: store.FieldUserID, Value: id}, func(u *store.User) error {
			found = u
			return nil
		})
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

// session makes a session of a user that lasts a day.
func (f *fixture) session(userID int64) api.SessionToken {
	f.t.Helper()
	secret := token.New()
	f.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.InsertSession(ctx, &store.Session{
			Digest: token.Sum(secret), IPAddress: "192.0.2.1", UserAgent: "tests", UserID: userID,
			Created: f.clock.Now(), Expires: f.clock.Now().Add(24 * time.Hour),
		})
	})
	return api.SessionToken(secret)
}

// has reports whether a session is in the database, expired or not.
func (f *fixture) has(t api.SessionToken) bool {
	f.t.Helper()
	return f.count("SELECT count(*) FROM sessions WHERE session_token = ?", token.Sum(string(t)).String()) == 1
}

func (f *fixture) count(query string, args ...any) int {
	f.t.Helper()
	var n int
	err := f.raw.QueryRowContext(f.t.Context(), query, args...).Scan(&n)
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// sessionlessKey adds an API key that is not tied to a session.
func (f *fixture) sessionlessKey(userID int64) {
	f.t.Helper()
	f.pythonKey(userID, token.Sum(token.New()).String())
}

// pythonKey adds an API key of the Python server that is not tied to a
// session, and returns its secret. The refresh token is stored as given.
func (f *fixture) pythonKey(userID int64, refresh string) (secret string) {
	f.t.Helper()
	secret = token.New()
	f.exec(`INSERT INTO apikeys_nosession (apikey, key_id, created, issued, expires, not_valid_before, refresh_token, refresh_issued,
		refresh_expires, refresh_nbf, user_id, user_role) VALUES (?1, ?1, ?2, ?2, ?3, ?2, ?4, ?2, ?3, ?2, ?5, 'authenticated')`,
		token.Sum(secret).String(), "2026-01-01 00:00:00.000000", "2036-01-01 00:00:00.000000", refresh, userID)
	return secret
}

func (f *fixture) sessionlessKeys(userID int64) int {
	f.t.Helper()
	return f.count("SELECT count(*) FROM apikeys_nosession WHERE user_id = ?", userID)
}

// sessionKey adds an API key of the Python server that is tied to a session,
// and returns its secret.
func (f *fixture) sessionKey(userID int64, t api.SessionToken) (secret string) {
	f.t.Helper()
	secret = token.New()
	f.exec(`INSERT INTO apikeys (apikey, key_id, issued, expires, not_valid_before, user_id, user_role, session_token)
		VALUES (?1, ?1, ?2, ?3, ?2, ?4, 'authenticated', ?5)`, token.Sum(secret).String(),
		"2026-01-01 00:00:00.000000", "2036-01-01 00:00:00.000000", userID, token.Sum(string(t)).String())
	return secret
}

// dump returns everything that requests may change.
func (f *fixture) dump() string {
	f.t.Helper()
	var out strings.Builder
	for _, table := range []string{
		"users", "sessions", "apikeys", "apikeys_nosession", "refresh_tokens_used", "email_tokens", "groups", "user_id_sequence", "roles",
	} {
		rows, err := f.raw.QueryContext(f.t.Context(), "SELECT * FROM "+table+" ORDER BY 1")
		if err != nil {
			f.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			f.t.Fatal(err)
		}
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			err := rows.Scan(values...)
			if err != nil {
				f.t.Fatal(err)
			}
			fmt.Fprintln(&out, table)
			for i, value := range values {
				fmt.Fprintf(&out, "\t%s: %v\n", columns[i], *value.(*any))
			}
		}
		err = rows.Err()
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return out.String()
}

// An outcome is how a call ended.
type outcome[R any] struct {
	t      testing.TB
	spec   *api.Spec
	code   api.Code // "" for success
	result R
	// messages are those of a reply that was prepared.
	messages []string
	keys     map[string]any // of the reply's response, without those that every reply has
	hashes   uint64
	retry    time.Duration // when the failure says to try again
	delay    time.Duration // of the answer
}

// call runs an action and checks what holds for every call: the code is
// declared, the reply has the declared keys, no more hashes than declared were
// computed, and nothing was changed by a request that only reads or failed.
func call[P, R any](f *fixture, request api.Request[P, R], do func(context.Context, *P) (R, error), params P) outcome[R] {
	f.t.Helper()
	return callIn(f.t.Context(), f, request, do, params)
}

func callIn[P, R any](ctx context.Context, f *fixture, request api.Request[P, R], do func(context.Context, *P) (R, error), params P) outcome[R] {
	f.t.Helper()
	o := outcome[R]{t: f.t, spec: request.Spec()}
	before, computed := f.dump(), f.Passwords.Computed()
	var err error
	o.result, err = do(event.NewContext(ctx, &event.Record{Request: o.spec.Name}), &params)
	o.hashes = f.Passwords.Computed() - computed
	o.code = codeOf(f.t, o.spec, err)
	f.seen[o.spec.Name] = append(f.seen[o.spec.Name], o.code)
	var text []byte
	if err == nil {
		text, err = request.AppendSuccess(nil, []byte("1"), &o.result)
	} else {
		failure, _ := action.Classify(err)
		o.retry, o.delay = failure.RetryAfter, action.Delay(err)
		text, err = request.AppendFailure(nil, []byte("1"), &o.result, failure)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	o.readKeys(text)
	switch any(o.result).(type) {
	case api.SessionExistsResult, api.APIKeyVerifyResult: // which are prepared
		o.readResult(request, text)
	}
	most := uint64(o.spec.Hashes)
	if longPassword(params) {
		most *= 2
	}
	if o.hashes > most {
		f.t.Errorf("%s computed %d hashes, declared are %d", o.spec.Name, o.hashes, o.spec.Hashes)
	}
	if o.spec.ReadOnly || o.code != "" && !changesOnFailure(o.spec, o.code, o.keys) {
		if diff := cmp.Diff(before, f.dump()); diff != "" {
			f.t.Errorf("%s ended in %q and changed the database:\n%s", o.spec.Name, o.code, diff)
		}
	}
	return o
}

// readResult reads the result from the reply, as a client does.
func (o *outcome[R]) readResult(request interface {
	Result(reply *api.Reply) (R, error)
}, text []byte,
) {
	o.t.Helper()
	reply, err := api.ParseReply(text)
	if err == nil && reply.Success {
		o.result, err = request.Result(reply)
		o.messages = reply.Messages
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// codeOf returns the code that an error is told as, and checks that the
// request is declared to end in it and that it is not the server's fault.
func codeOf(t testing.TB, spec *api.Spec, err error) api.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	failure, operator := action.Classify(err)
	if operator {
		t.Errorf("%s: %v", spec.Name, err)
	}
	if !spec.MayFail(failure.Code) {
		t.Errorf("%s ended in %s, which it does not declare", spec.Name, failure.Code)
	}
	if len(failure.Messages) == 0 || failure.Reason == "" {
		t.Errorf("%s: %s has no message or no reason", spec.Name, failure.Code)
	}
	return failure.Code
}

// changesOnFailure tells the failures that change something: a login that was
// refused ends its session, a sign-up may replace an older one, and a refresh
// token that is used again revokes what came of it.
func changesOnFailure(spec *api.Spec, code api.Code, keys map[string]any) bool {
	switch spec.Name {
	case "user-login":
		return code == api.CodeInvalidCredentials || code == api.CodeUserLocked || code == api.CodeTooManyFailures
	case "user-new":
		return code == api.CodeUserExists && keys["send_verification"] == true
	case "apikey-refresh-nosession":
		return code == api.CodeRefreshReused
	}
	return false
}

func longPassword(params any) bool {
	text, err := json.Marshal(params)
	return err == nil && len(text) > 256
}

// readKeys reads the reply and checks which keys it has.
func (o *outcome[R]) readKeys(text []byte) {
	o.t.Helper()
	reply, err := api.ParseReply(text)
	if err != nil {
		o.t.Fatal(err)
	}
	err = json.Unmarshal(reply.Response, &o.keys)
	if err != nil {
		o.t.Fatal(err)
	}
	want := []string{"messages", "success"}
	if o.code != "" {
		want = append(want, "failure_code", "failure_reason")
		if reply.Failure.RetryAfter > 0 {
			want = append(want, "retry_after")
		}
	}
	standard := slices.Clone(want)
	for _, key := range o.spec.Result() {
		_, present := o.keys[key.Name]
		if o.code == "" && (present || !key.Optional) || key.OnFailure {
			want = append(want, key.Name)
		}
	}
	var got []string
	for key := range o.keys {
		got = append(got, key)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		o.t.Errorf("%s ended in %q with the keys:\n%s", o.spec.Name, o.code, diff)
	}
	for _, key := range standard {
		delete(o.keys, key)
	}
}

func (o outcome[R]) succeeds() R {
	o.t.Helper()
	if o.code != "" {
		o.t.Errorf("%s ended in %s, want success", o.spec.Name, o.code)
	}
	return o.result
}

// fails checks the code and the other keys of the response, given as JSON.
func (o outcome[R]) fails(code api.Code, keys string) R {
	o.t.Helper()
	if o.code != code {
		o.t.Errorf("%s ended in %q, want %s", o.spec.Name, o.code, code)
	}
	var want map[string]any
	err := json.Unmarshal([]byte(keys), &want)
	if err != nil {
		o.t.Fatal(err)
	}
	if diff := cmp.Diff(want, o.keys); diff != "" {
		o.t.Errorf("%s ended in %q with:\n%s", o.spec.Name, o.code, diff)
	}
	return o.result
}

// A scenario tries one thing on a server of its own.
type scenario struct {
	name string
	run  func(*fixture)
}

// TestRequests tries every request with every outcome, and fails when there is
// one that no scenario brings about.
func TestRequests(t *testing.T) {
	seen, run, all := map[string][]api.Code{}, 0, 0
	for _, family := range []map[string][]scenario{
		sessionScenarios(), userScenarios(), userEditScenarios(), passwordScenarios(), emailScenarios(), accessScenarios(), checkScenarios(),
		keyScenarios(), sessionlessKeyScenarios(), mailScenarios(), guessScenarios(), eventScenarios(),
	} {
		for request, scenarios := range family {
			for _, s := range scenarios {
				all++
				t.Run(request+"/"+s.name, func(t *testing.T) {
					run++
					f := newFixture(t)
					s.run(f)
					for name, codes := range f.seen {
						seen[name] = append(seen[name], codes...)
					}
				})
			}
		}
	}
	if run < all {
		return // some were filtered out
	}
	for _, spec := range api.All() {
		for _, code := range append([]api.Code{""}, spec.Fails...) {
			if !slices.Contains(seen[spec.Name], code) {
				t.Errorf("no scenario of %s ends in %q", spec.Name, code)
			}
		}
	}
	for _, info := range api.Codes() {
		if !info.Common && !slices.ContainsFunc(api.All(), func(s *api.Spec) bool { return slices.Contains(seen[s.Name], info.Code) }) {
			t.Errorf("no scenario ends in %s", info.Code)
		}
	}
}

// equal reports a difference between two values.
func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

// sameJSON compares two values as replies show them.
func sameJSON(t testing.TB, what string, got, want any) {
	t.Helper()
	var texts [2]string
	for i, v := range []any{got, want} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	equal(t, what, texts[0], texts[1])
}

// jsonEqual compares JSON by its meaning.
func jsonEqual(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if got != nil {
		err := json.Unmarshal(got, &g)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	err := json.Unmarshal([]byte(want), &w)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, what, g, w)
}

// meanwhile returns a context that runs change when the server first wants to
// hash, which is after it has read and before it writes.
func meanwhile(t testing.TB, change func()) context.Context {
	return &interrupted{t.Context(), sync.OnceFunc(change)}
}

type interrupted struct {
	context.Context
	change func()
}

// Err is what the pool of password hashes asks before anything else. Others
// ask too, at any time.
func (c *interrupted) Err() error {
	if calledFrom("/passwd.(*Pool).acquire") {
		c.change()
	}
	return c.Context.Err()
}

// calledFrom reports whether the caller of the method that asks has a name with
// this end.
func calledFrom(name string) bool {
	var caller [1]uintptr
	runtime.Callers(3, caller[:])
	frame, _ := runtime.CallersFrames(caller[:]).Next()
	return strings.HasSuffix(frame.Function, name)
}

// occupy keeps the only worker of the pool of password hashes busy until the
// test ends, and the queue empty.
func (f *fixture) occupy() {
	f.t.Helper()
	begun, release := make(chan struct{}), make(chan struct{})
	f.Passwords = passwd.NewPool(passwd.Options{Params: f.Passwords.Params(), Workers: 1, Compute: func(passwd.Job) ([]byte, error) {
		close(begun)
		<-release
		return nil, passwd.ErrFailed
	}})
	ended := make(chan error)
	go func() {
		_, err := f.Passwords.Hash(context.Background(), "x")
		ended <- err
	}()
	f.t.Cleanup(func() {
		close(release)
		if err := <-ended; !errors.Is(err, passwd.ErrFailed) {
			f.t.Error(err)
		}
	})
	<-begun
}

func ptr[T any](v T) *T { return &v }

// changedPolicy returns the default policy after a change of its document.
func changedPolicy(t testing.TB, change func(document map[string]any)) *policy.Policy {
	t.Helper()
	var document map[string]any
	err := json.Unmarshal(policy.DefaultJSON(), &document)
	if err != nil {
		t.Fatal(err)
	}
	change(document)
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

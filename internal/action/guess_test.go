package action_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/limit"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

const wrongPassword = "wrong-Harbour-violin-12"

// allow sets the number of tries, and what the server has for the others by
// default.
func (f *fixture) allow(tries int) {
	f.Lockout = action.Lockout{Tries: tries, Duration: time.Hour, MaxWait: 40 * time.Second}
}

// A place is from where somebody asks.
type place struct{ addr, agent string }

var home = place{"192.0.2.1", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}

// stranger returns a place of its own for each number.
func stranger(i int) place {
	return place{fmt.Sprintf("198.18.%d.%d", i>>8, i&255), "curl"}
}

func from(t testing.TB, p place) context.Context {
	return action.WithClient(t.Context(), action.Client{Address: p.addr, Network: limit.Network(p.addr), Given: true})
}

// visit makes an anonymous session in a place.
func (f *fixture) visit(p place) api.SessionToken {
	f.t.Helper()
	secret := token.New()
	f.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.InsertSession(ctx, &store.Session{
			Digest: token.Sum(secret), IPAddress: p.addr, UserAgent: p.agent, UserID: store.AnonymousID,
			Created: f.clock.Now(), Expires: f.clock.Now().Add(48 * time.Hour),
		})
	})
	return api.SessionToken(secret)
}

// logIn tries a password from a place and returns the code, "" for success.
func (f *fixture) logIn(p place, email, password string) (api.Code, error) {
	f.t.Helper()
	_, err := f.UserLogin(from(f.t, p), &api.UserLoginParams{
		SessionToken: f.visit(p), Email: api.Email(email), Password: api.Password(password),
	})
	return codeOf(f.t, api.UserLogin.Spec(), err), err
}

// guessScenarios try wrong passwords with every request that checks one.
func guessScenarios() map[string][]scenario {
	type try func(f *fixture, u *store.User, password string) (code api.Code, delay time.Duration)
	tries := map[string]struct {
		wrong api.Code
		try   try
	}{
		"user-login": {api.CodeInvalidCredentials, func(f *fixture, u *store.User, password string) (api.Code, time.Duration) {
			o := callIn(from(f.t, home), f, api.UserLogin, f.UserLogin,
				api.UserLoginParams{SessionToken: f.visit(home), Email: api.Email(u.Email), Password: api.Password(password)})
			return o.code, o.delay
		}},
		"user-passcheck": {api.CodeInvalidCredentials, func(f *fixture, u *store.User, password string) (api.Code, time.Duration) {
			o := callIn(from(f.t, home), f, api.UserPasscheck, f.UserPasscheck,
				api.UserPasscheckParams{SessionToken: f.session(u.ID), Password: api.Password(password)})
			return o.code, o.delay
		}},
		"user-passcheck-nosession": {api.CodeInvalidCredentials, func(f *fixture, u *store.User, password string) (api.Code, time.Duration) {
			o := callIn(from(f.t, home), f, api.UserPasscheckNoSession, f.UserPasscheckNoSession,
				api.UserPasscheckNoSessionParams{Email: api.Email(u.Email), Password: api.Password(password)})
			return o.code, o.delay
		}},
		"user-delete": {api.CodeInvalidPassword, func(f *fixture, u *store.User, password string) (api.Code, time.Duration) {
			o := callIn(from(f.t, home), f, api.UserDelete, f.UserDelete,
				api.UserDeleteParams{UserID: u.ID, Email: api.Email(u.Email), Password: api.Password(password)})
			return o.code, o.delay
		}},
		"user-changepass": {api.CodePasswordWrong, func(f *fixture, u *store.User, password string) (api.Code, time.Duration) {
			o := callIn(from(f.t, home), f, api.UserChangePass, f.UserChangePass, api.UserChangePassParams{
				SessionToken: f.session(u.ID), UserID: u.ID, Email: api.Email(u.Email), FullName: *u.FullName,
				CurrentPassword: api.Password(password), NewPassword: otherPassword,
			})
			return o.code, o.delay
		}},
		"user-changepass-nosession": {api.CodePasswordWrong, func(f *fixture, u *store.User, password string) (api.Code, time.Duration) {
			o := callIn(from(f.t, home), f, api.UserChangePassNoSession, f.UserChangePassNoSession, api.UserChangePassNoSessionParams{
				UserID: u.ID, Email: api.Email(u.Email), FullName: *u.FullName,
				CurrentPassword: api.Password(password), NewPassword: otherPassword,
			})
			return o.code, o.delay
		}},
	}
	scenarios := map[string][]scenario{}
	for name, request := range tries {
		scenarios[name] = []scenario{
			{"too many wrong passwords", func(f *fixture) {
				f.allow(3)
				u := f.user("alice", "authenticated")
				for i, want := range []time.Duration{time.Second, 1500 * time.Millisecond, 2250 * time.Millisecond} {
					code, delay := request.try(f, u, wrongPassword)
					equal(f.t, fmt.Sprintf("code of try %d", i+1), code, request.wrong)
					equal(f.t, fmt.Sprintf("wait for the answer of try %d", i+1), delay, want)
				}
				for _, password := range []string{wrongPassword, wrongPassword, goodPassword} {
					code, delay := request.try(f, u, password)
					equal(f.t, "code when locked", code, api.CodeTooManyFailures)
					equal(f.t, "wait when locked", delay, 0)
				}
				now := f.stored(u.ID)
				equal(f.t, "role", now.Role, "authenticated")
				equal(f.t, "active", now.IsActive, true)
				f.reopen()
				code, _ := request.try(f, u, goodPassword)
				equal(f.t, "code after a restart", code, api.CodeTooManyFailures)
				f.clock.advance(time.Hour)
				code, delay := request.try(f, u, wrongPassword)
				equal(f.t, "code after the lock", code, request.wrong)
				equal(f.t, "wait after the lock", delay, time.Second)
				code, delay = request.try(f, u, goodPassword)
				equal(f.t, "code of the right password", code, "")
				equal(f.t, "wait of the right password", delay, 0)
			}},
			{"success clears the count", func(f *fixture) {
				if request.wrong != api.CodeInvalidCredentials {
					f.t.Skip("the password is another one, or nobody's, after a success")
				}
				f.allow(2)
				u := f.user("alice", "authenticated")
				for range 5 {
					code, delay := request.try(f, u, wrongPassword)
					equal(f.t, "code", code, request.wrong)
					equal(f.t, "wait", delay, time.Second)
					code, _ = request.try(f, u, goodPassword)
					equal(f.t, "code of the right password", code, "")
				}
			}},
			{"all requests have one count", func(f *fixture) {
				f.allow(5)
				u := f.user("alice", "authenticated")
				made := f.Passwords.Computed()
				for range 4 {
					for _, other := range tries {
						other.try(f, u, wrongPassword)
					}
				}
				// Sessions give the device another user agent, but not another
				// network.
				equal(f.t, "guesses", f.Passwords.Computed()-made, 6)
				code, _ := request.try(f, u, goodPassword)
				equal(f.t, "code of the right password", code, api.CodeTooManyFailures)
			}},
		}
	}
	return scenarios
}

// TestLongestWait checks that the option bounds the waits.
func TestLongestWait(t *testing.T) {
	f := newFixture(t)
	f.allow(15)
	f.user("alice", "authenticated")
	var waits []time.Duration
	for range 12 {
		_, err := f.logIn(home, "alice@example.org", wrongPassword)
		waits = append(waits, action.Delay(err).Truncate(time.Millisecond))
	}
	equal(t, "waits", waits, []time.Duration{
		1000 * time.Millisecond, 1500 * time.Millisecond, 2250 * time.Millisecond, 3375 * time.Millisecond, 5062 * time.Millisecond,
		7593 * time.Millisecond, 11390 * time.Millisecond, 17085 * time.Millisecond, 25628 * time.Millisecond, 38443 * time.Millisecond,
		40 * time.Second, 40 * time.Second,
	})
}

// TestUnknownAccountsAreLockedToo checks that waits and locks do not tell who
// has an account.
func TestUnknownAccountsAreLockedToo(t *testing.T) {
	f := newFixture(t)
	f.allow(3)
	f.user("known", "authenticated")
	f.user("gone", "authenticated", inactive)
	type end struct {
		Code  api.Code
		Delay time.Duration
		Text  string
	}
	ends := map[string][]end{}
	for i, email := range []string{"known@example.org", "gone@example.org", "unknown@example.org"} {
		for range 6 {
			code, err := f.logIn(stranger(i), email, wrongPassword)
			failure, _ := action.Classify(err)
			ends[email] = append(ends[email], end{code, action.Delay(err), failure.Messages[0]})
		}
	}
	equal(t, "an unknown and a known account", ends["unknown@example.org"], ends["known@example.org"])
	equal(t, "an inactive and a known account", ends["gone@example.org"], ends["known@example.org"])
}

// TestOnlyCredentialsCount checks that nothing but a wrong password counts.
func TestOnlyCredentialsCount(t *testing.T) {
	f := newFixture(t)
	f.allow(1)
	u := f.user("alice", "authenticated")
	for range 5 {
		_, err := f.UserLogin(from(t, home), &api.UserLoginParams{SessionToken: "none", Email: api.Email(u.Email), Password: wrongPassword})
		if !errors.Is(err, api.Fail(api.CodeSessionNotFound)) || action.Delay(err) != 0 {
			t.Fatalf("%v after %v, want session_not_found at once", err, action.Delay(err))
		}
	}
	pool := f.Passwords
	f.occupy()
	for range 5 {
		_, err := f.logIn(home, u.Email, wrongPassword)
		if failure, _ := action.Classify(err); failure.Code != api.CodeBusy || failure.RetryAfter <= 0 {
			t.Fatalf("%v, want server_busy", err)
		}
	}
	f.Passwords = pool
	code, _ := f.logIn(home, u.Email, goodPassword)
	equal(t, "code of the right password", code, "")
}

// TestGuessesAtTheSameTime checks that parallel guesses, over all requests and
// restarts, get exactly the budget. The control takes the count away in between
// and must be found.
func TestGuessesAtTheSameTime(t *testing.T) {
	guesses := func(t *testing.T, between func(*fixture)) uint64 {
		f := newFixture(t)
		f.allow(10)
		u := f.user("alice", "authenticated")
		made := f.Passwords.Computed()
		for round := range 3 {
			together(200, func(i int) api.Code {
				ctx := from(t, home)
				var err error
				switch i % 3 {
				case 0:
					_, err = f.UserPasscheckNoSession(ctx, &api.UserPasscheckNoSessionParams{Email: api.Email(u.Email), Password: wrongPassword})
				case 1:
					_, err = f.UserDelete(ctx, &api.UserDeleteParams{UserID: u.ID, Email: api.Email(u.Email), Password: wrongPassword})
				case 2:
					_, err = f.UserChangePassNoSession(ctx, &api.UserChangePassNoSessionParams{
						UserID: u.ID, Email: "ALICE@example.org", CurrentPassword: wrongPassword, NewPassword: otherPassword,
					})
				}
				failure, _ := action.Classify(err)
				return failure.Code
			})
			if round < 2 {
				f.reopen()
				between(f)
			}
		}
		return f.Passwords.Computed() - made
	}
	equal(t, "guesses", guesses(t, func(*fixture) {}), 11)
	if n := guesses(t, func(f *fixture) { f.exec("DELETE FROM login_failures") }); n <= 11 {
		t.Errorf("with a count that is lost there were %d guesses: the test finds nothing", n)
	}
}

// TestHangingUpCounts checks that a guess counts when its caller does not wait
// for the answer.
func TestHangingUpCounts(t *testing.T) {
	f := newFixture(t)
	f.allow(3)
	u := f.user("alice", "authenticated")
	made := f.Passwords.Computed()
	gone := 0
	for range 20 {
		ctx := &hungUp{Context: from(t, home), done: make(chan struct{})}
		_, _ = f.UserPasscheckNoSession(ctx, &api.UserPasscheckNoSessionParams{Email: api.Email(u.Email), Password: wrongPassword})
		if ctx.Err() != nil {
			gone++
		}
	}
	equal(t, "callers who hung up", gone, 4)
	equal(t, "guesses", f.Passwords.Computed()-made, 4)
}

// hungUp is the context of a caller who is gone from the moment at which the
// guess gets its turn.
type hungUp struct {
	context.Context
	done chan struct{}
	once sync.Once
}

func (c *hungUp) Done() <-chan struct{} { return c.done }

func (c *hungUp) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
	}
	if calledFrom("/passwd.(*Pool).acquire") {
		c.once.Do(func() { close(c.done) })
	}
	return nil
}

// attack lets so many addresses attack one account for an hour, while the owner
// logs in every minute. It returns how many guesses the attackers got, and how
// often the owner did not get in.
func attack(t *testing.T, addresses int, meanwhile func(*fixture)) (guesses uint64, lockedOut int) {
	const minutes = 60
	f := newFixture(t)
	f.allow(10)
	u := f.user("alice", "authenticated")
	code, _ := f.logIn(home, u.Email, goodPassword)
	equal(t, "the first login", code, "")
	session := f.session(u.ID)
	random := rand.New(rand.NewPCG(1, 2))
	order := random.Perm(addresses)
	for minute := range minutes {
		for _, i := range order[minute*addresses/minutes : (minute+1)*addresses/minutes] {
			made := f.Passwords.Computed()
			_, err := f.UserPasscheckNoSession(from(t, stranger(i)), &api.UserPasscheckNoSessionParams{Email: api.Email(u.Email), Password: wrongPassword})
			if err == nil {
				t.Fatal("a wrong password was right")
			}
			guesses += f.Passwords.Computed() - made
			f.clock.advance(time.Minute * minutes / time.Duration(addresses))
		}
		meanwhile(f)
		code, _ := f.logIn(home, u.Email, goodPassword)
		if code != "" {
			lockedOut++
		}
		_, err := f.SessionExists(t.Context(), &api.SessionTokenParams{SessionToken: session})
		if err != nil {
			t.Fatalf("the owner's session: %v", err)
		}
		if minute%10 == 0 { // the owner errs now and then
			_, _ = f.logIn(home, u.Email, wrongPassword)
		}
	}
	_, err := f.UserResetPass(from(t, stranger(0)), &api.UserResetPassParams{
		SessionToken: f.visit(stranger(0)), Email: api.Email(u.Email), NewPassword: otherPassword,
	})
	if err != nil {
		t.Errorf("the owner's reset: %v", err)
	}
	return guesses, lockedOut
}

// TestLockoutIsNoWeapon is the simulation: the owner on a known device gets in
// every time, and the attackers get 100 guesses. Controls: when devices are
// forgotten the owner is locked out, and when counts are the attackers get more.
func TestLockoutIsNoWeapon(t *testing.T) {
	guesses, lockedOut := attack(t, 10_000, func(*fixture) {})
	equal(t, "guesses", guesses, 100)
	equal(t, "times that the owner was locked out", lockedOut, 0)
	t.Run("control: no devices", func(t *testing.T) {
		_, lockedOut := attack(t, 1000, func(f *fixture) { f.exec("DELETE FROM known_devices") })
		if lockedOut == 0 {
			t.Error("without known devices the owner got in every time: the simulation finds nothing")
		}
	})
	t.Run("control: no count", func(t *testing.T) {
		guesses, _ := attack(t, 1000, func(f *fixture) { f.exec("DELETE FROM login_failures") })
		if guesses <= 100 {
			t.Errorf("without a count there were %d guesses: the simulation finds nothing", guesses)
		}
	})
}

// TestSpraying tries one password on 10,000 accounts from one network, whose
// addresses change within what a network has.
func TestSpraying(t *testing.T) {
	f := newFixture(t)
	f.allow(10)
	victim := f.user("victim", "authenticated")
	code, _ := f.logIn(place{"2001:db8:0:1::77", home.agent}, victim.Email, goodPassword)
	equal(t, "the first login", code, "")
	made := f.Passwords.Computed()
	for i := range 10_000 {
		p := place{fmt.Sprintf("2001:db8:0:1::%x", i), "curl"}
		_, _ = f.UserPasscheckNoSession(from(t, p), &api.UserPasscheckNoSessionParams{
			Email: api.Email(fmt.Sprintf("user%d@example.org", i)), Password: wrongPassword,
		})
	}
	equal(t, "guesses", f.Passwords.Computed()-made, 30)
	code, _ = f.logIn(place{"2001:db8:0:1::77", home.agent}, victim.Email, goodPassword)
	equal(t, "a known device in the same network", code, "")
	code, _ = f.logIn(place{"2001:db8:0:2::77", home.agent}, victim.Email, goodPassword)
	equal(t, "another network", code, "")
}

// TestRightPasswordsAreNoFailures lets many people behind one address log in at
// the same time, as many as can be counted before the first one is known to be right,
// and more in all than there are tries.
func TestRightPasswordsAreNoFailures(t *testing.T) {
	f := newFixture(t)
	f.allow(7)
	for i := range 20 {
		f.user(fmt.Sprintf("user%d", i), "authenticated")
	}
	for range 3 {
		codes := together(20, func(i int) api.Code {
			_, err := f.UserPasscheckNoSession(from(t, home), &api.UserPasscheckNoSessionParams{
				Email: api.Email(fmt.Sprintf("user%d@example.org", i)), Password: goodPassword,
			})
			return codeOf(t, api.UserPasscheckNoSession.Spec(), err)
		})
		equal(t, "successes", countCode(codes, ""), 20)
	}
	equal(t, "counts that are left", f.count("SELECT count(*) FROM login_failures"), 0)
}

// TestResetLetsTheOwnerIn resets a password while strangers keep the account
// locked: the browser in which that is done can log in.
func TestResetLetsTheOwnerIn(t *testing.T) {
	f := newFixture(t)
	f.allow(1)
	u := f.user("alice", "authenticated")
	for i := range 20 {
		_, _ = f.logIn(stranger(i), u.Email, wrongPassword)
	}
	code, _ := f.logIn(home, u.Email, goodPassword)
	equal(t, "a new device while the account is closed to strangers", code, api.CodeTooManyFailures)
	_, err := f.UserResetPass(from(t, home), &api.UserResetPassParams{SessionToken: f.visit(home), Email: api.Email(u.Email), NewPassword: otherPassword})
	if err != nil {
		t.Fatal(err)
	}
	code, _ = f.logIn(home, u.Email, otherPassword)
	equal(t, "the owner after the reset", code, "")
}

// TestAdministratorsLockStays checks that the end of an automatic lock does not
// lift another one.
func TestAdministratorsLockStays(t *testing.T) {
	f := newFixture(t)
	f.allow(1)
	u := f.user("alice", "authenticated")
	session := f.session(u.ID)
	_, _ = f.logIn(home, u.Email, wrongPassword)
	_, _ = f.logIn(home, u.Email, wrongPassword)
	equal(t, "the session of a locked account", f.has(session), true)
	_, err := f.InternalUserLock(t.Context(), &api.InternalUserLockParams{TargetUserID: u.ID, Action: "lock"})
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(2 * time.Hour)
	code, _ := f.logIn(home, u.Email, goodPassword)
	equal(t, "code", code, api.CodeInvalidCredentials)
	equal(t, "role", f.stored(u.ID).Role, "locked")
}

// TestEvasion tries to have one address, or one account, counted as several.
func TestEvasion(t *testing.T) {
	f := newFixture(t)
	f.allow(3)
	u := f.user("alice", "authenticated")
	made := f.Passwords.Computed()
	for _, email := range []string{
		"alice@example.org", "ALICE@example.org", "Alice@Example.Org", "alice@EXAMPLE.ORG", "ａlice@example.org", "alice＠example.org", "ALICE@ＥXAMPLE.ORG",
	} {
		for _, addr := range []string{"192.0.2.7", "::ffff:192.0.2.7", "::FFFF:C000:0207", "0:0:0:0:0:ffff:192.0.2.7"} {
			_, _ = f.UserPasscheckNoSession(from(t, place{addr: addr}), &api.UserPasscheckNoSessionParams{Email: api.Email(email), Password: wrongPassword})
			_, _ = f.UserDelete(from(t, place{addr: addr}), &api.UserDeleteParams{UserID: u.ID, Email: api.Email(email), Password: wrongPassword})
		}
	}
	equal(t, "guesses", f.Passwords.Computed()-made, 4)
}

// notices sends what there is to send, and returns the subjects.
func (f *fixture) notices() []string {
	f.t.Helper()
	before := len(f.outbox.messages)
	for {
		next, err := f.SendNotice(f.t.Context())
		if err != nil || next.IsZero() || next.After(f.clock.Now()) {
			break
		}
	}
	var subjects []string
	for _, m := range f.outbox.messages[before:] {
		subjects = append(subjects, m.To+" "+m.Subject)
	}
	slices.Sort(subjects)
	return subjects
}

func TestNotices(t *testing.T) {
	const newDevice, failures = "alice@example.org [Example] New login to your account", "alice@example.org [Example] Many wrong passwords for your account"
	f := newFixture(t)
	f.allow(1)
	f.user("alice", "authenticated")
	login := func(p place, password string) { _, _ = f.logIn(p, "alice@example.org", password) }
	login(home, goodPassword)
	equal(t, "after the first login", f.notices(), nil)
	updated := home
	updated.agent = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0"
	login(updated, goodPassword)
	equal(t, "after an update of the browser", f.notices(), nil)
	login(stranger(1), goodPassword)
	equal(t, "after a login from elsewhere", f.notices(), []string{newDevice})
	equal(t, "the server was told", f.queued.Load(), 1)
	login(stranger(1), goodPassword)
	login(stranger(2), goodPassword)
	equal(t, "on the same day", f.notices(), nil)
	login(stranger(3), wrongPassword)
	equal(t, "after one wrong password", f.notices(), nil)
	login(stranger(3), wrongPassword)
	equal(t, "after the lock", f.notices(), []string{failures})
	login(stranger(4), wrongPassword)
	login(stranger(4), wrongPassword)
	equal(t, "after another lock", f.notices(), nil)
	f.clock.advance(25 * time.Hour)
	login(stranger(5), goodPassword)
	login(stranger(6), wrongPassword)
	login(stranger(6), wrongPassword)
	equal(t, "a day later", f.notices(), []string{failures, newDevice})

	f.clock.advance(25 * time.Hour)
	f.outbox.err = errors.New("the mail server is down")
	login(stranger(7), goodPassword)
	for range 10 {
		equal(t, "while the mail server is down", f.notices(), nil)
	}
	f.outbox.err = nil
	equal(t, "before the next try", f.notices(), nil)
	f.clock.advance(time.Minute)
	equal(t, "with the next try", f.notices(), []string{newDevice})
	f.clock.advance(8 * 24 * time.Hour)
	_, _, err := f.PurgeExpired(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "what is left of old messages", f.count("SELECT count(*) FROM notices"), 0)
	equal(t, "what is left of old failures", f.count("SELECT count(*) FROM login_failures"), 0)
}

// TestNoticesCarryNoText checks that a stranger cannot write to a user by way of
// a user agent.
func TestNoticesCarryNoText(t *testing.T) {
	f := newFixture(t)
	f.allow(1)
	f.user("alice", "authenticated")
	for _, agent := range []string{
		"Your account is closed, call 555-0100", "Mozilla/5.0 (call 555-0100) Firefox/1.0", "call 555-0100/1.0 (Linux; call 555-0100)", "https://evil.example.com/",
	} {
		f.clock.advance(25 * time.Hour)
		for range 2 {
			_, _ = f.logIn(place{"198.18.0.1", agent}, "alice@example.org", wrongPassword)
		}
		equal(t, "messages", len(f.notices()), 1)
		m := f.outbox.messages[len(f.outbox.messages)-1]
		if strings.Contains(m.Text+m.HTML, "555-0100") || strings.Contains(m.Text+m.HTML, "evil") {
			t.Errorf("the message shows the user agent:\n%s", m.Text)
		}
	}
}

// TestNoticesAreSentOnce lets several nodes send what there is.
func TestNoticesAreSentOnce(t *testing.T) {
	f := newFixture(t)
	f.allow(1)
	for i := range 5 {
		email := f.user(fmt.Sprintf("user%d", i), "authenticated").Email
		_, _ = f.logIn(home, email, goodPassword)
		_, _ = f.logIn(stranger(i), email, goodPassword)
	}
	var nodes sync.WaitGroup
	for range 8 {
		nodes.Go(func() {
			for {
				next, err := f.SendNotice(t.Context())
				if err != nil {
					t.Error(err)
				}
				if next.IsZero() || next.After(f.clock.Now()) {
					return
				}
			}
		})
	}
	nodes.Wait()
	equal(t, "messages", len(f.outbox.messages), 5)
}

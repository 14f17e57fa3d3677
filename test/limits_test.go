package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The options of servers whose limits count.
const (
	defaultLimits = "ratelimits=ipaddr:720; user:480; session:600; apikey:720; burst:150"
	tightLimits   = "ratelimits=session:120; burst:150;"
)

// ask sends a request and returns the status, the wait that the header asks
// for, and the failure code if the reply has one. A nil client is left out.
func (s *server) ask(client any, name string, body params) (status int, wait int, code string) {
	s.t.Helper()
	envelope := params{"request": name, "body": body, "reqid": newReqID()}
	if client != nil {
		envelope["client_ipaddr"] = client
	}
	s.hideIn(body)
	text, err := json.Marshal(envelope)
	if err != nil {
		s.t.Fatal(err)
	}
	status, header, answer := s.post(seal(s.key, string(text), time.Now()))
	if after := header.Get("Retry-After"); after != "" {
		wait, err = strconv.Atoi(after)
		if err != nil || wait < 1 {
			s.t.Errorf("%s: Retry-After is %q, want seconds", name, after)
		}
	}
	if status != http.StatusOK {
		return status, wait, ""
	}
	opened, _, err := unseal(s.key, answer)
	if err != nil {
		s.t.Fatal(err)
	}
	r := s.parse(name, opened)
	return status, wait, r.Code
}

// askOn asks again as long as the server is busy, or transactions are in each other's way for
// too long, as on a slow machine: then nothing was told and nothing was changed. It returns the
// failure code if there is one.
func (s *server) askOn(client any, name string, body params) string {
	s.t.Helper()
	for {
		_, _, code := s.ask(client, name, body)
		if code != "server_busy" && code != "db_error" {
			return code
		}
	}
}

// admitted sends a request n times and returns how many times it was not over
// the limit, and the last wait that was asked for.
func (s *server) admitted(n int, client any, name string, body params) (admitted, wait int) {
	s.t.Helper()
	for range n {
		status, retry, _ := s.ask(client, name, body)
		if status == http.StatusTooManyRequests {
			wait = retry
		} else {
			admitted++
		}
	}
	return admitted, wait
}

func newSession() params {
	return params{"ip_address": sessionAddress, "user_agent": sessionAgent, "user_id": nil, "expires": later(), "extra_info_json": nil}
}

func wantAdmitted(t *testing.T, what string, got, want int) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %d were let through, want %d", what, got, want)
	}
}

// TestLimitOfAGroup is the example of the contract: 300 sessions at once, and
// 150 are made.
func TestLimitOfAGroup(t *testing.T) {
	s := start(t, tightLimits)
	n, wait := s.admitted(300, "192.0.2.1", "session-new", newSession())
	wantAdmitted(t, "session-new", n, 150)
	if wait < 1 || wait > 75 {
		t.Errorf("the wait is %d s, want at most the 75 s that 150 calls last at 120 a minute", wait)
	}
	n, _ = s.admitted(3, "192.0.2.2", "session-new", newSession())
	wantAdmitted(t, "another client", n, 3)
	n, _ = s.admitted(3, "192.0.2.1", "session-exists", params{"session_token": "none"})
	wantAdmitted(t, "another request", n, 3)

	// A restart of the node forgets nothing, a crash little.
	s.stop()
	s = startIn(t, s.dir, tightLimits, "secret="+s.key)
	n, _ = s.admitted(5, "192.0.2.1", "session-new", newSession())
	if n > 5 || wait > 20 && n > 0 {
		t.Errorf("%d were let through after a restart, with %d s to wait before it", n, wait)
	}
}

func TestLimitsOfRequests(t *testing.T) {
	s := start(t, defaultLimits+"; user-login:3; user-list:4;")
	login := params{"session_token": "none", "email": "nobody@example.com", "password": "some long words"}
	n, wait := s.admitted(6, "192.0.2.1", "user-login", login)
	wantAdmitted(t, "a limit of the option over the fixed one", n, 3)
	if wait < 30 || wait > 60 {
		t.Errorf("the wait is %d s, want nearly a minute", wait)
	}
	n, _ = s.admitted(6, "192.0.2.1", "user-list", params{"user_id": nil})
	wantAdmitted(t, "a limit of the option over the group's", n, 4)
	n, _ = s.admitted(8, "192.0.2.1", "user-new", params{"full_name": "x", "email": "x", "password": "x"})
	wantAdmitted(t, "a fixed limit", n, 5)
	n, _ = s.admitted(160, "192.0.2.1", "no-such-request", params{})
	wantAdmitted(t, "requests that there are not", n, 150)
	n, _ = s.admitted(3, "192.0.2.1", "another-such", params{})
	wantAdmitted(t, "another that there is not", n, 0)
	for range 3 {
		status, _, _ := s.send(http.MethodGet, "health", "")
		if status != http.StatusOK {
			t.Errorf("health: status %d", status)
		}
	}
	var limited int
	for _, record := range s.records("request") {
		if record["status"] == 429.0 && strings.Contains(fmt.Sprint(record["refused"]), "rate limit") {
			limited++
		}
	}
	if limited == 0 {
		t.Error("the log does not tell of requests over the limit")
	}
}

// TestLimitsStayOff: with none, nothing is limited.
func TestLimitsStayOff(t *testing.T) {
	s := start(t, "ratelimits=none")
	n, _ := s.admitted(200, nil, "user-logout", params{"session_token": "none", "user_id": 1})
	wantAdmitted(t, "user-logout", n, 200)
}

func TestBadLimitsStopTheStart(t *testing.T) {
	for limits, want := range map[string]string{
		"user-logim:3": "user-logim", "user:many": "many", "user": "user", "user:0": "0", "user:5;;": "",
	} {
		dir := t.TempDir()
		var args []string
		for name, value := range settings(t, dir) {
			if name == "ratelimits" {
				value = limits
			}
			args = append(args, "--"+name+"="+value)
		}
		cmd := exec.Command("authnzrv", args...)
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "ratelimits") || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v, want an error that names the option and %q:\n%s", limits, err, want, out)
		}
	}
}

// evasions are ways to write one address, or one account.
func evasions() (clients []any, emails []string) {
	for _, v4 := range []string{"192.0.2.7", "::ffff:192.0.2.7", "::FFFF:C000:207", "::ffff:c000:0207", "0:0:0:0:0:ffff:192.0.2.7", "0000:0000:0000:0000:0000:FFFF:c000:0207"} {
		clients = append(clients, v4)
	}
	for _, name := range []string{"victim", "Victim", "VICTIM", "vIcTiM", "ｖictim", "VICTİM"[:5] + "m", "\u212aictim"[3:]} {
		for _, host := range []string{"example.org", "Example.Org", "EXAMPLE.ORG", "ｅxample.org", "example。org"[:7] + ".org"} {
			for _, at := range []string{"@", "＠"} {
				email := name + at + host
				if strings.EqualFold(strings.NewReplacer("＠", "@", "ｖ", "v", "ｅ", "e").Replace(email), "victim@example.org") {
					emails = append(emails, email)
				}
			}
		}
	}
	return clients, emails
}

// TestLimiterEvasion is figure 16: a corpus of more than 300 spellings of one
// client, of one address, and of no address gets no call more than one spelling.
// The control counts by the spelling and must be found to let more through.
func TestLimiterEvasion(t *testing.T) {
	s := start(t, defaultLimits)
	clients, emails := evasions()
	tried := 0
	// One e-mail address, whoever asks: 2 a minute.
	got, spellings := 0, map[string]bool{}
	for i := range 240 {
		email := emails[i%len(emails)]
		spellings[email] = true
		status, _, _ := s.ask(fmt.Sprintf("203.0.113.%d", i), "user-set-emailsent", params{"email": email, "email_type": "signup"})
		if status != http.StatusTooManyRequests {
			got++
		}
		tried++
	}
	wantAdmitted(t, fmt.Sprintf("%d spellings of an address", len(spellings)), got, 2)
	if len(spellings) < 10 {
		t.Errorf("only %d spellings", len(spellings))
	}
	// One client, whatever its spelling: 5 a minute.
	count := func(name string, addresses []any, want int) {
		got := 0
		for i := range 40 {
			body := params{"full_name": "x", "email": "x", "password": "x"}
			status, _, _ := s.ask(addresses[i%len(addresses)], "user-new", body)
			if status != http.StatusTooManyRequests {
				got++
			}
			tried++
		}
		wantAdmitted(t, name, got, want)
	}
	count("an IPv4 address", clients, 5)
	var network []any
	for i := range 40 {
		network = append(network, fmt.Sprintf("2001:db8:77:1:%x:%x::%x", i, i*i, i))
	}
	count("a walk through a /64", network, 5)
	count("zones", []any{"fe80::1%eth0", "fe80::2%eth1", "FE80::3", "fe80:0:0:0::4"}, 5)
	// Whatever is no address is one client.
	var nothing []any
	for i := range 34 {
		nothing = append(nothing, fmt.Sprintf("203.0.113.%d:%d", i, i), fmt.Sprintf("0203.0.113.%d", i), fmt.Sprintf("zzz%d", i), i+1, []int{i}, params{"x": i}, "203.0.113.1, 203.0.113."+strconv.Itoa(i), true)
	}
	count("what is no address", nothing, 5)
	// Without one it is the frontend's, also when others are sent in vain.
	count("no address", []any{nil, "", "127.0.0.1", "::ffff:127.0.0.1"}, 5)
	if tried < 300 {
		t.Errorf("the corpus has %d tries, want 300", tried)
	}
	// Duplicate members do not get to the limits at all.
	text := `{"request":"user-new","client_ipaddr":"198.18.0.1","client_ipaddr":"198.18.0.2","reqid":1,"body":{}}`
	if status := s.status(text); status != http.StatusBadRequest {
		t.Errorf("duplicate members: status %d, want 400", status)
	}
	t.Run("control", func(t *testing.T) {
		// What a limiter that took texts for clients would have let through.
		bySpelling := map[any]int{}
		let := 0
		for i := range 40 {
			if bySpelling[clients[i%len(clients)]]++; bySpelling[clients[i%len(clients)]] <= 5 {
				let++
			}
		}
		if let <= 5 {
			t.Errorf("a limiter that counts by the spelling would let %d through: the corpus finds nothing", let)
		}
	})
}

// TestLockedAccount runs into a lock through the binary.
func TestLockedAccount(t *testing.T) {
	options := []string{"userlocktries=2", "userlocktime=600", "maxloginwait=0"}
	s := start(t, options...)
	u := s.newUser()
	fails := func(email, password, want string, wantWait bool) {
		t.Helper()
		status, wait, code := s.ask("192.0.2.9", "user-login", params{"session_token": s.session(nil), "email": email, "password": password})
		if status != http.StatusOK || code != want || wantWait != (wait > 0) || wait > 600 {
			t.Errorf("status %d, code %q, wait %d; want %q", status, code, wait, want)
		}
	}
	fails(u.email, "wrong words of mine", "invalid_credentials", false)
	fails(u.email, "wrong words of mine", "invalid_credentials", false)
	fails(u.email, "wrong words of mine", "too_many_failures", true)
	fails(u.email, u.password, "too_many_failures", true)
	s.stop()
	s = startIn(t, s.dir, append(options, "secret="+s.key)...)
	fails(u.email, u.password, "too_many_failures", true)
	r := s.callFrom("192.0.2.10", "user-passcheck-nosession", params{"email": u.email, "password": u.password}).ok()
	if r.id("user_id") != u.id {
		t.Errorf("somebody else: %v", r.Response)
	}
}

// TestWaitsHoldNothing lets many answers wait for up to minutes, while the only
// worker serves others. A server that stops answers them at once.
func TestWaitsHoldNothing(t *testing.T) {
	const rounds, each = 7, 2     // more at once could be too many for a slow machine
	const guesses = rounds * each // the last one waits for more than three minutes
	s := start(t, "workers=1", "maxloginwait=300", "userlocktries=100000")
	u := s.newUser()
	answers := make(chan string, guesses)
	for range guesses { // one after the other: many at once could be too many for a slow machine
		go func() {
			_, _, code := s.ask("192.0.2.9", "user-passcheck-nosession", params{"email": u.email, "password": "wrong words of mine"})
			answers <- code
		}()
		s.callFrom("192.0.2.10", "user-passcheck-nosession", params{"email": u.email, "password": u.password}).ok()
	}
	if n := len(answers); n == guesses {
		t.Error("all wrong passwords were answered without a wait")
	}
	s.stop()
	for range guesses {
		if code := <-answers; code != "invalid_credentials" {
			t.Errorf("code %q, want invalid_credentials", code)
		}
	}
}

// TestGuessesThroughTheBinary is figure 15: parallel guesses with every request
// that checks a password, hanging up in between, and over restarts, get as many
// answers as the option says and no more.
func TestGuessesThroughTheBinary(t *testing.T) {
	options := []string{"userlocktries=10", "userlocktime=3600", "maxloginwait=0", "hashqueue=1000"}
	s := start(t, options...)
	u := s.newUser()
	session := s.session(u.id)
	var answered, locked int
	for range 3 {
		answers := make(chan string, 120)
		for i := range cap(answers) {
			name, body := "user-passcheck-nosession", params{"email": u.email, "password": "wrong words of mine"}
			switch i % 4 {
			case 1:
				name, body = "user-passcheck", params{"session_token": session, "password": "wrong words of mine"}
			case 2:
				name, body = "user-delete", params{"user_id": u.id, "email": strings.ToUpper(u.email), "password": "wrong words of mine"}
			case 3:
				name = "user-changepass-nosession"
				body = params{"user_id": u.id, "email": u.email, "full_name": u.name, "current_password": "wrong words of mine", "new_password": "Other-words-of-mine-9"}
			}
			if i%10 == 9 {
				s.hangUp(name, body, 0)
			}
			go func() { answers <- s.askOn("192.0.2.9", name, body) }()
		}
		for range cap(answers) {
			switch code := <-answers; code {
			case "invalid_credentials", "invalid_password", "current_password_wrong":
				answered++
			case "too_many_failures":
				locked++
			default:
				t.Errorf("code %q", code)
			}
		}
		s.stop()
		s = startIn(t, s.dir, append(options, "secret="+s.key)...)
	}
	if answered > 10 || locked != 360-answered {
		t.Errorf("%d guesses were answered and %d locked out, want at most 10 and the rest", answered, locked)
	}
	if answered == 0 {
		t.Error("no guess was answered: the test shows nothing")
	}
}

// TestWaitsEndWithTheConnection hangs up on waits that would be longer than the
// test is patient.
func TestWaitsEndWithTheConnection(t *testing.T) {
	s := start(t, "maxloginwait=300", "userlocktries=100000")
	u := s.newUser()
	s.wait("a long wait to end early", func() bool {
		s.hangUp("user-passcheck-nosession", params{"email": u.email, "password": "wrong words of mine"}, 100*time.Millisecond)
		for _, record := range s.records("request") {
			delayed, _ := record["delayed"].(string)
			if wait, err := time.ParseDuration(delayed); err == nil && wait > patience {
				return true
			}
		}
		return false
	})
}

// hangUp sends a request from the client 192.0.2.9 and closes the connection a
// little later, without waiting for the answer.
func (s *server) hangUp(name string, body params, later time.Duration) {
	s.t.Helper()
	text, err := json.Marshal(params{"request": name, "body": body, "reqid": newReqID(), "client_ipaddr": "192.0.2.9"})
	if err != nil {
		s.t.Fatal(err)
	}
	sealed := seal(s.key, string(text), time.Now())
	connection, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer connection.Close()
	defer time.Sleep(later)
	_, err = fmt.Fprintf(connection, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(sealed), sealed)
	if err != nil {
		s.t.Fatal(err)
	}
}

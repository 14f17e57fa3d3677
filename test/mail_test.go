package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"authnzerver/test/smtpd"
)

// withMail returns the options of a server that sends through a mail server.
func withMail(s *smtpd.Server, more ...string) []string {
	return append(more, "emailserver="+s.Host, fmt.Sprint("emailport=", s.Port), "emailsender=Frontend <noreply@frontend.example.com>")
}

// A mailGeneration is one way in which clients have mails sent and keys made.
type mailGeneration struct {
	name             string
	call             func(*server) func(string, params) *reply
	signUp, forgot   string // the requests that send
	signUpSent       string // the key of the result
	forgotSent       string
	verified         string
	ownToken         bool // the frontend makes the tokens
	newKey           func(params) params
	verifyKey        func(key map[string]any, userID int) params
	newSessionless   bool
	verificationItem bool // passes the server's token with what it proves
}

func mailGenerations() []mailGeneration {
	issuer := func(p params) params {
		p["issuer"] = "https://frontend.example.com"
		return p
	}
	caller := func(key map[string]any, userID int) params {
		return params{"apikey_dict": key, "user_id": userID, "user_role": "authenticated"}
	}
	return []mailGeneration{
		{
			name: "0.1.3", call: func(s *server) func(string, params) *reply { return s.callOld },
			signUp: "user-signup-sendemail", forgot: "user-forgotpass-sendemail", verified: "user-verify-emailaddr",
			signUpSent: "verifyemail_sent_datetime", forgotSent: "forgotemail_sent_datetime", ownToken: true,
			newKey:    func(p params) params { return p },
			verifyKey: func(key map[string]any, _ int) params { return params{"apikey_dict": key} },
		},
		{
			name: "development line", call: func(s *server) func(string, params) *reply { return s.call },
			signUp: "user-sendemail-signup", forgot: "user-sendemail-forgotpass", verified: "user-set-emailverified",
			signUpSent: "emailverify_sent_datetime", forgotSent: "emailforgotpass_sent_datetime", ownToken: true,
			newKey: issuer, verifyKey: caller, newSessionless: true,
		},
		{
			name: "additions", call: func(s *server) func(string, params) *reply { return s.call },
			signUp: "user-sendemail-signup", forgot: "user-sendemail-forgotpass", verified: "user-set-emailverified",
			signUpSent: "emailverify_sent_datetime", forgotSent: "emailforgotpass_sent_datetime",
			newKey: issuer, verifyKey: caller, newSessionless: true, verificationItem: true,
		},
	}
}

// code returns the code in a message, found as published clients find it.
func code(t testing.TB, raw []byte, into string) string {
	t.Helper()
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	found := regexp.MustCompile(`(?s)enter this code:(.*?)into the ` + into).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("there is no code in:\n%s", text)
	}
	return strings.ReplaceAll(strings.TrimSpace(found[1]), "\n", "")
}

// key reads the object in the result of a request for a new key.
func key(t testing.TB, r *reply) map[string]any {
	t.Helper()
	var object map[string]any
	err := json.Unmarshal([]byte(r.text("apikey")), &object)
	if err != nil {
		t.Fatal(err)
	}
	return object
}

// with returns the parameters with more, which win.
func (p params) with(more params) params {
	all := maps.Clone(p)
	maps.Copy(all, more)
	return all
}

// newSessionlessKey are the parameters for a key of a user that lasts an hour.
func newSessionlessKey(userID int) params {
	return params{
		"user_id": userID, "user_role": "authenticated", "issuer": "i", "audience": "a", "subject": "s", "apiversion": 1,
		"expires_seconds": 3600, "not_valid_before": 0, "ip_address": "192.0.2.4", "refresh_expires": 86400, "refresh_nbf": 0,
	}
}

// refreshOf are the parameters that refresh the key in a reply.
func refreshOf(t testing.TB, r *reply, userID int) params {
	t.Helper()
	return params{
		"user_id": userID, "user_role": "authenticated", "apikey_dict": key(t, r), "refresh_token": r.text("refresh_token"),
		"ip_address": "192.0.2.4", "expires_seconds": 3600, "not_valid_before": 0, "refresh_expires": 86400, "refresh_nbf": 0,
	}
}

// forgotPass are the parameters for a message with a code of the server's.
func forgotPass(email, session string) params {
	return params{
		"email_address": email, "session_token": session, "server_name": "Site", "server_baseurl": "https://site.example",
		"password_forgot_url": "/forgot", "verification_token": nil, "verification_expiry": 900,
	}
}

// TestLifeWithMailAndKeys follows a user from the sign-up to the reset of a
// forgotten password, through a real mail server.
func TestLifeWithMailAndKeys(t *testing.T) {
	t.Parallel()
	for _, g := range mailGenerations() {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			mailbox := smtpd.Start(t, smtpd.Options{TLS: "starttls", User: "frontend", Password: "mail password"})
			s := start(t, withMail(mailbox, "emailuser=frontend", "emailpass=mail password")...)
			liveWithMail(t, g, s, mailbox)
		})
	}
}

func liveWithMail(t *testing.T, g mailGeneration, s *server, mailbox *smtpd.Server) {
	const (
		email         = "radia.perlman@spanning.example.com"
		first, second = "Algorhyme-tree 1985 loops", "Bridges and routers 1999"
	)
	call := g.call(s)
	newSession := func(userID any) string {
		t.Helper()
		return call("session-new", params{
			"ip_address": "203.0.113.5", "user_agent": "Browser_9/1.0", "user_id": userID, "expires": later(), "extra_info_json": params{},
		}).ok().text("session_token")
	}
	login := func(password string) *reply {
		t.Helper()
		return call("user-login", params{"session_token": newSession(nil), "email": email, "password": password})
	}
	// A token of the first generation of frontends: long, with characters
	// that lines may break at.
	own := strings.Repeat("gAAAA-_x", 30) + "=="
	token := func() any {
		if g.ownToken {
			return own
		}
		return nil
	}

	// Sign up, read the message, verify.
	created := call("user-new", params{"full_name": "Radia Perlman", "email": email, "password": first}).ok()
	id := created.id("user_id")
	signUp := params{
		"email_address": email, "session_token": newSession(nil), "created_info": created.Response, "server_name": "Spanning & Co",
		"server_baseurl": "https://spanning.example.com", "account_verify_url": "/users/verify", "verification_token": token(), "verification_expiry": 900,
	}
	sent := call(g.signUp, signUp).ok()
	has(t, sent.Response, map[string]any{"user_id": id, "email_address": email})
	if _, isText := sent.Response[g.signUpSent].(string); !isText {
		t.Errorf("the result lacks %s: %v", g.signUpSent, sent.Response)
	}
	raw := mailbox.Wait(t, 1)[0]
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"To": "<" + email + ">", "Subject": "[Spanning & Co] Please verify your account sign up request", "Auto-Submitted": "auto-generated",
	} {
		if got := message.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	received := code(t, raw, "account verification")
	s.hide(received)
	if g.ownToken && received != own {
		t.Errorf("the code is %q, want %q", received, own)
	}
	login(first).failed("invalid_credentials")
	verify := params{"email": email}
	if g.verificationItem {
		call("user-check-emailtoken", params{"email": email, "purpose": "signup", "verification_token": received, "peek": true}).ok()
		verify["verification_token"] = received
	}
	has(t, call(g.verified, verify).ok().Response, map[string]any{"is_active": true, "user_role": "authenticated"})
	if g.verificationItem {
		call(g.verified, verify).failed("email_token_not_valid")
	}
	call(g.signUp, signUp).failed("user_already_active")

	// Log in, make a key, use it.
	has(t, login(first).ok().Response, map[string]any{"user_id": id})
	session := newSession(id)
	issued := call("apikey-new", g.newKey(params{
		"audience": "spanning.example.com", "subject": []string{"all"}, "apiversion": 1, "expires_days": 7, "not_valid_before": 0,
		"user_id": id, "user_role": "authenticated", "ip_address": "203.0.113.5", "user_agent": "Browser_9/1.0", "session_token": session,
	})).ok()
	apiKey := key(t, issued)
	has(t, apiKey, map[string]any{"uid": float64(id), "rol": "authenticated", "clt": "Browser_9/1.0", "usa": "Browser_9/1.0", "ver": 1.0})
	call("apikey-verify", g.verifyKey(apiKey, id)).ok()
	wrong := map[string]any{"uid": id, "rol": "authenticated", "tkn": "authnz_" + strings.Repeat("0", 49), "aud": "", "sub": "", "ver": 1, "exp": ""}
	call("apikey-verify", g.verifyKey(wrong, id)).failed("key_not_valid")
	var sessionless map[string]any
	if g.newSessionless {
		r := call("apikey-new-nosession", g.newKey(params{
			"audience": "robots", "subject": "robot", "apiversion": "v1", "expires_seconds": 3600, "not_valid_before": 0.0,
			"user_id": id, "user_role": "authenticated", "ip_address": "not an address", "refresh_expires": 86400, "refresh_nbf": 0,
		})).ok()
		refresh := refreshOf(t, r, id)
		next := call("apikey-refresh-nosession", refresh).ok()
		sessionless = key(t, next)
		if again := key(t, call("apikey-refresh-nosession", refresh).ok()); again["tkn"] != sessionless["tkn"] {
			t.Error("a repeated refresh got another key")
		}
		call("apikey-verify-nosession", g.verifyKey(key(t, r), id)).failed("key_not_valid")
		call("apikey-verify-nosession", g.verifyKey(sessionless, id)).ok()
	}

	// Forget the password, read the message, reset it.
	forgot := params{
		"email_address": email, "session_token": newSession(nil), "server_name": "Spanning & Co", "server_baseurl": "https://spanning.example.com",
		"password_forgot_url": "/users/forgot", "verification_token": token(), "verification_expiry": 900,
	}
	nobody := call(g.forgot, forgot.with(params{"email_address": "nobody@spanning.example.com"})).failed("user_not_found")
	sent = call(g.forgot, forgot).ok()
	if fmt.Sprint(sent.Messages) != fmt.Sprint(nobody.Messages) {
		t.Errorf("the end user is told %q, and for nobody's address %q", sent.Messages, nobody.Messages)
	}
	if _, isText := sent.Response[g.forgotSent].(string); !isText {
		t.Errorf("the result lacks %s: %v", g.forgotSent, sent.Response)
	}
	call(g.forgot, forgot).failed("mail_sent_recently")
	received = code(t, mailbox.Wait(t, 2)[1], "password reset")
	s.hide(received)
	reset := params{"email_address": email, "new_password": second, "session_token": newSession(nil)}
	if g.verificationItem {
		reset["verification_token"] = "authnz_v_" + strings.Repeat("0", 49)
		call("user-resetpass", reset).failed("email_token_not_valid")
		reset["verification_token"] = received
	}
	call("user-resetpass", reset).ok()

	// The old sessions and keys are gone.
	call("session-exists", params{"session_token": session}).failed("session_not_found")
	call("apikey-verify", g.verifyKey(apiKey, id)).failed("key_not_valid")
	if g.newSessionless {
		call("apikey-verify-nosession", g.verifyKey(sessionless, id)).failed("key_not_valid")
	}
	login(first).failed("invalid_credentials")
	has(t, login(second).ok().Response, map[string]any{"user_id": id})
	// The third one tells that the password was changed.
	mailbox.Wait(t, 3)
	want := []told{{to: email, subject: passwordChanged}}
	if got, n := credentialMessages(t, mailbox), len(mailbox.Messages(t)); n != 3 || !slices.Equal(got, want) {
		t.Errorf("%d messages were sent, want 3; of those about credentials %v, want %v", n, got, want)
	}
}

// TestKeysOutliveARestart: keys, their last use and used refresh tokens are in
// the database.
func TestKeysOutliveARestart(t *testing.T) {
	t.Parallel()
	dir, secret := t.TempDir(), newKey()
	s := startIn(t, dir, "secret="+secret)
	u := s.newUser()
	who := params{"user_id": u.id, "user_role": "authenticated"}
	r := s.call("apikey-new-nosession", newSessionlessKey(u.id).with(params{"name": "robot", "scopes": []string{"view:dataset"}})).ok()
	refresh := refreshOf(t, r, u.id)
	next := key(t, s.call("apikey-refresh-nosession", refresh).ok())
	s.call("apikey-verify-nosession", who.with(params{"apikey_dict": next})).ok()
	s.stop()

	s = startIn(t, dir, "secret="+secret)
	s.call("apikey-verify-nosession", who.with(params{"apikey_dict": next, "scope": "view:dataset"})).ok()
	s.call("apikey-verify-nosession", who.with(params{"apikey_dict": next, "scope": "edit:dataset"})).failed("insufficient_scope")
	if again := key(t, s.call("apikey-refresh-nosession", refresh).ok()); again["tkn"] != next["tkn"] {
		t.Error("a repeated refresh got another key after the restart")
	}
	list := s.call("apikey-list", who).ok().Response["apikeys"].([]any)
	if len(list) != 1 {
		t.Fatalf("the list has %d keys", len(list))
	}
	info := list[0].(map[string]any)
	has(t, info, map[string]any{"kind": "nosession", "name": "robot", "key_id": r.text("key_id")})
	if used, _ := info["last_used"].(string); !strings.HasSuffix(used, ":00:00") {
		t.Errorf("last_used is %v, want an hour", info["last_used"])
	}
	if prefix, _ := info["prefix"].(string); !strings.HasPrefix(next["tkn"].(string), prefix) || len(prefix) != len("authnz_")+8 {
		t.Errorf("prefix is %q", prefix)
	}
	s.call("apikey-revoke", who.with(params{"key_id": r.text("key_id")})).ok()
	s.call("apikey-verify-nosession", who.with(params{"apikey_dict": next})).failed("key_not_valid")

	// With no grace a used refresh token is theft, and with another prefix
	// new keys look different.
	s.stop()
	s = startIn(t, dir, "secret="+secret, "refreshgrace=0", "apikeyprefix=acme")
	r = s.call("apikey-new-nosession", newSessionlessKey(u.id)).ok()
	if tkn := key(t, r)["tkn"].(string); !strings.HasPrefix(tkn, "acme_") {
		t.Error("the key does not have the prefix")
	}
	refresh = refreshOf(t, r, u.id)
	next = key(t, s.call("apikey-refresh-nosession", refresh).ok())
	s.call("apikey-refresh-nosession", refresh).failed("refresh_token_reused")
	s.call("apikey-verify-nosession", who.with(params{"apikey_dict": next})).failed("key_not_valid")
}

// TestParallelRefreshes: tabs that refresh at once get one key.
func TestParallelRefreshes(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := s.newUser()
	refresh := refreshOf(t, s.call("apikey-new-nosession", newSessionlessKey(u.id)).ok(), u.id)
	const tabs = 64
	replies := make(chan *reply, tabs)
	for range tabs {
		go func() { replies <- s.call("apikey-refresh-nosession", refresh) }()
	}
	first := (<-replies).ok()
	for range tabs - 1 {
		other := (<-replies).ok()
		if other.text("apikey") != first.text("apikey") || other.text("refresh_token") != first.text("refresh_token") {
			t.Fatal("two tabs hold different keys")
		}
	}
	s.call("apikey-verify-nosession", params{"user_id": u.id, "user_role": "authenticated", "apikey_dict": key(t, first)}).ok()
	list := s.call("apikey-list", params{"user_id": u.id, "user_role": "authenticated"}).ok().Response["apikeys"].([]any)
	if len(list) != 1 {
		t.Errorf("the user has %d keys", len(list))
	}
}

// What a message told whom.
type told struct{ to, subject string }

// The subjects of messages about what users log in with.
const passwordChanged, emailChanged = "Your password was changed", "The e-mail address of your account was changed"

// TestChangedCredentialsAreMailed changes, in each way, what a user logs in with: each time a
// message tells the user, where the address itself changes the old one.
func TestChangedCredentialsAreMailed(t *testing.T) {
	t.Parallel()
	mailbox := smtpd.Start(t, smtpd.Options{})
	s := start(t, withMail(mailbox)...)
	u := s.newUser()
	old, renamed := u.email, "renamed-"+u.email
	var want []told
	expect := func(to, subject string) { want = append(want, told{to, subject}) }
	change := params{"user_id": u.id, "full_name": u.name, "email": old, "current_password": u.password, "new_password": randomPassword()}
	wrong := change.with(params{"current_password": "Vivid-wrong-password-1"})
	s.call("user-changepass-nosession", wrong).failed("current_password_wrong")
	s.call("user-changepass-nosession", change).ok()
	expect(old, passwordChanged)
	s.call("user-changepass", change.with(params{
		"session_token": s.session(u.id), "current_password": change["new_password"], "new_password": randomPassword(),
	})).ok()
	expect(old, passwordChanged)
	s.call("user-resetpass-nosession", params{"email_address": old, "new_password": randomPassword(), "required_active": true}).ok()
	expect(old, passwordChanged)
	s.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": "Another Name"}}).ok()
	s.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"email": renamed}}).ok()
	expect(old, emailChanged)
	s.call("user-edit", params{
		"user_id": u.id, "user_role": "authenticated", "session_token": s.session(u.id), "target_userid": u.id, "update_dict": params{"email": old},
	}).ok()
	expect(renamed, emailChanged)
	s.call("user-resetpass-nosession", params{"email_address": old, "new_password": randomPassword(), "required_active": true}).ok()
	expect(old, passwordChanged)
	var got []told
	s.wait("the messages", func() bool {
		got = credentialMessages(t, mailbox)
		return len(got) >= len(want)
	})
	order := func(a, b told) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.subject, b.subject)) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Errorf("messages are\n%v, want\n%v", got, want)
	}
}

// credentialMessages returns the messages about what users log in with.
func credentialMessages(t *testing.T, mailbox *smtpd.Server) (got []told) {
	t.Helper()
	for _, raw := range mailbox.Messages(t) {
		message, err := mail.ReadMessage(bytes.NewReader(raw))
		try(t, "read a message", err)
		to, err := mail.ParseAddress(message.Header.Get("To"))
		try(t, "read a recipient", err)
		subject, err := new(mime.WordDecoder).DecodeHeader(message.Header.Get("Subject"))
		try(t, "read a subject", err)
		_, subject, _ = strings.Cut(subject, "] ")
		if subject == passwordChanged || subject == emailChanged {
			got = append(got, told{to.Address, subject})
		}
	}
	return got
}

// TestMailTrouble: what the mail server does is told to the frontend, the log
// says why without saying who, and nobody else waits.
func TestMailTrouble(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		server  smtpd.Options
		options []string
		log     string
	}{
		{"refuses", smtpd.Options{RefuseRecipients: 550}, nil, "mail_recipient_refused"},
		{"a bad certificate", smtpd.Options{TLS: "starttls", Certificate: "self-signed"}, []string{"emailtls=require"}, "mail_tls_failed"},
		{"slow", smtpd.Options{DataDelay: 20 * time.Second}, nil, "mail_timeout"},
		{"without TLS", smtpd.Options{}, []string{"emailtls=require"}, "mail_tls_failed"},
		{"a wrong password", smtpd.Options{User: "u", Password: "p", PlainAuth: true}, []string{"emailuser=u", "emailpass=another"}, "mail_auth_failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mailbox := smtpd.Start(t, tt.server)
			s := start(t, withMail(mailbox, tt.options...)...)
			u := s.newUser()
			forgot := forgotPass(u.email, s.session(nil))
			answered := make(chan *reply)
			go func() { answered <- s.call("user-sendemail-forgotpass", forgot) }()
			// Others are served all the while.
			waiting := true
			for served := 0; waiting || served == 0; served++ {
				select {
				case r := <-answered:
					r.failed("mail_not_sent")
					waiting = false
				default:
				}
				s.call("user-lookup-email", params{"email": u.email}).ok()
			}
			has(t, s.call("user-lookup-email", params{"email": u.email}).ok().object("user_info"), map[string]any{"emailforgotpass_sent_datetime": nil})
			s.stop()
			if !strings.Contains(s.log.String(), tt.log) {
				t.Errorf("the log lacks %s", tt.log)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := start(t, "emailserver=none")
		s.call("user-sendemail-forgotpass", forgotPass("x@example.org", "x")).failed("mail_settings_missing")
	})
	t.Run("the request cannot choose it", func(t *testing.T) {
		t.Parallel()
		mailbox, other := smtpd.Start(t, smtpd.Options{}), smtpd.Start(t, smtpd.Options{})
		s := start(t, withMail(mailbox)...)
		u := s.newUser()
		s.call("user-sendemail-forgotpass", forgotPass(u.email, s.session(nil)).with(params{
			"emailserver": other.Host, "emailport": other.Port, "emailuser": "u", "emailpass": "p", "emailsender": "evil@example.org",
		})).ok()
		raw := mailbox.Wait(t, 1)[0]
		if len(other.Messages(t)) != 0 || bytes.Contains(raw, []byte("evil@example.org")) {
			t.Error("the request chose the mail server or the sender")
		}
	})
}

// mailTest runs authnzrv mail test.
func mailTest(t testing.TB, dir string, args ...string) (status int, out string) {
	t.Helper()
	cmd := exec.Command("authnzrv", append([]string{"mail", "test", "--basedir=" + dir}, args...)...)
	cmd.Env = environment()
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, text)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

func TestMailTestCommand(t *testing.T) {
	t.Parallel()
	good := smtpd.Start(t, smtpd.Options{TLS: "starttls", User: "u", Password: "secret of the mail"})
	flags := func(s *smtpd.Server, more ...string) []string {
		return append([]string{"--emailserver=" + s.Host, fmt.Sprint("--emailport=", s.Port), "--emailsender=a@b.example"}, more...)
	}
	status, out := mailTest(t, t.TempDir(), flags(good, "--emailuser=u", "--emailpass=secret of the mail", "person@example.org")...)
	if status != 0 || !strings.Contains(out, "sent: the mail server took the message") || !strings.Contains(out, "> RCPT TO:<person@example.org>") {
		t.Errorf("status %d:\n%s", status, out)
	}
	if strings.Contains(out, "secret of the mail") {
		t.Errorf("the password is shown:\n%s", out)
	}
	code(t, good.Wait(t, 1)[0], "account verification")
	status, out = mailTest(t, t.TempDir(), flags(good, "--emailuser=u", "--emailpass=secret of the mail", "--template=forgotpass", "person@example.org")...)
	if status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}
	code(t, good.Wait(t, 2)[1], "password reset")

	refusing := smtpd.Start(t, smtpd.Options{RefuseRecipients: 550})
	status, out = mailTest(t, t.TempDir(), flags(refusing, "person@example.org")...)
	if status != 1 || !strings.Contains(out, "mail_recipient_refused") || !strings.Contains(out, "550") {
		t.Errorf("status %d:\n%s", status, out)
	}
	for want, args := range map[string][]string{
		"mail_invalid":            flags(refusing, "not an address"),
		"mail_server_unreachable": {"--emailserver=127.0.0.1", "--emailport=1", "person@example.org"},
		"emailserver: is none":    {"--emailserver=none", "person@example.org"},
		"emailsender":             {"--emailsender=nobody", "person@example.org"},
		"emailtls":                {"--emailtls=maybe", "person@example.org"},
	} {
		status, out := mailTest(t, t.TempDir(), args...)
		if status != 1 || !strings.Contains(out, want) {
			t.Errorf("%v: status %d, want 1 and %q:\n%s", args, status, want, out)
		}
	}
}

// TestMailTemplates replaces the messages by an operator's.
func TestMailTemplates(t *testing.T) {
	t.Parallel()
	mailbox := smtpd.Start(t, smtpd.Options{})
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		err := os.MkdirAll(filepath.Join(dir, "mail"), 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "mail", name), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("forgotpass.txt", "Subject: {{.ServerName}}: neues Passwort für Sie\n\nIhr Code: {{.Code}}\n")
	write("forgotpass.html", "<p>Ihr Code für {{.ServerName}}: {{range .CodeLines}}{{.}}{{end}}</p>\n")
	s := startIn(t, dir, withMail(mailbox)...)
	u := s.newUser()
	s.call("user-sendemail-forgotpass", forgotPass(u.email, s.session(nil)).with(params{
		"server_name": "Möbel <&> Co\r\nBcc: x@y", "verification_token": "abc123",
	})).ok()
	raw := mailbox.Wait(t, 1)[0]
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if message.Header.Get("Bcc") != "" {
		t.Errorf("a name made a header:\n%s", raw)
	}
	_, boundary, _ := strings.Cut(message.Header.Get("Content-Type"), "boundary=")
	parts := multipart.NewReader(message.Body, strings.Trim(boundary, "\""))
	var texts []string
	for range 2 {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatalf("%v in:\n%s", err, raw)
		}
		var text bytes.Buffer
		_, err = text.ReadFrom(part)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text.String())
	}
	if !strings.Contains(texts[0], "Ihr Code: abc123") || !strings.Contains(texts[1], "Möbel &lt;&amp;&gt; CoBcc: x@y: abc123") {
		t.Errorf("the parts are %q", texts)
	}
	s.stop()
	if !strings.Contains(s.log.String(), "clients that read the message will not find the code") {
		t.Error("the log does not say that clients will not find the code")
	}

	write("signup.txt", "Subject: x\n\n{{.Nothing}}")
	write("signup.html", "{{if}}")
	status, out := mailTest(t, dir, "person@example.org")
	for _, want := range []string{"signup.txt", "Nothing", "signup.html"} {
		if status != 1 || !strings.Contains(out, want) {
			t.Errorf("status %d, want 1 and %q:\n%s", status, want, out)
		}
	}
}

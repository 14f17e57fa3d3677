package action_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/mail"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// signUpMail are the parameters for a message to somebody who signed up.
func (f *fixture) signUpMail(u *store.User) api.UserSendEmailSignUpParams {
	f.t.Helper()
	return api.UserSendEmailSignUpParams{
		Email: api.Email(u.Email), SessionToken: f.session(store.AnonymousID),
		CreatedInfo: api.CreatedInfo{SendVerification: true, UserID: u.ID},
		ServerName:  "Site", ServerBaseURL: "https://site.example", AccountVerifyURL: api.Given("/verify"),
		VerificationToken: api.Of(api.Secret("the-frontends-own-token")), VerificationExpiry: 900,
	}
}

func (f *fixture) sendSignUp(p api.UserSendEmailSignUpParams) outcome[api.UserSendEmailSignUpResult] {
	f.t.Helper()
	return call(f, api.UserSendEmailSignUp, f.UserSendEmailSignUp, p)
}

func (f *fixture) forgotPassMail(email string) api.UserSendEmailForgotPassParams {
	f.t.Helper()
	return api.UserSendEmailForgotPassParams{
		Email: api.Email(email), SessionToken: f.session(store.AnonymousID),
		ServerName: "Site", ServerBaseURL: "https://site.example", PasswordForgotURL: "/forgot",
		VerificationToken: api.Of(api.Secret("the-frontends-own-token")), VerificationExpiry: 900,
	}
}

func (f *fixture) sendForgotPass(p api.UserSendEmailForgotPassParams) outcome[api.UserSendEmailForgotPassResult] {
	f.t.Helper()
	return call(f, api.UserSendEmailForgotPass, f.UserSendEmailForgotPass, p)
}

func (f *fixture) newEmailToken(u *store.User, purpose string) api.Secret {
	f.t.Helper()
	result := call(f, api.UserNewEmailToken, f.UserNewEmailToken,
		api.UserNewEmailTokenParams{Email: api.Email(u.Email), Purpose: purpose}).succeeds()
	if result.VerificationToken == nil {
		return ""
	}
	return *result.VerificationToken
}

func (f *fixture) checkEmailToken(email, purpose string, t api.Secret, peek bool) outcome[api.UserCheckEmailTokenResult] {
	f.t.Helper()
	p := api.UserCheckEmailTokenParams{Email: api.Email(email), Purpose: purpose, VerificationToken: t}
	if peek {
		p.Peek = api.Given(true)
	}
	return call(f, api.UserCheckEmailToken, f.UserCheckEmailToken, p)
}

// code returns the code in the last message, found as published clients do.
func (f *fixture) code(into string) api.Secret {
	f.t.Helper()
	if len(f.outbox.messages) == 0 {
		f.t.Fatal("no message was sent")
	}
	text := f.outbox.messages[len(f.outbox.messages)-1].Text
	found := regexp.MustCompile(`enter this code:\s*(.*?)\s*into the ` + into).FindStringSubmatch(strings.ReplaceAll(text, "\n", ""))
	if found == nil {
		f.t.Fatalf("there is no code in:\n%s", text)
	}
	return api.Secret(found[1])
}

func mailScenarios() map[string][]scenario {
	const noSignUp = `{"user_id": null, "email_address": null, "emailverify_sent_datetime": null, "verifyemail_sent_datetime": null}`
	const noForgot = `{"user_id": null, "email_address": null, "emailforgotpass_sent_datetime": null, "forgotemail_sent_datetime": null}`
	const noToken = `{"user_id": null, "verification_token": null, "expires": null}`
	const noUser = `{"user_id": null}`
	return map[string][]scenario{
		"user-sendemail-signup": {
			{"the frontend's token", func(f *fixture) {
				u := f.signUp("alice")
				f.clock.advance(time.Minute)
				p := f.signUpMail(u)
				p.Email = "ALICE@example.org"
				result := f.sendSignUp(p).succeeds()
				email, now := api.Email(u.Email), api.Time(f.clock.Now())
				sameJSON(f.t, "result", result, api.UserSendEmailSignUpResult{UserID: &u.ID, EmailAddress: &email, EmailVerifySentOn: now, VerifyEmailSentOn: now})
				equal(f.t, "sent", f.stored(u.ID).EmailVerifySent, f.clock.Now())
				m := f.outbox.messages[0]
				equal(f.t, "to", m.To, u.Email)
				equal(f.t, "subject", m.Subject, "[Site] Please verify your account sign up request")
				equal(f.t, "code", f.code("account verification"), "the-frontends-own-token")
				for _, part := range []string{"https://site.example/verify", "tests", "192.0.2.1", u.Email, "2026-02-03T04:21:06.000789 (UTC)"} {
					if !strings.Contains(m.Text, part) || !strings.Contains(m.HTML, part) {
						f.t.Errorf("the message lacks %q", part)
					}
				}
				equal(f.t, "tokens that the server keeps", f.count("SELECT count(*) FROM email_tokens"), 0)
			}},
			{"the server's token", func(f *fixture) {
				u := f.signUp("alice")
				p := f.signUpMail(u)
				p.VerificationToken = api.Null[api.Secret]{}
				f.sendSignUp(p).succeeds()
				code := f.code("account verification")
				equal(f.t, "code in the clear", f.count("SELECT count(*) FROM email_tokens WHERE token_digest = ?", string(code)), 0)
				verify := func(t api.Secret) outcome[api.UserSetEmailVerifiedResult] {
					return call(f, api.UserSetEmailVerified, f.UserSetEmailVerified, api.UserSetEmailVerifiedParams{
						Email: api.Email(u.Email), VerificationToken: api.Given(api.Of(t)),
					})
				}
				const locked = `{"user_id": null, "is_active": false, "user_role": "locked"}`
				verify("authnz_v_x").fails(api.CodeEmailTokenInvalid, locked)
				verify(api.Secret(f.Tokens.New(token.Verification))).fails(api.CodeEmailTokenInvalid, locked)
				verify(code).succeeds()
				equal(f.t, "active", f.stored(u.ID).IsActive, true)
				verify(code).fails(api.CodeEmailTokenInvalid, locked)
			}},
			{"the other name of the link", func(f *fixture) {
				u := f.signUp("alice")
				p := f.signUpMail(u)
				p.AccountVerifyURL, p.ServerVerifyURL = api.Strict[string]{}, api.Given("/other")
				f.sendSignUp(p).succeeds()
				if !strings.Contains(f.outbox.messages[0].Text, "https://site.example/other") {
					f.t.Error("the message lacks the link")
				}
				p.ServerVerifyURL = api.Strict[string]{}
				_, err := f.UserSendEmailSignUp(f.t.Context(), &p)
				var failure *api.Failure
				if !errors.As(err, &failure) || failure.Code != api.CodeInvalidParams || failure.Problems[0].Param != "account_verify_url" {
					f.t.Errorf("without a link: %v", err)
				}
			}},
			{"failures", func(f *fixture) {
				u := f.signUp("alice")
				active := f.user("bob", "authenticated")
				locked := f.user("carol", "locked", inactive)
				good := f.signUpMail(u)
				for _, test := range []struct {
					code   api.Code
					change func(*api.UserSendEmailSignUpParams)
				}{
					{api.CodeVerificationNotWanted, func(p *api.UserSendEmailSignUpParams) { p.CreatedInfo.SendVerification = false }},
					{api.CodeUserNotFound, func(p *api.UserSendEmailSignUpParams) { p.Email = "nobody@example.org" }},
					{api.CodeUserNotFound, func(p *api.UserSendEmailSignUpParams) { p.CreatedInfo.UserID = active.ID }},
					{api.CodeUserAlreadyActive, func(p *api.UserSendEmailSignUpParams) {
						p.Email, p.CreatedInfo.UserID = api.Email(active.Email), active.ID
					}},
					{api.CodeUserAlreadyActive, func(p *api.UserSendEmailSignUpParams) {
						p.Email, p.CreatedInfo.UserID = api.Email(locked.Email), locked.ID
					}},
					{api.CodeUserAlreadyActive, func(p *api.UserSendEmailSignUpParams) {
						p.Email, p.CreatedInfo.UserID = "dummyuser@localhost", store.LockedID
					}},
					{api.CodeSessionNotFound, func(p *api.UserSendEmailSignUpParams) { p.SessionToken = "none" }},
				} {
					p := good
					test.change(&p)
					f.sendSignUp(p).fails(test.code, noSignUp)
				}
				f.outbox.err = errors.New("refused")
				_, err := f.UserSendEmailSignUp(f.t.Context(), &good)
				equal(f.t, "code", codeOf(f.t, api.UserSendEmailSignUp.Spec(), err), api.CodeMailNotSent)
				f.sendSignUp(good).fails(api.CodeMailNotSent, noSignUp)
				f.SendMail = nil
				f.sendSignUp(good).fails(api.CodeMailSettingsMissing, noSignUp)
				equal(f.t, "messages", len(f.outbox.messages), 0)
			}},
			{"verified while it is sent", func(f *fixture) {
				u := f.signUp("alice")
				p := f.signUpMail(u)
				send := f.SendMail
				f.SendMail = func(ctx context.Context, m *mail.Message) error {
					f.update(func(ctx context.Context, tx *store.Tx) error {
						now, err := tx.User(ctx, u.ID)
						if err != nil {
							return err
						}
						now.IsActive, now.EmailVerified, now.Role = true, true, "authenticated"
						return tx.UpdateUser(ctx, now)
					})
					return send(ctx, m)
				}
				_, err := f.UserSendEmailSignUp(f.t.Context(), &p)
				equal(f.t, "code", codeOf(f.t, api.UserSendEmailSignUp.Spec(), err), api.CodeUserAlreadyActive)
			}},
			{"a replaced sign-up", func(f *fixture) {
				u := f.signUp("alice")
				old := f.newEmailToken(u, "signup")
				f.clock.advance(7 * time.Hour)
				f.newUser(api.UserNewParams{FullName: "Mallory", Email: api.Email(u.Email), Password: otherPassword})
				f.checkEmailToken(u.Email, "signup", old, false).fails(api.CodeEmailTokenInvalid, noUser)
			}},
		},
		"user-sendemail-forgotpass": {
			{"the frontend's token", func(f *fixture) {
				u := f.user("alice", "authenticated")
				f.clock.advance(time.Minute)
				result := f.sendForgotPass(f.forgotPassMail(u.Email)).succeeds()
				email, now := api.Email(u.Email), api.Time(f.clock.Now())
				sameJSON(f.t, "result", result, api.UserSendEmailForgotPassResult{UserID: &u.ID, EmailAddress: &email, EmailForgotPassSentOn: now, ForgotEmailSentOn: now})
				equal(f.t, "sent", f.stored(u.ID).EmailForgotSent, f.clock.Now())
				equal(f.t, "subject", f.outbox.messages[0].Subject, "[Site] Please verify your password reset request")
				equal(f.t, "code", f.code("password reset"), "the-frontends-own-token")
			}},
			{"the server's token", func(f *fixture) {
				u := f.user("alice", "authenticated")
				p := f.forgotPassMail(u.Email)
				p.VerificationToken = api.Null[api.Secret]{}
				f.sendForgotPass(p).succeeds()
				code := f.code("password reset")
				reset := func(t api.Secret, password api.Password) outcome[api.UserResetPassResult] {
					return call(f, api.UserResetPass, f.UserResetPass, api.UserResetPassParams{
						Email: api.Email(u.Email), NewPassword: password, SessionToken: f.session(store.AnonymousID),
						VerificationToken: api.Given(api.Of(t)),
					})
				}
				reset("authnz_v_x", otherPassword).fails(api.CodeEmailTokenInvalid, `{}`)
				reset(api.Secret(f.Tokens.New(token.Verification)), otherPassword).fails(api.CodeEmailTokenInvalid, `{}`)
				reset(code, "short").fails(api.CodeNewPasswordInsecure, `{}`) // and the token stays valid
				reset(code, otherPassword).succeeds()
				reset(code, goodPassword).fails(api.CodeEmailTokenInvalid, `{}`)
				f.login(f.session(store.AnonymousID), api.Email(u.Email), otherPassword).succeeds()
			}},
			{"without a session", func(f *fixture) {
				u := f.user("alice", "authenticated")
				code := f.newEmailToken(u, "forgotpass")
				reset := func(t api.Secret) outcome[api.UserResetPassResult] {
					return call(f, api.UserResetPassNoSession, f.UserResetPassNoSession, api.UserResetPassNoSessionParams{
						Email: api.Email(u.Email), NewPassword: otherPassword, RequiredActive: true, VerificationToken: api.Given(api.Of(t)),
					})
				}
				reset("x").fails(api.CodeEmailTokenInvalid, `{}`)
				reset(code).succeeds()
				reset(code).fails(api.CodeEmailTokenInvalid, `{}`)
			}},
			{"how often", func(f *fixture) {
				u := f.user("alice", "authenticated")
				p := f.forgotPassMail(u.Email)
				p.SessionToken = f.longSession()
				f.sendForgotPass(p).succeeds()
				f.clock.advance(24 * time.Hour)
				f.sendForgotPass(p).fails(api.CodeMailSentRecently, noForgot)
				f.clock.advance(time.Microsecond)
				f.sendForgotPass(p).succeeds()
				equal(f.t, "messages", len(f.outbox.messages), 2)
			}},
			{"failures", func(f *fixture) {
				u := f.user("alice", "authenticated")
				for _, email := range []string{
					"nobody@example.org", "anonuser@localhost", "dummyuser@localhost",
					f.user("gone", "authenticated", inactive).Email, f.user("shut", "locked", inactive).Email, f.signUp("new").Email,
				} {
					f.sendForgotPass(f.forgotPassMail(email)).fails(api.CodeUserNotFound, noForgot)
				}
				for _, email := range []string{u.Email, "nobody@example.org"} {
					p := f.forgotPassMail(email)
					p.SessionToken = "none"
					f.sendForgotPass(p).fails(api.CodeSessionNotFound, noForgot)
				}
				f.outbox.err = errors.New("refused")
				good := f.forgotPassMail(u.Email)
				f.sendForgotPass(good).fails(api.CodeMailNotSent, noForgot)
				f.outbox.err = nil
				f.sendForgotPass(good).succeeds() // what was not sent does not count
				f.SendMail = nil
				f.sendForgotPass(good).fails(api.CodeMailSettingsMissing, noForgot)
			}},
			{"what the end user is told", func(f *fixture) {
				u := f.user("alice", "authenticated")
				told := func(email string) []string {
					p := f.forgotPassMail(email)
					_, err := f.UserSendEmailForgotPass(f.t.Context(), &p)
					if err == nil {
						return []string{api.UserSendEmailForgotPass.Spec().Done}
					}
					failure, _ := action.Classify(err)
					return failure.Messages
				}
				want := told("nobody@example.org")
				f.outbox.err = errors.New("refused")
				equal(f.t, "told when it is not sent", told(u.Email), want)
				f.outbox.err = nil
				equal(f.t, "told when it is sent", told(u.Email), want)
				equal(f.t, "told when it was sent", told(u.Email), want)
			}},
			{"many at once", func(f *fixture) {
				u := f.user("alice", "authenticated")
				entered, leave := make(chan struct{}), make(chan struct{})
				send := f.SendMail
				f.SendMail = func(ctx context.Context, m *mail.Message) error {
					close(entered)
					<-leave
					return send(ctx, m)
				}
				p := f.forgotPassMail(u.Email)
				var first error
				var running sync.WaitGroup
				running.Go(func() { _, first = f.UserSendEmailForgotPass(f.t.Context(), &p) })
				<-entered
				f.sendForgotPass(f.forgotPassMail(u.Email)).fails(api.CodeMailSentRecently, noForgot)
				close(leave)
				running.Wait()
				equal(f.t, "first", first, nil)
				equal(f.t, "messages", len(f.outbox.messages), 1)
			}},
		},
		"user-new-emailtoken": {
			{"failures", func(f *fixture) {
				u, fresh := f.user("alice", "authenticated"), f.signUp("bob")
				locked := f.user("carol", "locked", inactive)
				ask := func(email, purpose string) outcome[api.UserNewEmailTokenResult] {
					return call(f, api.UserNewEmailToken, f.UserNewEmailToken, api.UserNewEmailTokenParams{Email: api.Email(email), Purpose: purpose})
				}
				ask(u.Email, "login").fails(api.CodeInvalidPurpose, noToken)
				ask(u.Email, "").fails(api.CodeInvalidPurpose, noToken)
				ask("nobody@example.org", "signup").fails(api.CodeUserNotFound, noToken)
				ask(u.Email, "signup").fails(api.CodeUserAlreadyActive, noToken)
				ask(locked.Email, "signup").fails(api.CodeUserAlreadyActive, noToken)
				ask(fresh.Email, "forgotpass").fails(api.CodeUserNotFound, noToken)
				ask(locked.Email, "forgotpass").fails(api.CodeUserNotFound, noToken)
				ask("anonuser@localhost", "forgotpass").fails(api.CodeUserNotFound, noToken)
			}},
			{"lifetime", func(f *fixture) {
				u := f.user("alice", "authenticated")
				result := call(f, api.UserNewEmailToken, f.UserNewEmailToken, api.UserNewEmailTokenParams{
					Email: api.Email(u.Email), Purpose: "forgotpass", ExpiresSeconds: api.Given(int64(60)),
				}).succeeds()
				equal(f.t, "expires", time.Time(result.Expires), f.clock.Now().Add(time.Minute))
				f.clock.advance(time.Minute - time.Microsecond)
				f.checkEmailToken(u.Email, "forgotpass", *result.VerificationToken, true).succeeds()
				f.clock.advance(time.Microsecond)
				f.checkEmailToken(u.Email, "forgotpass", *result.VerificationToken, false).fails(api.CodeEmailTokenInvalid, noUser)
				code := f.newEmailToken(u, "forgotpass")
				f.clock.advance(time.Hour - time.Microsecond)
				f.checkEmailToken(u.Email, "forgotpass", code, true).succeeds()
				f.clock.advance(time.Microsecond)
				f.checkEmailToken(u.Email, "forgotpass", code, true).fails(api.CodeEmailTokenInvalid, noUser)
			}},
		},
		"user-check-emailtoken": {
			{"once", func(f *fixture) {
				u := f.user("alice", "authenticated")
				code := f.newEmailToken(u, "forgotpass")
				for range 3 {
					result := f.checkEmailToken("Alice@example.org", "forgotpass", code, true).succeeds()
					equal(f.t, "user", *result.UserID, u.ID)
				}
				f.checkEmailToken(u.Email, "forgotpass", code, false).succeeds()
				f.checkEmailToken(u.Email, "forgotpass", code, false).fails(api.CodeEmailTokenInvalid, noUser)
				f.checkEmailToken(u.Email, "forgotpass", code, true).fails(api.CodeEmailTokenInvalid, noUser)
			}},
			{"for whom and what", func(f *fixture) {
				u, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
				code := f.newEmailToken(u, "forgotpass")
				for _, test := range []struct {
					email, purpose string
					token          api.Secret
				}{
					{bob.Email, "forgotpass", code},
					{"nobody@example.org", "forgotpass", code},
					{u.Email, "signup", code},
					{u.Email, "forgotpass", api.Secret(f.Tokens.New(token.Verification))},
					{u.Email, "forgotpass", "x"},
					{u.Email, "forgotpass", api.Secret(token.Sum(string(code)).String())},
				} {
					f.checkEmailToken(test.email, test.purpose, test.token, false).fails(api.CodeEmailTokenInvalid, noUser)
				}
				f.checkEmailToken(u.Email, "login", code, false).fails(api.CodeInvalidPurpose, noUser)
				f.checkEmailToken(u.Email, "forgotpass", code, false).succeeds()
			}},
			{"only the newest", func(f *fixture) {
				u := f.user("alice", "authenticated")
				older, newer := f.newEmailToken(u, "forgotpass"), f.newEmailToken(u, "forgotpass")
				f.checkEmailToken(u.Email, "forgotpass", older, false).fails(api.CodeEmailTokenInvalid, noUser)
				f.checkEmailToken(u.Email, "forgotpass", newer, false).succeeds()
			}},
			{"after the address changed", func(f *fixture) {
				u := f.user("alice", "authenticated")
				code := f.newEmailToken(u, "forgotpass")
				f.internalEdit(u.ID, `{"email": "new@example.org"}`).succeeds()
				f.checkEmailToken("new@example.org", "forgotpass", code, false).fails(api.CodeEmailTokenInvalid, noUser)
			}},
			{"after the password changed", func(f *fixture) {
				u := f.user("alice", "authenticated")
				code := f.newEmailToken(u, "forgotpass")
				call(f, api.UserChangePassNoSession, f.UserChangePassNoSession, api.UserChangePassNoSessionParams{
					UserID: u.ID, Email: api.Email(u.Email), CurrentPassword: goodPassword, NewPassword: otherPassword,
				}).succeeds()
				f.checkEmailToken(u.Email, "forgotpass", code, false).fails(api.CodeEmailTokenInvalid, noUser)
			}},
		},
	}
}

// longSession makes a session that lasts a year.
func (f *fixture) longSession() api.SessionToken {
	f.t.Helper()
	result := call(f, api.SessionNew, f.SessionNew, api.SessionNewParams{
		IPAddress: "192.0.2.1", UserAgent: "tests", UserID: api.Of(api.UserRef(store.AnonymousID)), Expires: "2027-02-03T00:00:00",
	}).succeeds()
	return *result.SessionToken
}

// TestForgotPassPace: the time of the answer does not tell whether a message
// was sent, which takes a while here.
func TestForgotPassPace(t *testing.T) {
	f := newFixture(t)
	u := f.user("alice", "authenticated")
	f.MailPace = time.Second
	for _, test := range []struct {
		email string
		takes time.Duration
		want  time.Duration
	}{
		{"nobody@example.org", 0, time.Second},
		{u.Email, 700 * time.Millisecond, time.Second},
		{u.Email, 0, time.Second}, // sent recently
	} {
		p := f.forgotPassMail(test.email)
		f.SendMail = func(ctx context.Context, m *mail.Message) error {
			time.Sleep(test.takes)
			return nil
		}
		started := time.Now()
		_, err := f.UserSendEmailForgotPass(t.Context(), &p)
		codeOf(t, api.UserSendEmailForgotPass.Spec(), err)
		if took := time.Since(started); took < test.want || took > test.want+900*time.Millisecond {
			t.Errorf("the answer took %s, want %s", took, test.want)
		}
	}
}

package action_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/passwd"
	"authnzerver/internal/store"
)

func (f *fixture) validatePass(p api.UserValidatePassParams) outcome[api.UserValidatePassResult] {
	f.t.Helper()
	return call(f, api.UserValidatePass, f.UserValidatePass, p)
}

func (f *fixture) changePass(p api.UserChangePassParams) outcome[api.UserChangePassResult] {
	f.t.Helper()
	return call(f, api.UserChangePass, f.UserChangePass, p)
}

func (f *fixture) changePassNoSession(p api.UserChangePassNoSessionParams) outcome[api.UserChangePassResult] {
	f.t.Helper()
	return call(f, api.UserChangePassNoSession, f.UserChangePassNoSession, p)
}

func (f *fixture) reset(email api.Email, password api.Password, t api.SessionToken) outcome[api.UserResetPassResult] {
	f.t.Helper()
	return call(f, api.UserResetPass, f.UserResetPass, api.UserResetPassParams{Email: email, NewPassword: password, SessionToken: t})
}

func (f *fixture) resetNoSession(email api.Email, password api.Password, active bool) outcome[api.UserResetPassResult] {
	f.t.Helper()
	return call(f, api.UserResetPassNoSession, f.UserResetPassNoSession,
		api.UserResetPassNoSessionParams{Email: email, NewPassword: password, RequiredActive: active})
}

// passwordIs checks which password a user has.
func (f *fixture) passwordIs(id int64, password string) {
	f.t.Helper()
	result, err := f.Passwords.Verify(f.t.Context(), f.stored(id).PasswordHash, password, nil)
	if err != nil || !result.Match {
		f.t.Errorf("user %d has another password (%v)", id, err)
	}
}

func passwordScenarios() map[string][]scenario {
	return map[string][]scenario{
		"every hash":                busyScenarios(),
		"user-validatepass":         validateScenarios(),
		"user-changepass":           changePassScenarios(),
		"user-changepass-nosession": changePassNoSessionScenarios(),
		"user-resetpass":            resetScenarios(),
		"user-resetpass-nosession":  resetNoSessionScenarios(),
	}
}

func validateScenarios() []scenario {
	valid := api.UserValidatePassParams{Password: goodPassword, Email: "alice@example.org", FullName: "Some Alice"}
	with := func(change func(*api.UserValidatePassParams)) api.UserValidatePassParams {
		p := valid
		change(&p)
		return p
	}
	return []scenario{
		{"policy", func(f *fixture) {
			f.validatePass(valid).succeeds()
			for _, password := range []api.Password{"", "short", "aaaaaaaaaaaaaaaaab", "83649502736458", "alice@example.org1", "Some Alice Some A", "auth.example.org"} {
				f.validatePass(with(func(p *api.UserValidatePassParams) { p.Password = password })).fails(api.CodePasswordInsecure, `{}`)
			}
		}},
		{"only stricter limits count", func(f *fixture) {
			for _, change := range []func(*api.UserValidatePassParams){
				func(p *api.UserValidatePassParams) { p.MinPassLength = api.Some(int64(22)) },
				func(p *api.UserValidatePassParams) { p.MaxUnsafeSimilarity = api.Some(int64(1)) },
				func(p *api.UserValidatePassParams) { p.MaxCharacterFrequency = api.Some(api.Float(0.01)) },
			} {
				f.validatePass(with(change)).fails(api.CodePasswordInsecure, `{}`)
			}
			f.validatePass(with(func(p *api.UserValidatePassParams) { // none is stricter
				p.MinPassLength, p.MaxUnsafeSimilarity = api.Some(int64(-1)), api.Some(int64(-1))
				p.MaxCharacterFrequency, p.MinPwnedMatches = api.Some(api.Float(-1)), api.Some(int64(-1))
			})).succeeds()
			f.validatePass(with(func(p *api.UserValidatePassParams) {
				p.Password = "short"
				p.MinPassLength = api.Some(int64(1))
			})).fails(api.CodePasswordInsecure, `{}`)
			f.validatePass(with(func(p *api.UserValidatePassParams) { p.MinPassLength = api.Some(int64(api.MaxInteger)) })).fails(api.CodePasswordInsecure, `{}`)
		}},
	}
}

// asSent returns the keys of a refused password change.
func asSent(id int64, email string) string {
	return fmt.Sprintf(`{"user_id": %d, "email": %q}`, id, email)
}

func changePassScenarios() []scenario {
	valid := func(f *fixture, c caller) api.UserChangePassParams {
		return api.UserChangePassParams{
			UserID: c.ID, SessionToken: c.session, FullName: "Sent Name", Email: api.Email(c.Email),
			CurrentPassword: goodPassword, NewPassword: otherPassword,
		}
	}
	return []scenario{
		{"right", func(f *fixture) {
			alice := f.caller("alice", "authenticated")
			other, foreign := f.session(alice.ID), f.session(store.AnonymousID)
			f.sessionKey(alice.ID, alice.session)
			f.sessionKey(alice.ID, other)
			f.sessionlessKey(alice.ID)
			f.sessionlessKey(1)
			p := valid(f, alice)
			p.Email = "Alice@example.org"
			result := f.changePass(p).succeeds()
			equal(f.t, "email", result.Email, "Alice@example.org")
			equal(f.t, "messages", len(result.Messages), 2)
			f.passwordIs(alice.ID, otherPassword)
			for s, kept := range map[api.SessionToken]bool{alice.session: true, other: false, foreign: true} {
				equal(f.t, "session", f.has(s), kept)
			}
			equal(f.t, "keys of sessions", f.count("SELECT count(*) FROM apikeys"), 1)
			equal(f.t, "session-less keys", f.sessionlessKeys(alice.ID), 0)
			equal(f.t, "session-less keys of another", f.sessionlessKeys(1), 1)
			equal(f.t, "session in memory", f.sessionExists(other).code, api.CodeSessionNotFound)
		}},
		{"order of the checks", func(f *fixture) {
			alice, bob := f.caller("alice", "authenticated"), f.caller("bob", "authenticated")
			p := valid(f, alice)
			p.Email, p.CurrentPassword, p.NewPassword = "bob@example.org", "wrong", "wrong"
			p.SessionToken = unknownToken
			f.changePass(p).fails(api.CodeSessionNotFound, asSent(alice.ID, "bob@example.org"))
			p.SessionToken = bob.session
			f.changePass(p).fails(api.CodeSessionNotFound, asSent(alice.ID, "bob@example.org"))
			p.SessionToken = alice.session
			f.changePass(p).fails(api.CodeUserNotFound, asSent(alice.ID, "bob@example.org"))
			p.Email = "alice@example.org"
			f.changePass(p).fails(api.CodePasswordWrong, asSent(alice.ID, "alice@example.org"))
			p.CurrentPassword, p.NewPassword = goodPassword, goodPassword
			f.changePass(p).fails(api.CodePasswordUnchanged, asSent(alice.ID, "alice@example.org"))
			p.NewPassword = "short"
			f.changePass(p).fails(api.CodeNewPasswordInsecure, asSent(alice.ID, "alice@example.org"))
			p.UserID, p.SessionToken, p.Email = 2, f.session(2), "anonuser@localhost"
			f.changePass(p).fails(api.CodeProtectedUser, asSent(2, "anonuser@localhost"))
		}},
		{"similar to the stored and to the sent name", func(f *fixture) {
			name := "Bartholomew Quicksilver"
			alice := f.caller("alice", "authenticated", func(u *store.User) { u.FullName = &name })
			p := valid(f, alice)
			p.NewPassword = "bartholomew quicksilver 1"
			f.changePass(p).fails(api.CodeNewPasswordInsecure, asSent(alice.ID, "alice@example.org"))
			p.FullName, p.NewPassword = "Zebediah Longfellow", "zebediah longfellow 1"
			f.changePass(p).fails(api.CodeNewPasswordInsecure, asSent(alice.ID, "alice@example.org"))
		}},
		{"inactive", func(f *fixture) {
			alice := f.caller("alice", "authenticated", inactive)
			f.changePass(valid(f, alice)).fails(api.CodeUserNotFound, asSent(alice.ID, "alice@example.org"))
		}},
		{"changed meanwhile", func(f *fixture) {
			for name, change := range raced(f) {
				u := f.caller("raced-"+name, "authenticated")
				p := valid(f, u)
				ctx := meanwhile(f.t, func() {
					f.update(func(ctx context.Context, tx *store.Tx) error { return change(ctx, tx, u.User) })
				})
				_, err := f.UserChangePass(ctx, &p)
				f.seen["user-changepass"] = append(f.seen["user-changepass"], codeOf(f.t, api.UserChangePass.Spec(), err))
				equal(f.t, name, codeOf(f.t, api.UserChangePass.Spec(), err), api.CodePasswordNotChanged)
				equal(f.t, name+": session", f.has(u.session), name != "delete")
			}
		}},
		{"long passwords", func(f *fixture) {
			long := strings.Repeat("long pässword with 32 characters", 9)
			alice := f.caller("alice", "authenticated", withHash(f.hash(string([]rune(long)[:256]))))
			p := valid(f, alice)
			p.CurrentPassword, p.NewPassword = api.Password(long), api.Password(string([]rune(long)[:256])+"!")
			f.changePass(p).succeeds()
			f.passwordIs(alice.ID, string(p.NewPassword))
		}},
	}
}

// busyScenarios tries every request that hashes while no more may.
func busyScenarios() []scenario {
	return []scenario{{"busy", func(f *fixture) {
		alice := f.caller("alice", "authenticated")
		anonymous := f.session(store.AnonymousID)
		f.occupy()
		f.login(anonymous, "alice@example.org", goodPassword).fails(api.CodeBusy, nobody)
		equal(f.t, "the session of the login", f.has(anonymous), true)
		f.passcheck(alice.session, goodPassword).fails(api.CodeBusy, nobody)
		f.passcheckNoSession("unknown@example.org", goodPassword).fails(api.CodeBusy, nobody)
		f.newUser(signUpParams("bob")).fails(api.CodeBusy, noSignUp)
		f.userDelete(alice.ID, "alice@example.org", goodPassword).fails(api.CodeBusy, asSent(alice.ID, "alice@example.org"))
		f.userDelete(99, "alice@example.org", goodPassword).fails(api.CodeBusy, asSent(99, "alice@example.org"))
		f.changePass(api.UserChangePassParams{
			UserID: alice.ID, SessionToken: alice.session, Email: "alice@example.org", CurrentPassword: goodPassword, NewPassword: otherPassword,
		}).fails(api.CodeBusy, asSent(alice.ID, "alice@example.org"))
		f.changePassNoSession(api.UserChangePassNoSessionParams{
			UserID: alice.ID, Email: "alice@example.org", CurrentPassword: goodPassword, NewPassword: otherPassword,
		}).fails(api.CodeBusy, asSent(alice.ID, "alice@example.org"))
		f.reset("unknown@example.org", otherPassword, anonymous).fails(api.CodeBusy, `{}`)
		f.resetNoSession("alice@example.org", otherPassword, true).fails(api.CodeBusy, `{}`)
		// What needs no hash goes on.
		f.sessionExists(alice.session).succeeds()
		f.newUser(signUpParams("admin")).fails(api.CodeInvalidEmail, noSignUp)
	}}}
}

// raced returns changes of a user that undo what a password change relies on.
func raced(f *fixture) map[string]func(context.Context, *store.Tx, *store.User) error {
	return map[string]func(context.Context, *store.Tx, *store.User) error{
		"password": func(ctx context.Context, tx *store.Tx, u *store.User) error {
			return tx.SetPassword(ctx, u.ID, u.PasswordHash, f.hash("another-Walrus-piano-3"))
		},
		"inactive": func(ctx context.Context, tx *store.Tx, u *store.User) error {
			u.IsActive = false
			return tx.UpdateUser(ctx, u)
		},
		"delete": func(ctx context.Context, tx *store.Tx, u *store.User) error {
			_, err := tx.DeleteUser(ctx, u.ID)
			return err
		},
	}
}

func changePassNoSessionScenarios() []scenario {
	valid := func(u *store.User) api.UserChangePassNoSessionParams {
		return api.UserChangePassNoSessionParams{
			UserID: u.ID, FullName: "Sent Name", Email: api.Email(u.Email), CurrentPassword: goodPassword, NewPassword: otherPassword,
		}
	}
	return []scenario{
		{"right", func(f *fixture) {
			alice := f.caller("alice", "authenticated")
			f.sessionlessKey(alice.ID)
			result := f.changePassNoSession(valid(alice.User)).succeeds()
			equal(f.t, "messages", len(result.Messages), 2)
			f.passwordIs(alice.ID, otherPassword)
			equal(f.t, "session", f.has(alice.session), false)
			equal(f.t, "session-less keys", f.sessionlessKeys(alice.ID), 0)
		}},
		{"order of the checks", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			p := valid(alice)
			p.Email, p.CurrentPassword, p.NewPassword = "bob@example.org", "wrong", "wrong"
			for _, id := range []int64{2, 3} {
				p.UserID = id
				f.changePassNoSession(p).fails(api.CodeProtectedUser, asSent(id, "bob@example.org"))
			}
			for _, id := range []int64{alice.ID, 99} {
				p.UserID = id
				f.changePassNoSession(p).fails(api.CodeUserNotFound, asSent(id, "bob@example.org"))
			}
			p.UserID, p.Email = alice.ID, "alice@example.org"
			f.changePassNoSession(p).fails(api.CodePasswordWrong, asSent(alice.ID, "alice@example.org"))
			p.CurrentPassword, p.NewPassword = goodPassword, goodPassword
			f.changePassNoSession(p).fails(api.CodePasswordUnchanged, asSent(alice.ID, "alice@example.org"))
			p.NewPassword = "short"
			f.changePassNoSession(p).fails(api.CodeNewPasswordInsecure, asSent(alice.ID, "alice@example.org"))
			bob := f.user("bob", "authenticated", inactive)
			f.changePassNoSession(valid(bob)).fails(api.CodeUserNotFound, asSent(bob.ID, "bob@example.org"))
		}},
		{"changed meanwhile", func(f *fixture) {
			for name, change := range raced(f) {
				u := f.user("raced-"+name, "authenticated")
				p := valid(u)
				ctx := meanwhile(f.t, func() {
					f.update(func(ctx context.Context, tx *store.Tx) error { return change(ctx, tx, u) })
				})
				_, err := f.UserChangePassNoSession(ctx, &p)
				code := codeOf(f.t, api.UserChangePassNoSession.Spec(), err)
				f.seen["user-changepass-nosession"] = append(f.seen["user-changepass-nosession"], code)
				equal(f.t, name, code, api.CodePasswordNotChanged)
			}
		}},
	}
}

func resetScenarios() []scenario {
	return []scenario{
		{"right", func(f *fixture) {
			alice := f.caller("alice", "authenticated")
			f.sessionlessKey(alice.ID)
			anonymous := f.session(store.AnonymousID)
			f.reset("Alice@example.org", otherPassword, anonymous).succeeds()
			f.passwordIs(alice.ID, otherPassword)
			equal(f.t, "session", f.has(alice.session), false)
			equal(f.t, "the session used", f.has(anonymous), true)
			equal(f.t, "session-less keys", f.sessionlessKeys(alice.ID), 0)
			f.reset("alice@example.org", otherPassword, anonymous).succeeds() // the same again is allowed
			own := f.session(alice.ID)
			f.reset("alice@example.org", goodPassword, own).succeeds()
			equal(f.t, "the user's own session", f.has(own), false)
		}},
		{"order of the checks", func(f *fixture) {
			s := f.session(store.AnonymousID)
			f.reset("nobody@example.org", "short", unknownToken).fails(api.CodeSessionNotFound, `{}`)
			f.reset("nobody@example.org", "short", s).fails(api.CodeUserNotFound, `{}`)
			f.user("inactive", "authenticated", inactive)
			f.reset("inactive@example.org", "short", s).fails(api.CodeUserNotFound, `{}`)
			f.reset("dummyuser@localhost", "short", s).fails(api.CodeUserNotFound, `{}`)
			f.reset("anonuser@localhost", "short", s).fails(api.CodeProtectedUser, `{}`)
			f.user("alice", "authenticated")
			f.reset("alice@example.org", "short", s).fails(api.CodeNewPasswordInsecure, `{}`)
			f.reset("alice@example.org", "Some alice Some al", s).fails(api.CodeNewPasswordInsecure, `{}`)
		}},
		{"changed meanwhile", func(f *fixture) {
			for name, change := range raced(f) {
				u, s := f.user("raced-"+name, "authenticated"), f.session(store.AnonymousID)
				ctx := meanwhile(f.t, func() {
					f.update(func(ctx context.Context, tx *store.Tx) error { return change(ctx, tx, u) })
				})
				_, err := f.UserResetPass(ctx, &api.UserResetPassParams{Email: api.Email(u.Email), NewPassword: otherPassword, SessionToken: s})
				code := codeOf(f.t, api.UserResetPass.Spec(), err)
				f.seen["user-resetpass"] = append(f.seen["user-resetpass"], code)
				equal(f.t, name, code, api.CodePasswordNotChanged)
			}
		}},
	}
}

func resetNoSessionScenarios() []scenario {
	return []scenario{
		{"right", func(f *fixture) {
			for active, u := range map[bool]*store.User{true: f.user("alice", "authenticated"), false: f.user("bob", "locked", inactive)} {
				s := f.session(u.ID)
				f.resetNoSession(api.Email(u.Email), otherPassword, !active).fails(api.CodeUserStateWrong, `{}`)
				f.resetNoSession(api.Email(u.Email), otherPassword, active).succeeds()
				f.passwordIs(u.ID, otherPassword)
				equal(f.t, "is_active", f.stored(u.ID).IsActive, active)
				equal(f.t, "session", f.has(s), false)
			}
		}},
		{"order of the checks", func(f *fixture) {
			for _, active := range []bool{true, false} {
				f.resetNoSession("nobody@example.org", "short", active).fails(api.CodeUserStateWrong, `{}`)
			}
			f.resetNoSession("anonuser@localhost", "short", false).fails(api.CodeUserStateWrong, `{}`)
			f.resetNoSession("anonuser@localhost", "short", true).fails(api.CodeProtectedUser, `{}`)
			f.resetNoSession("dummyuser@localhost", "short", false).fails(api.CodeProtectedUser, `{}`)
			f.resetNoSession(adminEmail, "short", true).fails(api.CodeNewPasswordInsecure, `{}`)
			f.resetNoSession(adminEmail, otherPassword, true).succeeds()
		}},
		{"changed meanwhile", func(f *fixture) {
			for name, change := range raced(f) {
				u := f.user("raced-"+name, "authenticated")
				ctx := meanwhile(f.t, func() {
					f.update(func(ctx context.Context, tx *store.Tx) error { return change(ctx, tx, u) })
				})
				_, err := f.UserResetPassNoSession(ctx, &api.UserResetPassNoSessionParams{
					Email: api.Email(u.Email), NewPassword: otherPassword, RequiredActive: true,
				})
				code := codeOf(f.t, api.UserResetPassNoSession.Spec(), err)
				f.seen["user-resetpass-nosession"] = append(f.seen["user-resetpass-nosession"], code)
				equal(f.t, name, code, api.CodePasswordNotChanged)
			}
		}},
	}
}

// TestHashCost counts the hashes of every request that takes an address or a
// password: whoever measures the time must not learn from it who has an
// account, nor in which state it is.
func TestHashCost(t *testing.T) {
	type subject struct {
		id    int64
		email api.Email
	}
	// Each returns how many hashes the request computed.
	requests := map[string]func(f *fixture, s subject, password api.Password) uint64{
		"user-login": func(f *fixture, s subject, password api.Password) uint64 {
			return f.login(f.session(store.AnonymousID), s.email, password).hashes
		},
		"user-passcheck": func(f *fixture, s subject, password api.Password) uint64 {
			token := unknownToken
			if s.id != 99 {
				token = f.session(s.id)
			}
			return f.passcheck(token, password).hashes
		},
		"user-passcheck-nosession": func(f *fixture, s subject, password api.Password) uint64 {
			return f.passcheckNoSession(s.email, password).hashes
		},
		"user-new": func(f *fixture, s subject, password api.Password) uint64 {
			return f.newUser(api.UserNewParams{Email: s.email, Password: password}).hashes
		},
		"user-delete": func(f *fixture, s subject, password api.Password) uint64 {
			return f.userDelete(s.id, s.email, password).hashes
		},
		"user-changepass": func(f *fixture, s subject, password api.Password) uint64 {
			if s.id == 99 { // there is no session of nobody; only the address is unknown
				s.id = f.user("session-user", "authenticated").ID
			}
			return f.changePass(api.UserChangePassParams{
				UserID: s.id, SessionToken: f.session(s.id), Email: s.email, CurrentPassword: password, NewPassword: otherPassword,
			}).hashes
		},
		"user-changepass-nosession": func(f *fixture, s subject, password api.Password) uint64 {
			return f.changePassNoSession(api.UserChangePassNoSessionParams{
				UserID: s.id, Email: s.email, CurrentPassword: password, NewPassword: otherPassword,
			}).hashes
		},
		"user-resetpass": func(f *fixture, s subject, password api.Password) uint64 {
			return f.reset(s.email, password, f.session(store.AnonymousID)).hashes
		},
		"user-resetpass-nosession": func(f *fixture, s subject, password api.Password) uint64 {
			return f.resetNoSession(s.email, password, true).hashes
		},
		"user-validatepass": func(f *fixture, s subject, password api.Password) uint64 {
			return f.validatePass(api.UserValidatePassParams{Password: password, Email: s.email}).hashes
		},
		"user-lookup-email":      func(f *fixture, s subject, _ api.Password) uint64 { return f.lookupEmail(s.email).hashes },
		"user-set-emailverified": func(f *fixture, s subject, _ api.Password) uint64 { return f.setEmailVerified(s.email).hashes },
		"user-set-emailsent":     func(f *fixture, s subject, _ api.Password) uint64 { return f.setEmailSent(s.email, "signup").hashes },
		"user-sendemail-signup": func(f *fixture, s subject, _ api.Password) uint64 {
			return f.sendSignUp(f.signUpMail(&store.User{ID: s.id, Email: string(s.email)})).hashes
		},
		"user-sendemail-forgotpass": func(f *fixture, s subject, _ api.Password) uint64 {
			return f.sendForgotPass(f.forgotPassMail(string(s.email))).hashes
		},
		"user-new-emailtoken": func(f *fixture, s subject, _ api.Password) uint64 {
			return call(f, api.UserNewEmailToken, f.UserNewEmailToken, api.UserNewEmailTokenParams{Email: s.email, Purpose: "forgotpass"}).hashes
		},
		"user-check-emailtoken": func(f *fixture, s subject, _ api.Password) uint64 {
			return f.checkEmailToken(string(s.email), "forgotpass", "x", false).hashes
		},
	}
	var taking []string
	for _, spec := range api.All() {
		if slices.ContainsFunc(spec.Params(), func(p api.Param) bool {
			return strings.Contains(p.Name, "email") && p.Name != "email_type" || strings.Contains(p.Name, "password")
		}) {
			taking = append(taking, spec.Name)
		}
	}
	slices.Sort(taking)
	equal(t, "requests that take an address or a password", slices.Sorted(maps.Keys(requests)), taking)

	for name, run := range requests {
		i := slices.IndexFunc(api.All(), func(s *api.Spec) bool { return s.Name == name })
		for _, password := range []api.Password{goodPassword, "wrong-Password-entirely-5"} {
			f := newFixture(t)
			kinds := map[string]*store.User{
				"active": f.user("active", "authenticated"), "inactive": f.user("inactive", "authenticated", inactive),
				"unverified": f.signUp("unverified"), "locked": f.user("locked", "authenticated"),
			}
			f.internalLock(kinds["locked"].ID, "lock").succeeds()
			unknown := run(f, subject{99, "unknown@example.org"}, password)
			for kind, u := range kinds {
				cost := run(f, subject{u.ID, api.Email(u.Email)}, password)
				if most := uint64(api.All()[i].Hashes); cost > most {
					t.Errorf("%s of an %s user costs %d hashes, declared are %d", name, kind, cost, most)
				}
				// Only who knows the password of an active user can tell.
				if cost != unknown && (kind != "active" || password != goodPassword) {
					t.Errorf("%s of an %s user costs %d hashes, of nobody %d", name, kind, cost, unknown)
				}
			}
		}
	}
}

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		err      error
		want     api.Code
		operator bool
	}{
		{fmt.Errorf("x: %w", api.Fail(api.CodeUserExists)), api.CodeUserExists, false},
		{fmt.Errorf("x: %w", passwd.ErrBusy), api.CodeBusy, false},
		{fmt.Errorf("x: %w", passwd.ErrFailed), api.CodeBusy, true},
		{fmt.Errorf("x: %w", store.ErrUnavailable), api.CodeDatabase, true},
		{fmt.Errorf("x: %w", context.Canceled), api.CodeTimeout, false},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), api.CodeTimeout, false},
		{errors.New("x"), api.CodeInternal, true},
		{fmt.Errorf("x: %w", store.ErrConflict), api.CodeInternal, true},
	} {
		f, operator := action.Classify(test.err)
		if f.Code != test.want || operator != test.operator {
			t.Errorf("%v: %s, operator %t", test.err, f.Code, operator)
		}
		if strings.Contains(f.Error(), "x: ") {
			t.Errorf("%v is told as %v", test.err, f)
		}
	}
}

// TestGivenUp checks what a request whose caller has gone leaves behind.
func TestGivenUp(t *testing.T) {
	f := newFixture(t)
	alice := f.caller("alice", "authenticated")
	before := f.dump()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, spec := range []struct {
		*api.Spec
		do func() error
	}{
		{api.UserLogin.Spec(), func() error {
			_, err := f.UserLogin(ctx, &api.UserLoginParams{SessionToken: alice.session, Email: "alice@example.org", Password: goodPassword})
			return err
		}},
		{api.UserNew.Spec(), func() error {
			p := signUpParams("bob")
			_, err := f.UserNew(ctx, &p)
			return err
		}},
		{api.SessionNew.Spec(), func() error {
			_, err := f.SessionNew(ctx, &api.SessionNewParams{IPAddress: "::1", Expires: "2030-01-01T00:00:00"})
			return err
		}},
		{api.InternalUserLock.Spec(), func() error {
			_, err := f.InternalUserLock(ctx, &api.InternalUserLockParams{TargetUserID: alice.ID, Action: "lock"})
			return err
		}},
	} {
		equal(t, spec.Name, codeOf(t, spec.Spec, spec.do()), api.CodeTimeout)
	}
	equal(t, "database", f.dump(), before)
}

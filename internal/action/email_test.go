package action_test

import (
	"fmt"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/store"
)

func (f *fixture) setEmailVerified(email api.Email) outcome[api.UserSetEmailVerifiedResult] {
	f.t.Helper()
	return call(f, api.UserSetEmailVerified, f.UserSetEmailVerified, api.UserSetEmailVerifiedParams{Email: email})
}

func (f *fixture) setEmailSent(email api.Email, kind string) outcome[api.UserSetEmailSentResult] {
	f.t.Helper()
	return call(f, api.UserSetEmailSent, f.UserSetEmailSent, api.UserSetEmailSentParams{Email: email, EmailType: kind})
}

func emailScenarios() map[string][]scenario {
	const unknown = `{"user_id": null, "is_active": false, "user_role": "locked"}`
	return map[string][]scenario{
		"user-set-emailverified": {
			{"a sign-up", func(f *fixture) {
				u := f.signUp("alice")
				f.clock.advance(time.Hour)
				result := f.setEmailVerified("ALICE@example.org").succeeds()
				equal(f.t, "result", result, api.UserSetEmailVerifiedResult{UserID: &u.ID, IsActive: true, UserRole: "authenticated"})
				now := f.stored(u.ID)
				equal(f.t, "state", []any{now.Role, now.IsActive, now.EmailVerified}, []any{"authenticated", true, true})
				equal(f.t, "first verified", now.FirstVerified, f.clock.Now())
				jsonEqual(f.t, "extra_info", now.ExtraInfo, string(u.ExtraInfo))
				f.clock.advance(time.Hour)
				f.setEmailVerified("alice@example.org").succeeds()
				equal(f.t, "user after a second time", *f.stored(u.ID), *now)
				f.login(f.session(store.AnonymousID), "alice@example.org", goodPassword).succeeds()
			}},
			{"others", func(f *fixture) {
				for _, test := range []struct {
					name, role string
					changes    []func(*store.User)
					verified   bool
				}{
					{"active", "staff", nil, true},
					{"active-but-unverified", "staff", []func(*store.User){unverified}, true},
					{"locked", "locked", []func(*store.User){inactive, withInfo(`{"previous_user_roles": ["locked", "superuser"]}`)}, true},
					{"inactive", "staff", []func(*store.User){inactive}, true},
					{"inactive-and-unverified", "staff", []func(*store.User){inactive, unverified}, false},
				} {
					u := f.user(test.name, test.role, test.changes...)
					result := f.setEmailVerified(api.Email(u.Email)).succeeds()
					equal(f.t, test.name, result, api.UserSetEmailVerifiedResult{UserID: &u.ID, IsActive: u.IsActive, UserRole: u.Role})
					now := f.stored(u.ID)
					equal(f.t, test.name, []any{now.Role, now.IsActive, now.EmailVerified}, []any{u.Role, u.IsActive, test.verified})
				}
				f.setEmailVerified(adminEmail).succeeds()
			}},
			{"a planted history", func(f *fixture) {
				// As an adopted database may have it, before anybody was verified.
				u := f.signUp("alice")
				f.exec(`UPDATE users SET extra_info = '{"previous_user_roles": ["locked", "superuser"]}' WHERE user_id = ?`, u.ID)
				equal(f.t, "role", f.setEmailVerified("alice@example.org").succeeds().UserRole, "authenticated")
			}},
			{"failures", func(f *fixture) {
				f.setEmailVerified("nobody@example.org").fails(api.CodeUserNotFound, unknown)
				f.setEmailVerified("").fails(api.CodeUserNotFound, unknown)
				f.setEmailVerified("anonuser@localhost").fails(api.CodeProtectedUser, unknown)
				f.setEmailVerified("DummyUser@localhost").fails(api.CodeProtectedUser, unknown)
			}},
		},
		"user-set-emailsent": {
			{"dates", func(f *fixture) {
				for _, u := range []*store.User{f.user("alice", "staff"), f.user("bob", "locked", inactive)} {
					f.clock.advance(time.Hour)
					first := f.clock.Now()
					result := f.setEmailSent(api.Email("X" + u.Email)[1:], "signup").succeeds()
					equal(f.t, "sign-up", time.Time(result.EmailVerifySentOn), first)
					equal(f.t, "forgotten", time.Time(result.EmailForgotPassSentOn), time.Time{})
					f.clock.advance(time.Hour)
					o := f.setEmailSent(api.Email(u.Email), "forgotpass")
					o.succeeds()
					equal(f.t, "result", o.keys, map[string]any{
						"email": u.Email, "user_id": float64(u.ID), "is_active": u.IsActive, "user_role": u.Role,
						"emailverify_sent_datetime":     first.Format("2006-01-02T15:04:05.000000"),
						"emailforgotpass_sent_datetime": f.clock.Now().Format("2006-01-02T15:04:05.000000"),
					})
					now := f.stored(u.ID)
					equal(f.t, "stored", []any{now.EmailVerifySent, now.EmailForgotSent, now.IsActive, now.Role},
						[]any{first, f.clock.Now(), u.IsActive, u.Role})
				}
			}},
			{"order of the checks", func(f *fixture) {
				for _, kind := range []string{"", "Signup", "changepass"} {
					f.setEmailSent("nobody@example.org", kind).fails(api.CodeInvalidEmailType, `{}`)
				}
				f.setEmailSent("nobody@example.org", "signup").fails(api.CodeUserNotFound, `{}`)
				f.setEmailSent("anonuser@localhost", "signup").fails(api.CodeProtectedUser, `{}`)
				f.setEmailSent("dummyuser@localhost", "forgotpass").fails(api.CodeProtectedUser, `{}`)
			}},
		},
	}
}

// TestProtectedUsers tries every request that changes a user it is told on the
// users of the system.
func TestProtectedUsers(t *testing.T) {
	f := newFixture(t)
	boss := f.caller("boss", "superuser")
	f.exec("UPDATE users SET password = ? WHERE user_id IN (2, 3)", f.hash(goodPassword))
	for id, email := range map[int64]api.Email{2: "anonuser@localhost", 3: "dummyuser@localhost"} {
		before := *f.stored(id)
		for name, code := range map[string]api.Code{
			"user-delete":               f.userDelete(id, email, goodPassword).code,
			"internal-user-delete":      f.internalUserDelete(id).code,
			"user-edit":                 f.edit(boss, id, `{"full_name": "x"}`).code,
			"internal-user-edit":        f.internalEdit(id, `{"full_name": "x"}`).code,
			"user-lock":                 f.lock(boss, id, "lock").code,
			"user-unlock":               f.lock(boss, id, "unlock").code,
			"internal-user-lock":        f.internalLock(id, "lock").code,
			"internal-user-unlock":      f.internalLock(id, "unlock").code,
			"user-resetpass-nosession":  f.resetNoSession(email, otherPassword, id == 2).code,
			"user-set-emailverified":    f.setEmailVerified(email).code,
			"user-set-emailsent":        f.setEmailSent(email, "signup").code,
			"user-changepass-nosession": f.changePassNoSession(api.UserChangePassNoSessionParams{UserID: id, Email: email, CurrentPassword: goodPassword, NewPassword: otherPassword}).code,
			"user-changepass": f.changePass(api.UserChangePassParams{
				UserID: id, Email: email, CurrentPassword: goodPassword, NewPassword: otherPassword, SessionToken: f.session(id),
			}).code,
		} {
			equal(t, fmt.Sprint(name, " of user ", id), code, api.CodeProtectedUser)
		}
		equal(t, "user", *f.stored(id), before)
	}
}

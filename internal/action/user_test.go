package action_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/store"
)

func (f *fixture) login(t api.SessionToken, email api.Email, password api.Password) outcome[api.UserCheckResult] {
	f.t.Helper()
	return call(f, api.UserLogin, f.UserLogin, api.UserLoginParams{SessionToken: t, Email: email, Password: password})
}

func (f *fixture) logout(t api.SessionToken, id int64) outcome[api.UserLogoutResult] {
	f.t.Helper()
	return call(f, api.UserLogout, f.UserLogout, api.UserLogoutParams{SessionToken: t, UserID: id})
}

func (f *fixture) passcheck(t api.SessionToken, password api.Password) outcome[api.UserCheckResult] {
	f.t.Helper()
	return call(f, api.UserPasscheck, f.UserPasscheck, api.UserPasscheckParams{SessionToken: t, Password: password})
}

func (f *fixture) passcheckNoSession(email api.Email, password api.Password) outcome[api.UserCheckResult] {
	f.t.Helper()
	return call(f, api.UserPasscheckNoSession, f.UserPasscheckNoSession, api.UserPasscheckNoSessionParams{Email: email, Password: password})
}

func (f *fixture) newUser(p api.UserNewParams) outcome[api.UserNewResult] {
	f.t.Helper()
	return call(f, api.UserNew, f.UserNew, p)
}

func (f *fixture) userDelete(id int64, email api.Email, password api.Password) outcome[api.UserDeleteResult] {
	f.t.Helper()
	return call(f, api.UserDelete, f.UserDelete, api.UserDeleteParams{UserID: id, Email: email, Password: password})
}

func (f *fixture) internalUserDelete(id int64) outcome[api.InternalUserDeleteResult] {
	f.t.Helper()
	return call(f, api.InternalUserDelete, f.InternalUserDelete, api.InternalUserDeleteParams{TargetUserID: id})
}

// listed makes a function that returns the users of one that yields them.
func listed[P any](do func(context.Context, *P, *api.UserListResult, func(*api.UserInfo) error) error) func(context.Context, *P) (api.UserListResult, error) {
	return func(ctx context.Context, params *P) (api.UserListResult, error) {
		result := api.UserListResult{UserInfo: []api.UserInfo{}}
		err := do(ctx, params, &result, func(info *api.UserInfo) error {
			result.UserInfo = append(result.UserInfo, *info)
			return nil
		})
		if err != nil {
			return api.UserListResult{}, err
		}
		return result, nil
	}
}

func (f *fixture) userList(id api.Null[api.UserRef]) outcome[api.UserListResult] {
	f.t.Helper()
	return call(f, api.UserList, listed(f.UserList), api.UserListParams{UserID: id})
}

func (f *fixture) lookupEmail(email api.Email) outcome[api.UserInfoResult] {
	f.t.Helper()
	return call(f, api.UserLookupEmail, f.UserLookupEmail, api.UserLookupEmailParams{Email: email})
}

func (f *fixture) lookupMatch(by, match string) outcome[api.UserListResult] {
	f.t.Helper()
	return call(f, api.UserLookupMatch, listed(f.UserLookupMatch), api.UserLookupMatchParams{By: by, Match: api.Any(match)})
}

// withGroup makes the database refuse to delete a user.
func (f *fixture) withGroup(id int64) {
	f.t.Helper()
	f.exec(`INSERT INTO groups (group_id, system_id, group_name, visibility, created_by, is_active, created_on, last_updated, group_role)
		VALUES (?1, 'g', 'g', 'public', ?1, 1, '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', 'authenticated')`, id)
}

// The keys of a refused login, and of a refused sign-up.
const (
	nobody   = `{"user_id": null}`
	noSignUp = `{"user_email": null, "user_id": null, "system_id": null, "send_verification": false}`
)

func userScenarios() map[string][]scenario {
	return map[string][]scenario{
		"user-login":               loginScenarios(),
		"user-new":                 signUpScenarios(),
		"user-lookup-match":        lookupScenarios(),
		"user-passcheck":           passcheckScenarios(),
		"user-passcheck-nosession": passcheckNoSessionScenarios(),
		"user-delete":              deleteScenarios(),
		"user-logout": {
			{"all", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				s := f.session(alice.ID)
				f.sessionKey(alice.ID, s)
				f.logout(unknownToken, 7).fails(api.CodeSessionNotFound, `{"user_id": 7}`)
				f.logout(s, 2).fails(api.CodeSessionUserMismatch, `{"user_id": 2}`)
				equal(f.t, "user_id", f.logout(s, alice.ID).succeeds().UserID, alice.ID)
				equal(f.t, "session", f.has(s), false)
				equal(f.t, "keys", f.count("SELECT count(*) FROM apikeys"), 0)
				f.logout(s, alice.ID).fails(api.CodeSessionNotFound, fmt.Sprintf(`{"user_id": %d}`, alice.ID))
				f.logout(f.session(store.AnonymousID), store.AnonymousID).succeeds()
			}},
		},
		"internal-user-delete": {
			{"all", func(f *fixture) {
				alice := f.user("alice", "staff")
				s := f.session(alice.ID)
				f.sessionKey(alice.ID, s)
				f.sessionlessKey(alice.ID)
				equal(f.t, "user_id", f.internalUserDelete(alice.ID).succeeds().UserID, alice.ID)
				equal(f.t, "user", f.stored(alice.ID), (*store.User)(nil))
				equal(f.t, "session", f.has(s), false)
				equal(f.t, "keys", f.count("SELECT (SELECT count(*) FROM apikeys) + (SELECT count(*) FROM apikeys_nosession)"), 0)
				f.internalUserDelete(alice.ID).succeeds() // a second time
				f.internalUserDelete(-5).succeeds()
				if bob := f.user("bob", "staff"); bob.ID <= alice.ID {
					f.t.Errorf("the id %d was given out again", bob.ID)
				}
			}},
			{"protected", func(f *fixture) {
				f.internalUserDelete(2).fails(api.CodeProtectedUser, `{}`)
				f.internalUserDelete(3).fails(api.CodeProtectedUser, `{}`)
				f.internalUserDelete(1).fails(api.CodeLastSuperuser, `{}`)
				for _, change := range []func(*store.User){inactive, unverified} {
					f.user("no-help", "superuser", change, func(u *store.User) { u.Email = u.SystemID + "@example.org" })
					f.internalUserDelete(1).fails(api.CodeLastSuperuser, `{}`)
				}
				f.user("another", "superuser")
				f.internalUserDelete(1).succeeds()
			}},
			{"referred to", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				f.session(alice.ID)
				f.withGroup(alice.ID)
				f.internalUserDelete(alice.ID).fails(api.CodeUserDeleteFailed, `{}`)
			}},
		},
		"user-list": {
			{"all", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				var ids []int64
				for _, u := range f.userList(api.Null[api.UserRef]{}).succeeds().UserInfo {
					ids = append(ids, u.UserID)
				}
				equal(f.t, "ids", ids, []int64{1, 2, 3, alice.ID})
				o := f.userList(api.Of(api.UserRef(alice.ID)))
				o.succeeds()
				equal(f.t, "user_info", o.keys["user_info"], any([]any{map[string]any{
					"user_id": float64(alice.ID), "system_id": alice.SystemID, "full_name": "Some alice", "email": "alice@example.org",
					"email_verified": true, "is_active": true, "last_login_try": nil, "last_login_success": nil,
					"failed_login_tries": 0.0, "created_on": "2026-02-03T04:05:06.000789", "last_updated": "2026-02-03T04:05:06.000789",
					"user_role": "authenticated", "extra_info": nil, "emailverify_sent_datetime": nil,
					"emailforgotpass_sent_datetime": nil, "emailchangepass_sent_datetime": nil,
				}}))
				for _, id := range []api.UserRef{0, -1, 99, api.MaxInteger} {
					o := f.userList(api.Of(id))
					o.succeeds()
					equal(f.t, "user_info", o.keys["user_info"], any([]any{}))
				}
			}},
			{"with stored JSON that is none", func(f *fixture) {
				f.exec("UPDATE users SET extra_info = ? WHERE user_id = 3", `{"a": NaN}`)
				users := f.userList(api.Null[api.UserRef]{}).succeeds().UserInfo
				if len(users) != 3 || users[2].ExtraInfo != nil || users[1].ExtraInfo == nil {
					f.t.Errorf("%d users, the last with %s", len(users), users[2].ExtraInfo)
				}
			}},
		},
		"user-lookup-email": {
			{"all", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				equal(f.t, "exact", f.lookupEmail("alice@example.org").succeeds().UserInfo.UserID, alice.ID)
				equal(f.t, "normalised", f.lookupEmail("ALICE@Example.ORG").succeeds().UserInfo.UserID, alice.ID)
				for _, email := range []api.Email{"", "alic@example.org", "alice@example.org ", "x"} {
					f.lookupEmail(email).fails(api.CodeUserNotFound, `{"user_info": null}`)
				}
			}},
			{"two that differ in letter case", func(f *fixture) {
				upper := f.user("one", "authenticated", withEmail("Twin@example.org"))
				lower := f.user("two", "authenticated", withEmail("twin@example.org"))
				equal(f.t, "upper", f.lookupEmail("Twin@example.org").succeeds().UserInfo.UserID, upper.ID)
				equal(f.t, "lower", f.lookupEmail("twin@example.org").succeeds().UserInfo.UserID, lower.ID)
				f.lookupEmail("TWIN@example.org").fails(api.CodeUserNotFound, `{"user_info": null}`)
			}},
		},
	}
}

func loginScenarios() []scenario {
	return []scenario{
		{"right", func(f *fixture) {
			alice := f.user("alice", "staff")
			s := f.session(store.AnonymousID)
			f.clock.advance(time.Minute)
			result := f.login(s, "alice@example.org", goodPassword).succeeds()
			equal(f.t, "user_id", *result.UserID, alice.ID)
			equal(f.t, "user_role", result.UserRole, "staff")
			equal(f.t, "session", f.has(s), false)
			now := f.stored(alice.ID)
			equal(f.t, "last_login_try", now.LastLoginTry, f.clock.Now())
			equal(f.t, "last_login_success", now.LastLoginOK, f.clock.Now())
			equal(f.t, "last_updated", now.LastUpdated, alice.LastUpdated)
			equal(f.t, "password", now.PasswordHash, alice.PasswordHash)
		}},
		{"wrong", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			s := f.session(store.AnonymousID)
			f.sessionKey(store.AnonymousID, s)
			f.clock.advance(time.Minute)
			f.login(s, "alice@example.org", otherPassword).fails(api.CodeInvalidCredentials, nobody)
			equal(f.t, "session", f.has(s), false)
			equal(f.t, "keys", f.count("SELECT count(*) FROM apikeys"), 0)
			now := f.stored(alice.ID)
			equal(f.t, "last_login_try", now.LastLoginTry, f.clock.Now())
			equal(f.t, "last_login_success", now.LastLoginOK, time.Time{})
			f.login(s, "alice@example.org", goodPassword).fails(api.CodeSessionNotFound, nobody)
		}},
		{"without a session", func(f *fixture) {
			f.user("alice", "authenticated")
			f.login(unknownToken, "alice@example.org", goodPassword).fails(api.CodeSessionNotFound, nobody)
			f.login(unknownToken, "nobody@example.org", goodPassword).fails(api.CodeSessionNotFound, nobody)
			s := f.session(store.AnonymousID)
			f.clock.advance(24 * time.Hour)
			f.login(s, "alice@example.org", goodPassword).fails(api.CodeSessionNotFound, nobody)
			equal(f.t, "the expired session", f.has(s), true)
		}},
		{"states", func(f *fixture) {
			for _, test := range []struct {
				name    string
				role    string
				changes []func(*store.User)
				want    api.Code
			}{
				{"inactive", "authenticated", []func(*store.User){inactive}, api.CodeInvalidCredentials},
				{"unverified", "authenticated", []func(*store.User){unverified}, api.CodeInvalidCredentials},
				{"neither", "locked", []func(*store.User){inactive, unverified}, api.CodeInvalidCredentials},
				{"inactive-and-locked", "locked", []func(*store.User){inactive}, api.CodeInvalidCredentials},
				{"locked", "locked", nil, api.CodeUserLocked},
			} {
				u := f.user(test.name, test.role, test.changes...)
				s := f.session(store.AnonymousID)
				keys := nobody
				if test.want == api.CodeUserLocked {
					keys = fmt.Sprintf(`{"user_id": %d}`, u.ID)
				}
				f.login(s, api.Email(u.Email), goodPassword).fails(test.want, keys)
				equal(f.t, test.name+": session", f.has(s), false)
				equal(f.t, test.name+": last_login_success", f.stored(u.ID).LastLoginOK, time.Time{})
				f.login(f.session(store.AnonymousID), api.Email(u.Email), otherPassword).fails(api.CodeInvalidCredentials, nobody)
			}
			f.login(f.session(store.AnonymousID), "nobody@example.org", goodPassword).fails(api.CodeInvalidCredentials, nobody)
			f.login(f.session(store.AnonymousID), "", "").fails(api.CodeInvalidCredentials, nobody)
			f.login(f.session(store.AnonymousID), "anonuser@localhost", "").fails(api.CodeInvalidCredentials, nobody)
		}},
		{"address exactly, then normalised", func(f *fixture) {
			upper := f.user("one", "authenticated", withEmail("Twin@example.org"), withHash(f.hash(otherPassword)))
			lower := f.user("two", "authenticated", withEmail("twin@example.org"))
			single := f.user("three", "authenticated", withEmail("Single@Example.org"))
			for _, test := range []struct {
				email    api.Email
				password api.Password
				want     int64
			}{
				{"Twin@example.org", otherPassword, upper.ID},
				{"twin@example.org", goodPassword, lower.ID},
				{"SINGLE@example.ORG", goodPassword, single.ID},
			} {
				equal(f.t, "user", *f.login(f.session(store.AnonymousID), test.email, test.password).succeeds().UserID, test.want)
			}
			f.login(f.session(store.AnonymousID), "Twin@example.org", goodPassword).fails(api.CodeInvalidCredentials, nobody)
			f.login(f.session(store.AnonymousID), "TWIN@example.org", goodPassword).fails(api.CodeInvalidCredentials, nobody)
		}},
		{"outdated hash", func(f *fixture) {
			const old = "$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds"
			const phrase = "пароль ☃ 😀"
			alice := f.user("alice", "authenticated", withHash(old))
			f.login(f.session(store.AnonymousID), "alice@example.org", "wrong").fails(api.CodeInvalidCredentials, nobody)
			equal(f.t, "hash after a wrong password", f.stored(alice.ID).PasswordHash, old)
			f.passcheckNoSession("alice@example.org", phrase).succeeds()
			equal(f.t, "hash after a check", f.stored(alice.ID).PasswordHash, old)
			o := f.login(f.session(store.AnonymousID), "alice@example.org", phrase)
			o.succeeds()
			equal(f.t, "hashes", o.hashes, 2)
			now := f.stored(alice.ID).PasswordHash
			if !strings.HasPrefix(now, "$argon2id$v=19$"+f.Passwords.Params().String()+"$") {
				f.t.Errorf("the hash was not replaced: %s", now)
			}
			o = f.login(f.session(store.AnonymousID), "alice@example.org", phrase)
			o.succeeds()
			equal(f.t, "hashes of the second login", o.hashes, 1)
			equal(f.t, "hash after the second login", f.stored(alice.ID).PasswordHash, now)
		}},
		{"outdated hash replaced by another login meanwhile", func(f *fixture) {
			const old = "$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds"
			const phrase = "пароль ☃ 😀"
			alice := f.user("alice", "authenticated", withHash(old))
			replaced, err := f.Passwords.Replace(f.t.Context(), old, phrase)
			if err != nil {
				f.t.Fatal(err)
			}
			ctx := meanwhile(f.t, func() {
				f.update(func(ctx context.Context, tx *store.Tx) error { return tx.SetPassword(ctx, alice.ID, old, replaced) })
			})
			callIn(ctx, f, api.UserLogin, f.UserLogin, api.UserLoginParams{
				SessionToken: f.session(store.AnonymousID), Email: "alice@example.org", Password: phrase,
			}).succeeds()
			equal(f.t, "hash", f.stored(alice.ID).PasswordHash, replaced)
		}},
		{"outdated hash of an inactive user", func(f *fixture) {
			const old = "$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds"
			alice := f.user("alice", "authenticated", withHash(old), inactive)
			f.login(f.session(store.AnonymousID), "alice@example.org", "пароль ☃ 😀").fails(api.CodeInvalidCredentials, nobody)
			equal(f.t, "hash", f.stored(alice.ID).PasswordHash, old)
		}},
		{"hash of the first 256 characters", func(f *fixture) {
			long := strings.Repeat("long pässword with 32 characters", 9)
			alice := f.user("alice", "authenticated", withHash(f.hash(string([]rune(long)[:256]))))
			f.login(f.session(store.AnonymousID), "alice@example.org", api.Password("x"+long)).fails(api.CodeInvalidCredentials, nobody)
			f.login(f.session(store.AnonymousID), "alice@example.org", api.Password(long)).succeeds()
			if f.stored(alice.ID).PasswordHash == alice.PasswordHash {
				f.t.Error("the hash was not replaced")
			}
			// Now the whole of it counts.
			f.login(f.session(store.AnonymousID), "alice@example.org", api.Password(string([]rune(long)[:256]))).fails(api.CodeInvalidCredentials, nobody)
			f.login(f.session(store.AnonymousID), "alice@example.org", api.Password(long)).succeeds()
		}},
		{"stored hash that is none", func(f *fixture) {
			f.user("alice", "authenticated", withHash("plain text"))
			f.login(f.session(store.AnonymousID), "alice@example.org", "plain text").fails(api.CodeInvalidCredentials, nobody)
		}},
		{"changed while the password was checked", func(f *fixture) {
			for name, change := range map[string]func(context.Context, *store.Tx, *store.User) error{
				"password": func(ctx context.Context, tx *store.Tx, u *store.User) error {
					return tx.SetPassword(ctx, u.ID, u.PasswordHash, f.hash(otherPassword))
				},
				"lock": func(ctx context.Context, tx *store.Tx, u *store.User) error {
					u.IsActive, u.Role = false, "locked"
					return tx.UpdateUser(ctx, u)
				},
				"role": func(ctx context.Context, tx *store.Tx, u *store.User) error {
					u.Role = "anonymous"
					return tx.UpdateUser(ctx, u)
				},
				"delete": func(ctx context.Context, tx *store.Tx, u *store.User) error {
					_, err := tx.DeleteUser(ctx, u.ID)
					return err
				},
			} {
				u := f.user("raced-"+name, "authenticated")
				s := f.session(store.AnonymousID)
				ctx := meanwhile(f.t, func() {
					f.update(func(ctx context.Context, tx *store.Tx) error { return change(ctx, tx, u) })
				})
				callIn(ctx, f, api.UserLogin, f.UserLogin, api.UserLoginParams{SessionToken: s, Email: api.Email(u.Email), Password: goodPassword}).
					fails(api.CodeInvalidCredentials, nobody)
				equal(f.t, name+": session", f.has(s), false)
				if now := f.stored(u.ID); now != nil {
					equal(f.t, name+": last_login_success", now.LastLoginOK, time.Time{})
				}
			}
		}},
	}
}

func passcheckScenarios() []scenario {
	return []scenario{
		{"all", func(f *fixture) {
			alice := f.user("alice", "staff")
			s := f.session(alice.ID)
			result := f.passcheck(s, goodPassword).succeeds()
			equal(f.t, "user_id", *result.UserID, alice.ID)
			equal(f.t, "user_role", result.UserRole, "staff")
			f.passcheck(s, otherPassword).fails(api.CodeInvalidCredentials, nobody)
			f.passcheck(unknownToken, goodPassword).fails(api.CodeSessionNotFound, nobody)
			f.passcheck(f.session(store.AnonymousID), goodPassword).fails(api.CodeInvalidCredentials, nobody)
			f.passcheck(f.session(f.user("unverified", "authenticated", unverified).ID), goodPassword).succeeds()
		}},
		{"locked", func(f *fixture) {
			for _, u := range []*store.User{f.user("locked", "locked"), f.user("inactive", "authenticated", inactive)} {
				s := f.session(u.ID)
				f.passcheck(s, otherPassword).fails(api.CodeInvalidCredentials, nobody)
				f.passcheck(s, goodPassword).fails(api.CodeUserLocked, fmt.Sprintf(`{"user_id": %d}`, u.ID))
			}
		}},
	}
}

func passcheckNoSessionScenarios() []scenario {
	return []scenario{
		{"all", func(f *fixture) {
			alice := f.user("alice", "staff")
			result := f.passcheckNoSession("Alice@example.org", goodPassword).succeeds()
			equal(f.t, "user_id", *result.UserID, alice.ID)
			equal(f.t, "user_role", result.UserRole, "staff")
			f.passcheckNoSession("alice@example.org", otherPassword).fails(api.CodeInvalidCredentials, nobody)
			f.passcheckNoSession("nobody@example.org", goodPassword).fails(api.CodeInvalidCredentials, nobody)
			f.user("unverified", "authenticated", unverified)
			f.passcheckNoSession("unverified@example.org", goodPassword).succeeds()
		}},
		{"locked", func(f *fixture) {
			for _, u := range []*store.User{f.user("locked", "locked"), f.user("inactive", "authenticated", inactive)} {
				f.passcheckNoSession(api.Email(u.Email), otherPassword).fails(api.CodeInvalidCredentials, nobody)
				f.passcheckNoSession(api.Email(u.Email), goodPassword).fails(api.CodeUserLocked, fmt.Sprintf(`{"user_id": %d}`, u.ID))
			}
		}},
	}
}

func signUpParams(name string, changes ...func(*api.UserNewParams)) api.UserNewParams {
	p := api.UserNewParams{FullName: "Some " + name, Email: api.Email(name + "@example.org"), Password: goodPassword}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func signUpScenarios() []scenario {
	info := func(text string) func(*api.UserNewParams) {
		return func(p *api.UserNewParams) { p.ExtraInfo = api.Some(api.Of(api.Object(text))) }
	}
	systemID := func(id string) func(*api.UserNewParams) {
		return func(p *api.UserNewParams) { p.SystemID = api.Some(api.Of(id)) }
	}
	wait := func(hours int64) func(*api.UserNewParams) {
		return func(p *api.UserNewParams) { p.VerifyRetryWait = api.Some(api.Of(hours)) }
	}
	return []scenario{
		{"new", func(f *fixture) {
			result := f.newUser(signUpParams("Alice", func(p *api.UserNewParams) { p.FullName = " O'Neill  <b> " })).succeeds()
			equal(f.t, "user_email", *result.UserEmail, "alice@example.org")
			equal(f.t, "send_verification", result.SendVerification, true)
			u := f.stored(*result.UserID)
			equal(f.t, "system_id", u.SystemID, *result.SystemID)
			if len(u.SystemID) != 36 {
				f.t.Errorf("system_id %q is no UUID", u.SystemID)
			}
			equal(f.t, "user", *u, store.User{
				ID: 4, SystemID: u.SystemID, FullName: ptr("O&#x27;Neill &lt;b&gt;"), PasswordHash: u.PasswordHash,
				Email: "alice@example.org", EmailVerifySent: f.clock.Now(), CreatedOn: f.clock.Now(), LastUpdated: f.clock.Now(),
				Role: "locked", ExtraInfo: []byte(`{"provenance": "request-created", "type": "normal-user", "verify_retry_wait": 6}`),
			})
			verified, err := f.Passwords.Verify(f.t.Context(), u.PasswordHash, goodPassword, nil)
			if err != nil || !verified.Match {
				f.t.Errorf("the stored hash does not match: %v", err)
			}
		}},
		{"extra_info", func(f *fixture) {
			for sent, want := range map[string]string{
				`{}`: `{"provenance": "request-created", "type": "normal-user", "verify_retry_wait": 6}`,
				`{"a": {"b": [1, 2.50, null]}, "type": "root", "provenance": 1, "verify_retry_wait": 999, "previous_user_roles": ["superuser"]}`: `{"a": {"b": [1, 2.5, null]},
					"provenance": "request-created", "type": "normal-user", "verify_retry_wait": 6}`,
				`{"Previous_User_Roles": 1, "é": "\u00e9"}`: `{"Previous_User_Roles": 1, "é": "é", "provenance": "request-created", "type": "normal-user", "verify_retry_wait": 6}`,
			} {
				name := fmt.Sprintf("user-%d", len(sent))
				result := f.newUser(signUpParams(name, info(sent))).succeeds()
				jsonEqual(f.t, sent, f.stored(*result.UserID).ExtraInfo, want)
			}
			result := f.newUser(signUpParams("null", func(p *api.UserNewParams) { p.ExtraInfo = api.Some(api.Null[api.Object]{}) })).succeeds()
			jsonEqual(f.t, "null", f.stored(*result.UserID).ExtraInfo, `{"provenance": "request-created", "type": "normal-user", "verify_retry_wait": 6}`)
		}},
		{"verify_retry_wait", func(f *fixture) {
			for sent, want := range map[int64]string{-3: "1", 0: "1", 1: "1", 48: "48", 87600: "87600"} {
				result := f.newUser(signUpParams(fmt.Sprintf("wait%d", sent), wait(sent))).succeeds()
				jsonEqual(f.t, fmt.Sprint(sent), f.stored(*result.UserID).ExtraInfo,
					`{"provenance": "request-created", "type": "normal-user", "verify_retry_wait": `+want+`}`)
			}
		}},
		{"system_id", func(f *fixture) {
			result := f.newUser(signUpParams("alice", systemID("my-id"))).succeeds()
			equal(f.t, "system_id", *result.SystemID, "my-id")
			equal(f.t, "stored", f.stored(*result.UserID).SystemID, "my-id")
			f.newUser(signUpParams("bob", systemID("my-id"))).fails(api.CodeSystemIDExists, noSignUp)
			for i, change := range []func(*api.UserNewParams){
				systemID(""), func(p *api.UserNewParams) { p.SystemID = api.Some(api.Null[string]{}) },
			} {
				result := f.newUser(signUpParams(fmt.Sprint("generated", i), change)).succeeds()
				equal(f.t, "length of the generated one", len(*result.SystemID), 36)
			}
			// The address is looked at first, and the existing id is told.
			o := f.newUser(signUpParams("alice", systemID("my-id")))
			o.fails(api.CodeUserExists, fmt.Sprintf(`{"user_email": "alice@example.org", "user_id": %d, "system_id": "my-id", "send_verification": false}`, *result.UserID))
		}},
		{"order of the checks", func(f *fixture) {
			f.signUp("taken")
			email := func(e api.Email) func(*api.UserNewParams) { return func(p *api.UserNewParams) { p.Email = e } }
			name := func(n string) func(*api.UserNewParams) { return func(p *api.UserNewParams) { p.FullName = n } }
			password := func(w api.Password) func(*api.UserNewParams) { return func(p *api.UserNewParams) { p.Password = w } }
			for _, bad := range []api.Email{"", "x", "a@b@c", "admin@example.org", "ADMIN@example.org", "x@0-mail.com", "x@example.org\n", " x@example.org", "’@example.org"} {
				f.newUser(signUpParams("x", email(bad), name("see http://x"), password("short"))).fails(api.CodeInvalidEmail, noSignUp)
			}
			for _, bad := range []string{"a@b@c", "see http://x", "x://", "www.example.com", "bIt.Ly/now", strings.Repeat("n", 281)} {
				f.newUser(signUpParams("taken", name(bad), password("short"))).fails(api.CodeInvalidFullName, noSignUp)
			}
			f.newUser(signUpParams("Taken", password("short"))).fails(api.CodeInvalidPassword, `{"user_email": "taken@example.org", "user_id": null, "system_id": null, "send_verification": false}`)
			f.newUser(signUpParams("taken", systemID("dummy"))).fails(api.CodeUserExists, f.existing("taken@example.org"))
		}},
		{"messages of the password policy", func(f *fixture) {
			p := signUpParams("alice", func(p *api.UserNewParams) { p.Password = "1111" })
			_, err := f.UserNew(f.t.Context(), &p)
			var failure *api.Failure
			if !errors.As(err, &failure) || len(failure.Messages) != 3 { // short, repeated, digits
				f.t.Errorf("%v with %d messages, want three", err, len(failure.Messages))
			}
			p.Password = "Some alice Some al"
			f.newUser(p).fails(api.CodeInvalidPassword, `{"user_email": "alice@example.org", "user_id": null, "system_id": null, "send_verification": false}`)
		}},
		{"users of the system", func(f *fixture) {
			for id, email := range map[int64]string{1: adminEmail, 2: "anonuser@localhost", 3: "dummyuser@localhost"} {
				f.clock.advance(1000 * time.Hour)
				u := f.stored(id)
				f.newUser(signUpParams("x", func(p *api.UserNewParams) { p.Email = api.Email(email) })).fails(api.CodeUserExists,
					fmt.Sprintf(`{"user_email": %q, "user_id": %d, "system_id": %q, "send_verification": false}`, email, id, u.SystemID))
			}
		}},
		{"two that differ in letter case", func(f *fixture) {
			f.user("one", "authenticated", withEmail("Twin@example.org"))
			f.user("two", "authenticated", withEmail("TWIN@example.org"))
			f.newUser(signUpParams("twin")).fails(api.CodeUserExists,
				`{"user_email": "twin@example.org", "user_id": null, "system_id": null, "send_verification": false}`)
		}},
		{"without the role", func(f *fixture) {
			f.exec("DELETE FROM roles WHERE name = 'locked'")
			f.newUser(signUpParams("alice")).fails(api.CodeUserCreateFailed, noSignUp)
			equal(f.t, "the next id", f.count("SELECT last_id FROM user_id_sequence"), 3)
		}},
	}
}

// existing returns the keys of a refused sign-up for a user who exists.
func (f *fixture) existing(email string) string {
	u := f.lookupEmail(api.Email(email)).succeeds().UserInfo
	return fmt.Sprintf(`{"user_email": %q, "user_id": %d, "system_id": %q, "send_verification": false}`, email, u.UserID, u.SystemID)
}

func deleteScenarios() []scenario {
	asSent := func(id int64, email string) string { return fmt.Sprintf(`{"user_id": %d, "email": %q}`, id, email) }
	return []scenario{
		{"right", func(f *fixture) {
			for i, change := range []func(*store.User){func(*store.User) {}, inactive, unverified, func(u *store.User) { u.Role = "locked" }} {
				u := f.user(fmt.Sprint("user", i), "authenticated", change)
				s, email := f.session(u.ID), api.Email(strings.ToUpper(u.Email))
				f.sessionlessKey(u.ID)
				result := f.userDelete(u.ID, email, goodPassword).succeeds()
				equal(f.t, "result", result, api.UserDeleteResult{UserID: u.ID, Email: email})
				equal(f.t, "user", f.stored(u.ID), (*store.User)(nil))
				equal(f.t, "session", f.has(s), false)
				equal(f.t, "keys", f.sessionlessKeys(u.ID), 0)
			}
		}},
		{"order of the checks", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			boss := f.user("boss", "superuser")
			f.userDelete(99, "alice@example.org", goodPassword).fails(api.CodeUserNotFound, asSent(99, "alice@example.org"))
			f.userDelete(alice.ID, "boss@example.org", goodPassword).fails(api.CodeUserNotFound, asSent(alice.ID, "boss@example.org"))
			f.userDelete(alice.ID, "alice@example.org", "x").fails(api.CodeInvalidPassword, asSent(alice.ID, "alice@example.org"))
			f.userDelete(boss.ID, "boss@example.org", "x").fails(api.CodeInvalidPassword, asSent(boss.ID, "boss@example.org"))
			f.userDelete(boss.ID, "boss@example.org", goodPassword).fails(api.CodeSuperuserKept, asSent(boss.ID, "boss@example.org"))
			f.exec("UPDATE users SET password = ? WHERE user_id IN (2, 3)", f.hash(goodPassword))
			f.userDelete(2, "anonuser@localhost", goodPassword).fails(api.CodeProtectedUser, asSent(2, "anonuser@localhost"))
			f.userDelete(3, "dummyuser@localhost", goodPassword).fails(api.CodeProtectedUser, asSent(3, "dummyuser@localhost"))
		}},
		{"referred to", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			f.session(alice.ID)
			f.withGroup(alice.ID)
			f.userDelete(alice.ID, "alice@example.org", goodPassword).fails(api.CodeUserDeleteFailed, asSent(alice.ID, "alice@example.org"))
		}},
		{"changed while the password was checked", func(f *fixture) {
			for name, test := range map[string]struct {
				change func(context.Context, *store.Tx, *store.User) error
				want   api.Code
			}{
				"password": {func(ctx context.Context, tx *store.Tx, u *store.User) error {
					return tx.SetPassword(ctx, u.ID, u.PasswordHash, f.hash(otherPassword))
				}, api.CodeInvalidPassword},
				"role": {func(ctx context.Context, tx *store.Tx, u *store.User) error {
					u.Role = "superuser"
					return tx.UpdateUser(ctx, u)
				}, api.CodeSuperuserKept},
				"delete": {func(ctx context.Context, tx *store.Tx, u *store.User) error {
					_, err := tx.DeleteUser(ctx, u.ID)
					return err
				}, api.CodeUserNotFound},
			} {
				u := f.user("raced-"+name, "authenticated")
				ctx := meanwhile(f.t, func() {
					f.update(func(ctx context.Context, tx *store.Tx) error { return test.change(ctx, tx, u) })
				})
				p := api.UserDeleteParams{UserID: u.ID, Email: api.Email(u.Email), Password: goodPassword}
				_, err := f.UserDelete(ctx, &p)
				equal(f.t, name, codeOf(f.t, api.UserDelete.Spec(), err), test.want)
			}
		}},
	}
}

func lookupScenarios() []scenario {
	ids := func(f *fixture, by, match string) []int64 {
		f.t.Helper()
		found := []int64{}
		for _, u := range f.lookupMatch(by, match).succeeds().UserInfo {
			found = append(found, u.UserID)
		}
		return found
	}
	const invalid = `{"user_info": null}`
	return []scenario{
		{"every field", func(f *fixture) {
			f.clock.advance(time.Hour)
			u := f.user("alice", "staff", withInfo(`{"a": 1}`), func(u *store.User) {
				at := f.clock.Now()
				u.EmailVerifySent, u.EmailForgotSent, u.EmailChangeSent = at.Add(time.Minute), at.Add(2*time.Minute), at.Add(3*time.Minute)
				u.LastLoginOK, u.LastLoginTry = at.Add(4*time.Minute), at.Add(5*time.Minute)
				u.FailedLogins = 7
			})
			only := []int64{u.ID}
			for by, match := range map[string]string{
				"user_id":                       fmt.Sprint(u.ID),
				"system_id":                     `"` + u.SystemID + `"`,
				"full_name":                     `"Some \u0061lice"`,
				"email":                         ` "Alice@Example.org" `,
				"user_role":                     `"staff"`,
				"failed_login_tries":            "7",
				"created_on":                    `"2026-02-03T05:05:06.000789"`,
				"last_updated":                  `"2026-02-03T05:05:06.000789Z"`,
				"emailverify_sent_datetime":     `"2026-02-03T07:06:06.000789+02:00"`,
				"emailforgotpass_sent_datetime": `"2026-2-3T5:7:6.000789"`,
				"emailchangepass_sent_datetime": `"2026-02-03T05:08:06.000789"`,
				"last_login_success":            `"2026-02-03T05:09:06.000789"`,
				"last_login_try":                `"2026-02-03T05:10:06.000789"`,
				"extra_info":                    `{"a": 1.0}`,
			} {
				equal(f.t, by, ids(f, by, match), only)
			}
			equal(f.t, "user_id as text", ids(f, "user_id", fmt.Sprintf("%q", fmt.Sprint(u.ID))), only)
			equal(f.t, "is_active", ids(f, "is_active", "false"), []int64{3})
			equal(f.t, "is_active", ids(f, "is_active", "true"), []int64{1, 2, u.ID})
			equal(f.t, "email_verified", ids(f, "email_verified", "false"), []int64{})
			// Null fields match nothing, and what nobody has is no failure.
			equal(f.t, "nobody", ids(f, "last_login_try", `"2000-01-01T00:00:00"`), []int64{})
			equal(f.t, "nobody", ids(f, "full_name", `""`), []int64{})
			equal(f.t, "nobody", ids(f, "email", `"nobody@example.org"`), []int64{})
			equal(f.t, "nobody", ids(f, "user_role", `"no such role"`), []int64{})
			equal(f.t, "letter case", ids(f, "full_name", `"some alice"`), []int64{})
		}},
		{"every field with every type that it has not", func(f *fixture) {
			kinds := map[string]string{
				"true": "true", "int": "7", "fraction": "7.5", "text": `"text"`, "array": "[]", "full array": "[1]",
				"object": "{}", "full object": `{"a": 1}`, "date": `"2026-02-03T05:10:06"`,
			}
			accepted := map[string][]string{
				"user_id": {"int"}, "failed_login_tries": {"int"}, "is_active": {"true"}, "email_verified": {"true"},
				"system_id": {"text", "date"}, "full_name": {"text", "date"}, "user_role": {"text", "date"}, "email": {"text", "date"},
				"extra_info": {"full object"},
			}
			for _, by := range []string{
				"created_on", "last_updated", "emailverify_sent_datetime", "emailforgotpass_sent_datetime",
				"emailchangepass_sent_datetime", "last_login_success", "last_login_try",
			} {
				accepted[by] = []string{"date"}
			}
			equal(f.t, "fields", len(accepted), 16)
			for by, names := range accepted {
				for name, match := range kinds {
					suits := false
					for _, n := range names {
						suits = suits || n == name
					}
					if suits {
						f.lookupMatch(by, match).succeeds()
					} else {
						f.lookupMatch(by, match).fails(api.CodeInvalidMatch, invalid)
					}
				}
			}
		}},
		{"what is no field", func(f *fixture) {
			for _, by := range []string{"", "password", "email_normalized", "first_verified", "User_ID", "1", "user_id; --", `"x"`, "rowid"} {
				f.lookupMatch(by, `"x"`).fails(api.CodeInvalidMatch, invalid)
				f.lookupMatch(by, `{"a": 1}`).fails(api.CodeInvalidMatch, invalid)
			}
		}},
		{"extra_info by JSON equality", func(f *fixture) {
			u := f.user("alice", "staff", withInfo(`{"s": "x\u00e9", "n": 100, "f": 0.5, "t": true, "z": null, "o": {"b": [1, 2], "a": 1}, "l": [1, 2]}`))
			f.user("bob", "staff", withInfo(`{"s": "y", "n": "100"}`))
			f.user("carol", "staff")
			f.user("dave", "staff", withInfo(`[1]`))
			for match, found := range map[string]bool{
				`{"s": "xé"}`: true, `{"s": "x\u00E9"}`: true, `{"s": "x"}`: false,
				`{"n": 1e2}`: true, `{"n": 100.0}`: true, `{"n": 101}`: false, `{"n": true}`: false, `{"f": 5e-1}`: true,
				`{"t": true}`: true, `{"t": 1}`: false, `{"t": "true"}`: false,
				`{"z": null}`: true, `{"absent": null}`: false,
				`{"o": {"a": 1, "b": [1, 2]}}`: true, `{"o": {"a": 1}}`: false, `{"o": {"a": 1, "b": [2, 1]}}`: false,
				`{"l": [1, 2]}`: true, `{"l": [1]}`: false, `{"l": [1, 2], "t": true}`: true, `{"l": [1, 2], "t": false}`: false,
				`{"S": "xé"}`: false,
			} {
				want := []int64{}
				if found {
					want = append(want, u.ID)
				}
				equal(f.t, match, ids(f, "extra_info", match), want)
			}
			equal(f.t, "type", ids(f, "extra_info", `{"type": "system-user"}`), []int64{1, 2})
		}},
		{"extra_info that is not JSON", func(f *fixture) {
			f.exec("UPDATE users SET extra_info = ? WHERE user_id = 1", `{"type": "system-user", "a": NaN}`)
			equal(f.t, "type", ids(f, "extra_info", `{"type": "system-user"}`), []int64{2})
		}},
	}
}

// TestSignUp walks through every state that a user can be in, with every event.
func TestSignUp(t *testing.T) {
	again := signUpParams("alice", func(p *api.UserNewParams) {
		p.FullName, p.Password = "Another Name", otherPassword
		p.ExtraInfo = api.Some(api.Of(api.Object(`{"second": true, "previous_user_roles": ["superuser"]}`)))
		p.VerifyRetryWait = api.Some(api.Of(int64(1)))
	})
	// Each state is that of a user alice whose last mail was sent just now.
	states := map[string]func(f *fixture) *store.User{
		"unverified": func(f *fixture) *store.User { return f.signUp("alice") },
		"active": func(f *fixture) *store.User {
			u := f.signUp("alice")
			f.setEmailVerified("alice@example.org").succeeds()
			return f.stored(u.ID)
		},
		"locked": func(f *fixture) *store.User {
			u := f.signUp("alice")
			f.setEmailVerified("alice@example.org").succeeds()
			f.internalEdit(u.ID, `{"user_role": "staff"}`).succeeds()
			f.internalLock(u.ID, "lock").succeeds()
			return f.stored(u.ID)
		},
		"locked before it was verified": func(f *fixture) *store.User {
			u := f.signUp("alice")
			f.internalLock(u.ID, "lock").succeeds()
			return f.stored(u.ID)
		},
		"made inactive": func(f *fixture) *store.User {
			u := f.signUp("alice")
			f.setEmailVerified("alice@example.org").succeeds()
			f.internalEdit(u.ID, `{"is_active": false, "email_verified": false}`).succeeds()
			return f.stored(u.ID)
		},
	}
	type after struct {
		role             string
		active, verified bool
	}
	same := func(u *store.User) after { return after{u.Role, u.IsActive, u.EmailVerified} }
	signUpAgain := func(later time.Duration, send bool) func(*fixture, *store.User) {
		return func(f *fixture, u *store.User) {
			f.clock.advance(later)
			f.newUser(again).fails(api.CodeUserExists, fmt.Sprintf(
				`{"user_email": "alice@example.org", "user_id": %d, "system_id": %q, "send_verification": %t}`, u.ID, u.SystemID, send))
		}
	}
	setVerified := func(f *fixture, _ *store.User) { f.setEmailVerified("alice@example.org").succeeds() }
	lock := func(f *fixture, u *store.User) { f.internalLock(u.ID, "lock").succeeds() }
	unlock := func(f *fixture, u *store.User) { f.internalLock(u.ID, "unlock").succeeds() }
	reset := func(active bool) func(*fixture, *store.User) {
		return func(f *fixture, _ *store.User) {
			f.resetNoSession("alice@example.org", otherPassword, active).succeeds()
		}
	}
	locked, activeUser := after{"locked", false, false}, after{"authenticated", true, true}
	lockedUser, inactiveUser := after{"locked", false, true}, after{"authenticated", false, false}
	const long = 10_000 * time.Hour
	for _, test := range []struct {
		state, event string
		do           func(*fixture, *store.User)
		want         after
	}{
		{"unverified", "sign-up within the wait", signUpAgain(6*time.Hour, false), locked},
		{"unverified", "sign-up after the wait", signUpAgain(6*time.Hour+time.Microsecond, true), locked},
		{"unverified", "verified", setVerified, activeUser},
		{"unverified", "lock", lock, locked},
		{"unverified", "unlock", unlock, locked},
		{"unverified", "reset", reset(false), locked},
		{"active", "sign-up", signUpAgain(long, false), activeUser},
		{"active", "verified", setVerified, activeUser},
		{"active", "lock", lock, lockedUser},
		{"active", "unlock", unlock, activeUser},
		{"active", "reset", reset(true), activeUser},
		{"locked", "sign-up", signUpAgain(long, false), lockedUser},
		{"locked", "verified", setVerified, lockedUser},
		{"locked", "lock", lock, lockedUser},
		{"locked", "unlock", unlock, after{"staff", true, true}},
		{"locked", "reset", reset(false), lockedUser},
		{"locked before it was verified", "sign-up", signUpAgain(6*time.Hour+time.Microsecond, true), locked},
		{"locked before it was verified", "verified", setVerified, activeUser},
		{"made inactive", "sign-up", signUpAgain(long, false), inactiveUser},
		{"made inactive", "verified", setVerified, inactiveUser},
		{"made inactive", "unlock", unlock, inactiveUser},
	} {
		t.Run(test.state+"/"+test.event, func(t *testing.T) {
			f := newFixture(t)
			u := states[test.state](f)
			f.clock.advance(time.Second)
			f.update(func(ctx context.Context, tx *store.Tx) error {
				u, err := tx.User(ctx, u.ID)
				if err != nil {
					return err
				}
				u.EmailVerifySent = tx.Now()
				return tx.UpdateUser(ctx, u)
			})
			test.do(f, u)
			if got := same(f.stored(u.ID)); got != test.want {
				t.Errorf("the user is %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestSignUpReplaces checks what a repeated sign-up changes and what it keeps.
func TestSignUpReplaces(t *testing.T) {
	f := newFixture(t)
	first := f.newUser(signUpParams("Alice", func(p *api.UserNewParams) {
		p.ExtraInfo = api.Some(api.Of(api.Object(`{"first": true}`)))
		p.VerifyRetryWait = api.Some(api.Of(int64(48)))
	})).succeeds()
	old := f.stored(*first.UserID)
	squatter := f.session(old.ID)
	f.sessionlessKey(old.ID)
	again := signUpParams("alice", func(p *api.UserNewParams) {
		p.FullName, p.Password = "Another Name", otherPassword
		p.ExtraInfo = api.Some(api.Of(api.Object(`{"second": true, "previous_user_roles": ["superuser"]}`)))
		p.VerifyRetryWait = api.Some(api.Of(int64(2)))
		p.SystemID = api.Some(api.Of("ignored"))
	})
	f.clock.advance(47 * time.Hour) // longer than the second wait, shorter than the first
	if f.newUser(again).result.SendVerification {
		t.Error("the wait that was promised first was cut short")
	}
	f.clock.advance(2 * time.Hour)
	o := f.newUser(again)
	if o.code != api.CodeUserExists || !o.result.SendVerification {
		t.Fatalf("code %s, send_verification %t", o.code, o.result.SendVerification)
	}
	now := f.stored(old.ID)
	equal(t, "user", *now, store.User{
		ID: old.ID, SystemID: old.SystemID, FullName: ptr("Another Name"), PasswordHash: now.PasswordHash, Email: "alice@example.org",
		EmailVerifySent: f.clock.Now(), CreatedOn: old.CreatedOn, LastUpdated: f.clock.Now(), Role: "locked",
		ExtraInfo: []byte(`{"second": true, "provenance": "request-created", "type": "normal-user", "verify_retry_wait": 2}`),
	})
	f.passcheckNoSession("alice@example.org", goodPassword).fails(api.CodeInvalidCredentials, nobody)
	f.passcheckNoSession("alice@example.org", otherPassword).fails(api.CodeUserLocked, fmt.Sprintf(`{"user_id": %d}`, old.ID))
	equal(t, "a session of the first sign-up", f.has(squatter), false)
	equal(t, "keys of the first sign-up", f.sessionlessKeys(old.ID), 0)
	// The clock started again.
	f.clock.advance(2 * time.Hour)
	equal(t, "send_verification", f.newUser(again).result.SendVerification, false)
	f.clock.advance(time.Microsecond)
	equal(t, "send_verification", f.newUser(again).result.SendVerification, true)
	// So it does when the frontend says that it has sent a mail.
	f.clock.advance(3 * time.Hour)
	f.setEmailSent("alice@example.org", "signup").succeeds()
	equal(t, "send_verification", f.newUser(again).result.SendVerification, false)
}

// TestSignUpStoredWait checks waits that an adopted database may hold.
func TestSignUpStoredWait(t *testing.T) {
	for stored, replaced := range map[string]bool{
		`{"verify_retry_wait": 9999999999}`:           false, // overflows a duration
		`{"verify_retry_wait": 2147483647}`:           false,
		`{"verify_retry_wait": -9223372036854775808}`: true,
		`{"verify_retry_wait": "12"}`:                 true,
		`{"verify_retry_wait": NaN}`:                  true,
		`{}`:                                          true,
		`[]`:                                          true,
	} {
		f := newFixture(t)
		u := f.signUp("alice")
		f.exec("UPDATE users SET extra_info = ? WHERE user_id = ?", stored, u.ID)
		f.clock.advance(100 * time.Hour)
		equal(t, stored, f.newUser(signUpParams("alice")).result.SendVerification, replaced)
	}
	f := newFixture(t)
	u := f.signUp("alice")
	f.exec("UPDATE users SET emailverify_sent_datetime = NULL WHERE user_id = ?", u.ID)
	f.clock.advance(100 * time.Hour)
	equal(t, "without a date", f.newUser(signUpParams("alice")).result.SendVerification, false)
}

// TestStrangersSeeOneAnswer has a stranger send a wrong password for accounts in all states,
// with every request that takes an address and a password.
func TestStrangersSeeOneAnswer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.user("known", "authenticated")
	f.user("locked", "locked", inactive)
	f.user("inactive", "authenticated", inactive)
	f.signUp("unverified")
	seen := map[string][]string{}
	note := func(request string, err error) {
		failure, _ := action.Classify(err)
		seen[request] = append(seen[request], strings.Join(failure.Messages, " "))
	}
	for _, name := range []string{"known", "locked", "inactive", "unverified", "nobody"} {
		email, id := api.Email(name+"@example.org"), int64(99)
		if o := f.lookupEmail(email); o.code == "" {
			id = o.result.UserInfo.UserID
		}
		_, err := f.UserLogin(t.Context(), &api.UserLoginParams{SessionToken: f.session(store.AnonymousID), Email: email, Password: wrongPassword})
		note("user-login", err)
		_, err = f.UserPasscheckNoSession(t.Context(), &api.UserPasscheckNoSessionParams{Email: email, Password: wrongPassword})
		note("user-passcheck-nosession", err)
		_, err = f.UserChangePassNoSession(t.Context(), &api.UserChangePassNoSessionParams{UserID: id, Email: email, CurrentPassword: wrongPassword, NewPassword: otherPassword})
		note("user-changepass-nosession", err)
		_, err = f.UserDelete(t.Context(), &api.UserDeleteParams{UserID: id, Email: email, Password: wrongPassword})
		note("user-delete", err)
		_, err = f.UserResetPassNoSession(t.Context(), &api.UserResetPassNoSessionParams{
			Email: email, NewPassword: otherPassword, RequiredActive: true, VerificationToken: api.Given(api.Of(api.Secret("none"))),
		})
		note("user-resetpass-nosession", err)
	}
	for request, texts := range seen {
		if len(texts) != 5 || len(slices.Compact(slices.Sorted(slices.Values(texts)))) != 1 {
			t.Errorf("%s tells accounts apart: %q", request, texts)
		}
	}
}

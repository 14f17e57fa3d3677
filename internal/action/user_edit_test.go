package action_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
)

// A caller is a user with a session, for requests that check who asks.
type caller struct {
	*store.User
	session api.SessionToken
}

func (f *fixture) caller(name, role string, changes ...func(*store.User)) caller {
	f.t.Helper()
	u := f.user(name, role, changes...)
	return caller{u, f.session(u.ID)}
}

func (f *fixture) edit(c caller, target int64, update string) outcome[api.UserInfoResult] {
	f.t.Helper()
	return f.editAs(c.ID, c.Role, c.session, target, update)
}

func (f *fixture) editAs(id int64, role string, t api.SessionToken, target int64, update string) outcome[api.UserInfoResult] {
	f.t.Helper()
	return call(f, api.UserEdit, f.UserEdit,
		api.UserEditParams{UserID: id, UserRole: role, SessionToken: t, TargetUserID: target, UpdateDict: api.Object(update)})
}

func (f *fixture) internalEdit(target int64, update string) outcome[api.UserInfoResult] {
	f.t.Helper()
	return call(f, api.InternalUserEdit, f.InternalUserEdit, api.InternalUserEditParams{TargetUserID: target, UpdateDict: api.Object(update)})
}

func (f *fixture) lock(c caller, target int64, action string) outcome[api.UserInfoResult] {
	f.t.Helper()
	return f.lockAs(c.ID, c.Role, c.session, target, action)
}

func (f *fixture) lockAs(id int64, role string, t api.SessionToken, target int64, action string) outcome[api.UserInfoResult] {
	f.t.Helper()
	return call(f, api.UserLock, f.UserLock,
		api.UserLockParams{UserID: id, UserRole: role, SessionToken: t, TargetUserID: target, Action: action})
}

func (f *fixture) internalLock(target int64, action string) outcome[api.UserInfoResult] {
	f.t.Helper()
	return call(f, api.InternalUserLock, f.InternalUserLock, api.InternalUserLockParams{TargetUserID: target, Action: action})
}

// history returns extra_info.previous_user_roles.
func history(u *store.User) []string {
	var info struct {
		Roles []string `json:"previous_user_roles"`
	}
	if json.Unmarshal(u.ExtraInfo, &info) != nil {
		return nil
	}
	return info.Roles
}

const noUser = `{"user_info": null}`

func userEditScenarios() map[string][]scenario {
	return map[string][]scenario{
		"user-edit":          editScenarios(),
		"internal-user-edit": internalEditScenarios(),
		"user-lock":          lockScenarios(),
		"internal-user-lock": internalLockScenarios(),
	}
}

func editScenarios() []scenario {
	return []scenario{
		{"self", func(f *fixture) {
			for _, role := range []string{"authenticated", "staff"} {
				c := f.caller(role, role)
				f.clock.advance(time.Minute)
				o := f.edit(c, c.ID, `{"full_name": "New <Name>", "email": "New-`+role+`@Example.org"}`)
				result := o.succeeds()
				now := f.stored(c.ID)
				equal(f.t, "name", *now.FullName, "New &lt;Name&gt;")
				equal(f.t, "email", now.Email, "new-"+role+"@example.org")
				equal(f.t, "email_verified", now.EmailVerified, true)
				equal(f.t, "last_updated", now.LastUpdated, f.clock.Now())
				equal(f.t, "result", result.UserInfo.Email, api.Email(now.Email))
				f.edit(c, c.ID, `{"full_name": null}`).succeeds()
				equal(f.t, "name", f.stored(c.ID).FullName, (*string)(nil))
				f.clock.advance(time.Minute)
				f.edit(c, c.ID, `{}`).succeeds()
				equal(f.t, "last_updated", f.stored(c.ID).LastUpdated, f.clock.Now())
				for _, field := range []string{"is_active", "user_role", "email_verified", "extra_info", "password", "user_id", "Email", ""} {
					f.edit(c, c.ID, `{"full_name": "x", "`+field+`": true}`).fails(api.CodeFieldsNotEditable, noUser)
				}
			}
		}},
		{"self in other roles", func(f *fixture) {
			f.policy = policyWithRole(f.t, "curator")
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.AddRoles(ctx, f.policy.Roles()) })
			for _, role := range []string{"anonymous", "locked", "curator"} {
				c := f.caller(role, role)
				f.edit(c, c.ID, `{"full_name": "x"}`).fails(api.CodeNotPermitted, noUser)
			}
			boss := f.caller("boss", "superuser")
			f.edit(boss, boss.ID, `{"full_name": "x", "email_verified": true}`).succeeds()
			f.edit(boss, boss.ID, `{"user_role": "curator"}`).succeeds() // there is still user 1
			f.edit(boss, boss.ID, `{"full_name": "x"}`).fails(api.CodeSessionInvalid, noUser)
		}},
		{"somebody else", func(f *fixture) {
			boss, staff, alice := f.caller("boss", "superuser"), f.caller("staff", "staff"), f.caller("alice", "authenticated")
			for _, c := range []caller{staff, alice} {
				f.edit(c, boss.ID, `{"full_name": "x"}`).fails(api.CodeNotPermitted, noUser)
			}
			f.edit(boss, alice.ID, `{"full_name": "A", "email": "a@example.org", "user_role": "staff", "email_verified": false}`).succeeds()
			now := f.stored(alice.ID)
			equal(f.t, "role", now.Role, "staff")
			equal(f.t, "email_verified", now.EmailVerified, false)
			equal(f.t, "session", f.has(alice.session), true)
			f.edit(boss, alice.ID, `{"is_active": false}`).succeeds()
			equal(f.t, "is_active", f.stored(alice.ID).IsActive, false)
			equal(f.t, "session of the one made inactive", f.has(alice.session), false)
			f.edit(boss, alice.ID, `{"is_active": true}`).succeeds()
			for _, field := range []string{"extra_info", "password", "system_id", "last_updated", "user_id"} {
				f.edit(boss, alice.ID, `{"full_name": "x", "`+field+`": {}}`).fails(api.CodeFieldsNotEditable, noUser)
			}
		}},
		{"order of the checks", func(f *fixture) {
			boss, alice := f.caller("boss", "superuser"), f.caller("alice", "authenticated")
			f.editAs(alice.ID, "authenticated", unknownToken, 2, `{"x": 1}`).fails(api.CodeProtectedUser, noUser)
			f.editAs(3, "authenticated", unknownToken, 3, `{"x": 1}`).fails(api.CodeProtectedUser, noUser)
			f.editAs(alice.ID, "nothing", unknownToken, alice.ID, `{"x": 1}`).fails(api.CodeNotPermitted, noUser)
			f.editAs(alice.ID, "authenticated", unknownToken, alice.ID, `{"x": 1}`).fails(api.CodeSessionInvalid, noUser)
			f.editAs(boss.ID, "superuser", unknownToken, 99, `{"x": 1}`).fails(api.CodeSessionInvalid, noUser)
			f.edit(boss, 99, `{"x": 1, "user_role": "nothing"}`).fails(api.CodeFieldsNotEditable, noUser)
			f.edit(boss, 99, `{"email": "bad", "user_role": "nothing"}`).fails(api.CodeUnknownRole, noUser)
			f.edit(boss, 99, `{"email": "bad"}`).fails(api.CodeUpdateFailed, noUser)
		}},
		{"sessions that are not the caller's", func(f *fixture) {
			boss, alice, bob := f.caller("boss", "superuser"), f.caller("alice", "authenticated"), f.caller("bob", "authenticated")
			update := `{"full_name": "x"}`
			f.editAs(alice.ID, "authenticated", bob.session, alice.ID, update).fails(api.CodeSessionInvalid, noUser)
			f.editAs(alice.ID, "staff", alice.session, alice.ID, update).fails(api.CodeSessionInvalid, noUser)
			f.editAs(alice.ID, "superuser", alice.session, bob.ID, update).fails(api.CodeSessionInvalid, noUser)
			f.editAs(boss.ID, "superuser", alice.session, bob.ID, update).fails(api.CodeSessionInvalid, noUser)
			f.editAs(2, "superuser", f.session(2), bob.ID, update).fails(api.CodeSessionInvalid, noUser)
			f.edit(f.caller("inactive", "superuser", inactive), bob.ID, update).fails(api.CodeSessionInvalid, noUser)
			f.clock.advance(24 * time.Hour)
			f.edit(boss, bob.ID, update).fails(api.CodeSessionInvalid, noUser)
		}},
		{"values", editValues(func(f *fixture) (int64, func(string) outcome[api.UserInfoResult]) {
			boss, target := f.caller("boss", "superuser"), f.user("target", "authenticated")
			return target.ID, func(update string) outcome[api.UserInfoResult] { f.t.Helper(); return f.edit(boss, target.ID, update) }
		})},
		{"addresses nobody may sign up with", func(f *fixture) {
			boss, alice := f.caller("boss", "superuser"), f.caller("alice", "authenticated")
			for _, email := range []string{"admin@example.org", "x@0-mail.com"} {
				f.edit(alice, alice.ID, `{"email": "`+email+`"}`).fails(api.CodeInvalidEmail, noUser)
				f.edit(boss, alice.ID, `{"email": "`+email+`"}`).fails(api.CodeInvalidEmail, noUser)
			}
			f.edit(boss, 1, `{"email": "`+adminEmail+`", "full_name": "x"}`).succeeds() // unchanged
			old := f.caller("old", "authenticated", withEmail("Admin@Example.org"))
			f.edit(old, old.ID, `{"email": "Admin@Example.org", "full_name": "x"}`).succeeds()
		}},
		{"the last superuser", func(f *fixture) {
			boss := caller{f.stored(1), f.session(1)}
			for _, update := range []string{
				`{"user_role": "staff"}`, `{"user_role": "locked"}`, `{"is_active": false}`, `{"email_verified": false}`,
				`{"full_name": "x", "email_verified": false}`,
			} {
				f.edit(boss, 1, update).fails(api.CodeLastSuperuser, noUser)
			}
			f.edit(boss, 1, `{"user_role": "superuser", "is_active": true, "email_verified": true, "full_name": "x"}`).succeeds()
			another := f.caller("another", "superuser")
			f.edit(another, 1, `{"user_role": "staff"}`).succeeds()
			f.edit(another, another.ID, `{"is_active": false}`).fails(api.CodeLastSuperuser, noUser)
		}},
	}
}

// editValues tries values that any edit accepts or refuses. prepare returns
// the target, who is authenticated, and how to edit it.
func editValues(prepare func(f *fixture) (int64, func(string) outcome[api.UserInfoResult])) func(*fixture) {
	return func(f *fixture) {
		taken := f.user("taken", "authenticated", withEmail("Taken@example.org"))
		target, edit := prepare(f)
		for field, values := range map[string][]string{
			"full_name":      {`1`, `true`, `[]`, `{}`},
			"email":          {`null`, `1`, `[]`, `{}`, `false`},
			"user_role":      {`null`, `1`, `["staff"]`, `{}`, `true`},
			"is_active":      {`null`, `1`, `0`, `"true"`, `[]`, `{}`},
			"email_verified": {`null`, `1`, `0`, `""`, `[]`, `{}`},
		} {
			for _, value := range values {
				edit(`{"`+field+`": `+value+`}`).fails(api.CodeUpdateFailed, noUser)
			}
		}
		for _, email := range []string{"", "x", "a@b@c", `x@example.org\n`, "’@example.org", strings.Repeat("x", 281) + "@example.org"} {
			edit(`{"email": "`+email+`"}`).fails(api.CodeInvalidEmail, noUser)
		}
		for _, name := range []string{"http://x", "www.example.com", "a@b@c", strings.Repeat("n", 281)} {
			edit(`{"full_name": "`+name+`"}`).fails(api.CodeInvalidFullName, noUser)
		}
		for _, email := range []string{"Taken@example.org", "taken@example.org", "TAKEN@EXAMPLE.ORG"} {
			edit(`{"email": "`+email+`"}`).fails(api.CodeUserExists, noUser)
		}
		for _, role := range []string{"", "Staff", "nothing", "superuser "} {
			edit(`{"user_role": "`+role+`"}`).fails(api.CodeUnknownRole, noUser)
		}
		edit(`{"email": "TARGET@example.org"}`).succeeds()
		equal(f.t, "email", f.stored(target).Email, "target@example.org")
		edit(`{"user_role": "superuser", "full_name": ""}`).succeeds()
		now := f.stored(target)
		equal(f.t, "role", now.Role, "superuser")
		equal(f.t, "name", *now.FullName, "")
		equal(f.t, "the other user", *f.stored(taken.ID), *taken)
	}
}

func internalEditScenarios() []scenario {
	return []scenario{
		{"order of the checks", func(f *fixture) {
			f.internalEdit(2, `{}`).fails(api.CodeEmptyUpdate, noUser)
			f.internalEdit(99, ` { } `).fails(api.CodeEmptyUpdate, noUser)
			for _, field := range []string{
				"user_id", "system_id", "password", "emailverify_sent_datetime", "emailforgotpass_sent_datetime",
				"emailchangepass_sent_datetime", "last_login_success", "last_login_try", "failed_login_tries", "created_on",
				"last_updated", "Email", "previous_user_roles", "unknown",
			} {
				f.internalEdit(2, `{"email": "bad", "`+field+`": 1}`).fails(api.CodeFieldsNotEditable, noUser)
			}
			f.internalEdit(2, `{"full_name": "x"}`).fails(api.CodeProtectedUser, noUser)
			f.internalEdit(3, `{"full_name": "x"}`).fails(api.CodeProtectedUser, noUser)
			f.internalEdit(99, `{"user_role": "nothing"}`).fails(api.CodeUserNotFound, noUser)
			f.internalEdit(99, `{"email": "bad"}`).fails(api.CodeUserNotFound, noUser)
		}},
		{"reason names the fields", func(f *fixture) {
			p := api.InternalUserEditParams{TargetUserID: 1, UpdateDict: api.Object(`{"password": 1, "full_name": "x", "a\nb": 2}`)}
			_, err := f.InternalUserEdit(f.t.Context(), &p)
			if err == nil || !strings.HasSuffix(err.Error(), ": password, ab") {
				f.t.Errorf("%v", err)
			}
		}},
		{"values", editValues(func(f *fixture) (int64, func(string) outcome[api.UserInfoResult]) {
			target := f.user("target", "authenticated")
			return target.ID, func(update string) outcome[api.UserInfoResult] {
				f.t.Helper()
				return f.internalEdit(target.ID, update)
			}
		})},
		{"addresses nobody may sign up with", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			f.internalEdit(alice.ID, `{"email": "Admin@Example.org"}`).succeeds()
			equal(f.t, "email", f.stored(alice.ID).Email, "admin@example.org")
		}},
		{"the last superuser", func(f *fixture) {
			for _, update := range []string{`{"user_role": "staff"}`, `{"is_active": false}`, `{"email_verified": false, "extra_info": {"a": 1}}`} {
				f.internalEdit(1, update).fails(api.CodeLastSuperuser, noUser)
			}
			f.user("another", "superuser")
			s := f.session(1)
			f.internalEdit(1, `{"is_active": false}`).succeeds()
			equal(f.t, "session of the one made inactive", f.has(s), false)
		}},
		{"extra_info", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			for _, step := range []struct{ update, want string }{
				{`{"a": 1, "b": "text", "gone": "__delete__"}`, `{"a": 1, "b": "text"}`},
				{`null`, `{"a": 1, "b": "text"}`},
				{`{}`, `{"a": 1, "b": "text"}`},
				{`{"a": "__delete__", "b": null, "c": {"__delete__": "__delete__"}, "d": ["__delete__"]}`, `{"b": null, "c": {"__delete__": "__delete__"}, "d": ["__delete__"]}`},
				{`{"b": "\u005f_delete__", "c": "__delete__", "d": "__delete__"}`, `{}`},
			} {
				result := f.internalEdit(alice.ID, `{"extra_info": `+step.update+`}`).succeeds()
				jsonEqual(f.t, step.update, result.UserInfo.ExtraInfo, step.want)
				jsonEqual(f.t, step.update, f.stored(alice.ID).ExtraInfo, step.want)
			}
		}},
		{"extra_info that cannot be merged", func(f *fixture) {
			alice := f.user("alice", "authenticated", withInfo(`{"previous_user_roles": ["locked", "staff"]}`))
			for _, value := range []string{`1`, `"__delete__"`, `[]`, `true`} {
				f.internalEdit(alice.ID, `{"full_name": "x", "extra_info": `+value+`}`).fails(api.CodeUpdateFailed, noUser)
			}
			for _, value := range []string{`["superuser"]`, `"__delete__"`, `null`} {
				f.internalEdit(alice.ID, `{"full_name": "x", "extra_info": {"a": 1, "previous_user_roles": `+value+`}}`).fails(api.CodeFieldsNotEditable, noUser)
			}
			long := `"` + strings.Repeat("x", 40_000) + `"`
			f.internalEdit(alice.ID, `{"extra_info": {"a": `+long+`}}`).succeeds()
			f.internalEdit(alice.ID, `{"extra_info": {"b": `+long+`}}`).fails(api.CodeUpdateFailed, noUser)
			for _, stored := range []string{`[1]`, `"text"`, `1`, `{"a": NaN}`} {
				f.exec("UPDATE users SET extra_info = ? WHERE user_id = ?", stored, alice.ID)
				f.internalEdit(alice.ID, `{"extra_info": {"a": 1}}`).fails(api.CodeUpdateFailed, noUser)
				f.internalEdit(alice.ID, `{"full_name": "Another", "extra_info": null}`).succeeds()
				equal(f.t, "stored", string(f.stored(alice.ID).ExtraInfo), stored)
			}
		}},
		{"a role that only the policy has", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			f.policy = policyWithRole(f.t, "curator")
			f.internalEdit(alice.ID, `{"user_role": "curator"}`).fails(api.CodeUnknownRole, noUser)
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.AddRoles(ctx, f.policy.Roles()) })
			f.internalEdit(alice.ID, `{"user_role": "curator"}`).succeeds()
		}},
	}
}

func lockScenarios() []scenario {
	return []scenario{
		{"order of the checks", func(f *fixture) {
			boss, staff, alice := f.caller("boss", "superuser"), f.caller("staff", "staff"), f.caller("alice", "authenticated")
			for _, c := range []caller{staff, alice} {
				f.lockAs(c.ID, c.Role, unknownToken, c.ID, "x").fails(api.CodeNotPermitted, noUser)
			}
			f.lockAs(boss.ID, "superuser", unknownToken, boss.ID, "x").fails(api.CodeCannotLockSelf, noUser)
			f.lockAs(2, "superuser", unknownToken, 2, "x").fails(api.CodeCannotLockSelf, noUser)
			for _, action := range []string{"", "x", "Lock", "locked", "unlock "} {
				f.lockAs(boss.ID, "superuser", unknownToken, 2, action).fails(api.CodeInvalidAction, noUser)
			}
			for _, action := range []string{"lock", "unlock"} {
				f.lockAs(boss.ID, "superuser", unknownToken, 2, action).fails(api.CodeProtectedUser, noUser)
				f.lockAs(boss.ID, "superuser", unknownToken, 3, action).fails(api.CodeProtectedUser, noUser)
				f.lockAs(boss.ID, "superuser", unknownToken, 99, action).fails(api.CodeSessionInvalid, noUser)
				f.lock(boss, 99, action).fails(api.CodeLockFailed, noUser)
			}
			f.lockAs(boss.ID, "superuser", alice.session, staff.ID, "lock").fails(api.CodeSessionInvalid, noUser)
			f.lockAs(alice.ID, "superuser", alice.session, staff.ID, "lock").fails(api.CodeSessionInvalid, noUser)
			f.lock(f.caller("inactive", "superuser", inactive), staff.ID, "lock").fails(api.CodeSessionInvalid, noUser)
		}},
		{"lock and unlock", func(f *fixture) {
			boss, alice := f.caller("boss", "superuser"), f.caller("alice", "authenticated")
			equal(f.t, "role", f.lock(boss, alice.ID, "lock").succeeds().UserInfo.UserRole, "locked")
			equal(f.t, "session", f.has(alice.session), false)
			equal(f.t, "role", f.lock(boss, alice.ID, "unlock").succeeds().UserInfo.UserRole, "authenticated")
		}},
		{"the last superuser", func(f *fixture) {
			// Whoever may lock counts as one, unless never verified.
			c := f.caller("unverified", "superuser", unverified)
			f.lock(c, 1, "lock").fails(api.CodeLastSuperuser, noUser)
		}},
	}
}

func internalLockScenarios() []scenario {
	return []scenario{
		{"order of the checks", func(f *fixture) {
			f.internalLock(2, "x").fails(api.CodeInvalidAction, noUser)
			for _, action := range []string{"lock", "unlock"} {
				f.internalLock(2, action).fails(api.CodeProtectedUser, noUser)
				f.internalLock(3, action).fails(api.CodeProtectedUser, noUser)
				f.internalLock(99, action).fails(api.CodeLockFailed, noUser)
			}
			f.internalLock(1, "lock").fails(api.CodeLastSuperuser, noUser)
			f.internalLock(1, "unlock").succeeds()
			f.user("another", "superuser")
			f.internalLock(1, "lock").succeeds()
			f.internalLock(1, "unlock").succeeds()
			equal(f.t, "role", f.stored(1).Role, "superuser")
		}},
		{"history", func(f *fixture) {
			staff := f.user("staff", "staff", withInfo(`{"a": 1}`))
			want := []string{"locked"}
			for range 3 {
				s := f.session(staff.ID)
				f.sessionKey(staff.ID, s)
				f.clock.advance(time.Minute)
				f.internalLock(staff.ID, "lock").succeeds()
				want = append(want, "staff")
				now := f.stored(staff.ID)
				equal(f.t, "history", history(now), want)
				equal(f.t, "state", []any{now.Role, now.IsActive, now.EmailVerified}, []any{"locked", false, true})
				equal(f.t, "last_updated", now.LastUpdated, f.clock.Now())
				equal(f.t, "session", f.has(s), false)
				equal(f.t, "keys", f.count("SELECT count(*) FROM apikeys"), 0)
				// A second lock changes nothing and ends no session.
				s = f.session(staff.ID)
				f.internalLock(staff.ID, "lock").succeeds()
				equal(f.t, "user after a second lock", *f.stored(staff.ID), *now)
				equal(f.t, "session after a second lock", f.has(s), true)
				result := f.internalLock(staff.ID, "unlock").succeeds()
				equal(f.t, "result", []any{result.UserInfo.UserRole, result.UserInfo.IsActive}, []any{"staff", true})
				equal(f.t, "history", history(f.stored(staff.ID)), want)
				before := *f.stored(staff.ID)
				f.internalLock(staff.ID, "unlock").succeeds()
				equal(f.t, "user after a second unlock", *f.stored(staff.ID), before)
			}
			for range 40 {
				f.internalLock(staff.ID, "lock").succeeds()
				f.internalLock(staff.ID, "unlock").succeeds()
			}
			if n := len(history(f.stored(staff.ID))); n != 32 {
				f.t.Errorf("the history has %d roles, want 32", n)
			}
		}},
		{"role that comes back", func(f *fixture) {
			for info, want := range map[string]string{
				`{"previous_user_roles": ["locked", "staff", "superuser"]}`: "superuser",
				`{"previous_user_roles": ["locked", "curator"]}`:            "authenticated", // not in the policy
				`{"previous_user_roles": ["locked"]}`:                       "authenticated",
				`{"previous_user_roles": []}`:                               "authenticated",
				`{"previous_user_roles": "staff"}`:                          "authenticated",
				`{"previous_user_roles": ["staff", 1]}`:                     "authenticated",
				`{"previous_user_roles": ["Staff"]}`:                        "authenticated",
				`{"previous_user_roles": null}`:                             "authenticated",
				`{}`:                                                        "authenticated",
				`{"a": NaN, "previous_user_roles": ["superuser"]}`:          "authenticated",
				`[1]`: "authenticated",
			} {
				u := f.user("x", "locked", inactive, withInfo(info), func(u *store.User) { u.Email = u.SystemID + "@example.org" })
				result := f.internalLock(u.ID, "unlock").succeeds()
				equal(f.t, info, []any{result.UserInfo.UserRole, result.UserInfo.IsActive}, []any{want, true})
				equal(f.t, info, string(f.stored(u.ID).ExtraInfo), info)
			}
			f.policy = policyWithRole(f.t, "curator")
			f.update(func(ctx context.Context, tx *store.Tx) error { return tx.AddRoles(ctx, f.policy.Roles()) })
			u := f.user("y", "curator")
			f.internalLock(u.ID, "lock").succeeds()
			f.internalLock(u.ID, "unlock").succeeds()
			equal(f.t, "role", f.stored(u.ID).Role, "curator")
		}},
		{"never verified", func(f *fixture) {
			u := f.signUp("alice")
			f.internalLock(u.ID, "unlock").succeeds()
			equal(f.t, "user", *f.stored(u.ID), *u)
			f.internalLock(u.ID, "lock").succeeds()
			equal(f.t, "user", *f.stored(u.ID), *u)
		}},
		{"extra_info that cannot take a history", func(f *fixture) {
			u := f.user("alice", "staff")
			s := f.session(u.ID)
			for _, stored := range []string{`[1]`, `"text"`, `1`, `{"a": NaN}`} {
				f.exec("UPDATE users SET extra_info = ? WHERE user_id = ?", stored, u.ID)
				f.internalLock(u.ID, "lock").fails(api.CodeLockFailed, noUser)
			}
			equal(f.t, "session", f.has(s), true)
		}},
	}
}

// policyWithRole returns the default policy with one more role, which may do
// what the role authenticated may.
func policyWithRole(t testing.TB, name string) *policy.Policy {
	t.Helper()
	return changedPolicy(t, func(document map[string]any) {
		document["roles"] = append(document["roles"].([]any), name)
		roles := document["role_policy"].(map[string]any)
		roles[name] = roles["authenticated"]
	})
}

// together runs do in n goroutines and returns what they returned.
func together(n int, do func(i int) api.Code) []api.Code {
	codes := make([]api.Code, n)
	var start, end sync.WaitGroup
	start.Add(1)
	for i := range n {
		end.Go(func() {
			start.Wait()
			codes[i] = do(i)
		})
	}
	start.Done()
	end.Wait()
	return codes
}

func countCode(codes []api.Code, code api.Code) int {
	n := 0
	for _, c := range codes {
		if c == code {
			n++
		}
	}
	return n
}

func TestConcurrentSignUps(t *testing.T) {
	f := newFixture(t)
	codes := together(32, func(i int) api.Code {
		email := "alice@example.org"
		if i%2 == 1 {
			email = "ALICE@Example.org"
		}
		p := signUpParams("alice", func(p *api.UserNewParams) { p.Email = api.Email(email) })
		result, err := f.UserNew(t.Context(), &p)
		if result.UserID == nil || *result.UserID != 4 {
			t.Errorf("user_id is %v", result.UserID)
		}
		return codeOf(t, api.UserNew.Spec(), err)
	})
	equal(t, "successes", countCode(codes, ""), 1)
	equal(t, "user_exists", countCode(codes, api.CodeUserExists), 31)
	equal(t, "users", f.count("SELECT count(*) FROM users"), 4)
}

func TestConcurrentPasswordChanges(t *testing.T) {
	f := newFixture(t)
	alice := f.user("alice", "authenticated")
	codes := together(16, func(i int) api.Code {
		p := api.UserChangePassNoSessionParams{
			UserID: alice.ID, Email: "alice@example.org", CurrentPassword: goodPassword,
			NewPassword: api.Password(fmt.Sprintf("%s-%d", otherPassword, i)),
		}
		_, err := f.UserChangePassNoSession(t.Context(), &p)
		return codeOf(t, api.UserChangePassNoSession.Spec(), err)
	})
	equal(t, "successes", countCode(codes, ""), 1)
	equal(t, "refused", countCode(codes, api.CodePasswordNotChanged)+countCode(codes, api.CodePasswordWrong), 15)
	winner := slices.Index(codes, "")
	f.passcheckNoSession("alice@example.org", api.Password(fmt.Sprintf("%s-%d", otherPassword, winner))).succeeds()
}

func TestConcurrentLocks(t *testing.T) {
	f := newFixture(t)
	alice := f.user("alice", "staff")
	codes := together(32, func(i int) api.Code {
		p := api.InternalUserLockParams{TargetUserID: alice.ID, Action: []string{"lock", "unlock"}[i%2]}
		result, err := f.InternalUserLock(t.Context(), &p)
		if err == nil {
			locked := result.UserInfo.UserRole == "locked" && !result.UserInfo.IsActive
			free := result.UserInfo.UserRole == "staff" && result.UserInfo.IsActive
			if p.Action == "lock" && !locked || p.Action == "unlock" && !free {
				t.Errorf("after %s: %s, active %t", p.Action, result.UserInfo.UserRole, result.UserInfo.IsActive)
			}
		}
		return codeOf(t, api.InternalUserLock.Spec(), err)
	})
	equal(t, "successes", countCode(codes, ""), 32)
	roles := history(f.stored(alice.ID))
	if len(roles) < 2 || roles[0] != "locked" || slices.ContainsFunc(roles[1:], func(r string) bool { return r != "staff" }) {
		t.Errorf("history %v", roles)
	}
}

func TestConcurrentEdits(t *testing.T) {
	f := newFixture(t)
	alice := f.user("alice", "staff")
	s := f.session(alice.ID)
	codes := together(32, func(i int) api.Code {
		info := fmt.Sprintf(`{"key%d": %d}`, i, i)
		user := api.InternalUserEditParams{TargetUserID: alice.ID, UpdateDict: api.Object(`{"extra_info": ` + info + `}`)}
		_, err := f.InternalUserEdit(t.Context(), &user)
		if err != nil {
			return codeOf(t, api.InternalUserEdit.Spec(), err)
		}
		session := api.InternalSessionEditParams{TargetSessionToken: s, UpdateDict: api.Object(info)}
		_, err = f.InternalSessionEdit(t.Context(), &session)
		return codeOf(t, api.InternalSessionEdit.Spec(), err)
	})
	equal(t, "successes", countCode(codes, ""), 32)
	want := map[string]any{}
	for i := range 32 {
		want[fmt.Sprintf("key%d", i)] = float64(i)
	}
	for what, text := range map[string][]byte{
		"user": f.stored(alice.ID).ExtraInfo, "session": f.sessionExists(s).succeeds().SessionInfo.ExtraInfoJSON,
	} {
		var got map[string]any
		err := json.Unmarshal(text, &got)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, what, got, want)
	}
}

// TestLastSuperuserRace lets two superusers take each other's power away.
func TestLastSuperuserRace(t *testing.T) {
	for _, update := range []string{`{"user_role": "staff"}`, `{"is_active": false}`, `{"email_verified": false}`} {
		f := newFixture(t)
		bosses := []caller{{f.stored(1), f.session(1)}, f.caller("boss", "superuser")}
		codes := together(2, func(i int) api.Code {
			p := api.UserEditParams{
				UserID: bosses[i].ID, UserRole: "superuser", SessionToken: bosses[i].session,
				TargetUserID: bosses[1-i].ID, UpdateDict: api.Object(update),
			}
			_, err := f.UserEdit(t.Context(), &p)
			return codeOf(t, api.UserEdit.Spec(), err)
		})
		equal(t, update+": successes", countCode(codes, ""), 1)
		equal(t, update+": superusers", f.count("SELECT count(*) FROM users WHERE user_role = 'superuser' AND is_active AND email_verified"), 1)
	}
	f := newFixture(t)
	boss := f.user("boss", "superuser")
	ids := []int64{1, boss.ID}
	codes := together(2, func(i int) api.Code {
		_, err := f.InternalUserDelete(t.Context(), &api.InternalUserDeleteParams{TargetUserID: ids[i]})
		return codeOf(t, api.InternalUserDelete.Spec(), err)
	})
	equal(t, "deletes", countCode(codes, ""), 1)
	equal(t, "kept", countCode(codes, api.CodeLastSuperuser), 1)
}

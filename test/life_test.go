package test

import "testing"

// A generation is one way in which published clients put requests together.
type generation struct {
	name string
	call func(*server) func(string, params) *reply
	// verified is the request that says that an address was verified.
	verified string
	// setInfo changes a session's extra_info_json to {"basket": 3}.
	setInfo func(token string) (string, params)
}

func generations() []generation {
	return []generation{
		{
			name:     "0.1.3",
			call:     func(s *server) func(string, params) *reply { return s.callOld },
			verified: "user-verify-emailaddr",
			setInfo: func(token string) (string, params) {
				return "session-setinfo", params{"session_token": token, "extra_info": params{"basket": 3}}
			},
		},
		{
			name:     "development line",
			call:     func(s *server) func(string, params) *reply { return s.call },
			verified: "user-set-emailverified",
			setInfo: func(token string) (string, params) {
				return "internal-session-edit", params{
					"target_session_token": token, "update_dict": params{"basket": 3, "visits": "__delete__"},
				}
			},
		},
	}
}

// TestLife follows a user from the first visit to the deleted account.
func TestLife(t *testing.T) {
	t.Parallel()
	for _, g := range generations() {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			live(t, g)
		})
	}
}

func live(t *testing.T, g generation) {
	const (
		email, name   = "Grace.Hopper@navy.example.com", "Grace Hopper"
		first, second = "Nanoseconds-of-wire 1", "A ship in p\u00f3rt is safe 2"
		onOtherKeys   = "A ship in po\u0301rt is safe 2" // the second as another keyboard sends it
		third         = "Amazing-Grace 1906 compiles"
	)
	s := start(t)
	call := g.call(s)
	newSession := func(userID any) string {
		t.Helper()
		r := call("session-new", params{
			"ip_address": "203.0.113.5", "user_agent": "Mark/1 (harvard)", "user_id": userID, "expires": later(),
			"extra_info_json": params{"visits": 1},
		}).ok()
		return r.text("session_token")
	}
	login := func(password string) *reply {
		t.Helper()
		return call("user-login", params{"session_token": newSession(nil), "email": email, "password": password})
	}

	// A visitor is anonymous until signing up.
	anonymous := newSession(nil)
	info := call("session-exists", params{"session_token": anonymous}).ok().object("session_info")
	has(t, info, map[string]any{
		"user_id": 2, "user_role": "anonymous", "is_active": true, "ip_address": "203.0.113.5", "session_token": anonymous,
		"extra_info_json": map[string]any{"visits": 1.0},
	})
	signUp := params{"full_name": name, "email": email, "password": first}
	r := call("user-new", signUp).ok()
	has(t, r.Response, map[string]any{"user_email": "grace.hopper@navy.example.com", "user_id": 4, "send_verification": true})
	id := r.id("user_id")
	again := call("user-new", signUp).failed("user_exists")
	has(t, again.Response, map[string]any{"user_id": id, "send_verification": false})
	login(first).failed("invalid_credentials")
	call("session-exists", params{"session_token": anonymous}).ok()

	// The address is verified, and the user logs in.
	has(t, call(g.verified, params{"email": email}).ok().Response,
		map[string]any{"user_id": id, "is_active": true, "user_role": "authenticated"})
	login("not the password at all").failed("invalid_credentials")
	under := newSession(nil)
	r = call("user-login", params{"session_token": under, "email": email, "password": first}).ok()
	has(t, r.Response, map[string]any{"user_id": id, "user_role": "authenticated"})
	call("session-exists", params{"session_token": under}).failed("session_not_found")
	desktop, phone := newSession(id), newSession(id)
	has(t, call("session-exists", params{"session_token": desktop}).ok().object("session_info"), map[string]any{
		"user_id": id, "user_role": "authenticated", "full_name": name, "email": "grace.hopper@navy.example.com", "email_verified": true,
	})
	call("user-passcheck", params{"session_token": desktop, "password": first}).ok()
	request, body := g.setInfo(desktop)
	has(t, call(request, body).ok().object("session_info"), map[string]any{"extra_info_json": map[string]any{"basket": 3.0}})

	// What the user may do is the policy's.
	access := func(action string, owner int, visibility string) *reply {
		t.Helper()
		return call("user-check-access", params{
			"user_id": id, "user_role": "authenticated", "action": action, "target_name": "dataset", "target_owner": owner,
			"target_visibility": visibility, "target_sharedwith": "",
		})
	}
	access("delete", id, "private").ok()
	access("view", 1, "public").ok()
	access("delete", 1, "public").failed("action_not_permitted")
	limit := params{"user_id": id, "user_role": "authenticated", "limit_name": "max_requests", "value_to_check": 400_000}
	call("user-check-limit", limit).ok()
	limit["value_to_check"] = 600_000
	call("user-check-limit", limit).failed("over_limit")

	// The user edits the account and changes the password.
	edit := params{
		"user_id": id, "user_role": "authenticated", "session_token": desktop, "target_userid": id,
		"update_dict": params{"full_name": "Rear Admiral Hopper"},
	}
	has(t, call("user-edit", edit).ok().object("user_info"), map[string]any{"full_name": "Rear Admiral Hopper", "user_id": id})
	edit["update_dict"] = params{"user_role": "superuser"}
	call("user-edit", edit).failed("fields_not_editable")
	change := params{
		"user_id": id, "session_token": desktop, "full_name": name, "email": email,
		"current_password": first, "new_password": onOtherKeys,
	}
	call("user-changepass", change).ok()
	call("user-changepass", change).failed("current_password_wrong")
	call("session-exists", params{"session_token": desktop}).ok()
	call("session-exists", params{"session_token": phone}).failed("session_not_found")
	login(first).failed("invalid_credentials")
	login(second).ok()
	login(onOtherKeys).ok()

	// A forgotten password is reset, which ends all sessions.
	call("user-resetpass", params{"email_address": email, "new_password": third, "session_token": newSession(nil)}).ok()
	call("session-exists", params{"session_token": desktop}).failed("session_not_found")
	login(second).failed("invalid_credentials")
	has(t, login(third).ok().Response, map[string]any{"user_id": id})

	// A superuser locks the account and unlocks it.
	lock := params{
		"user_id": 1, "user_role": "superuser", "session_token": s.superuser(), "target_userid": id, "action": "lock",
	}
	tablet := newSession(id)
	has(t, call("user-lock", lock).ok().object("user_info"), map[string]any{"user_role": "locked", "is_active": false})
	call("session-exists", params{"session_token": tablet}).failed("session_not_found")
	login(third).failed("invalid_credentials")
	lock["action"] = "unlock"
	has(t, call("user-lock", lock).ok().object("user_info"), map[string]any{"user_role": "authenticated", "is_active": true})
	login(third).ok()

	// The user logs out and leaves for good.
	last, other := newSession(id), newSession(id)
	call("user-logout", params{"session_token": last, "user_id": 1}).failed("session_user_mismatch")
	call("user-logout", params{"session_token": last, "user_id": id}).ok()
	call("user-logout", params{"session_token": last, "user_id": id}).failed("session_not_found")
	leave := params{"email": email, "user_id": id, "password": second}
	call("user-delete", leave).failed("invalid_password")
	leave["password"] = third
	call("user-delete", leave).ok()
	call("session-exists", params{"session_token": other}).failed("session_not_found")
	login(third).failed("invalid_credentials")
	if rows := call("user-list", params{"user_id": id}).ok().Response["user_info"].([]any); len(rows) != 0 {
		t.Errorf("the deleted user is still there: %v", rows)
	}
	if next := call("user-new", signUp).ok().id("user_id"); next <= id {
		t.Errorf("the next user has the id %d, and the deleted one had %d: ids are not used again", next, id)
	}
}

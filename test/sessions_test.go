package test

import "testing"

// TestSessionsForPeople: somebody looks where they are logged in and logs the
// other device out, across a restart of the server.
func TestSessionsForPeople(t *testing.T) {
	t.Parallel()
	dir, secret := t.TempDir(), newKey()
	s := startIn(t, dir, "secret="+secret)
	u, stranger := s.newUser(), s.newUser()
	const agent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
	phone := s.session(u.id)
	laptop := s.call("session-new", params{
		"ip_address": "198.51.100.99", "user_agent": agent, "user_id": u.id, "expires": later(), "extra_info_json": nil,
	}).ok().text("session_token")
	other := s.session(stranger.id)
	s.call("session-exists", params{"session_token": laptop}).ok()
	s.stop() // which writes when the laptop was seen

	s = startIn(t, dir, "secret="+secret)
	s.hide(phone, laptop, other, agent, "198.51.100.99")
	list := func(token string) (sessions []map[string]any) {
		t.Helper()
		for _, session := range s.call("session-list", params{"session_token": token}).ok().Response["sessions"].([]any) {
			sessions = append(sessions, session.(map[string]any))
		}
		return sessions
	}
	seen := list(phone)
	if len(seen) != 2 {
		t.Fatalf("the user has %d sessions, want 2", len(seen))
	}
	has(t, seen[0], params{"current": false, "device": "Firefox on Linux", "ip_address": "198.51.100.99", "user_agent": agent})
	has(t, seen[1], params{"current": true, "device": "Testing", "ip_address": sessionAddress, "user_agent": sessionAgent})
	for _, session := range seen {
		if at, _ := session["last_seen"].(string); at < session["created"].(string) {
			t.Errorf("last_seen is %v", session["last_seen"])
		}
	}

	s.call("session-list", params{"session_token": other, "user_id": u.id}).failed("not_permitted")
	s.call("session-list", params{"session_token": s.superuser(), "user_id": u.id}).ok()

	// Another's session is as good as unknown.
	end := params{"session_token": other, "session_id": seen[0]["session_id"]}
	s.call("session-delete", end).failed("session_not_found")
	s.call("session-exists", params{"session_token": laptop}).ok()
	end["session_token"] = phone
	s.call("session-delete", end).ok()
	s.call("session-exists", params{"session_token": laptop}).failed("session_not_found")
	s.call("session-delete", end).failed("session_not_found")
	if left := list(phone); len(left) != 1 || left[0]["current"] != true {
		t.Errorf("%d sessions are left, want the current one", len(left))
	}
}

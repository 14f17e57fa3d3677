package test

import (
	"encoding/json"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// reloadTime is how soon a changed policy must be in force.
const reloadTime = 3 * time.Second

// policyOK asks whether the policy file's newest version is in force.
func (s *server) policyOK() bool {
	s.t.Helper()
	status, _, text := s.send("GET", "health", "")
	var health struct {
		OK *bool `json:"Policy-Ok"`
	}
	err := json.Unmarshal([]byte(text), &health)
	if err != nil || health.OK == nil || status != 200 {
		s.t.Fatalf("health: status %d, %s", status, text)
	}
	return *health.OK
}

// TestPolicyReload changes the policy file under a server that is busy.
func TestPolicyReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	builtIn := authnzrv(t, dir, "", nil, "policy", "show").stdout
	path := dir + "/policy.json"
	write(t, path, builtIn)
	s := startIn(t, dir, "permissions="+path)
	u := s.newUser()
	ask := func(role string) *reply {
		t.Helper()
		return s.call("user-check-access", params{
			"user_id": u.id, "user_role": role, "action": "view", "target_name": "dataset", "target_owner": 1,
			"target_visibility": "unlisted", "target_sharedwith": nil,
		})
	}
	// Frontends ask all the time; every question must get an answer that one
	// of the policies gives.
	var stop atomic.Bool
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop.Store(true)
	for range 4 {
		busy.Go(func() {
			for !stop.Load() {
				r := ask("authenticated")
				if !r.Success && r.Code != "action_not_permitted" && r.Code != "user_not_valid" {
					t.Errorf("under load: %s", r.Code)
					return
				}
			}
		})
	}
	in := func(what string, done func() bool) {
		t.Helper()
		began := time.Now()
		s.wait(what, done)
		if took := time.Since(began); took > reloadTime {
			t.Errorf("it took %v until %s", took, what)
		}
	}
	// replace puts a new version in place at once, as a careful editor does.
	replace := func(text string) {
		t.Helper()
		write(t, path+".new", text)
		err := os.Rename(path+".new", path)
		if err != nil {
			t.Fatal(err)
		}
	}
	refusals := func() int {
		return len(s.records("the permission policy was not reloaded; the one before stays in force"))
	}
	reloads := func() int { return len(s.records("the permission policy was reloaded")) }

	ask("authenticated").ok()
	if !s.policyOK() {
		t.Error("the policy is not in force at the start")
	}
	write(t, path, strings.Replace(builtIn, `"operator": "lt"`, `"operator": "le"`, 1))
	in("the bad policy was refused", func() bool { return !s.policyOK() })
	ask("authenticated").ok()
	if refusals() != 1 {
		t.Errorf("the log says %d times that the policy was refused, want once", refusals())
	}
	if text, _ := s.records("the permission policy was not reloaded; the one before stays in force")[0]["error"].(string); !strings.Contains(text, "$.limits.max.operator") {
		t.Errorf("the log gives the reason %q, without the place", text)
	}

	// A good file: unlisted items are closed, and there is a new role.
	good := strings.Replace(builtIn, `"unlisted": ["view"]`, `"unlisted": []`, 1)
	good = strings.Replace(good, `"roles": [`, `"roles": ["friend", `, 1)
	good = strings.Replace(good, `"role_policy": {`, `"role_policy": {"friend": {
		"limits": {}, "can_own_items": [], "allowed_actions_for_owned": [],
		"allowed_actions_for_other": {"public": ["view"], "unlisted": ["view"], "private": [], "shared": []}},`, 1)
	replace(good)
	in("the good policy was in force", func() bool { return ask("authenticated").Code == "action_not_permitted" })
	in("the server said so", s.policyOK)
	if reloads() != 1 {
		t.Errorf("the log says %d times that the policy was reloaded, want once", reloads())
	}
	edit := params{"target_userid": u.id, "update_dict": params{"user_role": "friend"}}
	s.call("internal-user-edit", edit).ok()
	ask("friend").ok()

	// The file goes away and comes back.
	err := os.Rename(path, path+".away")
	if err != nil {
		t.Fatal(err)
	}
	in("the missing policy was noticed", func() bool { return !s.policyOK() })
	ask("friend").ok()
	err = os.Rename(path+".away", path)
	if err != nil {
		t.Fatal(err)
	}
	in("the policy was back", s.policyOK)

	// A role that a user has is taken out of the policy: it may do nothing.
	replace(builtIn)
	in("the first policy was in force again", func() bool { return !ask("friend").Success })
	stop.Store(true)
	busy.Wait()
	s.stop()

	// The next start knows the roles of the last one.
	s = startIn(t, dir, "permissions="+path, "secret="+s.key)
	s.call("user-list", params{"user_id": u.id}).ok()
	if got := ask("friend"); got.Success {
		t.Error("a role that is not in the policy may do something")
	}
}

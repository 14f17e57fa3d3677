package action_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/store"
)

func (f *fixture) checkAccess(p api.UserCheckAccessParams) outcome[api.UserCheckAccessResult] {
	f.t.Helper()
	return call(f, api.UserCheckAccess, f.UserCheckAccess, p)
}

func (f *fixture) checkLimit(u *store.User, name, value string) outcome[api.UserCheckLimitResult] {
	f.t.Helper()
	return call(f, api.UserCheckLimit, f.UserCheckLimit,
		api.UserCheckLimitParams{UserID: u.ID, UserRole: u.Role, LimitName: name, ValueToCheck: api.Any(value)})
}

func (f *fixture) countLimit(u *store.User, name string, cost int64) outcome[api.UserCountLimitResult] {
	f.t.Helper()
	return call(f, api.UserCountLimit, f.UserCountLimit,
		api.UserCountLimitParams{UserID: u.ID, UserRole: u.Role, LimitName: name, Cost: api.Some(cost)})
}

// counted returns the limit, what remains, and the seconds until all does.
func counted(o outcome[api.UserCountLimitResult]) [3]int64 {
	return [3]int64{*o.result.Max, *o.result.Remaining, *o.result.Reset}
}

// view asks whether u may view a public object of owner.
func view(u *store.User, owner int64, sharedWith string) api.UserCheckAccessParams {
	return api.UserCheckAccessParams{
		UserID: u.ID, UserRole: u.Role, Action: "view", TargetName: "object", TargetOwner: owner,
		TargetVisibility: "public", TargetSharedWith: api.Of(sharedWith),
	}
}

func accessScenarios() map[string][]scenario {
	return map[string][]scenario{
		"user-check-access": {
			{"order of the checks", func(f *fixture) {
				alice, gone := f.user("alice", "authenticated"), f.user("gone", "authenticated", inactive)
				p := view(alice, gone.ID, "x")
				p.UserRole = "nothing"
				f.checkAccess(p).fails(api.CodeAccessCheckFailed, `{}`)
				for _, list := range []string{"x", "1,", ",1", "1,,2", "1;2", "none,1", " ", "1.0", strings.Repeat("9", 30)} {
					p = view(gone, gone.ID, list)
					f.checkAccess(p).fails(api.CodeAccessCheckFailed, `{}`)
				}
				f.checkAccess(view(gone, gone.ID, "99")).fails(api.CodeUserNotValid, `{}`)
				p = view(alice, gone.ID, "")
				p.Action = "delete"
				f.checkAccess(p).fails(api.CodeRelatedNotFound, `{}`)
				p.TargetOwner = 1
				f.checkAccess(p).fails(api.CodeActionNotPermitted, `{}`)
				p.Action = "view"
				f.checkAccess(p).succeeds()
			}},
			{"who asks", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				for _, change := range []func(*store.User){
					func(u *store.User) { u.ID = 99 }, func(u *store.User) { u.Role = "staff" }, func(u *store.User) { u.Role = "locked" },
				} {
					u := *alice
					change(&u)
					f.checkAccess(view(&u, 1, "")).fails(api.CodeUserNotValid, `{}`)
				}
				f.checkAccess(view(f.user("unverified", "authenticated", unverified), 1, "")).succeeds()
				f.checkAccess(view(f.stored(2), 1, "")).succeeds()
				f.checkAccess(view(f.stored(3), 1, "")).fails(api.CodeUserNotValid, `{}`)
			}},
			{"who is related", func(f *fixture) {
				alice, bob, gone := f.user("alice", "authenticated"), f.user("bob", "staff"), f.user("gone", "authenticated", inactive)
				boss := f.stored(1)
				for _, u := range []*store.User{alice, boss} {
					for _, id := range []int64{gone.ID, 3, 99, 0, -1} {
						f.checkAccess(view(u, id, "")).fails(api.CodeRelatedNotFound, `{}`)
						f.checkAccess(view(u, bob.ID, fmt.Sprintf("%d,%d,1", bob.ID, id))).fails(api.CodeRelatedNotFound, `{}`)
					}
				}
				p := view(alice, bob.ID, "")
				p.TargetSharedWith = api.Null[string]{}
				f.checkAccess(p).succeeds()
				for _, list := range []string{"", "none", "NONE", "2", fmt.Sprintf(" %d , +1,1,0_1", bob.ID)} {
					f.checkAccess(view(alice, bob.ID, list)).succeeds()
				}
			}},
		},
		"user-count-limit": {
			{"all", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				o := f.countLimit(alice, "max_requests_per_minute", 0)
				o.succeeds()
				equal(f.t, "the look", counted(o), [3]int64{6000, 6000, 0})
				o = f.countLimit(alice, "max_requests_per_minute", 5999)
				o.succeeds()
				equal(f.t, "most of it", counted(o), [3]int64{6000, 1, 60})
				f.clock.advance(20 * time.Second)
				o = f.countLimit(alice, "max_requests_per_minute", 2)
				o.fails(api.CodeOverLimit, `{"limit":6000,"remaining":1,"reset":40}`)
				equal(f.t, "the wait", o.retry, 40*time.Second)
				f.countLimit(alice, "max_requests_per_minute", 1).succeeds() // what was refused cost nothing
				f.countLimit(alice, "max_requests_per_minute", 1).fails(api.CodeOverLimit, `{"limit":6000,"remaining":0,"reset":60}`)
				f.clock.advance(40 * time.Second)
				o = f.countLimit(alice, "max_requests_per_minute", 5999)
				o.succeeds()
				o = f.countLimit(alice, "max_requests_per_minute", 6001)
				o.fails(api.CodeOverLimit, `{"limit":6000,"remaining":0,"reset":60}`)
				equal(f.t, "the wait for more than there ever is", o.retry, 0)
				bob := f.user("bob", "authenticated")
				f.countLimit(bob, "max_requests_per_minute", 6000).succeeds()
			}},
			{"not limited", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				for range 3 {
					o := f.countLimit(alice, "downloads_per_day", 1_000_000_000)
					o.succeeds()
					equal(f.t, "nothing to tell", o.result, api.UserCountLimitResult{})
				}
			}},
			{"nothing at all", func(f *fixture) {
				locked := f.user("alice", "locked")
				f.countLimit(locked, "max_requests_per_minute", 0).succeeds()
				f.countLimit(locked, "max_requests_per_minute", 1).fails(api.CodeOverLimit, `{"limit":0,"remaining":0,"reset":0}`)
			}},
			{"key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				other := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				count := func(key api.APIKey) outcome[api.UserCountLimitResult] {
					return call(f, api.UserCountLimit, f.UserCountLimit, api.UserCountLimitParams{
						UserID: alice.ID, UserRole: alice.Role, LimitName: "max_requests_per_minute", Cost: api.Some(int64(6000)),
						APIKeyDict: api.Given(api.Of(key)),
					})
				}
				count(key).succeeds()
				count(key).fails(api.CodeOverLimit, `{"limit":6000,"remaining":0,"reset":60}`)
				count(other).succeeds()
				f.countLimit(alice, "max_requests_per_minute", 6000).succeeds()
				key.Token = "x"
				count(key).fails(api.CodeKeyNotValid, `{"limit":null,"remaining":null,"reset":null}`)
			}},
			{"order of the checks", func(f *fixture) {
				none := `{"limit":null,"remaining":null,"reset":null}`
				gone := f.user("gone", "authenticated", inactive)
				f.countLimit(&store.User{ID: gone.ID, Role: "nothing"}, "max_requests_per_minute", 1).fails(api.CodeLimitCheckFailed, none)
				f.countLimit(gone, "max_requests", 1).fails(api.CodeLimitNotCountable, none)
				f.countLimit(gone, "max_requests_per_minute", 1).fails(api.CodeUserNotValid, none)
			}},
		},
		"user-check-limit": {
			{"all", func(f *fixture) {
				alice, boss := f.user("alice", "authenticated"), f.stored(1)
				for value, within := range map[string]bool{
					"4999999": true, "4999999.9": true, "5000000": false, "5000000.0": false, `" 10 "`: true, "-1": true,
					`"10.5"`: false, `""`: false, "[]": false, "{}": false, "true": true, "false": true, "1e400": false, strings.Repeat("9", 400): false,
				} {
					o := f.checkLimit(boss, "max_requests", value)
					if within {
						o.succeeds()
					} else {
						o.fails(api.CodeOverLimit, `{}`)
					}
				}
				f.checkLimit(alice, "max_requests", "499999").succeeds()
				f.checkLimit(alice, "max_requests", "500000").fails(api.CodeOverLimit, `{}`)
				f.checkLimit(alice, "no such limit", "1e99").succeeds()
			}},
			{"order of the checks", func(f *fixture) {
				gone := f.user("gone", "authenticated", inactive)
				unknownRole := *gone
				unknownRole.Role = "nothing"
				f.checkLimit(&unknownRole, "max_requests", "1").fails(api.CodeLimitCheckFailed, `{}`)
				f.checkLimit(gone, "max_requests", "1e9").fails(api.CodeUserNotValid, `{}`)
				f.checkLimit(gone, "no such limit", "1").fails(api.CodeUserNotValid, `{}`)
				f.checkLimit(&store.User{ID: 99, Role: "staff"}, "max_requests", "1").fails(api.CodeUserNotValid, `{}`)
				f.checkLimit(&store.User{ID: 1, Role: "staff"}, "max_requests", "1").fails(api.CodeUserNotValid, `{}`)
			}},
		},
	}
}

// TestDefaultGrants asks for every action of every role on every item under
// the default policy, and compares the grants with those of the Python server:
// one letter an action, "-" for none.
func TestDefaultGrants(t *testing.T) {
	f := newFixture(t)
	actions := map[rune]string{
		'l': "list", 'v': "view", 'c': "create", 'e': "edit", 'd': "delete", 'V': "change_visibility", 'O': "change_owner",
	}
	const letters = "lvcedVO"
	users := map[string]*store.User{"anonymous": f.stored(2)}
	for _, role := range []string{"superuser", "staff", "authenticated", "locked"} {
		users[role] = f.user(role, role)
	}
	owner := f.user("owner", "staff")
	stranger := f.user("stranger", "staff")
	// The situations that a user can be in, in the order of the columns below.
	type situation struct {
		visibilities []string
		own          bool
		sharedWith   func(u *store.User) []string
	}
	nobody := func(*store.User) []string { return []string{"", "none"} }
	situations := []situation{
		{[]string{"public", "unlisted", "shared"}, true, nobody},
		{[]string{"private"}, true, nobody},
		{[]string{"public"}, false, nobody},
		{[]string{"unlisted"}, false, nobody},
		{[]string{"private"}, false, func(u *store.User) []string { return []string{"", fmt.Sprint(u.ID), "2"} }},
		{[]string{"shared"}, false, func(*store.User) []string { return []string{"", "none", fmt.Sprint(stranger.ID)} }},
		{[]string{"shared"}, false, func(u *store.User) []string { return []string{fmt.Sprintf("%d,%d", stranger.ID, u.ID), "2"} }},
	}
	for _, row := range []struct{ role, items, grants string }{
		//                                         own      private  public   unlisted private  shared   with me
		{"superuser", "object dataset collection", "lvcedVO  lvcedVO  lvcedVO  lvcedVO  lvcedVO  lvcedVO  lvcedVO"},
		{"superuser", "user", "-  -  -  -  lvced  -  -"},
		{"superuser", "session", "-  -  -  -  lvd  -  -"},
		{"superuser", "apikey", "-  lvcd  -  -  lvcd  -  -"},
		{"superuser", "preference", "-  lve  -  -  lve  -  -"},
		{"staff", "object dataset collection", "lvcedVO  lvcedVO  lvedVO  lvedVO  l  lve  lve"},
		{"staff", "user session", "-  -  -  -  l  -  -"},
		{"staff", "apikey", "-  lvcd  -  -  l  -  -"},
		{"staff", "preference", "-  lve  -  -  l  -  -"},
		{"authenticated", "object collection", "-  -  lv  v  -  -  lve"},
		{"authenticated", "dataset", "lvcedV  lvcedV  lv  v  -  -  lve"},
		{"authenticated", "apikey", "-  lvcd  -  -  -  -  -"},
		{"authenticated", "preference", "-  lve  -  -  -  -  -"},
		{"authenticated", "user session", "-  -  -  -  -  -  -"},
		{"anonymous", "object collection", "-  -  lv  v  -  -  -"},
		{"anonymous", "dataset", "lvc  lvc  lv  v  -  -  -"},
		{"anonymous", "user session apikey preference", "-  -  -  -  -  -  -"},
		{"locked", "object dataset collection user session apikey preference", "-  -  -  -  -  -  -"},
	} {
		u := users[row.role]
		grants := strings.Fields(row.grants)
		equal(t, "columns", len(grants), len(situations))
		for _, item := range strings.Fields(row.items) {
			for i, s := range situations {
				target := owner.ID
				if s.own {
					target = u.ID
				}
				for _, visibility := range s.visibilities {
					for _, list := range s.sharedWith(u) {
						for _, letter := range letters {
							p := api.UserCheckAccessParams{
								UserID: u.ID, UserRole: u.Role, Action: actions[letter], TargetName: item, TargetOwner: target,
								TargetVisibility: visibility, TargetSharedWith: api.Of(list),
							}
							_, err := f.UserCheckAccess(t.Context(), &p)
							code := codeOf(t, api.UserCheckAccess.Spec(), err)
							want := api.CodeActionNotPermitted
							if strings.ContainsRune(grants[i], letter) {
								want = ""
							}
							if code != want {
								t.Errorf("%s, %s %s, own %t, %s, shared with %q: %q", row.role, actions[letter], item, s.own, visibility, list, code)
							}
						}
					}
				}
			}
		}
	}
	for _, p := range []api.UserCheckAccessParams{
		{Action: "fly", TargetName: "object", TargetVisibility: "public"},
		{Action: "view", TargetName: "castle", TargetVisibility: "public"},
		{Action: "view", TargetName: "object", TargetVisibility: "hidden"},
		{Action: "", TargetName: "", TargetVisibility: ""},
	} {
		p.UserID, p.UserRole, p.TargetOwner = users["superuser"].ID, "superuser", owner.ID
		f.checkAccess(p).fails(api.CodeActionNotPermitted, `{}`)
	}
}

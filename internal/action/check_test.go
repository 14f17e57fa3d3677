package action_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/store"
)

func (f *fixture) check(p api.CheckParams) outcome[api.CheckResult] {
	f.t.Helper()
	return call(f, api.Check, f.Check, p)
}

// may asks whether a user may do an action on a private data set.
func may(action string, owner int64) api.AccessQuestion {
	return api.AccessQuestion{Action: action, TargetName: "dataset", TargetOwner: owner, TargetVisibility: "private"}
}

func byID(u *store.User, questions ...api.AccessQuestion) api.CheckParams {
	return api.CheckParams{UserID: api.Given(api.Of(u.ID)), Access: api.Given(api.List[api.AccessQuestion](questions))}
}

func costs(of ...api.LimitCost) api.Strict[api.List[api.LimitCost]] {
	return api.Given(api.List[api.LimitCost](of))
}

// told returns the answers without the numbers, and whether all is granted.
func told(o outcome[api.CheckResult]) string {
	text := fmt.Sprint(o.result.Granted)
	for _, d := range o.result.Access {
		text += fmt.Sprintf(" %t%s", d.Granted, d.Code)
	}
	for _, d := range o.result.Limits {
		text += fmt.Sprintf(" %t%s", d.Granted, d.Code)
	}
	return text
}

const perMinute = "max_requests_per_minute"

func checkScenarios() map[string][]scenario {
	return map[string][]scenario{
		"check": {
			{"credentials", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				session := f.session(alice.ID)
				tied := parseKey(f.t, f.newKey(newKeyParams(alice, session)).succeeds().APIKey)
				p := sessionlessParams(alice)
				p.Scopes = api.Given(api.Of(api.Scopes{"view:dataset"}))
				issued := f.newSessionlessKey(p).succeeds()
				free := parseKey(f.t, issued.APIKey)
				who := `"user_id":4,"user_role":"authenticated","system_id":"` + alice.SystemID + `","full_name":"Some alice","email":"alice@example.org","email_verified":true`
				identity := func(p api.CheckParams) string {
					f.t.Helper()
					o := f.check(p)
					o.succeeds()
					equal(f.t, "granted", o.result.Granted, true)
					text, err := json.Marshal(o.keys["identity"])
					if err != nil {
						f.t.Fatal(err)
					}
					return string(text)
				}
				info := f.sessionExists(session).succeeds().SessionInfo
				expires := func(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.999999") }
				list := f.listKeys(alice)
				jsonEqual(f.t, "by id", api.Object(identity(api.CheckParams{UserID: api.Given(api.Of(alice.ID))})),
					`{"credential":"user_id",`+who+`,"session_id":null,"key_id":null,"scopes":null,"expires":null}`)
				sessions := call(f, api.SessionList, f.SessionList, api.SessionListParams{SessionToken: session}).succeeds().Sessions
				jsonEqual(f.t, "by session", api.Object(identity(api.CheckParams{SessionToken: api.Given(api.Of(session))})),
					`{"credential":"session",`+who+`,"session_id":"`+sessions[0].SessionID+`","key_id":null,"scopes":null,"expires":"`+expires(time.Time(info.Expires))+`"}`)
				jsonEqual(f.t, "by key", api.Object(identity(api.CheckParams{APIKeyDict: api.Given(api.Of(free))})),
					`{"credential":"apikey",`+who+`,"session_id":null,"key_id":"`+*issued.KeyID+`","scopes":["view:dataset"],"expires":"`+expires(time.Time(issued.Expires))+`"}`)
				equal(f.t, "keys", len(list), 2)
				o := f.check(api.CheckParams{APIKeyDict: api.Given(api.Of(tied)), Access: api.Given(api.List[api.AccessQuestion]{may("view", alice.ID)})})
				equal(f.t, "an unrestricted key", told(o), "true true")
				o = f.check(api.CheckParams{APIKeyDict: api.Given(api.Of(free)), Access: api.Given(api.List[api.AccessQuestion]{may("view", alice.ID), may("edit", alice.ID)})})
				equal(f.t, "a scoped key", told(o), "false true falseinsufficient_scope")

				f.check(api.CheckParams{SessionToken: api.Given(api.Of[api.SessionToken](unknownToken))}).fails(api.CodeSessionNotFound, `{}`)
				f.check(api.CheckParams{UserID: api.Given(api.Of(int64(99)))}).fails(api.CodeUserNotValid, `{}`)
				f.check(api.CheckParams{UserID: api.Given(api.Of(int64(3)))}).fails(api.CodeUserNotValid, `{}`)
				f.check(byID(f.stored(2))).succeeds()
				for _, wrong := range []api.APIKey{
					{Token: "x", UserID: alice.ID, Role: alice.Role},
					{Token: free.Token, UserID: 1, Role: "superuser"},
					{Token: free.Token, UserID: alice.ID, Role: "staff"},
				} {
					f.check(api.CheckParams{APIKeyDict: api.Given(api.Of(wrong))}).fails(api.CodeKeyNotValid, `{}`)
				}
				f.exec("UPDATE users SET user_role = 'staff' WHERE user_id = ?", alice.ID)
				f.check(api.CheckParams{APIKeyDict: api.Given(api.Of(free))}).fails(api.CodeKeyNotValid, `{}`)
				f.exec("UPDATE users SET is_active = ? WHERE user_id = ?", false, alice.ID)
				f.check(api.CheckParams{APIKeyDict: api.Given(api.Of(free))}).fails(api.CodeKeyNotValid, `{}`)
				f.check(api.CheckParams{SessionToken: api.Given(api.Of(session))}).fails(api.CodeUserNotValid, `{}`)
				f.clock.advance(48 * time.Hour)
				f.check(api.CheckParams{SessionToken: api.Given(api.Of(session))}).fails(api.CodeSessionNotFound, `{}`)
			}},
			{"parameters", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				refused := func(p api.CheckParams, want string) {
					f.t.Helper()
					_, err := f.Check(f.t.Context(), &p)
					failure, ok := err.(*api.Failure)
					if !ok || failure.Code != api.CodeInvalidParams || len(failure.Problems) != 1 || failure.Problems[0].Param+": "+failure.Problems[0].Problem != want {
						f.t.Errorf("%v, want %s", err, want)
					}
				}
				refused(api.CheckParams{}, "session_token: missing")
				refused(api.CheckParams{UserID: api.Given(api.Of(alice.ID)), SessionToken: api.Given(api.Of(f.session(alice.ID)))}, "user_id: not allowed beside session_token")
				p := byID(alice)
				p.Limits = costs(api.LimitCost{LimitName: perMinute}, api.LimitCost{LimitName: perMinute})
				refused(p, "limits: duplicate [1].limit_name")
			}},
			{"the same answers as user-check-access", func(f *fixture) {
				alice, bob, gone := f.user("alice", "authenticated"), f.user("bob", "staff"), f.user("gone", "authenticated", inactive)
				answers := map[string]bool{}
				for _, u := range []*store.User{alice, bob, f.stored(1), f.stored(2)} {
					var questions []api.AccessQuestion
					var want []api.Code
					for _, action := range []string{"view", "edit", "delete", "nonsense"} {
						for _, visibility := range []string{"public", "private", "shared", "nonsense"} {
							for _, owner := range []int64{alice.ID, bob.ID, gone.ID, 99} {
								for _, shared := range []string{"", "none", fmt.Sprint(bob.ID), fmt.Sprint(gone.ID), "x"} {
									q := api.AccessQuestion{
										Action: action, TargetName: "dataset", TargetOwner: owner, TargetVisibility: visibility, TargetSharedWith: api.Some(shared),
									}
									questions = append(questions, q)
									_, err := f.UserCheckAccess(f.t.Context(), &api.UserCheckAccessParams{
										UserID: u.ID, UserRole: u.Role, Action: action, TargetName: "dataset", TargetOwner: owner,
										TargetVisibility: visibility, TargetSharedWith: api.Of(shared),
									})
									want = append(want, codeOf(f.t, api.UserCheckAccess.Spec(), err))
								}
							}
						}
					}
					got := f.check(byID(u, questions...)).succeeds().Access
					for i := range questions {
						if got[i].Code != want[i] || got[i].Granted != (want[i] == "") {
							f.t.Errorf("%s: %+v: %+v, want %q", u.Role, questions[i], got[i], want[i])
						}
						answers[string(want[i])] = true
					}
				}
				equal(f.t, "kinds of answers", len(answers), 4)
			}},
			{"limits", func(f *fixture) {
				alice, locked := f.user("alice", "authenticated"), f.user("locked", "locked")
				p := byID(alice, may("view", alice.ID))
				p.Limits = costs(api.LimitCost{LimitName: perMinute, Cost: api.Some(int64(5999))}, api.LimitCost{LimitName: "downloads_per_day"})
				o := f.check(p)
				equal(f.t, "first", told(o), "true true true true")
				equal(f.t, "remaining", *o.result.Limits[0].Remaining, 1)
				equal(f.t, "reset", *o.result.Limits[0].Reset, 60)
				equal(f.t, "unlimited", o.result.Limits[1].Remaining, nil)
				p.Limits.Value[0].Cost = api.Some(int64(2))
				o = f.check(p)
				equal(f.t, "over the limit", told(o), "false true falseover_limit true")
				equal(f.t, "the wait", o.result.Limits[0].RetryAfter, 60)
				p.Limits.Value[0].Cost = api.Opt[int64]{}
				p.Limits.Value[1].LimitName = "max_rows"
				o = f.check(p)
				equal(f.t, "not countable", told(o), "false true true falselimit_not_countable")
				equal(f.t, "remaining", *o.result.Limits[0].Remaining, 1)
				p.Limits = costs(api.LimitCost{LimitName: perMinute})
				p.Access.Value = append(p.Access.Value, may("delete", 1))
				o = f.check(p)
				equal(f.t, "no access", told(o), "false true falseaction_not_permitted true")
				equal(f.t, "remaining", *o.result.Limits[0].Remaining, 1)
				p.Limits.Value[0].Cost = api.Some(int64(2))
				equal(f.t, "no access, and over the limit", told(f.check(p)), "false true falseaction_not_permitted falseover_limit")
				p.Access = api.Strict[api.List[api.AccessQuestion]]{}
				p.Limits.Value[0].Cost = api.Opt[int64]{}
				equal(f.t, "the last one", told(f.check(p)), "true true")
				equal(f.t, "one more", told(f.check(p)), "false falseover_limit")
				f.countLimit(alice, perMinute, 1).fails(api.CodeOverLimit, `{"limit":6000,"remaining":0,"reset":60}`)

				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				p = api.CheckParams{APIKeyDict: api.Given(api.Of(key)), Limits: costs(api.LimitCost{LimitName: perMinute, Cost: api.Some(int64(6000))})}
				equal(f.t, "the key's own", told(f.check(p)), "true true")
				equal(f.t, "the key's own again", told(f.check(p)), "false falseover_limit")

				p = byID(locked)
				p.Limits = costs(api.LimitCost{LimitName: perMinute, Cost: api.Some(int64(0))})
				equal(f.t, "none of none", told(f.check(p)), "true true")
				p.Limits = costs(api.LimitCost{LimitName: perMinute})
				o = f.check(p)
				equal(f.t, "one of none", told(o), "false falseover_limit")
				equal(f.t, "the wait", o.result.Limits[0].RetryAfter, 0)
			}},
		},
	}
}

// TestCheckIsConsistent swaps the roles of two users again and again: in every state of the
// database exactly one of them may not be the owner of what another shares.
func TestCheckIsConsistent(t *testing.T) {
	f := newFixture(t)
	alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated", inactive)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for on := false; ctx.Err() == nil; on = !on {
			err := f.Store.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
				for id, active := range map[int64]bool{alice.ID: on, bob.ID: !on} {
					user, err := tx.User(ctx, id)
					if err != nil {
						return err
					}
					user.IsActive = active
					err = tx.UpdateUser(ctx, user)
					if err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	seen := map[string]int{}
	for ctx.Err() == nil {
		result, err := f.Check(t.Context(), &api.CheckParams{
			UserID: api.Given(api.Of(int64(1))),
			Access: api.Given(api.List[api.AccessQuestion]{may("view", alice.ID), may("view", bob.ID)}),
		})
		if err != nil {
			t.Fatal(err)
		}
		seen[fmt.Sprint(result.Access[0].Granted, result.Access[1].Granted)]++
	}
	swapping.Wait()
	if seen["true false"] == 0 || seen["false true"] == 0 || len(seen) != 2 {
		t.Errorf("seen: %v", seen)
	}
}

package action_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

func (f *fixture) newSession(p api.SessionNewParams) outcome[api.SessionNewResult] {
	f.t.Helper()
	return call(f, api.SessionNew, f.SessionNew, p)
}

func (f *fixture) sessionExists(t api.SessionToken) outcome[api.SessionExistsResult] {
	f.t.Helper()
	return call(f, api.SessionExists, f.SessionExists, api.SessionTokenParams{SessionToken: t})
}

func (f *fixture) sessionDelete(t api.SessionToken) outcome[api.SessionDeleteResult] {
	f.t.Helper()
	return call(f, api.SessionDelete, f.SessionDelete, api.SessionDeleteParams{SessionToken: t})
}

// sessionEnd ends the session with an id in the name of another.
func (f *fixture) sessionEnd(caller api.SessionToken, id string) outcome[api.SessionDeleteResult] {
	f.t.Helper()
	return call(f, api.SessionDelete, f.SessionDelete, api.SessionDeleteParams{SessionToken: caller, SessionID: api.Given(id)})
}

func (f *fixture) sessionList(t api.SessionToken) outcome[api.SessionListResult] {
	f.t.Helper()
	return call(f, api.SessionList, f.SessionList, api.SessionListParams{SessionToken: t})
}

func (f *fixture) sessionListOf(t api.SessionToken, userID int64) outcome[api.SessionListResult] {
	f.t.Helper()
	return call(f, api.SessionList, f.SessionList, api.SessionListParams{SessionToken: t, UserID: api.Given(userID)})
}

// idOf returns the id of a session as the session itself sees it.
func (f *fixture) idOf(t api.SessionToken) string {
	f.t.Helper()
	for _, info := range f.sessionList(t).succeeds().Sessions {
		if info.Current {
			return info.SessionID
		}
	}
	f.t.Fatal("a session does not list itself")
	return ""
}

func (f *fixture) sessionDeleteUserID(t api.SessionToken, id int64, keep bool) outcome[api.SessionDeleteUserIDResult] {
	f.t.Helper()
	return call(f, api.SessionDeleteUserID, f.SessionDeleteUserID,
		api.SessionDeleteUserIDParams{SessionToken: t, UserID: id, KeepCurrentSession: keep})
}

func (f *fixture) sessionEdit(t api.SessionToken, update string) outcome[api.SessionEditResult] {
	f.t.Helper()
	return call(f, api.InternalSessionEdit, f.InternalSessionEdit,
		api.InternalSessionEditParams{TargetSessionToken: t, UpdateDict: api.Object(update)})
}

func (f *fixture) sessionSetInfo(p api.SessionSetInfoParams) outcome[api.SessionEditResult] {
	f.t.Helper()
	return call(f, api.SessionSetInfo, f.SessionSetInfo, p)
}

const unknownToken = api.SessionToken("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")

// setSessionInfo stores JSON that no request would store.
func (f *fixture) setSessionInfo(t api.SessionToken, text string) {
	f.t.Helper()
	f.exec("UPDATE sessions SET extra_info_json = ? WHERE session_token = ?", text, token.Sum(string(t)).String())
}

func sessionScenarios() map[string][]scenario {
	valid := api.SessionNewParams{IPAddress: "192.0.2.7", UserAgent: "Browser/1", Expires: "2030-01-02T03:04:05.5Z"}
	with := func(change func(*api.SessionNewParams)) api.SessionNewParams {
		p := valid
		change(&p)
		return p
	}
	const noSession = `{"session_token": null, "expires": null}`
	const noInfo = `{"session_info": null}`
	const noList = `{"sessions": null}`
	return map[string][]scenario{
		"session-new": {
			{"for nobody", func(f *fixture) {
				for _, user := range []api.Null[api.UserRef]{{}, api.Of(api.UserRef(0))} {
					o := f.newSession(with(func(p *api.SessionNewParams) { p.UserID = user }))
					o.succeeds()
					if t, ok := o.keys["session_token"].(string); !ok || len(t) != 43 {
						f.t.Error("the token has not 43 characters")
					}
					equal(f.t, "expires", o.keys["expires"], any("2030-01-02T03:04:05.500000"))
					info := f.sessionExists(*o.result.SessionToken).succeeds().SessionInfo
					equal(f.t, "user", info.UserID, int64(store.AnonymousID))
				}
			}},
			{"for a user", func(f *fixture) {
				alice := f.user("alice", "authenticated", withInfo(`{"a": 1}`))
				result := f.newSession(with(func(p *api.SessionNewParams) {
					p.UserID = api.Of(api.UserRef(alice.ID))
					p.ExtraInfo = api.Of(api.Object(`{"theme": [1, null]}`))
					p.IPAddress = "2001:DB8::0:1"
					p.UserAgent = strings.Repeat("é", 281)
				})).succeeds()
				equal(f.t, "rows with the token itself", f.count("SELECT count(*) FROM sessions WHERE session_token = ?", string(*result.SessionToken)), 0)
				o := f.sessionExists(*result.SessionToken)
				o.succeeds()
				equal(f.t, "session_info", o.keys["session_info"], any(map[string]any{
					"user_id": float64(alice.ID), "system_id": alice.SystemID, "full_name": "Some alice", "email": "alice@example.org",
					"extra_info": map[string]any{"a": 1.0}, "email_verified": true, "emailverify_sent_datetime": nil,
					"is_active": true, "last_login_try": nil, "last_login_success": nil,
					"created_on": "2026-02-03T04:05:06.000789", "user_role": "authenticated",
					"session_token": string(*result.SessionToken), "ip_address": "2001:db8::1", "user_agent": strings.Repeat("é", 280),
					"created": "2026-02-03T04:05:06.000789", "expires": "2030-01-02T03:04:05.500000",
					"extra_info_json": map[string]any{"theme": []any{1.0, nil}},
				}))
			}},
			{"for a locked user, already expired", func(f *fixture) {
				result := f.newSession(with(func(p *api.SessionNewParams) {
					p.UserID = api.Of(api.UserRef(store.LockedID))
					p.Expires = "2001-01-01T00:00:00"
				})).succeeds()
				f.sessionExists(*result.SessionToken).fails(api.CodeSessionNotFound, noInfo)
			}},
			{"addresses", func(f *fixture) {
				for _, address := range []string{"", "x", " 192.0.2.1", "192.0.2.1 ", "192.0.2.1/24", "192.0.2.01", "192.0.2", "1.2.3.4.5", "::1::", "[::1]", "::1%"} {
					f.newSession(with(func(p *api.SessionNewParams) { p.IPAddress, p.Expires = address, "never" })).fails(api.CodeInvalidIPAddress, noSession)
				}
				for _, address := range []string{"::", "fe80::1%eth0", "0.0.0.0"} {
					f.newSession(with(func(p *api.SessionNewParams) { p.IPAddress = address })).succeeds()
				}
			}},
			{"dates", func(f *fixture) {
				for _, expires := range []string{
					"", "7", "never", "2030-01-01", "2030-01-01 00:00:00.0", "2030-13-01T00:00:00.0", "2030-01-01T24:00:00.0",
					"2030-01-01T00:00:60.0", "2030-02-30T00:00:00.0", "10000-01-01T00:00:00", "9999-12-31T23:59:59-01:00", "2030-01-01T00:00:00.0Zx",
				} {
					f.newSession(with(func(p *api.SessionNewParams) { p.Expires, p.UserID = expires, api.Of(api.UserRef(99)) })).fails(api.CodeInvalidExpires, noSession)
				}
				for sent, want := range map[string]string{
					"2030-1-2T3:4:5.123456789":   "2030-01-02T03:04:05.123456",
					"2030-01-02t03:04:05z":       "2030-01-02T03:04:05.000000",
					"2030-01-02T03:04:05+02:30":  "2030-01-02T00:34:05.000000",
					"2030-01-02T03:04:05.5-0100": "2030-01-02T04:04:05.500000",
				} {
					o := f.newSession(with(func(p *api.SessionNewParams) { p.Expires = sent }))
					o.succeeds()
					equal(f.t, sent, o.keys["expires"], any(want))
				}
			}},
			{"no such user", func(f *fixture) {
				for _, id := range []api.UserRef{99, -1, api.MaxInteger} {
					f.newSession(with(func(p *api.SessionNewParams) { p.UserID = api.Of(id) })).fails(api.CodeSessionCreateFailed, noSession)
				}
			}},
		},
		"session-exists": {
			{"unknown and expired", func(f *fixture) {
				f.sessionExists(unknownToken).fails(api.CodeSessionNotFound, noInfo)
				f.sessionExists("").fails(api.CodeSessionNotFound, noInfo)
				s := f.session(store.AnonymousID)
				f.clock.advance(24*time.Hour - time.Microsecond)
				f.sessionExists(s).succeeds()
				f.clock.advance(time.Microsecond)
				f.sessionExists(s).fails(api.CodeSessionNotFound, noInfo)
			}},
			{"of an inactive user", func(f *fixture) {
				s := f.session(f.user("alice", "locked", inactive).ID)
				info := f.sessionExists(s).succeeds().SessionInfo
				equal(f.t, "is_active", info.IsActive, false)
				equal(f.t, "user_role", info.UserRole, "locked")
			}},
			{"by the digest in the database", func(f *fixture) {
				digest := token.Sum(string(f.session(store.AnonymousID))).String()
				f.sessionExists(api.SessionToken(digest)).fails(api.CodeSessionNotFound, noInfo)
			}},
			{"with stored JSON that is none", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				s := f.session(alice.ID)
				for _, text := range []string{`{"a": NaN}`, `{"a": "\ud800"}`, "\xff", `{"a": 1, "a": 2}`, "Infinity"} {
					f.setSessionInfo(s, text)
					f.exec("UPDATE users SET extra_info = ? WHERE user_id = ?", text, alice.ID)
					info := f.sessionExists(s).succeeds().SessionInfo
					if string(info.ExtraInfo) != "null" || string(info.ExtraInfoJSON) != "null" {
						f.t.Errorf("%q is shown", text)
					}
				}
			}},
		},
		"session-delete": {
			{"unknown", func(f *fixture) { f.sessionDelete(unknownToken).fails(api.CodeSessionNotFound, `{}`) }},
			{"expired, with its keys", func(f *fixture) {
				s, other := f.session(store.AnonymousID), f.session(store.AnonymousID)
				f.sessionKey(store.AnonymousID, s)
				f.sessionKey(store.AnonymousID, other)
				f.clock.advance(48 * time.Hour)
				f.sessionDelete(s).succeeds()
				f.sessionDelete(s).fails(api.CodeSessionNotFound, `{}`)
				equal(f.t, "other session", f.has(other), true)
				equal(f.t, "keys", f.count("SELECT count(*) FROM apikeys"), 1)
			}},
			{"seen at once", func(f *fixture) {
				s := f.session(store.AnonymousID)
				f.sessionExists(s).succeeds()
				f.sessionDelete(s).succeeds()
				f.sessionExists(s).fails(api.CodeSessionNotFound, noInfo)
			}},
			{"by its id, with its keys", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				current, other := f.session(alice.ID), f.session(alice.ID)
				f.sessionKey(alice.ID, current)
				f.sessionKey(alice.ID, other)
				id := f.idOf(other)
				f.sessionExists(other).succeeds()
				f.sessionEnd(current, id).succeeds()
				f.sessionExists(other).fails(api.CodeSessionNotFound, noInfo)
				f.sessionExists(current).succeeds()
				equal(f.t, "keys", f.count("SELECT count(*) FROM apikeys"), 1)
				f.sessionEnd(current, id).fails(api.CodeSessionNotFound, `{}`)
				f.sessionEnd(current, f.idOf(current)).succeeds() // itself
				f.sessionExists(current).fails(api.CodeSessionNotFound, noInfo)
				equal(f.t, "keys", f.count("SELECT count(*) FROM apikeys"), 0)
			}},
			{"by an id that is not one's own", func(f *fixture) {
				current, foreign := f.session(f.user("alice", "superuser").ID), f.session(f.user("bob", "authenticated").ID)
				id := f.idOf(foreign)
				for _, id := range []string{id, "", "x", store.NewUUID(), string(foreign), token.Sum(string(current)).String()} {
					f.sessionEnd(current, id).fails(api.CodeSessionNotFound, `{}`)
				}
				f.sessionEnd(unknownToken, id).fails(api.CodeSessionNotFound, `{}`)
				f.sessionExists(foreign).succeeds()
				f.sessionExists(current).succeeds()
			}},
			{"by its id, expired", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				old := f.session(alice.ID)
				oldID := f.idOf(old)
				f.clock.advance(23 * time.Hour)
				current := f.session(alice.ID)
				id := f.idOf(current)
				f.clock.advance(time.Hour)
				f.sessionEnd(old, id).fails(api.CodeSessionNotFound, `{}`)
				f.sessionEnd(old, oldID).fails(api.CodeSessionNotFound, `{}`)
				equal(f.t, "expired session", f.has(old), true)
				f.sessionEnd(current, oldID).succeeds()
				equal(f.t, "expired session", f.has(old), false)
				f.sessionExists(current).succeeds()
			}},
			{"by its id, anonymous", func(f *fixture) {
				mine, theirs := f.session(store.AnonymousID), f.session(store.AnonymousID)
				f.sessionEnd(mine, f.idOf(theirs)).fails(api.CodeSessionNotFound, `{}`)
				f.sessionExists(theirs).succeeds()
				f.sessionEnd(mine, f.idOf(mine)).succeeds()
				f.sessionExists(mine).fails(api.CodeSessionNotFound, noInfo)
			}},
		},
		"session-list": {
			{"what is shown", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				result := f.newSession(with(func(p *api.SessionNewParams) {
					p.UserID = api.Of(api.UserRef(alice.ID))
					p.UserAgent = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
				})).succeeds()
				first := *result.SessionToken
				f.clock.advance(time.Hour)
				second := f.session(alice.ID)
				f.session(f.user("bob", "authenticated").ID)
				expired := f.newSession(with(func(p *api.SessionNewParams) {
					p.UserID = api.Of(api.UserRef(alice.ID))
					p.Expires = "2026-02-03T05:05:06"
				})).succeeds()
				f.sessionExists(*expired.SessionToken).fails(api.CodeSessionNotFound, noInfo)
				const when = "2026-02-03T05:05:06.000789" // it was asked for the list
				want := func(firstCurrent bool, seen any) any {
					return []any{map[string]any{
						"session_id": f.idOf(second), "current": !firstCurrent, "device": "tests", "ip_address": "192.0.2.1", "user_agent": "tests",
						"created": "2026-02-03T05:05:06.000789", "last_seen": seen, "expires": "2026-02-04T05:05:06.000789",
					}, map[string]any{
						"session_id": f.idOf(first), "current": firstCurrent, "device": "Firefox on Linux", "ip_address": "192.0.2.7",
						"user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
						"created":    "2026-02-03T04:05:06.000789", "last_seen": when, "expires": "2030-01-02T03:04:05.500000",
					}}
				}
				equal(f.t, "to the first", f.sessionList(first).keys["sessions"], want(true, nil))
				f.sessionExists(second).succeeds()
				equal(f.t, "to the second", f.sessionList(second).keys["sessions"], want(false, when))
				equal(f.t, "by one's own id", f.sessionListOf(second, alice.ID).keys["sessions"], want(false, when))
				f.clock.advance(59 * time.Second)
				f.sessionExists(second).succeeds()
				equal(f.t, "within the minute", f.sessionList(first).keys["sessions"], want(true, when))
				err := f.Store.FlushUses(f.t.Context())
				if err != nil {
					f.t.Fatal(err)
				}
				f.reopen()
				equal(f.t, "after a restart", f.sessionList(first).keys["sessions"], want(true, when))
			}},
			{"of no session", func(f *fixture) {
				f.sessionList(unknownToken).fails(api.CodeSessionNotFound, noList)
				s := f.session(f.user("alice", "authenticated").ID)
				f.clock.advance(24 * time.Hour)
				f.sessionList(s).fails(api.CodeSessionNotFound, noList)
			}},
			{"who may", func(f *fixture) {
				alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
				staff, boss := f.user("sam", "staff"), f.user("boss", "superuser")
				f.session(bob.ID)
				asleep := f.session(f.user("sleeper", "superuser", inactive).ID)
				for _, s := range []api.SessionToken{f.session(alice.ID), f.session(staff.ID), f.session(store.AnonymousID), f.session(store.LockedID), asleep} {
					f.sessionListOf(s, bob.ID).fails(api.CodeNotPermitted, noList)
					f.sessionListOf(s, 99).fails(api.CodeNotPermitted, noList)
					f.sessionList(s).succeeds()
				}
				f.sessionListOf(f.session(alice.ID), store.AnonymousID).fails(api.CodeNotPermitted, noList)
				s := f.session(boss.ID)
				f.sessionListOf(s, 99).fails(api.CodeUserNotFound, noList)
				list := f.sessionListOf(s, bob.ID).succeeds().Sessions
				equal(f.t, "sessions of bob", len(list), 1)
				equal(f.t, "current", list[0].Current, false)
				equal(f.t, "anonymous sessions", len(f.sessionListOf(s, store.AnonymousID).succeeds().Sessions), 1)
				none := f.user("none", "authenticated")
				equal(f.t, "of a user without any", f.sessionListOf(s, none.ID).keys["sessions"], any([]any{}))
			}},
			{"of the anonymous user", func(f *fixture) {
				f.session(store.AnonymousID)
				mine := f.session(store.AnonymousID)
				f.session(store.AnonymousID)
				for _, o := range []outcome[api.SessionListResult]{f.sessionList(mine), f.sessionListOf(mine, store.AnonymousID)} {
					list := o.succeeds().Sessions
					equal(f.t, "sessions", len(list), 1)
					equal(f.t, "current", list[0].Current, true)
				}
			}},
			{"devices", func(f *fixture) {
				for agent, want := range map[string]string{
					"":                                "unknown device",
					"  ":                              "unknown device",
					"curl/8.5.0":                      "curl",
					" Some Robot  ":                   "Some Robot",
					"Mozilla/5.0 (Linux; Android 14)": "Android",
					"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1": "Safari on iOS",
					"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0":           "Edge on Windows",
					strings.Repeat("é", 280): strings.Repeat("é", 60),
				} {
					s := f.newSession(with(func(p *api.SessionNewParams) { p.UserAgent = agent })).succeeds().SessionToken
					list := f.sessionList(*s).succeeds().Sessions
					equal(f.t, agent, list[0].Device, want)
				}
			}},
		},
		"session-delete-userid": {
			{"what is kept", func(f *fixture) {
				for _, test := range []struct {
					name  string
					keep  bool
					empty bool
					kept  bool
				}{
					{"keep", true, false, true},
					{"do not keep", false, false, false},
					{"keep none", true, true, false},
				} {
					alice := f.user(strings.ReplaceAll(test.name, " ", "-"), "authenticated")
					current, another, foreign := f.session(alice.ID), f.session(alice.ID), f.session(store.AnonymousID)
					f.sessionKey(alice.ID, another)
					named := current
					if test.empty {
						named = ""
					}
					f.sessionDeleteUserID(named, alice.ID, test.keep).succeeds()
					equal(f.t, test.name+": current session", f.has(current), test.kept)
					equal(f.t, test.name+": another session", f.has(another), false)
					equal(f.t, test.name+": another user's session", f.has(foreign), true)
					equal(f.t, test.name+": keys", f.count("SELECT count(*) FROM apikeys"), 0)
				}
			}},
			{"nothing to delete", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				current, foreign := f.session(alice.ID), f.session(store.AnonymousID)
				f.sessionDeleteUserID(current, alice.ID, true).fails(api.CodeNoSessionsDeleted, `{}`)
				f.sessionDeleteUserID("", 99, false).fails(api.CodeNoSessionsDeleted, `{}`)
				f.sessionDeleteUserID(foreign, alice.ID, true).succeeds() // a token of somebody else spares nothing
				equal(f.t, "the other user's session", f.has(foreign), true)
			}},
		},
		"internal-session-edit": {
			{"merging", func(f *fixture) {
				s := f.session(store.AnonymousID)
				f.setSessionInfo(s, `{"a": 1, "b": {"x": 1}, "c": "s"}`)
				result := f.sessionEdit(s, `{"b": {"y": 2}, "c": "__delete__", "d": null, "absent": "__delete__", "a2": "\u005f_delete__"}`).succeeds()
				jsonEqual(f.t, "result", result.SessionInfo.ExtraInfoJSON, `{"a": 1, "b": {"y": 2}, "d": null}`)
				jsonEqual(f.t, "stored", f.sessionExists(s).succeeds().SessionInfo.ExtraInfoJSON, `{"a": 1, "b": {"y": 2}, "d": null}`)
				equal(f.t, "token", result.SessionInfo.SessionToken, s)
			}},
			{"order of the checks", func(f *fixture) {
				f.sessionEdit(unknownToken, `{}`).fails(api.CodeEmptyUpdate, noInfo)
				f.sessionEdit(unknownToken, ` { } `).fails(api.CodeEmptyUpdate, noInfo)
				f.sessionEdit(unknownToken, `{"a": 1}`).fails(api.CodeSessionNotFound, noInfo)
				s := f.session(store.AnonymousID)
				f.clock.advance(24 * time.Hour)
				f.sessionEdit(s, `{"a": 1}`).fails(api.CodeSessionNotFound, noInfo)
			}},
			{"of what is no object", func(f *fixture) {
				s := f.session(store.AnonymousID)
				for _, text := range []string{`[1]`, `"text"`, `1`, `true`, `{"a": NaN}`} {
					f.setSessionInfo(s, text)
					f.sessionEdit(s, `{"a": 1}`).fails(api.CodeUpdateFailed, noInfo)
				}
				for _, text := range []string{`null`, `[]`, `""`, `0`, `false`, `{}`} {
					f.setSessionInfo(s, text)
					jsonEqual(f.t, text, f.sessionEdit(s, `{"a": 1}`).succeeds().SessionInfo.ExtraInfoJSON, `{"a": 1}`)
				}
			}},
			{"growing too large", func(f *fixture) {
				s := f.session(store.AnonymousID)
				long := `"` + strings.Repeat("x", 40_000) + `"`
				f.sessionEdit(s, `{"a": `+long+`}`).succeeds()
				f.sessionEdit(s, `{"b": `+long+`}`).fails(api.CodeUpdateFailed, noInfo)
				f.sessionEdit(s, `{"b": `+long+`, "a": "__delete__"}`).succeeds()
			}},
		},
		"session-setinfo": {
			{"replacing", func(f *fixture) {
				s := f.session(store.AnonymousID)
				f.setSessionInfo(s, `{"a": 1}`)
				given := func(text string) api.Opt[api.Null[api.Object]] { return api.Some(api.Of(api.Object(text))) }
				for _, test := range []struct {
					info, infoJSON api.Opt[api.Null[api.Object]]
					want           string
				}{
					{given(`{"b": 2}`), api.Opt[api.Null[api.Object]]{}, `{"b": 2}`},
					{api.Opt[api.Null[api.Object]]{}, given(`{"c": 3}`), `{"c": 3}`},
					{given(`{"b": 2}`), given(`{"c": 3}`), `{"b": 2}`},
					{api.Some(api.Null[api.Object]{}), given(`{"c": 3}`), `null`},
				} {
					result := f.sessionSetInfo(api.SessionSetInfoParams{SessionToken: s, ExtraInfo: test.info, ExtraInfoJSON: test.infoJSON}).succeeds()
					jsonEqual(f.t, "result", result.SessionInfo.ExtraInfoJSON, test.want)
					jsonEqual(f.t, "stored", f.sessionExists(s).succeeds().SessionInfo.ExtraInfoJSON, test.want)
				}
			}},
			{"order of the checks", func(f *fixture) {
				f.sessionSetInfo(api.SessionSetInfoParams{SessionToken: unknownToken}).fails(api.CodeEmptyUpdate, noInfo)
				f.sessionSetInfo(api.SessionSetInfoParams{SessionToken: unknownToken, ExtraInfo: api.Some(api.Null[api.Object]{})}).fails(api.CodeSessionNotFound, noInfo)
			}},
		},
	}
}

func TestPurgeExpired(t *testing.T) {
	f := newFixture(t)
	f.update(func(ctx context.Context, tx *store.Tx) error {
		for range 1100 { // more than two batches
			err := tx.InsertSession(ctx, &store.Session{
				Digest: token.Sum(token.New()), UserID: store.AnonymousID, Created: f.clock.Now(), Expires: f.clock.Now().Add(time.Hour),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	lasting := f.session(store.AnonymousID)
	f.sessionlessKey(store.AnonymousID)
	f.exec("UPDATE apikeys_nosession SET expires = ?1, refresh_expires = ?1", f.clock.Now().Format("2006-01-02 15:04:05.000000"))
	f.sessionlessKey(store.AnonymousID)
	f.clock.advance(time.Hour + 10*time.Minute)
	for _, step := range []struct {
		grace          time.Duration
		sessions, keys int64
	}{{2 * time.Hour, 0, 0}, {10 * time.Minute, 1100, 1}, {0, 0, 0}} {
		sessions, keys, err := f.PurgeExpired(t.Context(), step.grace)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "sessions", sessions, step.sessions)
		equal(t, "keys", keys, step.keys)
	}
	equal(t, "the lasting session", f.has(lasting), true)
	equal(t, "the lasting key", f.sessionlessKeys(store.AnonymousID), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := f.PurgeExpired(ctx, 0)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

package action_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// The session of these keys, as fixture.session makes them.
const (
	keyAddress = "192.0.2.1"
	keyAgent   = "tests"
)

// newKeyParams are those for a key of a user that lasts a day.
func newKeyParams(u *store.User, session api.SessionToken) api.APIKeyNewParams {
	return api.APIKeyNewParams{
		Issuer: api.Given("issuer"), Audience: "audience", Subject: api.ListOf("subject"), APIVersion: api.TextOrInt("2"),
		ExpiresDays: 1, UserID: u.ID, UserRole: u.Role, IPAddress: keyAddress, UserAgent: keyAgent, SessionToken: session,
	}
}

func (f *fixture) newKey(p api.APIKeyNewParams) outcome[api.APIKeyNewResult] {
	f.t.Helper()
	return call(f, api.APIKeyNew, f.APIKeyNew, p)
}

// sessionlessParams are those for a key that lasts an hour, and a refresh
// token that lasts a day.
func sessionlessParams(u *store.User) api.APIKeyNewNoSessionParams {
	return api.APIKeyNewNoSessionParams{
		Issuer: "issuer", Audience: "audience", Subject: api.ListOf("a", "b"), APIVersion: api.TextOf("v2"),
		ExpiresSeconds: 3600, UserID: u.ID, UserRole: u.Role, IPAddress: keyAddress, RefreshExpires: 86400,
	}
}

func (f *fixture) newSessionlessKey(p api.APIKeyNewNoSessionParams) outcome[api.APIKeyNewNoSessionResult] {
	f.t.Helper()
	return call(f, api.APIKeyNewNoSession, f.APIKeyNewNoSession, p)
}

func (f *fixture) verifyKey(key api.APIKey, userID int64, role string) outcome[api.APIKeyVerifyResult] {
	f.t.Helper()
	return call(f, api.APIKeyVerify, f.APIKeyVerify, api.APIKeyVerifyParams{
		APIKeyDict: key, UserID: api.Given(userID), UserRole: api.Given(role),
	})
}

func (f *fixture) verifySessionlessKey(key api.APIKey, u *store.User) outcome[api.APIKeyVerifyResult] {
	f.t.Helper()
	return call(f, api.APIKeyVerifyNoSession, f.APIKeyVerifyNoSession, api.APIKeyVerifyNoSessionParams{
		APIKeyDict: key, UserID: u.ID, UserRole: u.Role,
	})
}

func (f *fixture) revokeKey(p api.APIKeyRevokeParams) outcome[api.APIKeyRevokeResult] {
	f.t.Helper()
	return call(f, api.APIKeyRevoke, f.APIKeyRevoke, p)
}

func (f *fixture) revokeSessionlessKey(key api.APIKey, u *store.User) outcome[api.APIKeyRevokeResult] {
	f.t.Helper()
	return call(f, api.APIKeyRevokeNoSession, f.APIKeyRevokeNoSession, api.APIKeyRevokeNoSessionParams{
		APIKeyDict: key, UserID: u.ID, UserRole: u.Role,
	})
}

func (f *fixture) revokeAllKeys(key api.APIKey, u *store.User) outcome[api.APIKeyRevokeAllNoSessionResult] {
	f.t.Helper()
	return call(f, api.APIKeyRevokeAllNoSession, f.APIKeyRevokeAllNoSession, api.APIKeyRevokeNoSessionParams{
		APIKeyDict: key, UserID: u.ID, UserRole: u.Role,
	})
}

func (f *fixture) listKeys(u *store.User) []api.APIKeyInfo {
	f.t.Helper()
	return call(f, api.APIKeyList, f.APIKeyList, api.APIKeyListParams{UserID: u.ID, UserRole: u.Role}).succeeds().APIKeys
}

func parseKey(t testing.TB, text *api.Secret) api.APIKey {
	t.Helper()
	if text == nil {
		t.Fatal("there is no key")
	}
	key, err := api.ParseAPIKey(*text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// key makes a key that is tied to a session.
func (f *fixture) key(u *store.User, session api.SessionToken, changes ...func(*api.APIKeyNewParams)) api.APIKey {
	f.t.Helper()
	p := newKeyParams(u, session)
	for _, change := range changes {
		change(&p)
	}
	return parseKey(f.t, f.newKey(p).succeeds().APIKey)
}

// object reads a key object into its members.
func members(t testing.TB, text *api.Secret) map[string]any {
	t.Helper()
	out := map[string]any{}
	err := json.Unmarshal([]byte(*text), &out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func scopes(texts ...string) api.Strict[api.Null[api.Scopes]] {
	return api.Given(api.Of(api.Scopes(texts)))
}

func named(name string) api.Strict[api.Null[string]] { return api.Given(api.Of(name)) }

// notKeys are tokens that no key can have.
var notKeys = []api.Secret{"", "x", "authnz_", api.Secret("authnz_" + strings.Repeat("a", 49)), api.Secret(strings.Repeat("a", 43))}

func keyScenarios() map[string][]scenario {
	const noKey = `{"apikey": null, "expires": null, "key_id": null}`
	return map[string][]scenario{
		"apikey-new": {
			{"the object", func(f *fixture) {
				u := f.user("alice", "authenticated")
				p := newKeyParams(u, f.session(u.ID))
				p.NotValidBefore = 1.5
				result := f.newKey(p).succeeds()
				got := members(f.t, result.APIKey)
				form := regexp.MustCompile(`^authnz_[0-9A-Za-z]{49}$`)
				if !form.MatchString(fmt.Sprint(got["tkn"])) {
					f.t.Errorf("the token does not match %s", form)
				}
				delete(got, "tkn")
				equal(f.t, "object", got, map[string]any{
					"iss": "issuer", "ver": 2.0, "uid": float64(u.ID), "rol": "authenticated", "usa": keyAgent, "clt": keyAgent,
					"aud": "audience", "sub": "subject", "ipa": keyAddress,
					"iat": "2026-02-03T04:05:06.000789", "nbf": "2026-02-03T04:05:07.500789", "exp": "2026-02-04T04:05:06.000789",
				})
				equal(f.t, "messages", result.Messages, []string{"The API key of this session was made. It expires at 2026-02-04 04:05:06 UTC."})
				if !strings.HasPrefix(string(*result.APIKey), `{"iss": "issuer", "ver": 2, "uid": `) {
					f.t.Error("the object's members are in another order or style")
				}
				equal(f.t, "tokens in the clear", f.count("SELECT count(*) FROM apikeys WHERE apikey LIKE 'authnz%'"), 0)
			}},
			{"the first generation's shape", func(f *fixture) {
				u := f.user("alice", "authenticated")
				p := newKeyParams(u, f.session(u.ID))
				p.Issuer, p.Subject = api.Strict[string]{}, api.ListOf("a", "b")
				got := members(f.t, f.newKey(p).succeeds().APIKey)
				if _, has := got["iss"]; has || got["clt"] != keyAgent {
					f.t.Errorf("the object has iss %v and clt %v", got["iss"], got["clt"])
				}
				equal(f.t, "subject", got["sub"], any([]any{"a", "b"}))
			}},
			{"who may", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				session := f.session(alice.ID)
				for name, change := range map[string]func(*store.User){
					"another role": func(u *store.User) { u.Role = "staff" }, "no role": func(u *store.User) { u.Role = "none" },
					"nobody": func(u *store.User) { u.ID = 99 }, "anonymous": func(u *store.User) { u.ID, u.Role = store.AnonymousID, "anonymous" },
				} {
					u := *alice
					change(&u)
					f.t.Log(name)
					f.newKey(newKeyParams(&u, session)).fails(api.CodeNotAllowedToIssue, noKey)
				}
				gone := f.user("gone", "authenticated", inactive)
				f.newKey(newKeyParams(gone, f.session(gone.ID))).fails(api.CodeNotAllowedToIssue, noKey)
			}},
			{"the session", func(f *fixture) {
				alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
				session := f.session(alice.ID)
				f.newKey(newKeyParams(alice, "nothing")).fails(api.CodeSessionNotFound, noKey)
				f.newKey(newKeyParams(bob, session)).fails(api.CodeSessionMismatch, noKey)
				for _, change := range []func(*api.APIKeyNewParams){
					func(p *api.APIKeyNewParams) { p.IPAddress = "192.0.2.2" },
					func(p *api.APIKeyNewParams) { p.IPAddress = "" },
					func(p *api.APIKeyNewParams) { p.UserAgent = "Tests" },
				} {
					p := newKeyParams(alice, session)
					change(&p)
					f.newKey(p).fails(api.CodeSessionMismatch, noKey)
				}
				f.clock.advance(24 * time.Hour)
				f.newKey(newKeyParams(alice, session)).fails(api.CodeSessionNotFound, noKey)
			}},
			{"another form of the address", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				result := call(f, api.SessionNew, f.SessionNew, api.SessionNewParams{
					IPAddress: "2001:DB8:0::1", UserAgent: keyAgent, UserID: api.Of(api.UserRef(alice.ID)), Expires: "2026-03-01T00:00:00",
				}).succeeds()
				p := newKeyParams(alice, *result.SessionToken)
				p.IPAddress = "2001:db8::0001"
				f.newKey(p).succeeds()
			}},
			{"scopes", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				p := newKeyParams(alice, f.session(alice.ID))
				for _, bad := range []string{"", "view", "view:", ":object", "view:nothing", "nothing:object", "view:object:x", "view object", "VIEW:object"} {
					p.Scopes = scopes("view:object", bad)
					f.newKey(p).fails(api.CodeInvalidScope, noKey)
				}
				p.Scopes, p.Name = scopes("view:object", "edit:dataset"), named("my key")
				key := parseKey(f.t, f.newKey(p).succeeds().APIKey)
				result := f.verifyKey(key, alice.ID, alice.Role).succeeds()
				equal(f.t, "scopes", result.Scopes, api.Scopes{"view:object", "edit:dataset"})
				equal(f.t, "name", *result.Name, "my key")
			}},
		},
		"apikey-verify": {
			{"a key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				p := newKeyParams(alice, f.session(alice.ID))
				issued := f.newKey(p).succeeds()
				key := parseKey(f.t, issued.APIKey)
				verified := f.verifyKey(key, alice.ID, alice.Role)
				sameJSON(f.t, "result", verified.succeeds(), api.APIKeyVerifyResult{KeyID: *issued.KeyID, Expires: issued.Expires})
				equal(f.t, "messages", verified.messages, []string{"The API key is valid until 2026-02-04 04:05:06 UTC."})
				// The first generation names no caller.
				call(f, api.APIKeyVerify, f.APIKeyVerify, api.APIKeyVerifyParams{APIKeyDict: key}).succeeds()
				f.verifyKey(key, 1, "superuser").succeeds()
			}},
			{"half a caller", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := f.key(alice, f.session(alice.ID))
				for param, p := range map[string]api.APIKeyVerifyParams{
					"user_id":   {APIKeyDict: key, UserRole: api.Given(alice.Role)},
					"user_role": {APIKeyDict: key, UserID: api.Given(alice.ID)},
				} {
					_, err := f.APIKeyVerify(f.t.Context(), &p)
					failure, ok := err.(*api.Failure)
					if !ok || failure.Code != api.CodeInvalidParams || len(failure.Problems) != 1 ||
						failure.Problems[0].Param != param || failure.Problems[0].Problem != api.ProblemMissing {
						f.t.Errorf("without %s: %v", param, err)
					}
				}
			}},
			{"who may", func(f *fixture) {
				alice, staff := f.user("alice", "authenticated"), f.user("bob", "staff")
				key := f.key(alice, f.session(alice.ID))
				f.verifyKey(key, staff.ID, staff.Role).fails(api.CodeNotAllowedOnKey, `{}`)
				f.verifyKey(key, alice.ID, "staff").fails(api.CodeNotAllowedOnKey, `{}`)
				f.verifyKey(key, alice.ID, "none").fails(api.CodeNotAllowedOnKey, `{}`)
				unknown := key
				unknown.UserID = 99
				f.verifyKey(unknown, 1, "superuser").fails(api.CodeNotAllowedOnKey, `{}`)
				call(f, api.APIKeyVerify, f.APIKeyVerify, api.APIKeyVerifyParams{APIKeyDict: unknown}).fails(api.CodeNotAllowedOnKey, `{}`)
				f.exec("UPDATE users SET is_active = 0 WHERE user_id = ?", alice.ID)
				f.verifyKey(key, alice.ID, alice.Role).fails(api.CodeNotAllowedOnKey, `{}`)
				f.verifyKey(key, 1, "superuser").fails(api.CodeNotAllowedOnKey, `{}`)
			}},
			{"which key", func(f *fixture) {
				alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
				key := f.key(alice, f.session(alice.ID))
				for _, change := range []func(*api.APIKey){
					func(k *api.APIKey) { k.Role = "staff" },
					func(k *api.APIKey) { k.Token = api.Secret(f.Tokens.New(token.APIKey)) },
					func(k *api.APIKey) { k.Token = api.Secret(f.Tokens.New(token.Refresh)) },
				} {
					other := key
					change(&other)
					f.verifyKey(other, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
				}
				key.UserID = bob.ID
				f.verifyKey(key, bob.ID, bob.Role).fails(api.CodeKeyNotValid, `{}`)
				sessionless := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				f.verifyKey(parseKey(f.t, sessionless.APIKey), alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
				for _, text := range notKeys {
					key.Token = text
					f.verifyKey(key, bob.ID, bob.Role).fails(api.CodeKeyNotValid, `{}`)
				}
			}},
			{"after the key's role was the user's", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := f.key(alice, f.session(alice.ID))
				f.exec("UPDATE users SET user_role = 'staff' WHERE user_id = ?", alice.ID)
				f.verifyKey(key, alice.ID, "staff").succeeds()
				call(f, api.APIKeyVerify, f.APIKeyVerify, api.APIKeyVerifyParams{APIKeyDict: key}).succeeds()
			}},
			{"when", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				session := f.session(alice.ID)
				later := f.key(alice, session, func(p *api.APIKeyNewParams) { p.NotValidBefore = 60 })
				expired := f.key(alice, session, func(p *api.APIKeyNewParams) { p.ExpiresDays = -1 })
				f.verifyKey(expired, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
				f.clock.advance(60*time.Second - time.Microsecond)
				f.verifyKey(later, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
				f.clock.advance(time.Microsecond)
				f.verifyKey(later, alice.ID, alice.Role).succeeds()
			}},
			{"the session's end", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				session := f.session(alice.ID)
				year := func(p *api.APIKeyNewParams) { p.ExpiresDays = 365 }
				key := f.key(alice, session, year)
				f.verifyKey(key, alice.ID, alice.Role).succeeds()
				call(f, api.SessionDelete, f.SessionDelete, api.SessionDeleteParams{SessionToken: session}).succeeds()
				f.verifyKey(key, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
				key = f.key(alice, f.session(alice.ID), year)
				f.clock.advance(24*time.Hour - time.Microsecond)
				f.verifyKey(key, alice.ID, alice.Role).succeeds()
				f.clock.advance(time.Microsecond)
				f.verifyKey(key, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
			}},
			{"a wanted scope", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				session := f.session(alice.ID)
				narrow := f.key(alice, session, func(p *api.APIKeyNewParams) { p.Scopes = scopes("view:object") })
				wide := f.key(alice, session)
				verify := func(key api.APIKey, scope string) outcome[api.APIKeyVerifyResult] {
					return call(f, api.APIKeyVerify, f.APIKeyVerify, api.APIKeyVerifyParams{APIKeyDict: key, Scope: named(scope)})
				}
				verify(narrow, "view:object").succeeds()
				verify(narrow, "edit:object").fails(api.CodeInsufficientScope, `{}`)
				verify(wide, "edit:object").succeeds()
			}},
			{"a key of the Python server", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				secret := f.sessionKey(alice.ID, f.session(alice.ID))
				key := api.APIKey{Token: api.Secret(secret), UserID: alice.ID, Role: alice.Role}
				f.verifyKey(key, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`) // there were none at the start
				f.reopen()
				f.verifyKey(key, alice.ID, alice.Role).succeeds()
			}},
			{"without a query", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := f.key(alice, f.session(alice.ID))
				err := f.Store.Close()
				if err != nil {
					f.t.Fatal(err)
				}
				other := minterOf(f.t, "another server's key")
				for _, text := range append(notKeys, api.Secret(other.New(token.APIKey)), api.Secret(f.Tokens.New(token.Refresh))) {
					key.Token = text
					_, err := f.APIKeyVerify(f.t.Context(), &api.APIKeyVerifyParams{APIKeyDict: key})
					equal(f.t, "code", codeOf(f.t, api.APIKeyVerify.Spec(), err), api.CodeKeyNotValid)
				}
			}},
		},
		"apikey-revoke": {
			{"a key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				session := f.session(alice.ID)
				key, other := f.key(alice, session), f.key(alice, session)
				p := api.APIKeyRevokeParams{APIKeyDict: api.Given(key), UserID: alice.ID, UserRole: alice.Role}
				f.verifyKey(key, alice.ID, alice.Role).succeeds()
				f.revokeKey(p).succeeds()
				f.verifyKey(key, alice.ID, alice.Role).fails(api.CodeKeyNotValid, `{}`)
				f.revokeKey(p).fails(api.CodeKeyNotFound, `{}`)
				f.verifyKey(other, alice.ID, alice.Role).succeeds()
				expired := f.key(alice, session, func(p *api.APIKeyNewParams) { p.ExpiresDays = -1 })
				p.APIKeyDict = api.Given(expired)
				f.revokeKey(p).succeeds()
			}},
			{"who may", func(f *fixture) {
				alice, staff := f.user("alice", "authenticated"), f.user("bob", "staff")
				result := f.newKey(newKeyParams(alice, f.session(alice.ID))).succeeds()
				key := api.Given(parseKey(f.t, result.APIKey))
				id := api.Given(*result.KeyID)
				for _, p := range []api.APIKeyRevokeParams{
					{APIKeyDict: key, UserID: staff.ID, UserRole: staff.Role},
					{KeyID: id, UserID: staff.ID, UserRole: staff.Role},
					{APIKeyDict: key, UserID: alice.ID, UserRole: "staff"},
					{KeyID: id, UserID: alice.ID, UserRole: "staff"},
				} {
					f.revokeKey(p).fails(api.CodeNotAllowedOnKey, `{}`)
				}
				f.revokeKey(api.APIKeyRevokeParams{KeyID: id, UserID: 1, UserRole: "superuser"}).succeeds()
				f.revokeKey(api.APIKeyRevokeParams{KeyID: id, UserID: 1, UserRole: "superuser"}).fails(api.CodeKeyNotFound, `{}`)
			}},
			{"which key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := f.key(alice, f.session(alice.ID))
				p := api.APIKeyRevokeParams{UserID: alice.ID, UserRole: alice.Role}
				for _, text := range append(notKeys, api.Secret(f.Tokens.New(token.APIKey))) {
					other := key
					other.Token = text
					p.APIKeyDict = api.Given(other)
					f.revokeKey(p).fails(api.CodeKeyNotFound, `{}`)
				}
				key.Role = "staff"
				p.APIKeyDict = api.Given(key)
				f.revokeKey(p).fails(api.CodeKeyNotFound, `{}`)
				sessionless := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				p.APIKeyDict = api.Given(parseKey(f.t, sessionless.APIKey))
				f.revokeKey(p).fails(api.CodeKeyNotFound, `{}`)
				p = api.APIKeyRevokeParams{KeyID: api.Given(*sessionless.KeyID), UserID: alice.ID, UserRole: alice.Role}
				f.revokeKey(p).succeeds()
				equal(f.t, "session-less keys", f.sessionlessKeys(alice.ID), 0)
			}},
			{"none", func(f *fixture) {
				_, err := f.APIKeyRevoke(f.t.Context(), &api.APIKeyRevokeParams{UserID: 1, UserRole: "superuser"})
				failure, ok := err.(*api.Failure)
				if !ok || failure.Code != api.CodeInvalidParams || failure.Problems[0].Param != "apikey_dict" {
					f.t.Errorf("without a key: %v", err)
				}
			}},
		},
		"apikey-list": {
			{"the keys", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				p := newKeyParams(alice, f.session(alice.ID))
				p.Name, p.Scopes = named("laptop"), scopes("view:object")
				first := f.newKey(p).succeeds()
				key := parseKey(f.t, first.APIKey)
				f.clock.advance(time.Minute)
				second := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				f.verifyKey(key, alice.ID, alice.Role).succeeds()
				name := "laptop"
				hint := func(k api.APIKey) *string {
					text := token.Hint(string(k.Token))
					return &text
				}
				at := func(text string) api.Time {
					t, err := api.ParseTime(text)
					if err != nil {
						f.t.Fatal(err)
					}
					return api.Time(t)
				}
				want := []api.APIKeyInfo{{
					KeyID: *second.KeyID, Kind: "nosession", Prefix: hint(parseKey(f.t, second.APIKey)), UserRole: alice.Role,
					Created: at("2026-02-03T04:06:06.000789"), Issued: at("2026-02-03T04:06:06.000789"), NotValidBefore: at("2026-02-03T04:06:06.000789"),
					Expires: second.Expires, RefreshExpires: second.RefreshTokenExpires,
				}, {
					KeyID: *first.KeyID, Kind: "session", Name: &name, Prefix: hint(key), Scopes: api.Scopes{"view:object"}, UserRole: alice.Role,
					Created: at("2026-02-03T04:05:06.000789"), Issued: at("2026-02-03T04:05:06.000789"), NotValidBefore: at("2026-02-03T04:05:06.000789"),
					Expires: first.Expires, LastUsed: at("2026-02-03T04:00:00"),
				}}
				equal(f.t, "keys", keyText(f.t, f.listKeys(alice)), keyText(f.t, want))
				err := f.Store.FlushUses(f.t.Context())
				if err != nil {
					f.t.Fatal(err)
				}
				equal(f.t, "keys after writing the uses", keyText(f.t, f.listKeys(alice)), keyText(f.t, want))
				if text := keyText(f.t, f.listKeys(alice)); strings.Contains(text, string(key.Token)) {
					f.t.Error("the list has a secret")
				}
			}},
			{"who may", func(f *fixture) {
				alice, staff := f.user("alice", "authenticated"), f.user("bob", "staff")
				list := func(u *store.User, target api.Strict[int64]) outcome[api.APIKeyListResult] {
					return call(f, api.APIKeyList, f.APIKeyList, api.APIKeyListParams{UserID: u.ID, UserRole: u.Role, TargetUserID: target})
				}
				const none = `{"apikeys": null}`
				list(staff, api.Given(alice.ID)).fails(api.CodeNotAllowedOnKey, none)
				list(f.stored(1), api.Given(int64(99))).fails(api.CodeNotAllowedOnKey, none)
				list(f.stored(store.AnonymousID), api.Strict[int64]{}).fails(api.CodeNotAllowedOnKey, none)
				f.key(alice, f.session(alice.ID))
				equal(f.t, "keys that a superuser sees", len(list(f.stored(1), api.Given(alice.ID)).succeeds().APIKeys), 1)
				equal(f.t, "keys of the superuser", len(list(f.stored(1), api.Strict[int64]{}).succeeds().APIKeys), 0)
			}},
		},
		"user-check-access": {
			{"with a key", func(f *fixture) {
				alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
				narrow := f.key(alice, f.session(alice.ID), func(p *api.APIKeyNewParams) { p.Scopes = scopes("view:object", "change_owner:object") })
				wide := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				ask := func(u *store.User, action string, key api.APIKey) outcome[api.UserCheckAccessResult] {
					p := view(u, 1, "")
					p.Action, p.APIKeyDict = action, api.Given(api.Of(key))
					return f.checkAccess(p)
				}
				ask(alice, "view", narrow).succeeds()
				ask(alice, "view", wide).succeeds()
				ask(alice, "list", wide).succeeds()
				ask(alice, "list", narrow).fails(api.CodeInsufficientScope, `{}`)
				// A scope grants nothing that the user may not do.
				ask(alice, "change_owner", narrow).fails(api.CodeActionNotPermitted, `{}`)
				ask(bob, "view", wide).fails(api.CodeKeyNotValid, `{}`)
				for _, text := range notKeys {
					wrong := wide
					wrong.Token = text
					ask(alice, "view", wrong).fails(api.CodeKeyNotValid, `{}`)
				}
				f.clock.advance(time.Hour)
				ask(alice, "view", wide).fails(api.CodeKeyNotValid, `{}`)
				p := view(alice, 1, "")
				p.APIKeyDict = api.Given(api.Null[api.APIKey]{})
				f.checkAccess(p).succeeds()
			}},
		},
	}
}

func keyText(t testing.TB, keys []api.APIKeyInfo) string {
	t.Helper()
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), `},{`, "},\n{")
}

// policyOf returns the default policy without an action on API keys.
func policyOf(t testing.TB, without string) *policy.Policy {
	t.Helper()
	return changedPolicy(t, func(document map[string]any) {
		item := document["item_policy"].(map[string]any)["apikey"].(map[string]any)
		item["valid_role_actions"] = slices.DeleteFunc(item["valid_role_actions"].([]any), func(a any) bool { return a == without })
	})
}

func minterOf(t testing.TB, key string) *token.Minter {
	t.Helper()
	m, err := token.NewMinter(token.DefaultPrefix, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// refreshParams are those that refresh a key as it was issued.
func refreshParams(t testing.TB, u *store.User, from api.APIKeyNewNoSessionResult) api.APIKeyRefreshNoSessionParams {
	t.Helper()
	key, err := api.ParseRefreshableKey(*from.APIKey)
	if err != nil {
		t.Fatal(err)
	}
	return api.APIKeyRefreshNoSessionParams{
		APIKeyDict: key, UserID: u.ID, UserRole: u.Role, RefreshToken: *from.RefreshToken, IPAddress: "192.0.2.9",
		ExpiresSeconds: 3600, RefreshExpires: 86400,
	}
}

func (f *fixture) refreshKey(p api.APIKeyRefreshNoSessionParams) outcome[api.APIKeyNewNoSessionResult] {
	f.t.Helper()
	return call(f, api.APIKeyRefreshNoSession, f.APIKeyRefreshNoSession, p)
}

func sessionlessKeyScenarios() map[string][]scenario {
	const noKey = `{"apikey": null, "expires": null, "refresh_token": null, "refresh_token_expires": null, "key_id": null}`
	return map[string][]scenario{
		"apikey-new-nosession": {
			{"the object", func(f *fixture) {
				u := f.user("alice", "authenticated")
				p := sessionlessParams(u)
				p.IPAddress = "not-an-ip"
				result := f.newSessionlessKey(p).succeeds()
				got := members(f.t, result.APIKey)
				delete(got, "tkn")
				equal(f.t, "object", got, map[string]any{
					"iss": "issuer", "ver": "v2", "uid": float64(u.ID), "rol": "authenticated",
					"aud": "audience", "sub": []any{"a", "b"}, "ipa": "not-an-ip",
					"iat": "2026-02-03T04:05:06.000789", "nbf": "2026-02-03T04:05:06.000789", "exp": "2026-02-03T05:05:06.000789",
				})
				form := regexp.MustCompile(`^authnz_r_[0-9A-Za-z]{49}$`)
				if !form.MatchString(string(*result.RefreshToken)) {
					f.t.Errorf("the refresh token does not match %s", form)
				}
				equal(f.t, "refresh expiry", time.Time(result.RefreshTokenExpires), f.clock.Now().Add(24*time.Hour))
				equal(f.t, "refresh tokens in the clear", f.count("SELECT count(*) FROM apikeys_nosession WHERE refresh_token LIKE 'authnz%'"), 0)
			}},
			{"who may", func(f *fixture) {
				for _, u := range []*store.User{
					f.user("gone", "authenticated", inactive),
					{ID: 99, Role: "authenticated"},
					{ID: 1, Role: "staff"},
					f.stored(store.AnonymousID), f.stored(store.LockedID),
				} {
					f.newSessionlessKey(sessionlessParams(u)).fails(api.CodeNotAllowedToIssue, noKey)
				}
			}},
			{"scopes", func(f *fixture) {
				p := sessionlessParams(f.stored(1))
				p.Scopes = scopes("nothing")
				f.newSessionlessKey(p).fails(api.CodeInvalidScope, noKey)
			}},
		},
		"apikey-verify-nosession": {
			{"a key", func(f *fixture) {
				alice, staff := f.user("alice", "authenticated"), f.user("bob", "staff")
				p := sessionlessParams(alice)
				p.Scopes = scopes("view:object")
				key := parseKey(f.t, f.newSessionlessKey(p).succeeds().APIKey)
				f.verifySessionlessKey(key, alice).succeeds()
				f.verifySessionlessKey(key, staff).fails(api.CodeNotAllowedOnKey, `{}`)
				call(f, api.APIKeyVerifyNoSession, f.APIKeyVerifyNoSession, api.APIKeyVerifyNoSessionParams{
					APIKeyDict: key, UserID: alice.ID, UserRole: alice.Role, Scope: named("edit:object"),
				}).fails(api.CodeInsufficientScope, `{}`)
				ofSession := f.key(alice, f.session(alice.ID))
				f.verifySessionlessKey(ofSession, alice).fails(api.CodeKeyNotValid, `{}`)
				f.clock.advance(time.Hour)
				f.verifySessionlessKey(key, alice).fails(api.CodeKeyNotValid, `{}`)
			}},
			{"after the password was changed", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				f.verifySessionlessKey(key, alice).succeeds()
				call(f, api.UserResetPassNoSession, f.UserResetPassNoSession, api.UserResetPassNoSessionParams{
					Email: api.Email(alice.Email), NewPassword: otherPassword, RequiredActive: true,
				}).succeeds()
				f.verifySessionlessKey(key, alice).fails(api.CodeKeyNotValid, `{}`)
			}},
			{"locked and unlocked", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				f.internalLock(alice.ID, "lock").succeeds()
				f.verifySessionlessKey(key, alice).fails(api.CodeNotAllowedOnKey, `{}`)
				f.internalLock(alice.ID, "unlock").succeeds()
				f.verifySessionlessKey(key, alice).succeeds()
			}},
			{"of somebody else", func(f *fixture) {
				alice, staff, root := f.user("alice", "authenticated"), f.user("bob", "staff"), f.user("root", "superuser")
				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				f.verifySessionlessKey(key, root).succeeds()
				staff.Role = "superuser" // as the frontend has it
				f.verifySessionlessKey(key, staff).fails(api.CodeNotAllowedOnKey, `{}`)
				f.internalLock(root.ID, "lock").succeeds()
				f.verifySessionlessKey(key, root).fails(api.CodeNotAllowedOnKey, `{}`)
			}},
		},
		"apikey-revoke-nosession": {
			{"a key", func(f *fixture) {
				alice, staff := f.user("alice", "authenticated"), f.user("bob", "staff")
				issued := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				key := parseKey(f.t, issued.APIKey)
				f.revokeSessionlessKey(key, staff).fails(api.CodeNotAllowedOnKey, `{}`)
				wrong := key
				wrong.Token = "authnz_x"
				f.revokeSessionlessKey(wrong, alice).fails(api.CodeKeyNotFound, `{}`)
				f.verifySessionlessKey(key, alice).succeeds()
				f.revokeSessionlessKey(key, alice).succeeds()
				f.verifySessionlessKey(key, alice).fails(api.CodeKeyNotValid, `{}`)
				f.revokeSessionlessKey(key, alice).fails(api.CodeKeyNotFound, `{}`)
				f.refreshKey(refreshParams(f.t, alice, issued)).fails(api.CodeRefreshNotAvailable, noKey)
			}},
		},
		"apikey-revokeall-nosession": {
			{"keys", func(f *fixture) {
				alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				other := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				bobs := parseKey(f.t, f.newSessionlessKey(sessionlessParams(bob)).succeeds().APIKey)
				ofSession := f.key(alice, f.session(alice.ID))
				f.verifySessionlessKey(other, alice).succeeds()
				f.revokeAllKeys(key, bob).fails(api.CodeNotAllowedToDeleteKeys, `{}`)
				f.revokeAllKeys(ofSession, alice).fails(api.CodePresentedKeyNotValid, `{}`)
				// Keys of an earlier role go as well.
				f.exec("UPDATE users SET user_role = 'staff' WHERE user_id = ?", alice.ID)
				alice.Role = "staff"
				newer := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				result := f.revokeAllKeys(newer, alice).succeeds()
				equal(f.t, "result", result, api.APIKeyRevokeAllNoSessionResult{RevokedKeys: 3, DeletedKeys: 3})
				f.verifySessionlessKey(other, alice).fails(api.CodeKeyNotValid, `{}`)
				f.verifySessionlessKey(bobs, bob).succeeds()
				f.verifyKey(ofSession, alice.ID, alice.Role).succeeds()
				f.revokeAllKeys(newer, alice).fails(api.CodePresentedKeyNotValid, `{}`)
			}},
			{"with an expired key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(alice)).succeeds().APIKey)
				f.clock.advance(time.Hour)
				f.revokeAllKeys(key, alice).fails(api.CodePresentedKeyNotValid, `{}`)
			}},
		},
		"apikey-refresh-nosession": {
			{"a key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				p := sessionlessParams(alice)
				p.Name, p.Scopes = named("robot"), scopes("view:object")
				first := f.newSessionlessKey(p).succeeds()
				f.clock.advance(2 * time.Hour) // the key has expired
				second := f.refreshKey(refreshParams(f.t, alice, first)).succeeds()
				equal(f.t, "key_id", *second.KeyID, *first.KeyID)
				if *second.RefreshToken == *first.RefreshToken || parseKey(f.t, second.APIKey).Token == parseKey(f.t, first.APIKey).Token {
					f.t.Error("a token was not replaced")
				}
				got := members(f.t, second.APIKey)
				delete(got, "tkn")
				equal(f.t, "object", got, map[string]any{
					"iss": "issuer", "ver": "v2", "uid": float64(alice.ID), "rol": "authenticated",
					"aud": "audience", "sub": []any{"a", "b"}, "ipa": "192.0.2.9",
					"iat": "2026-02-03T06:05:06.000789", "nbf": "2026-02-03T06:05:06.000789", "exp": "2026-02-03T07:05:06.000789",
				})
				result := f.verifySessionlessKey(parseKey(f.t, second.APIKey), alice).succeeds()
				equal(f.t, "name", *result.Name, "robot")
				equal(f.t, "scopes", result.Scopes, api.Scopes{"view:object"})
				f.verifySessionlessKey(parseKey(f.t, first.APIKey), alice).fails(api.CodeKeyNotValid, `{}`)
				keys := f.listKeys(alice)
				equal(f.t, "number of keys", len(keys), 1)
				equal(f.t, "created", time.Time(keys[0].Created), f.clock.Now().Add(-2*time.Hour))
				equal(f.t, "issued", time.Time(keys[0].Issued), f.clock.Now())
				f.refreshKey(refreshParams(f.t, alice, second)).succeeds()
			}},
			{"again within the grace period", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				first := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				p := refreshParams(f.t, alice, first)
				second := f.refreshKey(p).succeeds()
				f.clock.advance(refreshGrace)
				again := f.refreshKey(p).succeeds()
				sameJSON(f.t, "second answer", again, second)
				equal(f.t, "keys", f.sessionlessKeys(alice.ID), 1)
				wrong := p
				wrong.APIKeyDict.Token = api.Secret(f.Tokens.New(token.APIKey))
				f.refreshKey(wrong).fails(api.CodeRefreshMismatch, noKey)
				f.verifySessionlessKey(parseKey(f.t, second.APIKey), alice).succeeds()
			}},
			{"again after the grace period", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				first := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				second := f.refreshKey(refreshParams(f.t, alice, first)).succeeds()
				third := f.refreshKey(refreshParams(f.t, alice, second)).succeeds()
				other := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				f.verifySessionlessKey(parseKey(f.t, third.APIKey), alice).succeeds()
				f.clock.advance(refreshGrace + time.Microsecond)
				f.refreshKey(refreshParams(f.t, alice, second)).fails(api.CodeRefreshReused, noKey)
				f.verifySessionlessKey(parseKey(f.t, third.APIKey), alice).fails(api.CodeKeyNotValid, `{}`)
				f.refreshKey(refreshParams(f.t, alice, third)).fails(api.CodeRefreshNotAvailable, noKey)
				f.refreshKey(refreshParams(f.t, alice, first)).fails(api.CodeRefreshNotAvailable, noKey)
				f.verifySessionlessKey(parseKey(f.t, other.APIKey), alice).succeeds()
			}},
			{"a used token beside the present key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				first := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				second := f.refreshKey(refreshParams(f.t, alice, first)).succeeds()
				mixed := refreshParams(f.t, alice, second)
				mixed.RefreshToken = *first.RefreshToken
				f.refreshKey(mixed).fails(api.CodeRefreshMismatch, noKey)
				f.clock.advance(refreshGrace + time.Microsecond)
				f.refreshKey(mixed).fails(api.CodeRefreshReused, noKey)
				equal(f.t, "keys", f.sessionlessKeys(alice.ID), 0)
			}},
			{"by nodes whose clocks differ", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				first := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				f.clock.advance(-time.Second)
				f.verifySessionlessKey(parseKey(f.t, first.APIKey), alice).succeeds()
				p := refreshParams(f.t, alice, first)
				second := f.refreshKey(p).succeeds()
				f.clock.advance(-refreshGrace)
				sameJSON(f.t, "the answer of one that is behind", f.refreshKey(p).succeeds(), second)
				f.verifySessionlessKey(parseKey(f.t, second.APIKey), alice).succeeds()
				f.clock.advance(-time.Microsecond)
				f.refreshKey(p).fails(api.CodeRefreshReused, noKey)
			}},
			{"again after the successor was refreshed", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				first := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				second := f.refreshKey(refreshParams(f.t, alice, first)).succeeds()
				f.refreshKey(refreshParams(f.t, alice, second)).succeeds()
				f.refreshKey(refreshParams(f.t, alice, first)).fails(api.CodeRefreshReused, noKey)
				equal(f.t, "keys", f.sessionlessKeys(alice.ID), 0)
				equal(f.t, "used tokens", f.count("SELECT count(*) FROM refresh_tokens_used"), 0)
			}},
			{"when", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				p := sessionlessParams(alice)
				p.RefreshNotBefore = 60
				later := f.newSessionlessKey(p).succeeds()
				f.refreshKey(refreshParams(f.t, alice, later)).fails(api.CodeRefreshNotAvailable, noKey)
				f.clock.advance(time.Minute)
				f.refreshKey(refreshParams(f.t, alice, later)).succeeds()
				expired := f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				f.clock.advance(24 * time.Hour)
				f.refreshKey(refreshParams(f.t, alice, expired)).fails(api.CodeRefreshNotAvailable, noKey)
			}},
			{"which key", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				issued, other := f.newSessionlessKey(sessionlessParams(alice)).succeeds(), f.newSessionlessKey(sessionlessParams(alice)).succeeds()
				good := refreshParams(f.t, alice, issued)
				for _, change := range []struct {
					code api.Code
					do   func(*api.APIKeyRefreshNoSessionParams)
				}{
					{api.CodeRefreshMismatch, func(p *api.APIKeyRefreshNoSessionParams) { p.RefreshToken = *other.RefreshToken }},
					{api.CodeRefreshMismatch, func(p *api.APIKeyRefreshNoSessionParams) { p.RefreshToken = "x" }},
					{api.CodeRefreshMismatch, func(p *api.APIKeyRefreshNoSessionParams) { p.RefreshToken = p.APIKeyDict.Token }},
					{api.CodeRefreshNotAvailable, func(p *api.APIKeyRefreshNoSessionParams) { p.APIKeyDict.Role = "staff" }},
					{api.CodeRefreshNotAvailable, func(p *api.APIKeyRefreshNoSessionParams) { p.APIKeyDict.UserID = 1 }},
					{api.CodeRefreshNotAvailable, func(p *api.APIKeyRefreshNoSessionParams) { p.APIKeyDict.Token = "x" }},
					{api.CodeRefreshNotAvailable, func(p *api.APIKeyRefreshNoSessionParams) {
						p.APIKeyDict.Token = api.Secret(f.Tokens.New(token.APIKey))
					}},
				} {
					p := good
					change.do(&p)
					f.refreshKey(p).fails(change.code, noKey)
				}
				ofSession := f.key(alice, f.session(alice.ID))
				p := good
				p.APIKeyDict.APIKey = ofSession
				f.refreshKey(p).fails(api.CodeRefreshNotAvailable, noKey)
				f.refreshKey(good).succeeds()
			}},
			{"who may", func(f *fixture) {
				alice, root := f.user("alice", "authenticated"), f.stored(1)
				p := refreshParams(f.t, alice, f.newSessionlessKey(sessionlessParams(alice)).succeeds())
				p.UserID, p.UserRole = root.ID, root.Role
				f.refreshKey(p).fails(api.CodeOldKeyNotRevocable, noKey)
				p.UserID, p.UserRole = alice.ID, "staff"
				f.refreshKey(p).fails(api.CodeOldKeyNotRevocable, noKey)
				p.UserRole = alice.Role
				f.policy = policyOf(f.t, "create")
				f.refreshKey(p).fails(api.CodeNewKeyNotIssuable, noKey)
				f.policy = policyOf(f.t, "delete")
				f.refreshKey(p).fails(api.CodeOldKeyNotRevocable, noKey)
				f.policy = policyOf(f.t, "")
				f.refreshKey(p).succeeds()
				// The same questions are asked before a lost answer is given again.
				f.policy = policyOf(f.t, "create")
				f.refreshKey(p).fails(api.CodeNewKeyNotIssuable, noKey)
			}},
			{"a key of the Python server", func(f *fixture) {
				alice := f.user("alice", "authenticated")
				refresh := token.New()
				secret := f.pythonKey(alice.ID, f.hash(refresh))
				f.reopen()
				p := api.APIKeyRefreshNoSessionParams{
					APIKeyDict: api.RefreshableKey{
						APIKey: api.APIKey{Token: api.Secret(secret), UserID: alice.ID, Role: alice.Role},
						Issuer: "i", Version: api.TextOf("v"), Audience: "a", Subject: api.ListOf("s"),
					},
					UserID: alice.ID, UserRole: alice.Role, RefreshToken: "wrong", ExpiresSeconds: 60, RefreshExpires: 60,
				}
				f.refreshKey(p).fails(api.CodeRefreshMismatch, noKey)
				p.RefreshToken = api.Secret(refresh)
				pool := f.Passwords
				f.occupy()
				f.refreshKey(p).fails(api.CodeBusy, noKey)
				f.Passwords = pool
				o := f.refreshKey(p)
				equal(f.t, "hashes", o.hashes, 1)
				next := o.succeeds()
				f.verifySessionlessKey(parseKey(f.t, next.APIKey), alice).succeeds()
				o = f.refreshKey(p)
				equal(f.t, "hashes of the second time", o.hashes, 0)
				sameJSON(f.t, "second answer", o.succeeds(), next)
				o = f.refreshKey(refreshParams(f.t, alice, next))
				equal(f.t, "hashes with the new token", o.hashes, 0)
				o.succeeds()
				f.exec("UPDATE apikeys_nosession SET refresh_token = '$nonsense'")
				_, err := f.APIKeyRefreshNoSession(f.t.Context(), &p)
				equal(f.t, "code for a damaged hash", codeOf(f.t, api.APIKeyRefreshNoSession.Spec(), err), api.CodeRefreshReused)
			}},
		},
	}
}

// TestParallelRefreshes: however many refresh one token at once, there is one
// successor, and all of them have it.
func TestParallelRefreshes(t *testing.T) {
	f := newFixture(t)
	alice := f.user("alice", "authenticated")
	p := refreshParams(t, alice, f.newSessionlessKey(sessionlessParams(alice)).succeeds())
	const callers = 64
	results := make([]api.APIKeyNewNoSessionResult, callers)
	errs := make([]error, callers)
	var running sync.WaitGroup
	start := make(chan struct{})
	for i := range callers {
		running.Go(func() {
			<-start
			mine := p
			results[i], errs[i] = f.APIKeyRefreshNoSession(t.Context(), &mine)
		})
	}
	close(start)
	running.Wait()
	for i := range callers {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		equal(t, "tokens", []api.Secret{*results[i].APIKey, *results[i].RefreshToken}, []api.Secret{*results[0].APIKey, *results[0].RefreshToken})
	}
	equal(t, "live keys", f.sessionlessKeys(alice.ID), 1)
	equal(t, "used tokens", f.count("SELECT count(*) FROM refresh_tokens_used"), 1)
	f.verifySessionlessKey(parseKey(t, results[0].APIKey), alice).succeeds()
}

// TestKeyUsesAreWrittenSeldom counts the changes that verifying makes.
func TestKeyUsesAreWrittenSeldom(t *testing.T) {
	f := newFixture(t)
	alice := f.user("alice", "authenticated")
	p := sessionlessParams(alice)
	p.ExpiresSeconds = 86400
	key := parseKey(t, f.newSessionlessKey(p).succeeds().APIKey)
	lastUsed := func() string {
		var text string
		err := f.raw.QueryRowContext(t.Context(), "SELECT coalesce(last_used, '') FROM apikeys_nosession").Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var written []string
	for range 150 { // two and a half hours
		f.verifySessionlessKey(key, alice).succeeds()
		err := f.Store.FlushUses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if at := lastUsed(); !slices.Contains(written, at) {
			written = append(written, at)
		}
		f.clock.advance(time.Minute)
	}
	equal(t, "uses that were written", written, []string{
		"2026-02-03 04:05:06.000789", "2026-02-03 05:05:06.000789", "2026-02-03 06:05:06.000789",
	})
	// A server that starts anew knows when it was.
	f.reopen()
	f.verifySessionlessKey(key, alice).succeeds()
	err := f.Store.FlushUses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "last use after a restart", lastUsed(), written[2])
}

// TestKeyRevokedWhileItRefreshes: a change between reading and writing counts.
func TestKeyRevokedWhileItRefreshes(t *testing.T) {
	f := newFixture(t)
	alice := f.user("alice", "authenticated")
	refresh := token.New()
	secret := f.pythonKey(alice.ID, f.hash(refresh))
	f.reopen()
	ctx := meanwhile(t, func() {
		f.update(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteSessionlessKeysOf(ctx, alice.ID)
			return err
		})
	})
	_, err := f.APIKeyRefreshNoSession(ctx, &api.APIKeyRefreshNoSessionParams{
		APIKeyDict: api.RefreshableKey{APIKey: api.APIKey{Token: api.Secret(secret), UserID: alice.ID, Role: alice.Role}},
		UserID:     alice.ID, UserRole: alice.Role, RefreshToken: api.Secret(refresh), ExpiresSeconds: 60, RefreshExpires: 60,
	})
	equal(t, "code", codeOf(t, api.APIKeyRefreshNoSession.Spec(), err), api.CodeRefreshNotAvailable)
	equal(t, "keys", f.sessionlessKeys(alice.ID), 0)
}

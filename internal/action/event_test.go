package action_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/event"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
)

func (f *fixture) eventList(p api.EventListParams) outcome[api.EventListResult] {
	f.t.Helper()
	return call(f, api.EventList, f.EventList, p)
}

// logged returns the events after one, which it moves to the last: their kinds, the
// users, the actors, the requests and the details.
func (f *fixture) logged(after *int64) []string {
	f.t.Helper()
	var events []store.Event
	err := f.Store.View(f.t.Context(), func(ctx context.Context, tx *store.Tx) error {
		var err error
		events, err = tx.Events(ctx, store.EventQuery{After: after, Limit: 1000})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	var texts []string
	for _, e := range events {
		*after = e.ID
		if e.Occurred.IsZero() || e.Occurred.After(f.clock.Now()) {
			f.t.Errorf("%s is said to have occurred at %v", e.Kind, e.Occurred)
		}
		texts = append(texts, strings.TrimSpace(fmt.Sprintf("%s of %d by %d in %s %s", e.Kind, e.UserID, e.ActorID, e.Request, e.Details)))
	}
	return texts
}

// uneventful are the requests that change something no event tells of: what a frontend
// keeps with sessions, when messages were sent, and codes that were right, to which
// something is done next.
var uneventful = []string{
	"session-setinfo", "internal-session-edit", "user-set-emailsent", "user-sendemail-signup", "user-check-emailtoken",
}

// An eventCase is what an event is written for. prepare is done before, and act is then
// to write what the result says, where # stands for a random id.
type eventCase struct {
	name    string
	prepare func(*fixture) (act func() error, want []string)
}

func fromHome(f *fixture, request string) context.Context {
	return withRequest(from(f.t, home), request)
}

func eventCases() []eventCase {
	var cases []eventCase
	add := func(name string, prepare func(f *fixture, ctx context.Context) (func() error, []string)) {
		request, _, _ := strings.Cut(name, ":")
		cases = append(cases, eventCase{name, func(f *fixture) (func() error, []string) { return prepare(f, fromHome(f, request)) }})
	}
	id := func(format string, u *store.User) string { return strings.ReplaceAll(format, "$", fmt.Sprint(u.ID)) }

	add("session-new", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.SessionNew(ctx, &api.SessionNewParams{
				IPAddress: "192.0.2.1", UserID: api.Of(api.UserRef(u.ID)), Expires: "2030-01-01T00:00:00",
			})
			return err
		}, []string{id(`session.created of $ by 0 in session-new {"session_id":"#"}`, u)}
	})
	add("session-new: anonymous", func(f *fixture, ctx context.Context) (func() error, []string) {
		return func() error {
			_, err := f.SessionNew(ctx, &api.SessionNewParams{IPAddress: "192.0.2.1", Expires: "2030-01-01T00:00:00"})
			return err
		}, nil
	})
	add("session-delete", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		s := f.session(u.ID)
		return func() error {
			_, err := f.SessionDelete(ctx, &api.SessionDeleteParams{SessionToken: s})
			return err
		}, []string{id(`session.ended of $ by $ in session-delete {"session_id":"#"}`, u)}
	})
	add("session-delete: another", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		s, other := f.session(u.ID), f.idOf(f.session(u.ID))
		return func() error {
			_, err := f.SessionDelete(ctx, &api.SessionDeleteParams{SessionToken: s, SessionID: api.Given(other)})
			return err
		}, []string{id(`session.ended of $ by $ in session-delete {"session_id":"#"}`, u)}
	})
	add("session-delete: anonymous", func(f *fixture, ctx context.Context) (func() error, []string) {
		s := f.session(store.AnonymousID)
		return func() error {
			_, err := f.SessionDelete(ctx, &api.SessionDeleteParams{SessionToken: s})
			return err
		}, nil
	})
	add("session-delete-userid", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		f.session(u.ID)
		f.session(u.ID)
		return func() error {
			_, err := f.SessionDeleteUserID(ctx, &api.SessionDeleteUserIDParams{UserID: u.ID})
			return err
		}, []string{id(`session.all_ended of $ by 0 in session-delete-userid {"count":2}`, u)}
	})
	login := func(name, password string, want []string, changes ...func(*store.User)) {
		add("user-login: "+name, func(f *fixture, ctx context.Context) (func() error, []string) {
			u := f.user("alice", "authenticated", changes...)
			s := f.visit(home)
			return func() error {
				_, err := f.UserLogin(ctx, &api.UserLoginParams{SessionToken: s, Email: "alice@example.org", Password: api.Password(password)})
				return expect(err, api.CodeInvalidCredentials, api.CodeUserLocked)
			}, each(want, func(text string) string { return id(text, u) })
		})
	}
	login("right", goodPassword, []string{"user.logged_in of $ by $ in user-login"})
	login("wrong", wrongPassword, []string{`user.login_failed of $ by 0 in user-login {"code":"invalid_credentials"}`})
	login("not verified", goodPassword, []string{`user.login_failed of $ by 0 in user-login {"code":"invalid_credentials"}`}, unverified)
	login("locked", goodPassword, []string{`user.login_failed of $ by 0 in user-login {"code":"user_locked"}`},
		func(u *store.User) { u.Role = "locked" })
	add("user-login: unknown", func(f *fixture, ctx context.Context) (func() error, []string) {
		s := f.visit(home)
		return func() error {
			_, err := f.UserLogin(ctx, &api.UserLoginParams{SessionToken: s, Email: "nobody@example.org", Password: goodPassword})
			return expect(err, api.CodeInvalidCredentials)
		}, []string{`user.login_failed of 0 by 0 in user-login {"code":"invalid_credentials"}`}
	})
	add("user-login: locked out", func(f *fixture, ctx context.Context) (func() error, []string) {
		f.allow(1)
		u := f.user("alice", "authenticated")
		_, _ = f.logIn(home, u.Email, wrongPassword)
		s := f.visit(home)
		return func() error {
			_, err := f.UserLogin(ctx, &api.UserLoginParams{SessionToken: s, Email: "alice@example.org", Password: wrongPassword})
			return expect(err, api.CodeTooManyFailures)
		}, []string{
			id(`user.login_failed of $ by 0 in user-login {"code":"invalid_credentials"}`, u),
			id(`user.locked_out of $ by 0 in user-login {"until":"2026-02-03T05:05:06.000789"}`, u),
		}
	})
	add("user-logout", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		s := f.session(u.ID)
		return func() error {
			_, err := f.UserLogout(ctx, &api.UserLogoutParams{SessionToken: s, UserID: u.ID})
			return err
		}, []string{id("user.logged_out of $ by $ in user-logout", u)}
	})
	add("user-passcheck", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		s := f.session(u.ID)
		return func() error {
			_, err := f.UserPasscheck(ctx, &api.UserPasscheckParams{SessionToken: s, Password: goodPassword})
			return err
		}, []string{id("user.password_confirmed of $ by $ in user-passcheck", u)}
	})
	add("user-passcheck-nosession: wrong", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.UserPasscheckNoSession(ctx, &api.UserPasscheckNoSessionParams{Email: api.Email(u.Email), Password: wrongPassword})
			return expect(err, api.CodeInvalidCredentials)
		}, []string{id(`user.login_failed of $ by 0 in user-passcheck-nosession {"code":"invalid_credentials"}`, u)}
	})
	add("user-new", func(f *fixture, ctx context.Context) (func() error, []string) {
		return func() error {
			p := signUpParams("alice")
			_, err := f.UserNew(ctx, &p)
			return err
		}, []string{"user.signed_up of 4 by 0 in user-new"}
	})
	add("user-new: again", func(f *fixture, ctx context.Context) (func() error, []string) {
		f.newUser(signUpParams("alice")).succeeds()
		return func() error {
			p := signUpParams("alice")
			_, err := f.UserNew(ctx, &p)
			return expect(err, api.CodeUserExists)
		}, []string{"user.sign_up_repeated of 4 by 0 in user-new"}
	})
	add("user-new: instead", func(f *fixture, ctx context.Context) (func() error, []string) {
		f.newUser(signUpParams("alice")).succeeds()
		f.clock.advance(100 * time.Hour)
		return func() error {
			p := signUpParams("alice")
			_, err := f.UserNew(ctx, &p)
			return expect(err, api.CodeUserExists)
		}, []string{`user.signed_up of 4 by 0 in user-new {"replaced":true}`}
	})
	add("user-set-emailverified", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.signUp("alice")
		return func() error {
			_, err := f.UserSetEmailVerified(ctx, &api.UserSetEmailVerifiedParams{Email: api.Email(u.Email)})
			return err
		}, []string{id(`user.verified of $ by 0 in user-set-emailverified {"first":true}`, u)}
	})
	add("user-delete", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.UserDelete(ctx, &api.UserDeleteParams{UserID: u.ID, Email: api.Email(u.Email), Password: goodPassword})
			return err
		}, []string{id("user.deleted of $ by $ in user-delete", u)}
	})
	add("internal-user-delete", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.InternalUserDelete(ctx, &api.InternalUserDeleteParams{TargetUserID: u.ID})
			return err
		}, []string{id("user.deleted of $ by 0 in internal-user-delete", u)}
	})
	add("user-edit", func(f *fixture, ctx context.Context) (func() error, []string) {
		u, boss := f.user("alice", "authenticated"), f.caller("boss", "superuser")
		return func() error {
			_, err := f.UserEdit(ctx, &api.UserEditParams{
				UserID: boss.ID, UserRole: boss.Role, SessionToken: boss.session, TargetUserID: u.ID,
				UpdateDict: api.Object(`{"full_name": "Al", "email": "al@example.org", "user_role": "staff", "is_active": true}`),
			})
			return err
		}, []string{
			fmt.Sprintf(`user.edited of %d by %d in user-edit {"fields":["full_name"]}`, u.ID, boss.ID),
			fmt.Sprintf(`user.email_changed of %d by %d in user-edit`, u.ID, boss.ID),
			fmt.Sprintf(`user.role_changed of %d by %d in user-edit {"from":"authenticated","to":"staff"}`, u.ID, boss.ID),
		}
	})
	add("internal-user-edit", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.InternalUserEdit(ctx, &api.InternalUserEditParams{TargetUserID: u.ID, UpdateDict: api.Object(`{"is_active": false, "extra_info": {"a": 1}}`)})
			return err
		}, []string{id(`user.edited of $ by 0 in internal-user-edit {"fields":["is_active","extra_info"]}`, u)}
	})
	add("user-lock", func(f *fixture, ctx context.Context) (func() error, []string) {
		u, boss := f.user("alice", "staff"), f.caller("boss", "superuser")
		return func() error {
			_, err := f.UserLock(ctx, &api.UserLockParams{
				UserID: boss.ID, UserRole: boss.Role, SessionToken: boss.session, TargetUserID: u.ID, Action: "lock",
			})
			return err
		}, []string{fmt.Sprintf(`user.locked of %d by %d in user-lock {"from":"staff","to":"locked"}`, u.ID, boss.ID)}
	})
	add("internal-user-lock", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "staff")
		f.internalLock(u.ID, "lock").succeeds()
		return func() error {
			_, err := f.InternalUserLock(ctx, &api.InternalUserLockParams{TargetUserID: u.ID, Action: "unlock"})
			return err
		}, []string{id(`user.unlocked of $ by 0 in internal-user-lock {"from":"locked","to":"staff"}`, u)}
	})
	add("user-changepass-nosession", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.UserChangePassNoSession(ctx, &api.UserChangePassNoSessionParams{
				UserID: u.ID, Email: api.Email(u.Email), CurrentPassword: goodPassword, NewPassword: otherPassword,
			})
			return err
		}, []string{id("password.changed of $ by $ in user-changepass-nosession", u)}
	})
	add("user-changepass", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		s := f.session(u.ID)
		return func() error {
			_, err := f.UserChangePass(ctx, &api.UserChangePassParams{
				SessionToken: s, UserID: u.ID, Email: api.Email(u.Email), CurrentPassword: goodPassword, NewPassword: otherPassword,
			})
			return err
		}, []string{id("password.changed of $ by $ in user-changepass", u)}
	})
	add("user-resetpass", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		s := f.session(store.AnonymousID)
		return func() error {
			_, err := f.UserResetPass(ctx, &api.UserResetPassParams{SessionToken: s, Email: api.Email(u.Email), NewPassword: otherPassword})
			return err
		}, []string{id("password.reset of $ by 0 in user-resetpass", u)}
	})
	add("user-resetpass-nosession", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.UserResetPassNoSession(ctx, &api.UserResetPassNoSessionParams{Email: api.Email(u.Email), NewPassword: otherPassword, RequiredActive: true})
			return err
		}, []string{id("password.reset of $ by 0 in user-resetpass-nosession", u)}
	})
	add("user-sendemail-forgotpass", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		p := f.forgotPassMail(u.Email)
		return func() error {
			_, err := f.UserSendEmailForgotPass(ctx, &p)
			return err
		}, []string{id("password.reset_requested of $ by 0 in user-sendemail-forgotpass", u)}
	})
	add("user-new-emailtoken", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		return func() error {
			_, err := f.UserNewEmailToken(ctx, &api.UserNewEmailTokenParams{Email: api.Email(u.Email), Purpose: "forgotpass"})
			return err
		}, []string{id("password.reset_requested of $ by 0 in user-new-emailtoken", u)}
	})
	add("apikey-new", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		p := newKeyParams(u, f.session(u.ID))
		p.Name, p.Scopes = named("build"), scopes("view:object")
		return func() error {
			_, err := f.APIKeyNew(ctx, &p)
			return err
		}, []string{id(`apikey.created of $ by $ in apikey-new {"key_id":"#","kind":"session","name":"build","scopes":["view:object"]}`, u)}
	})
	add("apikey-new-nosession", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		p := sessionlessParams(u)
		return func() error {
			_, err := f.APIKeyNewNoSession(ctx, &p)
			return err
		}, []string{id(`apikey.created of $ by $ in apikey-new-nosession {"key_id":"#","kind":"nosession","name":null,"scopes":null}`, u)}
	})
	add("apikey-revoke", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		key := f.key(u, f.session(u.ID))
		return func() error {
			_, err := f.APIKeyRevoke(ctx, &api.APIKeyRevokeParams{APIKeyDict: api.Given(key), UserID: u.ID, UserRole: u.Role})
			return err
		}, []string{id(`apikey.revoked of $ by $ in apikey-revoke {"key_id":"#"}`, u)}
	})
	add("apikey-revoke: by id", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		f.key(u, f.session(u.ID))
		keyID := f.listKeys(u)[0].KeyID
		return func() error {
			_, err := f.APIKeyRevoke(ctx, &api.APIKeyRevokeParams{KeyID: api.Given(keyID), UserID: u.ID, UserRole: u.Role})
			return err
		}, []string{id(`apikey.revoked of $ by $ in apikey-revoke {"key_id":"#"}`, u)}
	})
	add("apikey-revoke-nosession", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(u)).succeeds().APIKey)
		return func() error {
			_, err := f.APIKeyRevokeNoSession(ctx, &api.APIKeyRevokeNoSessionParams{APIKeyDict: key, UserID: u.ID, UserRole: u.Role})
			return err
		}, []string{id(`apikey.revoked of $ by $ in apikey-revoke-nosession {"key_id":"#"}`, u)}
	})
	add("apikey-revokeall-nosession", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		key := parseKey(f.t, f.newSessionlessKey(sessionlessParams(u)).succeeds().APIKey)
		f.newSessionlessKey(sessionlessParams(u)).succeeds()
		return func() error {
			_, err := f.APIKeyRevokeAllNoSession(ctx, &api.APIKeyRevokeNoSessionParams{APIKeyDict: key, UserID: u.ID, UserRole: u.Role})
			return err
		}, []string{id(`apikey.all_revoked of $ by $ in apikey-revokeall-nosession {"count":2}`, u)}
	})
	add("apikey-refresh-nosession", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		p := refreshParams(f.t, u, f.newSessionlessKey(sessionlessParams(u)).succeeds())
		return func() error {
			_, err := f.APIKeyRefreshNoSession(ctx, &p)
			return err
		}, []string{id(`apikey.refreshed of $ by $ in apikey-refresh-nosession {"key_id":"#"}`, u)}
	})
	add("apikey-refresh-nosession: reuse", func(f *fixture, ctx context.Context) (func() error, []string) {
		u := f.user("alice", "authenticated")
		p := refreshParams(f.t, u, f.newSessionlessKey(sessionlessParams(u)).succeeds())
		f.refreshKey(p).succeeds()
		f.clock.advance(time.Minute)
		return func() error {
			_, err := f.APIKeyRefreshNoSession(ctx, &p)
			return expect(err, api.CodeRefreshReused)
		}, []string{id(`apikey.reuse_detected of $ by 0 in apikey-refresh-nosession {"key_id":"#"}`, u)}
	})
	return cases
}

// expect returns nil for the failures given, which are what was wanted.
func expect(err error, codes ...api.Code) error {
	for _, code := range codes {
		if errors.Is(err, api.Fail(code)) {
			return nil
		}
	}
	return err
}

func each(texts []string, do func(string) string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = do(text)
	}
	return out
}

// TestEvents looks at what is written for each kind of request, and that a change whose
// event cannot be written is not made.
func TestEvents(t *testing.T) {
	t.Parallel()
	written := map[string]bool{}
	requests := map[string]bool{}
	for _, c := range eventCases() {
		request, _, _ := strings.Cut(c.name, ":")
		requests[request] = true
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			act, want := c.prepare(f)
			var after int64
			f.logged(&after)
			err := act()
			if err != nil {
				t.Fatal(err)
			}
			got := each(f.logged(&after), func(text string) string { return uuid.ReplaceAllString(text, `"#"`) })
			equal(t, "events", strings.Join(got, "\n"), strings.Join(want, "\n"))
			for _, text := range got {
				kind, _, _ := strings.Cut(text, " ")
				written[kind] = true
			}
		})
		t.Run(c.name+", not written", func(t *testing.T) {
			f := newFixture(t)
			act, want := c.prepare(f)
			if want == nil {
				return
			}
			f.exec("CREATE TRIGGER no_events BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no'); END")
			before := f.dump()
			if act() == nil {
				t.Error("it succeeded without its event")
			}
			equal(t, "rows", f.dump(), before)
		})
	}
	for _, kind := range api.EventKinds() {
		if !written[string(kind.Kind)] {
			t.Errorf("no case writes %s", kind.Kind)
		}
	}
	for _, spec := range api.All() {
		if !spec.ReadOnly && !spec.Counts && !requests[spec.Name] && !slices.Contains(uneventful, spec.Name) {
			t.Errorf("no case is about %s", spec.Name)
		}
	}
}

func eventScenarios() map[string][]scenario {
	const none = `{"events": null}`
	return map[string][]scenario{"event-list": {
		{"own", func(f *fixture) {
			alice, bob := f.user("alice", "authenticated"), f.user("bob", "authenticated")
			_, _ = f.logIn(home, alice.Email, wrongPassword)
			f.clock.advance(time.Second)
			_, _ = f.logIn(home, bob.Email, goodPassword)
			_, err := f.logIn(home, alice.Email, goodPassword)
			if err != nil {
				f.t.Fatal(err)
			}
			list := f.eventList(api.EventListParams{SessionToken: f.session(alice.ID)}).succeeds()
			equal(f.t, "events", len(list.Events), 2)
			e := list.Events[0]
			equal(f.t, "kind", e.Kind, api.EventLoggedIn)
			equal(f.t, "user", *e.UserID, alice.ID)
			equal(f.t, "actor", *e.ActorID, alice.ID)
			equal(f.t, "address", e.IPAddress, home.addr)
			equal(f.t, "device", e.Device, "Firefox on Linux")
			equal(f.t, "moment", time.Time(e.Occurred), f.clock.Now())
			equal(f.t, "kind before", list.Events[1].Kind, api.EventLoginFailed)
			equal(f.t, "actor before", list.Events[1].ActorID, nil)
			if list.Next != nil {
				f.t.Error("there is a next page")
			}
			failed := f.eventList(api.EventListParams{SessionToken: f.session(alice.ID), Kind: api.Given("user.login_failed")}).succeeds()
			equal(f.t, "failures", len(failed.Events), 1)
		}},
		{"pages", func(f *fixture) {
			alice := f.user("alice", "authenticated")
			for range 5 {
				_, _ = f.logIn(home, alice.Email, wrongPassword)
			}
			p := api.EventListParams{SessionToken: f.session(alice.ID), Limit: api.Given(int64(2))}
			var ids []int64
			for {
				page := f.eventList(p).succeeds()
				for _, e := range page.Events {
					ids = append(ids, e.EventID)
				}
				if page.Next == nil {
					break
				}
				equal(f.t, "events of a page", len(page.Events), 2)
				p.After = api.Given(*page.Next)
			}
			equal(f.t, "events", len(ids), 5)
			if !slices.IsSortedFunc(ids, func(a, b int64) int { return int(b - a) }) {
				f.t.Errorf("the ids are %v", ids)
			}
		}},
		{"others'", func(f *fixture) {
			alice, staff, boss := f.user("alice", "authenticated"), f.user("staff", "staff"), f.user("boss", "superuser")
			_, _ = f.logIn(home, alice.Email, wrongPassword)
			_, _ = f.logIn(home, "nobody@example.org", wrongPassword)
			for _, u := range []*store.User{staff, f.user("old boss", "superuser", inactive)} {
				f.eventList(api.EventListParams{SessionToken: f.session(u.ID), UserID: api.Given(alice.ID)}).fails(api.CodeNotPermitted, none)
				f.eventList(api.EventListParams{SessionToken: f.session(u.ID), All: api.Given(true)}).fails(api.CodeNotPermitted, none)
			}
			s := f.session(boss.ID)
			equal(f.t, "of one", len(f.eventList(api.EventListParams{SessionToken: s, UserID: api.Given(alice.ID)}).succeeds().Events), 1)
			equal(f.t, "of all", len(f.eventList(api.EventListParams{SessionToken: s, All: api.Given(true)}).succeeds().Events), 2)
			equal(f.t, "own", len(f.eventList(api.EventListParams{SessionToken: s, All: api.Given(false)}).succeeds().Events), 0)
			_, err := f.EventList(f.t.Context(), &api.EventListParams{SessionToken: s, UserID: api.Given(alice.ID), All: api.Given(true)})
			var failure *api.Failure
			if !errors.As(err, &failure) || failure.Code != api.CodeInvalidParams || failure.Problems[0].Param != "all" {
				f.t.Errorf("one and all: %v", err)
			}
			equal(f.t, "of a user who was deleted", func() int {
				f.internalUserDelete(alice.ID).succeeds()
				return len(f.eventList(api.EventListParams{SessionToken: s, UserID: api.Given(alice.ID)}).succeeds().Events)
			}(), 2)
		}},
		{"by policy", func(f *fixture) {
			alice, auditor := f.user("alice", "authenticated"), f.user("auditor", "staff")
			_, _ = f.logIn(home, alice.Email, wrongPassword)
			f.policy = policyWithEvents(f.t)
			equal(f.t, "events", len(f.eventList(api.EventListParams{SessionToken: f.session(auditor.ID), UserID: api.Given(alice.ID)}).succeeds().Events), 1)
			f.eventList(api.EventListParams{SessionToken: f.session(alice.ID), UserID: api.Given(auditor.ID)}).fails(api.CodeNotPermitted, none)
		}},
		{"refused", func(f *fixture) {
			f.eventList(api.EventListParams{SessionToken: unknownToken}).fails(api.CodeSessionNotFound, none)
			f.eventList(api.EventListParams{SessionToken: f.session(store.AnonymousID)}).fails(api.CodeNotPermitted, none)
			f.eventList(api.EventListParams{SessionToken: f.session(store.AnonymousID), Kind: api.Given("user.logged")}).fails(api.CodeUnknownEventKind, none)
		}},
	}}
}

// TestOldEventsArePurged keeps events for as long as was asked for.
func TestOldEventsArePurged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.EventRetention = 30 * 24 * time.Hour
	f.SendEvent = func(context.Context, string, []byte) error { return nil }
	const some = 1100 // more than one transaction deletes
	f.update(func(ctx context.Context, tx *store.Tx) error {
		for range some {
			err := tx.AddEvent(ctx, &store.Event{Kind: "old"}, true)
			if err != nil {
				return err
			}
		}
		return nil
	})
	f.clock.advance(f.EventRetention)
	f.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.AddEvent(ctx, &store.Event{Kind: "new"}, true)
	})
	purge := func() {
		_, _, err := f.PurgeExpired(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
	}
	purge()
	equal(t, "events", f.count("SELECT count(*) FROM events"), some+1)
	f.clock.advance(time.Microsecond)
	purge()
	equal(t, "events after a moment", f.count("SELECT count(*) FROM events"), 1)
	equal(t, "to send", f.count("SELECT count(*) FROM event_deliveries"), 1)
}

// A hook takes events in place of a webhook.
type hook struct {
	err    error
	ids    []string
	bodies []string
}

func (h *hook) send(_ context.Context, id string, body []byte) error {
	h.ids, h.bodies = append(h.ids, id), append(h.bodies, string(body))
	return h.err
}

// sendNext returns in what time the next event may be sent, a negative one for nothing.
func (f *fixture) sendNext() (time.Duration, error) {
	next, err := f.SendNextEvent(f.t.Context())
	if next.IsZero() {
		return -1, err
	}
	return next.Sub(f.clock.Now()), err
}

// TestEventsAreSentInOrder has a webhook fail for a while.
func TestEventsAreSentInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	alice := f.user("alice", "authenticated")
	_, _ = f.logIn(home, alice.Email, wrongPassword) // nothing sends events yet
	h := &hook{err: errors.New("down")}
	f.SendEvent = h.send
	queued := f.queued.Load()
	_, _ = f.logIn(home, alice.Email, wrongPassword)
	equal(t, "told of", f.queued.Load()-queued, 1)
	_, _ = f.logIn(home, alice.Email, goodPassword)

	wait, err := f.sendNext()
	equal(t, "first wait", wait, 5*time.Second)
	if err == nil || !strings.Contains(err.Error(), "send event 2, attempt 1: down") {
		t.Errorf("the error is %v", err)
	}
	wait, err = f.sendNext()
	equal(t, "wait when it is not yet time", wait, 5*time.Second)
	equal(t, "error when it is not yet time", err, nil)
	for _, want := range []time.Duration{10, 20, 40} {
		f.clock.advance(wait)
		wait, _ = f.sendNext()
		equal(t, "next wait", wait, want*time.Second)
	}
	for range 20 {
		f.clock.advance(wait)
		wait, _ = f.sendNext()
	}
	equal(t, "longest wait", wait, 30*time.Minute)
	equal(t, "tries of the first", slices.Compact(slices.Clone(h.ids)), []string{"evt_2"})

	h.err, h.ids, h.bodies = nil, nil, nil
	f.clock.advance(wait)
	for wait >= 0 {
		wait, err = f.sendNext()
		if err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "events", h.ids, []string{"evt_2", "evt_3"})
	equal(t, "first", h.bodies[0], fmt.Sprintf(`{"type":"user.login_failed","timestamp":"2026-02-03T04:05:06.000789Z","data":{"event_id":2,`+
		`"occurred":"2026-02-03T04:05:06.000789","kind":"user.login_failed","user_id":%d,"actor_id":null,"request":"","ip_address":"192.0.2.1",`+
		`"user_agent":"%s","device":"Firefox on Linux","details":{"code":"invalid_credentials"}}}`, alice.ID, home.agent))
}

// TestEventsAreGivenUp ends what cannot be sent for days, so that others have their turn.
func TestEventsAreGivenUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := &hook{err: errors.New("down")}
	f.SendEvent = h.send
	alice := f.user("alice", "authenticated")
	_, _ = f.logIn(home, alice.Email, wrongPassword)
	_, _ = f.sendNext()
	f.clock.advance(72*time.Hour - time.Microsecond)
	_, err := f.sendNext()
	if err == nil || errors.Is(err, action.ErrGivenUp) {
		t.Errorf("just before it is given up, the error is %v", err)
	}
	_, _ = f.logIn(home, alice.Email, goodPassword)
	f.clock.advance(time.Hour)
	wait, err := f.sendNext()
	equal(t, "wait", wait, 0)
	if !errors.Is(err, action.ErrGivenUp) || !strings.Contains(err.Error(), "event 1, attempt 3: down") {
		t.Errorf("the error is %v", err)
	}
	h.err, h.ids = nil, nil
	_, err = f.sendNext()
	equal(t, "error", err, nil)
	equal(t, "the next", h.ids, []string{"evt_2"})
}

// TestEventsAreSentByOneNode has two nodes send the same event.
func TestEventsAreSentByOneNode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	alice := f.user("alice", "authenticated")
	var meanwhile time.Duration
	sent := 0
	f.SendEvent = func(context.Context, string, []byte) error {
		sent++
		if sent == 1 {
			var err error
			meanwhile, err = f.sendNext()
			equal(t, "error of the other", err, nil)
		}
		return nil
	}
	_, _ = f.logIn(home, alice.Email, goodPassword)
	_, err := f.sendNext()
	equal(t, "error", err, nil)
	equal(t, "how long the other waits", meanwhile, 30*time.Second)
	equal(t, "sent", sent, 1)
	wait, _ := f.sendNext()
	equal(t, "nothing is left", wait, -1)
}

// uuid matches the value of a random id.
var uuid = regexp.MustCompile(`"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"`)

// withRequest returns a context of a request with this name.
func withRequest(ctx context.Context, name string) context.Context {
	return event.NewContext(ctx, &event.Record{Request: name})
}

// policyWithEvents returns the default policy with an item "event", which the role staff
// may view although it is others'.
func policyWithEvents(t testing.TB) *policy.Policy {
	t.Helper()
	return changedPolicy(t, func(document map[string]any) {
		document["items"] = append(document["items"].([]any), "event")
		document["item_policy"].(map[string]any)["event"] = map[string]any{
			"valid_role_actions": []string{"view"}, "valid_visibilities": []string{"private"},
			"invalid_roles": []string{"authenticated", "anonymous", "locked"},
		}
		others := document["role_policy"].(map[string]any)["staff"].(map[string]any)["allowed_actions_for_other"].(map[string]any)
		others["private"] = append(others["private"].([]any), "view")
	})
}

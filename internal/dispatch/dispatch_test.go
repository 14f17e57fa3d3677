package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/dispatch"
	"authnzerver/internal/event"
	"authnzerver/internal/identity"
	"authnzerver/internal/passpolicy"
	"authnzerver/internal/passwd"
	"authnzerver/internal/pii"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

type routes map[string]dispatch.Route

// handle adds a route, or replaces the one of the same request.
func handle[P, R any](r routes, request api.Request[P, R], do func(context.Context, *P) (R, error)) {
	r[request.Spec().Name] = dispatch.Handle(request, do)
}

// answer makes a request always end in the same result and error.
func answer[P, R any](r routes, request api.Request[P, R], result R, err error) {
	handle(r, request, func(context.Context, *P) (R, error) { return result, err })
}

// answerUsers is answer for lists of users.
func answerUsers[P any](r routes, request api.Request[P, api.UserListResult], users []api.UserInfo, err error) {
	r[request.Spec().Name] = dispatch.HandleList(request, func(_ context.Context, _ *P, _ *api.UserListResult, yield func(*api.UserInfo) error) error {
		for i := range users {
			err := yield(&users[i])
			if err != nil {
				return err
			}
		}
		return err
	})
}

// routesOf returns the routes of all requests.
func routesOf(s *action.Server) routes {
	r := routes{}
	handle(r, api.SessionNew, s.SessionNew)
	handle(r, api.SessionExists, s.SessionExists)
	handle(r, api.SessionList, s.SessionList)
	handle(r, api.SessionDelete, s.SessionDelete)
	handle(r, api.SessionDeleteUserID, s.SessionDeleteUserID)
	handle(r, api.SessionSetInfo, s.SessionSetInfo)
	handle(r, api.InternalSessionEdit, s.InternalSessionEdit)
	handle(r, api.UserLogin, s.UserLogin)
	handle(r, api.UserLogout, s.UserLogout)
	handle(r, api.UserPasscheck, s.UserPasscheck)
	handle(r, api.UserPasscheckNoSession, s.UserPasscheckNoSession)
	handle(r, api.UserNew, s.UserNew)
	handle(r, api.UserDelete, s.UserDelete)
	r[api.UserList.Spec().Name] = dispatch.HandleList(api.UserList, s.UserList)
	handle(r, api.UserLookupEmail, s.UserLookupEmail)
	r[api.UserLookupMatch.Spec().Name] = dispatch.HandleList(api.UserLookupMatch, s.UserLookupMatch)
	handle(r, api.UserEdit, s.UserEdit)
	handle(r, api.UserLock, s.UserLock)
	handle(r, api.InternalUserLock, s.InternalUserLock)
	handle(r, api.InternalUserEdit, s.InternalUserEdit)
	handle(r, api.InternalUserDelete, s.InternalUserDelete)
	handle(r, api.UserValidatePass, s.UserValidatePass)
	handle(r, api.UserChangePass, s.UserChangePass)
	handle(r, api.UserChangePassNoSession, s.UserChangePassNoSession)
	handle(r, api.UserResetPass, s.UserResetPass)
	handle(r, api.UserResetPassNoSession, s.UserResetPassNoSession)
	handle(r, api.UserSendEmailSignUp, s.UserSendEmailSignUp)
	handle(r, api.UserSendEmailForgotPass, s.UserSendEmailForgotPass)
	handle(r, api.UserNewEmailToken, s.UserNewEmailToken)
	handle(r, api.UserCheckEmailToken, s.UserCheckEmailToken)
	handle(r, api.UserSetEmailVerified, s.UserSetEmailVerified)
	handle(r, api.UserSetEmailSent, s.UserSetEmailSent)
	handle(r, api.APIKeyNew, s.APIKeyNew)
	handle(r, api.APIKeyVerify, s.APIKeyVerify)
	handle(r, api.APIKeyRevoke, s.APIKeyRevoke)
	handle(r, api.APIKeyList, s.APIKeyList)
	handle(r, api.APIKeyNewNoSession, s.APIKeyNewNoSession)
	handle(r, api.APIKeyVerifyNoSession, s.APIKeyVerifyNoSession)
	handle(r, api.APIKeyRevokeNoSession, s.APIKeyRevokeNoSession)
	handle(r, api.APIKeyRevokeAllNoSession, s.APIKeyRevokeAllNoSession)
	handle(r, api.APIKeyRefreshNoSession, s.APIKeyRefreshNoSession)
	handle(r, api.UserCheckAccess, s.UserCheckAccess)
	handle(r, api.UserCheckLimit, s.UserCheckLimit)
	handle(r, api.UserCountLimit, s.UserCountLimit)
	handle(r, api.Check, s.Check)
	handle(r, api.EventList, s.EventList)
	return r
}

func (r routes) table(t testing.TB) *dispatch.Table {
	t.Helper()
	table, err := dispatch.New(nil, slices.Collect(maps.Values(r))...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// server returns a server on a database of its own.
func server(t testing.TB) *action.Server {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{
		URL: "sqlite:///" + filepath.Join(t.TempDir(), "auth.sqlite"), NormalizeEmail: identity.NormalizeEmail,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := db.Close()
		if err != nil {
			t.Error(err)
		}
	})
	pool := passwd.NewPool(passwd.Options{Params: passwd.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}, Workers: 2, Queue: 100})
	err = db.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		return tx.Initialize(ctx, store.Initial{
			Roles: policy.Default().Roles(), AdminEmail: "root-keeper@example.org", AdminHash: pool.Unusable(), NoPassword: pool.Unusable,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewMinter(token.DefaultPrefix, db.TokenKey())
	if err != nil {
		t.Fatal(err)
	}
	inForce := policy.Default()
	return &action.Server{
		Tokens: tokens,
		Store:  db, Passwords: pool, Now: time.Now, Policy: func() *policy.Policy { return inForce },
		PasswordRules: passpolicy.New(passpolicy.Options{Rules: passpolicy.DefaultRules(), ServerName: "auth.example.org"}),
	}
}

// do sends the text of a request and returns the text of the reply.
func do(t testing.TB, ctx context.Context, table *dispatch.Table, text string) []byte {
	t.Helper()
	in, err := parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	reply, _, err := table.Do(ctx, nil, in)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if !jsontext.Value(reply).IsValid() {
		t.Fatalf("%s: the reply is not JSON: %s", text, reply)
	}
	return reply
}

// problems sends a request with this body and returns what is wrong with it.
func problems(t testing.TB, table *dispatch.Table, request, body string) []api.Problem {
	t.Helper()
	reply, err := api.ParseReply(do(t, t.Context(), table, `{"request": "`+request+`", "reqid": 1, "body": `+body+`}`))
	if err != nil {
		t.Fatal(err)
	}
	if reply.Success || reply.Failure.Code != api.CodeInvalidParams {
		return nil
	}
	if len(reply.Failure.Problems) == 0 {
		t.Fatalf("%s %s: no problem is named", request, body)
	}
	return reply.Failure.Problems
}

func TestNew(t *testing.T) {
	all := routesOf(&action.Server{})
	_, err := dispatch.New(nil, slices.Collect(maps.Values(all))...)
	if err != nil {
		t.Error(err)
	}
	for name, route := range all {
		rest := maps.Clone(all)
		delete(rest, name)
		_, err := dispatch.New(nil, slices.Collect(maps.Values(rest))...)
		if err == nil || !strings.HasSuffix(err.Error(), ": "+name) {
			t.Errorf("without %s: %v", name, err)
		}
		_, err = dispatch.New(nil, append(slices.Collect(maps.Values(all)), route)...)
		if err == nil || !strings.Contains(err.Error(), name+" has two routes") {
			t.Errorf("with %s twice: %v", name, err)
		}
	}
	_, err = dispatch.New(nil)
	for _, spec := range api.All() {
		if err == nil || !strings.Contains(err.Error(), spec.Name) {
			t.Errorf("without any: %v does not name %s", err, spec.Name)
		}
	}
}

func TestNames(t *testing.T) {
	table := routesOf(server(t)).table(t)
	known := map[string]string{}
	for _, spec := range api.All() {
		known[spec.Name] = spec.Name
		for _, alias := range spec.Aliases {
			known[alias] = spec.Name
		}
	}
	if known["user-verify-emailaddr"] != "user-set-emailverified" {
		t.Error("the first generation's name of user-set-emailverified is gone")
	}
	for name, canonical := range known {
		record := &event.Record{}
		do(t, event.NewContext(t.Context(), record), table, `{"request": "`+name+`", "reqid": [ 7], "body": {}}`)
		if record.Request != canonical || record.ReqID != "[ 7]" {
			t.Errorf("%s is noted as %s with reqid %s", name, record.Request, record.ReqID)
		}
		for _, wrong := range []string{strings.ToUpper(name), name + " ", " " + name, name + "s", strings.Replace(name+"-x", "-", "_", 1)} {
			in, err := parse([]byte(`{"request": "` + wrong + `", "reqid": 1, "body": {}}`))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = table.Do(t.Context(), nil, in)
			if !errors.Is(err, dispatch.ErrMalformed) {
				t.Errorf("%q: %v, want ErrMalformed", wrong, err)
			}
		}
	}
}

// allMembers is an object with every member that any request needs in one.
const allMembers = `{"uid": 1, "tkn": "x", "rol": "x", "iss": "x", "ver": 1, "aud": "x", "sub": "x", "send_verification": true, "user_id": 1}`

// neededBeside are optional parameters that must be there because others are.
var neededBeside = map[string][]string{"apikey-verify": {"user_id", "user_role"}, "check": {"session_token"}}

// checkWants are values of the parameters of check, which takes one credential.
var checkWants = map[string]string{"apikey_dict": "null", "user_id": "null", "access": "[]", "limits": "[]"}

// body returns a body of a request that has every parameter, with some of them
// replaced by other JSON texts; "" leaves one out.
func body(spec *api.Spec, changes map[string]string) string {
	var members []string
	for _, p := range spec.Params() {
		value := map[string]string{
			"str": `"x"`, "int": "1", "bool": "true", "dict": allMembers, "list": `["x"]`, "Any": "1", "float": "1.5",
		}[p.Types[0]]
		if p.Name == "after" && p.Types[0] == "str" {
			value = `"1.x"` // a place in a list
		}
		if spec.Name == "check" && checkWants[p.Name] != "" {
			value = checkWants[p.Name]
		}
		if p.Name == "all" {
			value = "false" // true is not allowed beside another one
		}
		if change, ok := changes[p.Name]; ok {
			value = change
		}
		if value != "" {
			members = append(members, fmt.Sprintf("%q: %s", p.Name, value))
		}
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func TestEveryParam(t *testing.T) {
	table := routesOf(server(t)).table(t)
	for _, spec := range api.All() {
		if found := problems(t, table, spec.Name, body(spec, nil)); found != nil {
			t.Errorf("%s with all parameters: %v", spec.Name, found)
		}
		extra := strings.Replace(body(spec, nil), "{", `{"client_ipaddr": "::1", "reqid": {"a": 1, "a": 2}, "pii_salt": null, "x": "\ud800", "x": 1, `, 1)
		if found := problems(t, table, spec.Name, extra); found != nil {
			t.Errorf("%s with unknown members: %v", spec.Name, found)
		}
		var missing []api.Problem
		for _, p := range spec.Params() {
			want := api.Problem{Param: p.Name, RequiredType: p.Types, RequiredParam: p.Required}
			for _, test := range []struct{ problem, body string }{
				{api.ProblemMissing, body(spec, map[string]string{p.Name: ""})},
				{api.ProblemType, body(spec, map[string]string{p.Name: "null"})},
				{api.ProblemDuplicate, strings.Replace(body(spec, nil), "{", `{"`+p.Name+`": 1, `, 1)},
				{api.ProblemLetterCase, strings.Replace(body(spec, nil), "{", `{"`+strings.ToUpper(p.Name)+`": 1, `, 1)},
			} {
				want.Problem = test.problem
				wanted := []api.Problem{want}
				nullable := slices.Contains(p.Types, "None")
				switch {
				case test.problem == api.ProblemMissing && slices.Contains(neededBeside[spec.Name], p.Name):
					wanted[0].RequiredParam = true
				case test.problem == api.ProblemType && spec.Name == "check" && p.Name == "session_token": // null is none
					wanted[0].RequiredParam, wanted[0].Problem = true, api.ProblemMissing
				case test.problem == api.ProblemMissing && !p.Required,
					test.problem == api.ProblemType && (nullable || !p.Required && !p.Strict):
					wanted = nil
				}
				if diff := cmp.Diff(wanted, problems(t, table, spec.Name, test.body)); diff != "" {
					t.Errorf("%s %s:\n%s", spec.Name, test.body, diff)
				}
			}
			if p.Required || spec.Name == "check" && p.Name == "session_token" {
				want.Problem, want.RequiredParam = api.ProblemMissing, true
				missing = append(missing, want)
			}
		}
		if diff := cmp.Diff(missing, problems(t, table, spec.Name, "{}")); diff != "" {
			t.Errorf("%s without parameters:\n%s", spec.Name, diff)
		}
	}
}

func deepArray(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// TestTypes tries every JSON value on every kind of parameter.
func TestTypes(t *testing.T) {
	long := strings.Repeat("é", 1025)
	large := `{"a": "` + strings.Repeat("x", 64<<10) + `"}`
	values := []string{
		"null", "true", "false", "0", "-0", "1", "-1", "0.0", "1.0", "1e0", "1.5", "-1.5e3", "0e7",
		"9007199254740991", "-9007199254740991", "9007199254740992", "-9007199254740992", "99999999999999999999", "1e300", "1e400", "-1e400",
		`""`, `"7"`, `"-7"`, `"x"`, `" 7"`, `"7.0"`, `"9007199254740992"`, `"99999999999999999999999"`, `"\ud800"`, `"\u0000"`, "\"\xff\"", `"` + long + `"`, `"` + long[:2048] + `"`,
		"[]", "[ ]", "[1]", deepArray(32), deepArray(33), deepArray(9000),
		"{}", "{ }", `{"a": 1}`, `{"a": 1, "a": 2}`, `{"a": {"b": 1, "\u0062": 2}}`, `{"\udc00": 1}`, "{\"a\": \"\xc3\"}", large, `{"a": ` + deepArray(31) + `}`, `{"a": ` + deepArray(32) + `}`,
	}
	const (
		ok         = ""
		text       = api.ProblemText
		tooLong    = api.ProblemTooLong
		tooDeep    = api.ProblemTooDeep
		duplicate  = api.ProblemDuplicate
		outOfRange = api.ProblemOutOfRange
	)
	// What is not listed is of the wrong type.
	type outcomes map[string]string
	with := func(all ...outcomes) outcomes {
		merged := outcomes{}
		for _, o := range all {
			maps.Copy(merged, o)
		}
		return merged
	}
	texts := outcomes{
		`""`: ok, `"7"`: ok, `"-7"`: ok, `"x"`: ok, `" 7"`: ok, `"7.0"`: ok, `"9007199254740992"`: ok, `"99999999999999999999999"`: ok, `"` + long[:2048] + `"`: ok,
		`"\ud800"`: text, `"\u0000"`: text, "\"\xff\"": text, `"` + long + `"`: tooLong,
	}
	ints := outcomes{
		"0": ok, "-0": ok, "1": ok, "-1": ok, "9007199254740991": ok, "-9007199254740991": ok,
		"9007199254740992": outOfRange, "-9007199254740992": outOfRange, "99999999999999999999": outOfRange,
	}
	objects := outcomes{
		"{}": ok, "{ }": ok, `{"a": 1}`: ok, `{"a": ` + deepArray(31) + `}`: ok,
		`{"a": 1, "a": 2}`: duplicate, `{"a": {"b": 1, "\u0062": 2}}`: duplicate, `{"\udc00": 1}`: text, "{\"a\": \"\xc3\"}": text,
		large: tooLong, `{"a": ` + deepArray(32) + `}`: tooDeep,
	}
	null := outcomes{"null": ok}
	// A falsy value of the wrong type counts as left out.
	falsy := outcomes{
		"null": ok, "false": ok, "0": ok, "-0": ok, "0.0": ok, "0e7": ok, `""`: ok, "[]": ok, "[ ]": ok, "{}": ok, "{ }": ok,
	}
	anything := outcomes{}
	for _, v := range values {
		anything[v] = ok
	}
	anything = with(anything, objects, outcomes{`"\ud800"`: text, "\"\xff\"": text, deepArray(33): tooDeep, deepArray(9000): tooDeep})
	delete(anything, "null")
	r := routesOf(&action.Server{})
	answer(r, api.SessionExists, api.SessionExistsResult{}, nil)
	answer(r, api.SessionNew, api.SessionNewResult{}, nil)
	answer(r, api.SessionSetInfo, api.SessionEditResult{}, nil)
	answer(r, api.SessionDeleteUserID, api.SessionDeleteUserIDResult{}, nil)
	answer(r, api.InternalSessionEdit, api.SessionEditResult{}, nil)
	answer(r, api.UserLogout, api.UserLogoutResult{}, nil)
	answer(r, api.UserPasscheckNoSession, api.UserCheckResult{}, nil)
	answer(r, api.UserLookupEmail, api.UserInfoResult{}, nil)
	answerUsers(r, api.UserList, nil, nil)
	answer(r, api.UserNew, api.UserNewResult{}, nil)
	answer(r, api.UserValidatePass, api.UserValidatePassResult{}, nil)
	answer(r, api.UserCheckAccess, api.UserCheckAccessResult{}, nil)
	answer(r, api.UserCheckLimit, api.UserCheckLimitResult{}, nil)
	table := r.table(t)
	for _, test := range []struct {
		request, param string
		types          []string
		outcomes       outcomes
	}{
		{"session-exists", "session_token", []string{"str"}, texts},
		{"user-lookup-email", "email", []string{"str"}, texts},
		{"user-passcheck-nosession", "password", []string{"str"}, with(texts, outcomes{`"\u0000"`: ok})},
		{"user-logout", "user_id", []string{"int"}, ints},
		{"session-delete-userid", "keep_current_session", []string{"bool"}, outcomes{"true": ok, "false": ok}},
		{"internal-session-edit", "update_dict", []string{"dict"}, objects},
		{"user-check-limit", "value_to_check", []string{"Any"}, anything},
		{"user-check-access", "target_sharedwith", []string{"str", "None"}, with(texts, null, outcomes{`"` + long + `"`: ok})},
		{"session-new", "user_id", []string{"int", "None"}, with(ints, null, outcomes{`"7"`: ok, `"-7"`: ok, `"9007199254740992"`: outOfRange, `"99999999999999999999999"`: outOfRange, `"\ud800"`: text, `"\u0000"`: text, "\"\xff\"": text})},
		{"user-list", "user_id", []string{"int", "None"}, with(ints, null, outcomes{`"7"`: ok, `"-7"`: ok, `"9007199254740992"`: outOfRange, `"99999999999999999999999"`: outOfRange, `"\ud800"`: text, `"\u0000"`: text, "\"\xff\"": text})},
		{"session-new", "extra_info_json", []string{"dict", "None"}, with(objects, null)},
		{"user-validatepass", "min_pass_length", []string{"int"}, with(ints, falsy)},
		{"user-validatepass", "max_character_frequency", []string{"float"}, with(falsy, outcomes{
			"1.0": ok, "1e0": ok, "1.5": ok, "-1.5e3": ok, "1e300": outOfRange, "1e400": outOfRange, "-1e400": outOfRange,
		})},
		{"user-new", "extra_info", []string{"dict", "None"}, with(objects, falsy)},
		{"user-new", "verify_retry_wait", []string{"int", "None"}, with(ints, falsy, outcomes{"9007199254740991": outOfRange})},
		{"user-new", "system_id", []string{"str", "None"}, with(texts, falsy, outcomes{`"` + long[:2048] + `"`: tooLong})},
		{"session-setinfo", "extra_info", []string{"dict", "None"}, with(objects, falsy)},
	} {
		i := slices.IndexFunc(api.All(), func(s *api.Spec) bool { return s.Name == test.request })
		spec := api.All()[i]
		j := slices.IndexFunc(spec.Params(), func(p api.Param) bool { return p.Name == test.param })
		required := spec.Params()[j].Required
		for _, value := range values {
			want, listed := test.outcomes[value]
			if !listed {
				want = api.ProblemType
			}
			found := problems(t, table, test.request, body(spec, map[string]string{test.param: value}))
			got := ok
			if len(found) == 1 {
				got = found[0].Problem
				bounded := got == tooLong || got == outOfRange
				if found[0].Param != test.param || !slices.Equal(found[0].RequiredType, test.types) ||
					found[0].RequiredParam != required || bounded != (found[0].Accepted != "") {
					t.Errorf("%s %s: %+v", test.request, test.param, found[0])
				}
			}
			if len(found) > 1 || got != want {
				t.Errorf("%s %s: %.80s: %v, want %q", test.request, test.param, value, found, want)
			}
		}
	}
}

// TestLeftOut checks that a falsy optional parameter of the wrong type reaches
// the action as one that was left out, and a right one as it is.
func TestLeftOut(t *testing.T) {
	var got api.UserNewParams
	r := routesOf(&action.Server{})
	handle(r, api.UserNew, func(_ context.Context, p *api.UserNewParams) (api.UserNewResult, error) {
		got = *p
		return api.UserNewResult{}, nil
	})
	table := r.table(t)
	send := func(value string) {
		t.Helper()
		found := problems(t, table, "user-new", `{"full_name": "", "email": "", "password": "", "extra_info": `+value+`, "verify_retry_wait": `+value+`, "system_id": `+value+`}`)
		if found != nil {
			t.Fatalf("%s: %v", value, found)
		}
	}
	for _, value := range []string{"false", "0.0", "-0e1", "[]", "[ ]"} { // of no parameter's type
		send(value)
		if diff := cmp.Diff(api.UserNewParams{}, got); diff != "" {
			t.Errorf("%s:\n%s", value, diff)
		}
	}
	for value, want := range map[string]api.UserNewParams{
		`""`:  {SystemID: api.Some(api.Of(""))},
		"0":   {VerifyRetryWait: api.Some(api.Of(int64(0)))},
		"{ }": {ExtraInfo: api.Some(api.Of(api.Object("{ }")))},
		"null": {
			ExtraInfo: api.Some(api.Null[api.Object]{}), VerifyRetryWait: api.Some(api.Null[int64]{}), SystemID: api.Some(api.Null[string]{}),
		},
	} {
		send(value)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", value, diff)
		}
	}
}

// TestReplies compares whole replies with testdata/replies.txt.
func TestReplies(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	token := api.SessionToken("T0k3n")
	var id int64 = 4
	r := routes{}
	answer(r, api.UserLogin, api.UserCheckResult{UserID: &id, UserRole: "staff"}, nil)
	answer(r, api.SessionNew, api.SessionNewResult{SessionToken: &token, Expires: api.Expiry(at)}, nil)
	answer(r, api.SessionDelete, api.SessionDeleteResult{}, nil)
	answer(r, api.UserValidatePass, api.UserValidatePassResult{}, nil)
	answer(r, api.UserChangePass, api.UserChangePassResult{
		UserID: 4, Email: "é@example.org", Notes: api.Notes{Messages: []string{"First.", `Second "quoted" <line>.`}},
	}, nil)
	answerUsers(r, api.UserList, []api.UserInfo{{
		UserID: 4, SystemID: "sys", Email: "a@example.org", CreatedOn: api.Time(at), LastUpdated: api.Time(at.Add(time.Microsecond)),
		UserRole: "locked", ExtraInfo: api.Object(`{"a": 1.50}`),
	}}, nil)
	answerUsers(r, api.UserLookupMatch, nil, nil)
	answer(r, api.UserSetEmailVerified, api.UserSetEmailVerifiedResult{UserID: &id, IsActive: true, UserRole: "authenticated"}, nil)
	answer(r, api.UserCheckLimit, api.UserCheckLimitResult{}, api.Fail(api.CodeOverLimit))
	answer(r, api.SessionExists, api.SessionExistsResult{}, api.Fail(api.CodeSessionNotFound))
	answer(r, api.UserLogout, api.UserLogoutResult{UserID: 7}, api.Fail(api.CodeSessionUserMismatch))
	answer(r, api.UserPasscheckNoSession, api.UserCheckResult{UserID: &id}, api.Fail(api.CodeUserLocked))
	answer(r, api.UserPasscheck, api.UserCheckResult{}, passwd.ErrBusy)
	email := api.Email("a@example.org")
	answer(r, api.UserNew, api.UserNewResult{UserEmail: &email}, api.Fail(api.CodeInvalidPassword, "One.", "Two."))
	answer(r, api.InternalUserEdit, api.UserInfoResult{}, api.FailFields(api.CodeFieldsNotEditable, []string{"password", "a\nb\"c"}))
	answer(r, api.UserLookupEmail, api.UserInfoResult{}, errors.New("secret detail"))
	answer(r, api.SessionDeleteUserID, api.SessionDeleteUserIDResult{}, fmt.Errorf("secret detail: %w", store.ErrUnavailable))
	answer(r, api.InternalUserLock, api.UserInfoResult{}, context.DeadlineExceeded)
	for name, route := range routesOf(&action.Server{}) {
		if _, ok := r[name]; !ok {
			r[name] = route
		}
	}
	table := r.table(t)

	var got bytes.Buffer
	specs := api.All()
	for _, request := range []struct{ about, name, reqid string }{
		{"success with keys", "user-login", `1`},
		{"success with an expiry on the second", "session-new", `"a"`},
		{"success without keys", "session-delete", `0`},
		{"success without a message", "user-validatepass", `false`},
		{"success with messages of its own", "user-changepass", `""`},
		{"success with a user", "user-list", `[1]`},
		{"success with an empty list", "user-lookup-match", `{}`},
		{"success under an alias", "user-verify-emailaddr", `{"a" : [1.50e1,  "\u00e9é\/"] }`},
		{"failure without keys", "user-check-limit", `-1e999`},
		{"failure with a null key", "session-exists", `1.0`},
		{"failure with a key that is known", "user-logout", `9007199254740993`},
		{"failure with the one key of two", "user-passcheck-nosession", `1`},
		{"failure with keys of all sorts and two messages", "user-new", `1`},
		{"failure that names fields", "internal-user-edit", `1`},
		{"too busy", "user-passcheck", `1`},
		{"out of time", "internal-user-lock", `1`},
		{"no database", "session-delete-userid", `1`},
		{"the server's own mistake", "user-lookup-email", `1`},
	} {
		i := slices.IndexFunc(specs, func(s *api.Spec) bool { return s.Name == request.name || slices.Contains(s.Aliases, request.name) })
		text := `{"request": "` + request.name + `", "reqid": ` + request.reqid + `, "body": ` + body(specs[i], nil) + `}`
		fmt.Fprintf(&got, "# %s\n%s\n%s\n\n", request.about, text, do(t, t.Context(), table, text))
	}
	for _, text := range []string{
		`{"request": "user-new", "reqid": 1, "body": {"password": 1, "extra_info": [1], "verify_retry_wait": 87601, "email": null, "client_ipaddr": "::1"}}`,
		`{"request": "user-verify-emailaddr", "reqid": {"a": 1}, "body": {"Email": "x", "email": "x"}}`,
		`{"request": "session-new", "reqid": 1, "body": {"ip_address": "x", "ip_address": "y", "user_agent": "\ud800", "user_id": "x", "expires": "` +
			strings.Repeat("x", 41) + `", "extra_info_json": {"a": {"b": 1, "b": 2}}}}`,
	} {
		fmt.Fprintf(&got, "# invalid parameters\n%s\n%s\n\n", text, do(t, t.Context(), table, text))
	}
	golden := filepath.Join("testdata", "replies.txt")
	if *update {
		err := os.WriteFile(golden, got.Bytes(), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("%s differs; run with -update when that is meant:\n%s", golden, diff)
	}
	if bytes.Contains(got.Bytes(), []byte("secret detail")) {
		t.Error("a reply shows an internal error")
	}
}

// TestAppends checks that a reply is appended to what is in the buffer.
func TestAppends(t *testing.T) {
	table := routesOf(&action.Server{}).table(t)
	in, err := parse([]byte(`{"request": "session-exists", "reqid": 1, "body": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	reply, _, err := table.Do(t.Context(), []byte("before"), in)
	if err != nil || !bytes.HasPrefix(reply, []byte(`before{"success":false`)) {
		t.Errorf("%s, %v", reply, err)
	}
}

// TestPanic checks that a mistake in one action is told and logged, and costs
// no other request.
func TestPanic(t *testing.T) {
	s := server(t)
	r := routesOf(s)
	causes := map[string]func(){
		"an error":     func() { panic(errors.New("broken")) },
		"a text":       func() { panic("broken") },
		"nil memory":   func() { _ = *(*string)(nil) },
		"out of range": func() { _ = []int{}[len(os.Args)*1000] },
		"in a transaction": func() {
			err := s.Store.Update(t.Context(), func(context.Context, *store.Tx) error { panic("broken") })
			t.Errorf("went on with %v", err)
		},
	}
	for name, cause := range causes {
		t.Run(name, func(t *testing.T) {
			handle(r, api.UserLookupEmail, func(context.Context, *api.UserLookupEmailParams) (api.UserInfoResult, error) {
				cause()
				return api.UserInfoResult{}, nil
			})
			table := r.table(t)
			record := &event.Record{Started: time.Now()}
			text := do(t, event.NewContext(t.Context(), record), table, `{"request": "user-lookup-email", "reqid": "the id", "body": {"email": "a@example.org"}}`)
			reply, err := api.ParseReply(text)
			if err != nil {
				t.Fatal(err)
			}
			if reply.Success || reply.Failure.Code != api.CodeInternal || string(reply.ReqID) != `"the id"` ||
				!bytes.Contains(text, []byte(`"user_info":null`)) || bytes.Contains(text, []byte("broken")) {
				t.Errorf("reply %s", text)
			}
			line := logged(t, record)
			for _, want := range []string{"level=ERROR", "request=user-lookup-email", `the id`, "code=internal_error", "panic: ", "dispatch_test.go"} {
				if !strings.Contains(line, want) {
					t.Errorf("the log line has no %q: %s", want, line)
				}
			}
			if strings.Contains(line, "a@example.org") {
				t.Errorf("the log line shows the address: %s", line)
			}
			after, err := api.ParseReply(do(t, t.Context(), table, `{"request": "user-set-emailsent", "reqid": 1, "body": {"email": "root-keeper@example.org", "email_type": "signup"}}`))
			if err != nil || !after.Success {
				t.Errorf("the next request: %+v, %v", after, err)
			}
		})
	}
}

func logged(t *testing.T, record *event.Record) string {
	t.Helper()
	hasher, err := pii.NewHasher("salt")
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	record.Log(t.Context(), slog.New(slog.NewTextHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug})), hasher, nil)
	return line.String()
}

// A longReply takes a long reply.
type longReply struct {
	bytes.Buffer
	begun int
}

// Begin implements dispatch.LongReply.
func (l *longReply) Begin() (io.Writer, error) {
	l.begun++
	return l, nil
}

// TestLongReplies lists few and many users, with and without a failure at the end.
func TestLongReplies(t *testing.T) {
	for _, test := range []struct {
		users int
		long  bool
	}{{0, false}, {1, false}, {100, false}, {400, true}, {5000, true}} {
		for _, fail := range []error{nil, api.Fail(api.CodeDatabase), errors.New("disk on fire")} {
			users := make([]api.UserInfo, test.users)
			for i := range users {
				users[i] = api.UserInfo{UserID: int64(i), Email: "somebody@example.org"}
			}
			r := routesOf(&action.Server{})
			answerUsers(r, api.UserList, users, fail)
			in, err := parse([]byte(`{"request": "user-list", "reqid": 1, "body": {"user_id": null}}`))
			if err != nil {
				t.Fatal(err)
			}
			long := &longReply{}
			in.Long = long
			reply, outcome, err := r.table(t).Do(t.Context(), []byte{}, in)
			if outcome.Sent != test.long || long.begun > 1 || (long.begun == 1) != test.long {
				t.Errorf("%d users: sent %v, begun %d times", test.users, outcome.Sent, long.begun)
			}
			if (err != nil) != (fail != nil && test.long) || err != nil && !errors.Is(err, fail) {
				t.Errorf("%d users that end in %v: error %v", test.users, fail, err)
			}
			if err != nil {
				continue
			}
			if test.long {
				reply = long.Bytes()
			}
			got, err := api.ParseReply(reply)
			if err != nil {
				t.Fatalf("%d users: %v", test.users, err)
			}
			if got.Success != (fail == nil) {
				t.Errorf("%d users that end in %v: success %v", test.users, fail, got.Success)
			}
			if fail != nil {
				continue
			}
			want, err := api.UserList.AppendSuccess(nil, []byte("1"), &api.UserListResult{UserInfo: users})
			if err != nil {
				t.Fatal(err)
			}
			if string(reply) != string(want) {
				t.Errorf("%d users: the reply differs from one that is made at once", test.users)
			}
		}
	}
}

// TestRecord checks at which level the outcomes of a request are logged.
func TestRecord(t *testing.T) {
	r := routesOf(&action.Server{})
	answer(r, api.SessionExists, api.SessionExistsResult{}, nil)
	answer(r, api.UserPasscheckNoSession, api.UserCheckResult{}, nil)
	answer(r, api.SessionDelete, api.SessionDeleteResult{}, nil)
	answerUsers(r, api.UserList, nil, api.Fail(api.CodeDatabase))
	answerUsers(r, api.UserLookupMatch, nil, fmt.Errorf("read: %w", store.ErrUnavailable))
	table := r.table(t)
	for _, test := range []struct{ request, body, level, code string }{
		{"session-exists", `{"session_token": ""}`, "DEBUG", ""},
		{"session-exists", `{}`, "INFO", "invalid_request_params"},
		{"user-passcheck-nosession", `{"email": "", "password": ""}`, "INFO", ""}, // it takes a hash
		{"session-delete", `{"session_token": ""}`, "INFO", ""},
		{"user-list", `{"user_id": null}`, "INFO", "db_error"},
		{"user-lookup-match", `{"by": "", "match": 1}`, "ERROR", "db_error"},
	} {
		record := &event.Record{Started: time.Now()}
		do(t, event.NewContext(t.Context(), record), table, `{"request": "`+test.request+`", "reqid": 1, "body": `+test.body+`}`)
		line := logged(t, record)
		if !strings.Contains(line, "level="+test.level+" ") || record.Code != test.code || record.Request != test.request {
			t.Errorf("%s ended in %q, logged as %s", test.request, record.Code, line)
		}
	}
}

// FuzzDo sends any body to any request of a whole server. Nothing that is sent
// may be the server's mistake.
func FuzzDo(f *testing.F) {
	for i, spec := range api.All() {
		f.Add(uint8(i), body(spec, nil))
	}
	for _, text := range []string{
		`{"by": "extra_info", "match": {"a": 1e999}}`, `{"by": "created_on", "match": "2030-01-01T00:00:00"}`,
		`{"target_userid": 1, "update_dict": {"extra_info": {"a": "__delete__"}, "email": "x@y"}}`,
		`{"full_name": "", "email": "someone@example.org", "password": "plum-Quartz-violin-77", "extra_info": {"a": []}}`,
		`{"ip_address": "::1", "user_agent": "", "user_id": "2", "expires": "2030-01-01T00:00:00Z", "extra_info_json": null}`,
	} {
		for i := range api.All() {
			f.Add(uint8(i), text)
		}
	}
	table := routesOf(server(f)).table(f)
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		spec := api.All()[int(which)%len(api.All())]
		in, err := parse([]byte(`{"request": "` + spec.Name + `", "reqid": 1, "body": ` + body + `}`))
		if err != nil {
			return
		}
		text, _, err := table.Do(t.Context(), nil, in)
		if err != nil {
			t.Fatal(err)
		}
		if !jsontext.Value(text).IsValid() {
			t.Fatalf("not JSON: %s", text)
		}
		reply, err := api.ParseReply(text)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Success {
			return
		}
		if code := reply.Failure.Code; code == api.CodeInternal || code == api.CodeDatabase || !spec.MayFail(code) {
			t.Errorf("%s %s ended in %s", spec.Name, body, code)
		}
	})
}

package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
)

// decode reads a request's body and returns its problems as "param: problem".
func decode[P, R any](t testing.TB, request api.Request[P, R], body map[string]string) (P, []string) {
	t.Helper()
	var members []api.Member
	for name, value := range body {
		members = append(members, api.Member{Name: []byte(name), Value: jsontext.Value(value)})
	}
	var p P
	var problems []string
	for _, problem := range request.Decode(members, &p) {
		problems = append(problems, problem.Param+": "+problem.Problem)
	}
	return p, problems
}

func TestAPIKeyDict(t *testing.T) {
	const good = `{"uid": 4, "tkn": "t", "rol": "r"}`
	for _, tt := range []struct{ dict, problem string }{
		{good, ""},
		{`{"uid": 4, "tkn": "t", "rol": "r", "exp": 5, "aud": [], "": null}`, ""},
		{`{"tkn": "t", "rol": "r"}`, "missing uid"},
		{`{"uid": 4, "rol": "r"}`, "missing tkn"},
		{`{"uid": 4, "tkn": "t"}`, "missing rol"},
		{`{}`, "missing uid"},
		{`{"uid": "4", "tkn": "t", "rol": "r"}`, "incorrect type uid"},
		{`{"uid": 4.0, "tkn": "t", "rol": "r"}`, "incorrect type uid"},
		{`{"uid": true, "tkn": "t", "rol": "r"}`, "incorrect type uid"},
		{`{"uid": null, "tkn": "t", "rol": "r"}`, "incorrect type uid"},
		{`{"uid": 4, "tkn": null, "rol": "r"}`, "incorrect type tkn"},
		{`{"uid": 4, "tkn": "t", "rol": ["r"]}`, "incorrect type rol"},
		{`{"uid": 9007199254740992, "tkn": "t", "rol": "r"}`, "out of range uid"},
		{`{"uid": 4, "tkn": "` + strings.Repeat("t", 1025) + `", "rol": "r"}`, "too long tkn"},
		{`{"UID": 4, "tkn": "t", "rol": "r"}`, "missing uid"},
		{`{"uid": 4, "uid": 5, "tkn": "t", "rol": "r"}`, "duplicate"},
		{`[]`, "incorrect type"},
		{`null`, "incorrect type"},
		{`"{}"`, "incorrect type"},
	} {
		p, problems := decode(t, api.APIKeyVerifyNoSession, map[string]string{"apikey_dict": tt.dict, "user_id": "4", "user_role": `"r"`})
		var want []string
		if tt.problem != "" {
			want = []string{"apikey_dict: " + tt.problem}
		}
		if diff := cmp.Diff(want, problems); diff != "" {
			t.Errorf("%s:\n%s", tt.dict, diff)
		}
		if tt.problem == "" && p.APIKeyDict != (api.APIKey{Token: "t", UserID: 4, Role: "r"}) {
			t.Errorf("%s was read as %+v", tt.dict, p.APIKeyDict)
		}
	}
	for _, missing := range []string{"iss", "ver", "aud", "sub"} {
		members := map[string]any{"uid": 4, "tkn": "t", "rol": "r", "iss": "i", "ver": 1, "aud": "a", "sub": []string{"s"}}
		delete(members, missing)
		text, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		_, err = api.ParseRefreshableKey(api.Secret(text))
		if err == nil || !strings.Contains(err.Error(), "missing "+missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

// TestMixedTypes has the parameters that take more than one type.
func TestMixedTypes(t *testing.T) {
	good := map[string]string{
		"audience": `"a"`, "subject": `"s"`, "apiversion": `1`, "expires_days": `1`, "not_valid_before": `0`, "user_id": `4`, "user_role": `"r"`,
		"ip_address": `"x"`, "user_agent": `"y"`, "session_token": `"z"`,
	}
	for _, tt := range []struct{ name, value, problem string }{
		{"subject", `["a", "b"]`, ""},
		{"subject", `[]`, ""},
		{"subject", `[1]`, "incorrect type"},
		{"subject", `{}`, "incorrect type"},
		{"subject", `[` + strings.Repeat(`"x",`, 100) + `"x"]`, "too long"},
		{"subject", `null`, "incorrect type"},
		{"apiversion", `"v2"`, ""},
		{"apiversion", `-3`, ""},
		{"apiversion", `1.0`, "incorrect type"},
		{"apiversion", `true`, "incorrect type"},
		{"apiversion", `9007199254740992`, "out of range"},
		{"not_valid_before", `1.5`, ""},
		{"not_valid_before", `-1`, ""},
		{"not_valid_before", `1e400`, "out of range"},
		{"not_valid_before", `"1"`, "incorrect type"},
		{"not_valid_before", `3153600001`, "out of range"},
		{"expires_days", `-36500`, ""},
		{"expires_days", `36501`, "out of range"},
		{"expires_days", `1.0`, "incorrect type"},
		{"issuer", `"i"`, ""},
		{"issuer", `null`, "incorrect type"},
		{"issuer", `""`, ""},
		{"name", `null`, ""},
		{"name", `"n"`, ""},
		{"name", `""`, ""},
		{"name", `5`, "incorrect type"},
		{"scopes", `null`, ""},
		{"scopes", `["view:object"]`, ""},
		{"scopes", `[]`, "out of range"},
		{"scopes", `"view:object"`, "incorrect type"},
		{"scopes", `[null]`, "incorrect type"},
		{"scopes", `{}`, "incorrect type"},
		{"scopes", `false`, "incorrect type"},
	} {
		body := map[string]string{}
		for name, value := range good {
			body[name] = value
		}
		body[tt.name] = tt.value
		_, problems := decode(t, api.APIKeyNew, body)
		var want []string
		if tt.problem != "" {
			want = []string{tt.name + ": " + tt.problem}
		}
		if diff := cmp.Diff(want, problems); diff != "" {
			t.Errorf("%s %s:\n%s", tt.name, tt.value, diff)
		}
	}
}

// TestSecretsAreHidden formats every type that holds a secret.
func TestSecretsAreHidden(t *testing.T) {
	key := api.APIKey{Token: "the-secret", UserID: 4, Role: "r"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		text := fmt.Sprintf(verb, key) + fmt.Sprintf(verb, api.Secret("the-secret")) + fmt.Sprintf(verb, &key) + fmt.Sprintf(verb, api.RefreshableKey{APIKey: key})
		if strings.Contains(text, "the-secret") || strings.Contains(text, "7468652d736563726574") {
			t.Errorf("%s shows the secret: %s", verb, text)
		}
	}
	text, err := json.Marshal(key)
	if err != nil || string(text) != `{"uid":4,"rol":"r","tkn":"the-secret"}` {
		t.Errorf("JSON %s, %v", text, err)
	}
}

// FuzzParseAPIKey: an object is read or refused, and what was read is written
// as an object that reads the same.
func FuzzParseAPIKey(f *testing.F) {
	f.Add(`{"iss": "i", "ver": 1, "uid": 4, "rol": "r", "aud": "a", "sub": ["s"], "tkn": "t"}`)
	f.Add(`{"iss": "i", "ver": "é", "uid": -0, "rol": "\u0041", "aud": "", "sub": "", "tkn": "", "x": {"y": [1e5]}}`)
	f.Add(`{"uid": 1, "rol": "r", "tkn": "t", "tkn": "u"}`)
	f.Fuzz(func(t *testing.T, text string) {
		key, err := api.ParseRefreshableKey(api.Secret(text))
		if err != nil {
			return
		}
		plain, err := api.ParseAPIKey(api.Secret(text))
		if err != nil || plain != key.APIKey {
			t.Errorf("read as %+v and as %+v, %v", key, plain, err)
		}
		again, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		second, err := api.ParseRefreshableKey(api.Secret(again))
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if diff := cmp.Diff(key, second); diff != "" {
			t.Error(diff)
		}
	})
}

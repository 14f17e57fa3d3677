package dispatch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/dispatch"
)

// parse reads a request into a new Incoming.
func parse(text []byte) (*dispatch.Incoming, error) {
	in := new(dispatch.Incoming)
	return in, dispatch.Parse(text, in)
}

func TestParse(t *testing.T) {
	notAuthentic, malformed := dispatch.ErrNotAuthentic, dispatch.ErrMalformed
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	with := func(member string) string { return `{"request": "user-list", "reqid": 1, "body": {}, ` + member + `}` }
	for _, test := range []struct {
		name, text string
		want       error
	}{
		// What the Python server takes for a failed decryption.
		{"empty", ``, notAuthentic},
		{"blank", " \n\t", notAuthentic},
		{"null", `null`, notAuthentic},
		{"false", ` false `, notAuthentic},
		{"zero", `0`, notAuthentic},
		{"negative zero", `-0.0`, notAuthentic},
		{"zero with exponent", `0e5`, notAuthentic},
		{"zero with fraction and exponent", `-0.00E-7`, notAuthentic},
		{"empty string", `""`, notAuthentic},
		{"empty array", `[ ]`, notAuthentic},
		{"empty object", "{\n}", notAuthentic},
		{"no JSON", `request=user-list`, notAuthentic},
		{"cut off", `{"request": "user-list", "reqid": 1, "body": {`, notAuthentic},
		{"trailing data", `{"request": "user-list", "reqid": 1, "body": {}} {}`, notAuthentic},
		{"trailing comma", `{"request": "user-list", "reqid": 1, "body": {},}`, notAuthentic},
		{"trailing data after a number", `0 0`, notAuthentic},
		{"trailing data after an array", `[1]]`, notAuthentic},
		{"single quotes", `{'request': 'user-list'}`, notAuthentic},
		{"comment", `{"request": "user-list", "reqid": 1, "body": {} /* */}`, notAuthentic},
		{"NaN", `NaN`, notAuthentic},
		{"NaN inside", `{"request": "user-list", "reqid": NaN, "body": {}}`, notAuthentic},
		{"Infinity inside", `{"request": "user-list", "reqid": 1, "body": {"user_id": -Infinity}}`, notAuthentic},
		{"leading zero", `{"request": "user-list", "reqid": 01, "body": {}}`, notAuthentic},
		{"byte order mark", "\ufeff{}", notAuthentic},
		{"control character in a string", "{\"request\": \"user\x01list\", \"reqid\": 1, \"body\": {}}", notAuthentic},
		{"nested too deeply", deep(20_000), notAuthentic},
		{"open arrays", strings.Repeat("[", 100_000), notAuthentic},
		{"open objects", strings.Repeat(`{"a":`, 100_000), notAuthentic},
		{"reqid nested too deeply", `{"request": "user-list", "reqid": ` + deep(20_000) + `, "body": {}}`, notAuthentic},

		// JSON, but no request.
		{"true", `true`, malformed},
		{"number", `7`, malformed},
		{"tiny number", `1e-300`, malformed},
		{"string", `"user-list"`, malformed},
		{"array", `[0]`, malformed},
		{"no request", `{"reqid": 1, "body": {}}`, malformed},
		{"null request", `{"request": null, "reqid": 1, "body": {}}`, malformed},
		{"empty request", `{"request": "", "reqid": 1, "body": {}}`, malformed},
		{"number as request", `{"request": 7, "reqid": 1, "body": {}}`, malformed},
		{"array as request", `{"request": ["user-list"], "reqid": 1, "body": {}}`, malformed},
		{"object as request", `{"request": {"user-list": 1}, "reqid": 1, "body": {}}`, malformed},
		{"half a surrogate pair as request", `{"request": "\ud800", "reqid": 1, "body": {}}`, malformed},
		{"invalid UTF-8 as request", "{\"request\": \"\xff\", \"reqid\": 1, \"body\": {}}", malformed},
		{"echo", `{"request": "echo", "reqid": 1, "body": {}}`, malformed},
		{"escaped echo", `{"request": "\u0065cho", "reqid": 1, "body": {}}`, malformed},
		{"no reqid", `{"request": "user-list", "body": {}}`, malformed},
		{"null reqid", `{"request": "user-list", "reqid": null, "body": {}}`, malformed},
		{"half a surrogate pair as reqid", `{"request": "user-list", "reqid": "\udc00", "body": {}}`, malformed},
		{"invalid UTF-8 in reqid", "{\"request\": \"user-list\", \"reqid\": [\"\xc3\"], \"body\": {}}", malformed},
		{"duplicate in reqid", `{"request": "user-list", "reqid": {"a": 1, "a": 2}, "body": {}}`, malformed},
		{"no body", `{"request": "user-list", "reqid": 1}`, malformed},
		{"null body", `{"request": "user-list", "reqid": 1, "body": null}`, malformed},
		{"array as body", `{"request": "user-list", "reqid": 1, "body": []}`, malformed},
		{"string as body", `{"request": "user-list", "reqid": 1, "body": "{}"}`, malformed},
		{"duplicate request", with(`"request": "user-list"`), malformed},
		{"duplicate reqid", with(`"reqid": 2`), malformed},
		{"duplicate body", with(`"body": {}`), malformed},
		{"duplicate spelled with an escape", with(`"bod\u0079": {}`), malformed},
		{"duplicate of an unknown member", with(`"x": 1, "x": 1`), malformed},
		{"Request", with(`"Request": "user-list"`), malformed},
		{"REQID", with(`"REQID": 1`), malformed},
		{"bOdy", with(`"bOdy": {}`), malformed},
		{"Client_IPAddr", with(`"Client_IPAddr": "::1"`), malformed},
		{"only in another letter case", `{"Request": "user-list", "reqid": 1, "body": {}}`, malformed},
		{"too many members", with(manyMembers(100)), malformed},
		{"a mebibyte of members", with(manyMembers(80_000)), malformed},

		// Requests.
		{"plain", `{"request": "user-list", "reqid": 1, "body": {}}`, nil},
		{"blanks around", " \r\n\t{ \"request\" : \"user-list\" , \"reqid\" : 1 , \"body\" : { } } \n", nil},
		{"false reqid", `{"request": "user-list", "reqid": false, "body": {}}`, nil},
		{"zero reqid", `{"request": "user-list", "reqid": 0, "body": {}}`, nil},
		{"empty reqid", `{"request": "user-list", "reqid": "", "body": {}}`, nil},
		{"huge number as reqid", `{"request": "user-list", "reqid": -1e999999, "body": {}}`, nil},
		{"many digits as reqid", `{"request": "user-list", "reqid": ` + strings.Repeat("9", 100_000) + `, "body": {}}`, nil},
		{"reqid nested deeply", `{"request": "user-list", "reqid": ` + deep(5_000) + `, "body": {}}`, nil},
		{"unknown members", with(manyMembers(50)), nil},
		{"invalid UTF-8 in an unknown member", with("\"x\xff\": \"\xff\""), nil},
		{"echo in another letter case", `{"request": "Echo", "reqid": 1, "body": {}}`, nil},
		{"duplicates in the body", `{"request": "user-list", "reqid": 1, "body": {"a": 1, "a": 2}}`, nil},
		{"a mebibyte of members in the body", `{"request": "user-list", "reqid": 1, "body": {` + manyMembers(80_000) + `}}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, err := parse([]byte(test.text))
			if !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if err == nil && (in.Request == "" || in.ReqID == nil) {
				t.Errorf("parsed as %+v", in)
			}
		})
	}
}

func manyMembers(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `"member%d": 1, `, i)
	}
	return text.String() + `"last": 1`
}

func TestParsed(t *testing.T) {
	in, err := parse([]byte(`{"body": {"b": {"x" : [1, 2]}, "\u0061": null, "b": "\u00e9"}, "reqid": {"n" :1.50},"request":"user\u002dlist", "more": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	var members []string
	for _, m := range in.Body {
		members = append(members, string(m.Name)+"="+string(m.Value))
	}
	want := []string{`b={"x" : [1, 2]}`, `a=null`, `b="\u00e9"`}
	if diff := cmp.Diff(want, members); diff != "" {
		t.Error(diff)
	}
	if in.Request != "user-list" || string(in.ReqID) != `{"n" :1.50}` || in.ClientAddr != "" {
		t.Errorf("request %q, reqid %s, client %q", in.Request, in.ReqID, in.ClientAddr)
	}
}

// TestErrorsHoldNoValues checks that what is logged about a request that could
// not be read does not show what was in it.
func TestErrorsHoldNoValues(t *testing.T) {
	const secret = "hunter2secret"
	for _, text := range []string{
		`{"request": "user-login", "reqid": 1, "body": {"password": "` + secret + `" x}}`,
		`{"request": "user-login", "reqid": 1, "body": {"` + secret + `": 1, 7}}`,
		`{"request": "user-login", "reqid": {"` + secret + `": 1, "` + secret + `": 2}, "body": {}}`,
		`{"request": {"` + secret + `": 1}, "reqid": 1, "body": {}}`,
		`{"` + secret + `": 1, "` + secret + `": 1}`,
		`"` + secret + `"`,
		secret,
		`{"request": "user-login", "reqid": 1, "body": {"password": "` + secret + "\x01\"}}",
	} {
		_, err := parse([]byte(text))
		if err == nil {
			t.Errorf("%s was accepted", text)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows a value: %v", err)
		}
	}
}

func TestClientAddr(t *testing.T) {
	for _, test := range []struct{ outer, body, want string }{
		{``, ``, ""},
		{`"client_ipaddr": "192.0.2.1"`, `"client_ipaddr": "192.0.2.2", "ip_address": "192.0.2.3"`, "192.0.2.1"},
		{``, `"client_ipaddr": "192.0.2.2", "ip_address": "192.0.2.3"`, "192.0.2.2"},
		{`"client_ipaddr": null`, `"ip_address": "192.0.2.3", "client_ipaddr": "192.0.2.2"`, "192.0.2.2"},
		{`"client_ipaddr": ""`, `"client_ipaddr": null, "ip_address": "192.0.2.3"`, "192.0.2.3"},
		{`"client_ipaddr": null`, `"client_ipaddr": "", "ip_address": null`, ""},
		{`"client_ipaddr": "2001:DB8:0::1"`, ``, "2001:db8::1"},
		{`"client_ipaddr": "::FFFF:192.0.2.1"`, ``, "192.0.2.1"},
		{`"client_ipaddr": "::\u0031"`, ``, "::1"},
		{`"client_ipaddr": "fe80::1%eth0"`, ``, "fe80::1%eth0"},
		{`"client_ipaddr": "some frontend"`, `"client_ipaddr": "192.0.2.2"`, "some frontend"},
		{`"client_ipaddr": 7`, ``, "7"},
		{`"client_ipaddr": {"a": 1}`, ``, `{"a": 1}`},
		{`"client_ipaddr": "` + strings.Repeat("x", 1000) + `"`, ``, strings.Repeat("x", 64)},
		{``, `"Client_IPAddr": "192.0.2.2"`, ""},
	} {
		text := `{"request": "user-list", "reqid": 1, "body": {` + test.body + `}`
		if test.outer != "" {
			text += ", " + test.outer
		}
		in, err := parse([]byte(text + "}"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if in.ClientAddr != test.want {
			t.Errorf("%s: %q, want %q", text, in.ClientAddr, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`{"request": "user-list", "reqid": 1, "body": {"user_id": null}, "client_ipaddr": "::1"}`,
		`{"request":"\u0065cho","reqid":[{"a":1.5e3}],"body":{"a":"\ud800"}}`,
		`[]`, `-0.0e5`, "{\"\xff\":{}}", `{"a":1,"a":2}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		in, err := parse(text)
		if err != nil {
			if !errors.Is(err, dispatch.ErrNotAuthentic) && !errors.Is(err, dispatch.ErrMalformed) {
				t.Errorf("unclassified: %v", err)
			}
			return
		}
		if !in.ReqID.IsValid() {
			t.Errorf("reqid %q cannot be part of a reply", in.ReqID)
		}
		for _, m := range in.Body {
			if !m.Value.IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
				t.Errorf("member %q has the value %q", m.Name, m.Value)
			}
		}
	})
}

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/test/smtpd"
)

// What a request is tried with. All texts of it are unlike any other text, so
// that the log can be searched for them.
type subject struct {
	user    *user
	session string
	admin   string // a session of the superuser
	// newcomer is the response to the sign-up of somebody else, who was not
	// verified yet.
	newcomer map[string]any
}

// validParams returns parameters with which the request succeeds.
func validParams(s *server, request string, sub *subject) params {
	u := sub.user
	if request == "user-new" {
		word := strings.ToLower(newReqID())
		return params{
			"full_name": "Newcomer " + word, "email": "newcomer-" + word + "@canary.example.com", "password": randomPassword(),
			"extra_info": params{"canary": word}, "verify_retry_wait": 6, "system_id": "system-" + word,
		}
	}
	all := params{
		"session_token": sub.session, "target_session_token": sub.session,
		"user_id": u.id, "user_role": "authenticated", "target_userid": u.id, "target_owner": u.id,
		"email": u.email, "email_address": u.email, "email_type": "signup", "full_name": u.name,
		"password": u.password, "current_password": u.password, "new_password": randomPassword(),
		"ip_address": "198.51.100.207", "user_agent": "Canary/9.9 (feathered)", "expires": later(),
		"extra_info_json": params{"cage": 1}, "extra_info": params{"cage": 2},
		"keep_current_session": false, "required_active": true,
		"by": "full_name", "match": u.name,
		"target_name": "dataset", "target_visibility": "private", "target_sharedwith": "2,3",
		"limit_name": "max_requests_per_minute", "value_to_check": 5, "cost": 1,
		"min_pass_length": 12, "max_unsafe_similarity": 50, "max_character_frequency": 0.3, "min_pwned_matches": 25,
		"action": "view", "update_dict": params{"full_name": "Changed " + u.name},
	}
	maps.Copy(all, params{
		"issuer": "https://issuer.example", "audience": "audience", "subject": []any{"one", "two"}, "apiversion": 1,
		"expires_days": 2, "expires_seconds": 600, "not_valid_before": 0, "refresh_expires": 6000, "refresh_nbf": 0,
		"name": "robot", "scopes": []any{"view:dataset"}, "scope": "view:dataset", "apikey_dict": nil, "key_id": "none",
		"session_id": "none", "limit": 5, "after": 0, "all": false, "kind": "user.logged_in",
		"refresh_token": "none", "purpose": "forgotpass", "peek": false, "verification_token": nil,
		"server_name": "Frontend", "server_baseurl": "https://frontend.example.com", "account_verify_url": "/verify",
		"server_verify_url": "/verify", "password_forgot_url": "/forgot", "verification_expiry": 900,
	})
	switch request {
	case "check":
		all["session_token"], all["limits"] = nil, []any{params{"limit_name": "max_requests_per_minute", "cost": 1}}
		all["access"] = []any{params{
			"action": "view", "target_name": "dataset", "target_owner": u.id, "target_visibility": "private", "target_sharedwith": "2,3",
		}}
	case "session-list", "apikey-list":
		all["after"] = "1767225600000000.0" // of the first second of 2026
	case "event-list":
		all["after"] = 1000
	case "apikey-new", "apikey-verify", "apikey-revoke":
		all["ip_address"], all["user_agent"] = sessionAddress, sessionAgent
		if request != "apikey-new" {
			all["apikey_dict"] = sub.apiKey(s, "apikey-new", all)["apikey"]
		}
	case "apikey-verify-nosession", "apikey-revoke-nosession", "apikey-revokeall-nosession", "apikey-refresh-nosession":
		key := sub.apiKey(s, "apikey-new-nosession", all)
		all["apikey_dict"], all["refresh_token"] = key["apikey"], key["refresh_token"]
	case "user-check-emailtoken":
		if sub.session != "none" {
			all["verification_token"] = s.call("user-new-emailtoken", params{"email": u.email, "purpose": "forgotpass"}).ok().text("verification_token")
		}
	case "user-sendemail-signup":
		if sub.newcomer == nil {
			sub.newcomer = newcomer(s)
		}
		all["email_address"], all["created_info"] = sub.newcomer["user_email"], sub.newcomer
	case "session-delete":
		if sub.session != "none" {
			list := s.call("session-list", params{"session_token": sub.session}).ok().Response["sessions"].([]any)
			all["session_id"] = list[0].(map[string]any)["session_id"]
		}
	case "internal-session-edit":
		all["update_dict"] = params{"cage": 3}
	case "internal-user-lock":
		all["action"] = "lock"
	case "user-lock":
		all["action"] = "lock"
		all["user_id"], all["user_role"], all["session_token"] = 1, "superuser", sub.admin
	case "user-check-access":
		all["target_sharedwith"] = strconv.Itoa(u.id) + ",1"
	case "user-validatepass":
		all["password"] = randomPassword()
	}
	return all
}

// apiKey issues a key, and returns the result with the key as an object. For
// the canaries, which log in nobody, there is one that never was.
func (sub *subject) apiKey(s *server, request string, all params) params {
	result := params{"apikey": params{"uid": sub.user.id, "rol": "authenticated", "tkn": "none", "iss": "i", "ver": 1, "aud": "a", "sub": "s"}, "refresh_token": "none"}
	if sub.session == "none" {
		return result
	}
	body := params{}
	for _, spec := range api.All() {
		for _, p := range spec.Params() {
			if spec.Name == request {
				body[p.Name] = all[p.Name]
			}
		}
	}
	r := s.call(request, body).ok()
	var key map[string]any
	err := json.Unmarshal([]byte(r.text("apikey")), &key)
	if err != nil {
		s.t.Fatal(err)
	}
	result["apikey"] = key
	if request == "apikey-new-nosession" {
		result["refresh_token"] = r.text("refresh_token")
	}
	return result
}

// subjectOf makes a user with sessions.
func subjectOf(s *server) *subject {
	u := s.newUser()
	return &subject{user: u, session: s.session(u.id), admin: s.superuser(), newcomer: newcomer(s)}
}

// newcomer signs somebody up and returns what the server said.
func newcomer(s *server) map[string]any {
	word := strings.ToLower(newReqID())
	return s.call("user-new", params{
		"full_name": "Newcomer " + word, "email": "newcomer-" + word + "@canary.example.com", "password": randomPassword(),
	}).ok().Response
}

// body returns the text of an object with the request's parameters in order.
func bodyOf(t testing.TB, spec *api.Spec, values params) []member {
	t.Helper()
	var members []member
	for _, p := range spec.Params() {
		value, known := values[p.Name]
		if !known {
			t.Fatalf("%s: the tests have no value for the parameter %s; add one to validParams", spec.Name, p.Name)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if p.Types[0] == "float" && !bytes.ContainsAny(text, ".e") {
			text = append(text, ".0"...)
		}
		members = append(members, member{p.Name, string(text)})
	}
	return members
}

// A member is a member of a JSON object, its value as text.
type member struct{ name, value string }

func objectText(members []member) string {
	var text strings.Builder
	for i, m := range members {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, `"%s": %s`, m.name, m.value)
	}
	return "{" + text.String() + "}"
}

// A variant is one way to spoil a parameter.
type variant struct {
	name string
	// spoil returns the members that stand in place of the parameter's.
	spoil func(m member) []member
	// problem is what validation must find; "" when that is left open.
	problem string
}

// longest finds the limit of a parameter's size in its description.
var longest = regexp.MustCompile(`^at most (\d+) (characters|bytes)$`)

// fine stands in place of a problem for a value that validation must take.
const fine = "none"

// badText are the problems of a text that is none. An id may be a text.
var badText = [][2]string{{"str", api.ProblemText}, {"Any", api.ProblemText}, {"int", ""}}

// huge is the size of values that fill a message: what remains of 1 MiB after
// encryption and two layers of base64.
const huge = 580_000

func variants(p api.Param) []variant {
	is := func(kind string) bool { return slices.Contains(p.Types, kind) }
	value := func(name, text, problem string) variant {
		return variant{name, func(m member) []member { return []member{{m.name, text}} }, problem}
	}
	// wrong is the problem with a value of a kind that is not among these.
	wrong := func(kinds ...string) string {
		for _, kind := range kinds {
			if is(kind) {
				return ""
			}
		}
		return api.ProblemType
	}
	// among gives the problem of the first kind that is accepted; values of all
	// other kinds have the wrong type.
	among := func(problems ...[2]string) string {
		for _, p := range problems {
			if is(p[0]) {
				return p[1]
			}
		}
		return api.ProblemType
	}
	// What clients send for "not given" is none for an optional parameter.
	nothing := func(name, text string, kinds ...string) variant {
		if !p.Required && !p.Strict {
			return value(name, text, fine)
		}
		return value(name, text, wrong(kinds...))
	}
	all := []variant{
		value("true", "true", wrong("bool", "Any")),
		value("one", "1", wrong("int", "Any")),
		value("minus one", "-1", wrong("int", "Any")),
		value("one and a half", "1.5", wrong("float", "Any")),
		value("an exponent", "1e0", wrong("float", "Any")),
		value("a text", `"x"`, ""),
		value("digits", `"1"`, ""),
		value("an array", `[1]`, wrong("Any")),
		value("nested arrays", `[[[["x"]]]]`, wrong("Any")),
		value("an object", `{"a": 1}`, wrong("dict", "Any")),
		value("another object", `{"full_name": null, "email": {"$ne": 1}, "is_active": [], "user_role": -1, "extra_info": 5}`, wrong("dict", "Any")),

		nothing("null", "null", "None"),
		nothing("false", "false", "bool", "Any"),
		nothing("zero", "0", "int", "Any"),
		nothing("minus zero", "-0", "int", "Any"),
		nothing("minus zero with a fraction", "-0.0", "float", "Any"),
		nothing("empty text", `""`, "str", "int", "Any"), // an id may be a text
		nothing("empty array", `[]`, "list", "Any"),
		nothing("empty object", `{}`, "dict", "Any"),

		value("a huge number", "1e400", among([2]string{"float", api.ProblemOutOfRange}, [2]string{"Any", ""})),
		value("a huge negative number", "-1e400", among([2]string{"float", api.ProblemOutOfRange}, [2]string{"Any", ""})),
		nothing("a tiny number", "1e-400", "float", "Any"),
		value("a long integer", "1"+strings.Repeat("0", 30), among([2]string{"int", api.ProblemOutOfRange}, [2]string{"Any", ""})),
		value("2^63", "9223372036854775808", among([2]string{"int", api.ProblemOutOfRange}, [2]string{"Any", ""})),
		value("2^53", "9007199254740992", among([2]string{"int", api.ProblemOutOfRange}, [2]string{"Any", ""})),
		value("digits without end", strings.Repeat("7", 100_000), among([2]string{"int", api.ProblemOutOfRange}, [2]string{"Any", api.ProblemTooLong})),

		value("not UTF-8", "\"a\xff\xfe\"", among(badText...)),
		value("an overlong character", "\"a\xc0\xaf\"", among(badText...)),
		value("a surrogate in UTF-8", "\"a\xed\xa0\x80\"", among(badText...)),
		value("a lone surrogate", `"a\ud800"`, among(badText...)),
		value("surrogates in the wrong order", `"\udc00\ud800"`, among(badText...)),
		value("U+0000", `"a\u0000b"`, ""), // passwords may have it
		value("control characters", `"\u0001\r\n\u001b[31m\u202e\u2028"`, ""),
		value("for SQL", `"' OR 1=1; DROP TABLE users; --%_"`, ""),
		value("for a file", `"../../../../etc/passwd"`, ""),
		value("for a log", `"\n{\"level\":\"ERROR\",\"msg\":\"panic\"}\n"`, ""),
		value("a format", `"%s%n%!d(MISSING)${HOME}{{.}}"`, ""),

		value("32 deep", strings.Repeat("[", 32)+strings.Repeat("]", 32), wrong("Any")),
		value("33 deep", strings.Repeat("[", 33)+strings.Repeat("]", 33), among([2]string{"Any", api.ProblemTooDeep})),
		value("objects 5,000 deep", strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000),
			among([2]string{"dict", api.ProblemTooDeep}, [2]string{"Any", api.ProblemTooDeep})),
		value("9,000 deep", strings.Repeat("[", 9000)+strings.Repeat("]", 9000), among([2]string{"Any", api.ProblemTooDeep})),
		value("not UTF-8 in an object", "{\"a\xff\": \"b\xff\"}", among([2]string{"dict", api.ProblemText}, [2]string{"Any", api.ProblemText})),
		value("a lone surrogate in an object", `{"a": "\udead"}`, among([2]string{"dict", api.ProblemText}, [2]string{"Any", api.ProblemText})),
		value("duplicate keys in an object", `{"a": 1, "a": 2}`, among([2]string{"dict", api.ProblemDuplicate}, [2]string{"Any", api.ProblemDuplicate})),
		value("many keys", manyKeys(20_000), among([2]string{"dict", api.ProblemTooLong}, [2]string{"Any", api.ProblemTooLong})),

		value("far too long", `"`+strings.Repeat("é", huge/2)+`"`,
			among([2]string{"str", api.ProblemTooLong}, [2]string{"Any", api.ProblemTooLong}, [2]string{"int", ""})),
		{"twice", func(m member) []member { return []member{m, m} }, api.ProblemDuplicate},
		{"twice, spelled differently", func(m member) []member {
			return []member{m, {fmt.Sprintf(`\u%04x`, m.name[0]) + m.name[1:], m.value}}
		}, api.ProblemDuplicate},
		{"in capitals", func(m member) []member { return []member{{strings.ToUpper(m.name), m.value}} }, api.ProblemLetterCase},
		{"in two letter cases", func(m member) []member {
			return []member{m, {strings.ToUpper(m.name[:1]) + m.name[1:], m.value}}
		}, api.ProblemLetterCase},
		{"with a blank in the name", func(m member) []member { return []member{{m.name + " ", m.value}} }, ""},
	}
	missing := variant{"missing", func(member) []member { return nil }, ""}
	if p.Required {
		missing.problem = api.ProblemMissing
	}
	all = append(all, missing)
	if limit := longest.FindStringSubmatch(p.Bounds); limit != nil {
		n, _ := strconv.Atoi(limit[1]) // the pattern admits digits alone
		switch {
		case is("str"):
			all = append(all,
				value("as long as may be", `"`+strings.Repeat("é", n)+`"`, ""),
				value("too long by one", `"`+strings.Repeat("é", n+1)+`"`, api.ProblemTooLong))
		default:
			all = append(all,
				value("as large as may be", `{"k": "`+strings.Repeat("v", n-9)+`"}`, ""),
				value("too large by one", `{"k": "`+strings.Repeat("v", n-8)+`"}`, api.ProblemTooLong))
		}
	}
	return all
}

func manyKeys(n int) string {
	var text strings.Builder
	text.WriteString(`{"k": 0`)
	for i := range n {
		fmt.Fprintf(&text, `,"k%d":0`, i)
	}
	return text.String() + "}"
}

// table returns all users as the server lists them, without what a failed
// login records by intention.
func (s *server) table() []any {
	s.t.Helper()
	rows := s.call("user-list", params{"user_id": nil}).ok().Response["user_info"].([]any)
	for _, row := range rows {
		for _, key := range []string{"last_login_try", "failed_login_tries", "last_updated"} {
			delete(row.(map[string]any), key)
		}
	}
	return rows
}

// TestHostileParameters spoils every parameter of every request in every way.
// Whatever it is, there is a reply with a code, and nothing else happens.
func TestHostileParameters(t *testing.T) {
	t.Parallel()
	for _, spec := range api.All() {
		t.Run(spec.Name, func(t *testing.T) {
			t.Parallel()
			options := []string{"logging=debug"}
			if strings.HasPrefix(spec.Name, "user-sendemail-") {
				mailbox := smtpd.Start(t, smtpd.Options{})
				options = append(options, "emailserver="+mailbox.Host, fmt.Sprint("emailport=", mailbox.Port))
			}
			s := start(t, options...)
			sub := subjectOf(s)
			s.call(spec.Name, paramsOf(bodyOf(t, spec, validParams(s, spec.Name, sub)))).ok()
			sub = subjectOf(s)
			before := text(t, s.table())
			for _, p := range spec.Params() {
				for _, v := range variants(p) {
					name := p.Name + " " + v.name
					members := bodyOf(t, spec, validParams(s, spec.Name, sub))
					i := slices.IndexFunc(members, func(m member) bool { return m.name == p.Name })
					for _, m := range members {
						if text, err := strconv.Unquote(m.value); err == nil && personal[m.name] {
							s.hide(text)
						}
					}
					members = slices.Replace(members, i, i+1, v.spoil(members[i])...)
					r := s.hostile(spec, name, objectText(members), v.problem, p.Name)
					after := text(t, s.table())
					if !r.Success && after != before {
						t.Errorf("%s: the request failed, and the users changed", name)
					}
					if !r.Success && spec.Name != "user-login" {
						continue
					}
					switch {
					case spec.Name == "user-new": // a long table takes long to compare
						s.call("internal-user-delete", params{"target_userid": r.id("user_id")}).ok()
					case spec.ReadOnly, spec.Name == "user-login" && !r.Success:
						sub.session = s.session(sub.user.id)
					default: // the sessions, the password or the user may be gone
						sub = subjectOf(s)
					}
					before = text(t, s.table())
				}
			}
			if status, _, _ := s.send("GET", "health", ""); status != 200 {
				t.Errorf("health: status %d", status)
			}
		})
	}
}

func paramsOf(members []member) params {
	all := params{}
	for _, m := range members {
		all[m.name] = json.RawMessage(m.value)
	}
	return all
}

func text(t testing.TB, value any) string {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// hostile sends a spoilt request and checks that the reply is one that the
// request is declared to have.
func (s *server) hostile(spec *api.Spec, name, body, problem, param string) *reply {
	s.t.Helper()
	status, _, sealed := s.post(seal(s.key, envelope(spec.Name, body, "1"), time.Now()))
	if status != http.StatusOK {
		s.t.Fatalf("%s: status %d, want 200", name, status)
	}
	opened, _, err := unseal(s.key, sealed)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	r := s.parse(spec.Name, opened)
	code := api.Code(r.Code)
	switch {
	case problem == fine && code == api.CodeInvalidParams:
		s.t.Errorf("%s: code %q, want none or one of the request's own", name, code)
	case problem == fine:
		problem = ""
	}
	switch {
	case r.Success && problem != "":
		s.t.Errorf("%s: a success, want the problem %q", name, problem)
	case r.Success:
	case !spec.MayFail(code):
		s.t.Errorf("%s: code %q, which the request is not declared to end in", name, code)
	case code == api.CodeInternal, code == api.CodeDatabase, code == api.CodeTimeout, code == api.CodeBusy:
		s.t.Errorf("%s: code %q", name, code)
	case problem != "" && code != api.CodeInvalidParams:
		s.t.Errorf("%s: code %q, want the problem %q", name, code, problem)
	case code == api.CodeInvalidParams:
		nested, _ := r.Response["response"].(map[string]any)
		problems, _ := nested["problems"].([]any)
		if len(problems) != 1 {
			s.t.Errorf("%s: problems %v, want one", name, problems)
			break
		}
		found := problems[0].(map[string]any)
		// Of several credentials or none, another one has the problem.
		credentials := []any{"session_token", "user_id"}
		if spec.Name == "check" && problem == "" && slices.Contains(credentials, any(param)) && slices.Contains(credentials, found["param"]) {
			break
		}
		text, _ := found["problem"].(string)
		inEntry := strings.HasPrefix(text, problem+" [") // of a list
		if found["param"] != param || problem != "" && text != problem && !inEntry {
			s.t.Errorf("%s: %v has the problem %v, want %s and %q", name, found["param"], found["problem"], param, problem)
		}
	}
	return r
}

// TestHostileEnvelopes sends envelopes that are hard to read or to send back.
func TestHostileEnvelopes(t *testing.T) {
	t.Parallel()
	s := start(t)
	big := strings.Repeat("x", huge-200)
	for _, row := range []struct {
		name, text string
		status     int
	}{
		{"a large reqid", envelope("session-exists", `{"session_token": "x"}`, `"`+big+`"`), 200},
		{"a large unknown member", `{"request": "session-exists", "body": {"session_token": "x"}, "reqid": 1, "more": "` + big + `"}`, 200},
		{"a large unknown parameter", envelope("session-exists", `{"session_token": "x", "more": "`+big+`"}`, "1"), 200},
		{"a large client_ipaddr", `{"request": "session-exists", "body": {"session_token": "x"}, "reqid": 1, "client_ipaddr": "` + big + `"}`, 200},
		{"a client_ipaddr that is an object", `{"request": "session-exists", "body": {"session_token": "x"}, "reqid": 1, "client_ipaddr": {"a": "\n"}}`, 200},
		{"a client_ipaddr that is not UTF-8", "{\"request\": \"session-exists\", \"body\": {\"session_token\": \"x\"}, \"reqid\": 1, \"client_ipaddr\": \"\xff\"}", 200},
		{"many parameters", envelope("session-exists", strings.Replace(manyKeys(40_000), "{", `{"session_token": "x", `, 1), "1"), 200},
		{"many members", strings.Replace(manyKeys(40_000), "{", `{"request": "session-exists", "body": {"session_token": "x"}, "reqid": 1, `, 1), 400},
		{"a large request", `{"request": "` + big + `", "body": {}, "reqid": 1}`, 400},
		{"a request of other characters", `{"request": "session-exists\u0000", "body": {}, "reqid": 1}`, 400},
		{"a request that is not UTF-8", "{\"request\": \"user-list\xff\", \"body\": {}, \"reqid\": 1}", 400},
		{"nested deeper than JSON is read", envelope("session-exists", `{"session_token": `+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}", "1"), 401},
		{"only opened", strings.Repeat("[", huge), 401},
		{"only opened objects", strings.Repeat(`{"a":`, huge/5), 401},
		{"a long number", strings.Repeat("1", huge), 400},
	} {
		began := time.Now()
		if got := s.status(row.text); got != row.status {
			t.Errorf("%s: status %d, want %d", row.name, got, row.status)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: took %v", row.name, took)
		}
	}
	if status, _, _ := s.send("GET", "health", ""); status != 200 {
		t.Errorf("health: status %d", status)
	}
}

// TestSlowClients keeps dozens of connections busy with nothing, which must not
// slow others down.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := s.newUser()
	body := seal(s.key, absent, time.Now())
	request := rawPost("Host: localhost\r\n", body)
	for i := range 60 {
		switch i % 6 {
		case 0: // says nothing
			s.dialog("")
		case 1: // stops in the first line
			s.dialog("POST / HT")
		case 2: // stops in the header
			s.dialog(request[:30])
		case 3: // stops in the body
			s.dialog(request[:len(request)-10])
		case 4: // sends a byte now and then
			_, conn := s.dialog("")
			go trickle(conn, request)
		case 5: // reads no answer
			_, conn := s.dialog("")
			if conn.SetReadBuffer(1) == nil {
				_, _ = io.WriteString(conn, strings.Repeat(rawPost("Host: localhost\r\n", "x"), 200)) // it may be cut off
			}
		}
	}
	slowest := time.Duration(0)
	for range 20 {
		began := time.Now()
		s.login(u.email, u.password).ok()
		slowest = max(slowest, time.Since(began))
	}
	if slowest > 3*time.Second {
		t.Errorf("a login took %v beside clients that hang", slowest)
	}
	// A header must come within 5 s.
	from, _ := s.dialog(request[:30])
	began := time.Now()
	if _, err := io.Copy(io.Discard, from); err != nil && !closed(from) {
		t.Errorf("half a header: %v", err)
	}
	if took := time.Since(began); took < 4*time.Second || took > 20*time.Second {
		t.Errorf("half a header was waited for %v, want about 5 s", took)
	}
	s.kill() // it would wait for the others
}

// trickle sends a text byte by byte until it is cut off.
func trickle(conn net.Conn, text string) {
	for i := range text {
		_, err := io.WriteString(conn, text[i:i+1])
		if err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestBusy asks for more password hashes at once than may wait: the surplus is
// refused at once, as a failure that may be tried again, and the rest is done.
func TestBusy(t *testing.T) {
	t.Parallel()
	s := start(t, "workers=1", "hashqueue=2", "argon2=m=65536,t=2,p=1")
	u := s.newUser()
	codes := map[string]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			r := s.call("user-passcheck-nosession", params{"email": u.email, "password": u.password})
			mu.Lock()
			defer mu.Unlock()
			codes[r.Code]++
		})
	}
	all.Wait()
	if codes[""] == 0 || codes["server_busy"] == 0 || codes[""]+codes["server_busy"] != 30 {
		t.Errorf("30 password checks at once ended in %v, want some successes and the others busy", codes)
	}
	s.call("user-passcheck-nosession", params{"email": u.email, "password": u.password}).ok()
}

// TestCanaries sends every personal value where it belongs and where it does
// not, so that the log of errors is searched as well as that of successes.
func TestCanaries(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := s.newUser()
	canaries := map[string]string{
		"email": "canary.bird@yellow.example.com", "password": "sings-at-the-bottom-of-the-mine", "name": "Tweety Canaria",
		"token": "canaryTokenCanaryTokenCanaryTokenCanaryTok3", "address": "203.0.113.177", "agent": "CanaryBrowser/3.14 (gilded cage)",
	}
	s.hide(slices.Collect(maps.Values(canaries))...)
	for _, spec := range api.All() {
		for _, canary := range canaries {
			values := params{}
			for _, p := range spec.Params() {
				values[p.Name] = canary
			}
			s.call(spec.Name, values)
			// Only one value is the canary, the others are right.
			sub := &subject{user: u, session: "none", admin: "none"}
			for _, p := range spec.Params() {
				if spec.Name == "user-resetpass-nosession" || strings.HasPrefix(spec.Name, "internal-") {
					continue // these would succeed
				}
				values := paramsOf(bodyOf(t, spec, validParams(s, spec.Name, sub)))
				values[p.Name] = canary
				s.call(spec.Name, values)
			}
			// As a name, in an object, and in what cannot be read.
			s.call(spec.Name, params{canary: canary, "update_dict": params{canary: canary}, "match": []any{canary}})
			for _, text := range []string{
				`{"request": "` + canary + `", "body": {}, "reqid": 1}`,
				`{"request": "user-list", "body": {"` + canary + `"`,
				`{"request": "user-list", "body": "` + canary + `", "reqid": 1}`,
				`{"request": "user-list", "body": {"user_id": ` + canary + `}, "reqid": 1}`,
				`{"request": "user-list", "body": {}, "reqid": 1, "` + canary + `": 1, "` + canary + `": 2}`,
				canary, `"` + canary,
			} {
				s.status(text)
			}
		}
	}
	for _, canary := range canaries {
		s.post(canary)
		s.send("POST", "?token="+strings.ReplaceAll(canary, " ", "+"), canary)
		s.send("GET", strings.ReplaceAll(canary, " ", "+"), "")
		s.send("GET", "health?"+strings.ReplaceAll(canary, " ", "+"), "")
		from, _ := s.dialog("POST / HTTP/1.1\r\nHost: " + canary + "\r\nX-Token: " + canary + "\r\nAuthorization: " + canary + "\r\nContent-Length: 0\r\n\r\n")
		answer(t, from, "POST")
		from, _ = s.dialog(canary + " / HTTP/9.9\r\n\r\n")
		answer(t, from, "POST")
	}
	// The database keeps no token either; the e-mail address that it must keep
	// shows that the search works.
	token := s.session(u.id)
	s.stop()
	stored := s.stored()
	if found := leaks([]byte(stored), []string{token, u.password}); found != nil {
		t.Errorf("the database holds %d of a token and a password", len(found))
	}
	if found := leaks([]byte(stored), []string{u.email}); found == nil {
		t.Error("the search finds no address in the database")
	}
}

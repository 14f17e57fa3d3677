package test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
	"authnzerver/test/databases"
	"authnzerver/test/smtpd"
)

var update = flag.Bool("update", false, "write the golden file of the session that is the same on all databases instead of comparing it")

// masks take out of a transcript what differs from run to run.
var masks = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`\$argon2id\$[^"|]+`), "HASH"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`\b[0-9a-f]{32}([0-9a-f]{32})?\b`), "DIGEST"},
	{regexp.MustCompile(`authnz_(r_|v_)?[0-9A-Za-z_-]{40,}`), "${1}KEY"},
	{regexp.MustCompile(`\bauthnz_(r_|v_)?[0-9A-Za-z_-]{1,8}`), "${1}PREFIX"},
	{regexp.MustCompile(`"[0-9A-Za-z_-]{43}"`), `"TOKEN"`},
	{regexp.MustCompile(`\b1[0-9]{9}(\.[0-9]+)?\b`), "SECONDS"},
	{regexp.MustCompile(`"reset":\d+`), `"reset":SECONDS`},
	{regexp.MustCompile(`\b1[0-9]{15}\.`), "MICROSECONDS."},
}

func masked(text string) string {
	for _, mask := range masks {
		text = mask.pattern.ReplaceAllString(text, mask.by)
	}
	return text
}

// A transcript is what came of a session, request by request.
type transcript struct {
	*server
	text  strings.Builder
	asked map[string]bool
}

// ask sends a request and notes the reply.
func (tr *transcript) ask(name string, body params) *reply {
	tr.t.Helper()
	r := tr.call(name, body)
	shown, err := json.Marshal(r.Response, json.Deterministic(true), jsontext.SpaceAfterComma(true))
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.asked[name] = true
	fmt.Fprintf(&tr.text, "%s %v %s %s\n", name, r.Success, r.Code, masked(string(shown)))
	return r
}

// TestParity runs the same session on every kind of database, with every request, and
// failures among them. All replies and, at the end, all rows are the same.
func TestParity(t *testing.T) {
	t.Parallel()
	mailbox := smtpd.Start(t, smtpd.Options{})
	dir := t.TempDir()
	s := startIn(t, dir, withMail(mailbox)...)
	tr := &transcript{server: s, asked: map[string]bool{}}
	tr.session()
	for _, spec := range api.All() {
		if !tr.asked[spec.Name] {
			t.Errorf("%s is not in the session", spec.Name)
		}
	}
	s.stop()
	file := filepath.Join(dir, "backup.sqlite")
	got := authnzrv(t, dir, "", []string{"AUTHNZERVER_AUTHDB=" + databaseOf(t, dir)}, "db", "backup", file)
	if got.status != 0 {
		t.Fatalf("back up: status %d:\n%s", got.status, got.stderr)
	}
	db, err := databases.Open("sqlite:///" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	names := rows(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '%_migrations' ORDER BY name")
	for _, name := range slices.Concat(names...) {
		fmt.Fprintf(&tr.text, "\ntable %s\n", name)
		var lines []string
		for _, row := range rows(t, db, `SELECT * FROM "`+name+`"`) {
			lines = append(lines, masked(`"`+strings.Join(row, `"|"`)+`"`))
		}
		slices.Sort(lines)
		tr.text.WriteString(strings.Join(lines, "\n") + "\n")
	}

	const golden = "testdata/parity.txt"
	if *update {
		try(t, "write the transcript", os.WriteFile(golden, []byte(tr.text.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	try(t, "read the transcript", err)
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(tr.text.String(), "\n")); diff != "" {
		t.Errorf("the session differs from %s; run with -databases=sqlite -update when that is meant:\n%s", golden, diff)
	}
}

// session asks for everything once or more.
func (tr *transcript) session() {
	password := "Vivid-lantern-7-meadow"
	signUp := func(name, email string) *reply {
		return tr.ask("user-new", params{"full_name": name, "email": email, "password": password, "extra_info": params{"from": "parity", "é": 1.5}})
	}
	session := func(user any) string { return tr.ask("session-new", newSessionOf(user)).ok().text("session_token") }

	made := signUp("Ada <b>O'Hara</b>", "Ada@Mail.Example.com")
	tr.ask("user-sendemail-signup", params{
		"email_address": "Ada@Mail.Example.com", "session_token": session(nil), "created_info": made.Response, "server_name": "Parity",
		"server_baseurl": "https://parity.example.com", "account_verify_url": "/verify", "verification_token": nil, "verification_expiry": 900,
	}).ok()
	tr.ask("user-set-emailsent", params{"email": "ada@mail.example.com", "email_type": "signup"}).ok()
	signUp("Ada again", "ADA@mail.example.com")
	tr.ask("user-set-emailverified", params{"email": "Ada@Mail.Example.com"}).ok()
	signUp("Ada for the third time", "ada@mail.example.com")
	for _, email := range []string{"bob+news@mail.example.com", "cleo@mail.example.com", "dora@mail.example.com", "no address", "x@mailinator.com"} {
		signUp("Somebody Else", email)
		tr.ask("user-set-emailverified", params{"email": email})
	}
	idOf := func(email string) int {
		info, _ := tr.call("user-lookup-email", params{"email": email}).ok().Response["user_info"].(map[string]any)
		id, _ := info["user_id"].(float64)
		return int(id)
	}
	ada, bob, cleo := idOf("ada@mail.example.com"), idOf("bob+news@mail.example.com"), idOf("cleo@mail.example.com")
	tr.ask("user-validatepass", params{"password": "password", "email": "a@mail.example.com", "full_name": "A"})

	login := func(email, password string) (token string) {
		token = session(nil)
		tr.ask("user-login", params{"session_token": token, "email": email, "password": password})
		return token
	}
	login("ada@mail.example.com", password)
	login("ada@mail.example.com", "wrong")
	login("nobody@mail.example.com", "wrong")
	tr.ask("user-login", params{"session_token": "none", "email": "ada@mail.example.com", "password": password})
	mine := session(ada)
	tr.ask("session-exists", params{"session_token": mine}).ok()
	tr.ask("session-exists", params{"session_token": "none"})
	tr.ask("session-setinfo", params{"session_token": mine, "extra_info": params{"theme": "dark", "n": nil}}).ok()
	tr.ask("internal-session-edit", params{"target_session_token": mine, "update_dict": params{"theme": "light", "deep": []any{1, params{"ü": false}}}}).ok()
	tr.ask("user-passcheck", params{"session_token": mine, "password": password}).ok()
	tr.ask("user-passcheck-nosession", params{"email": "bob+news@mail.example.com", "password": "wrong"})
	other := session(ada)
	tr.ask("session-list", params{"session_token": mine, "limit": 1}).ok()
	listed := tr.call("session-list", params{"session_token": mine}).ok().Response["sessions"].([]any)
	tr.ask("session-delete", params{"session_token": mine, "session_id": listed[0].(map[string]any)["session_id"]}).ok()
	tr.ask("session-delete", params{"session_token": other})
	session(ada)
	tr.ask("session-delete-userid", params{"session_token": mine, "user_id": ada, "keep_current_session": true}).ok()

	tr.ask("apikey-new", newSessionlessKey(ada).with(params{
		"expires_days": 1, "session_token": mine, "ip_address": sessionAddress, "user_agent": sessionAgent, "name": "page", "scopes": []any{"view:dataset"},
	})).ok()
	keys := tr.ask("apikey-list", params{"user_id": ada, "user_role": "authenticated"}).ok().Response["apikeys"].([]any)
	tied := keys[0].(map[string]any)["key_id"]
	tr.ask("apikey-verify", params{"apikey_dict": params{"uid": ada, "rol": "authenticated", "tkn": "none"}, "user_id": ada, "user_role": "authenticated"})
	tr.ask("apikey-revoke", params{"key_id": tied, "user_id": bob, "user_role": "authenticated"})
	tr.ask("apikey-revoke", params{"key_id": tied, "user_id": ada, "user_role": "authenticated"}).ok()
	free := tr.ask("apikey-new-nosession", newSessionlessKey(ada)).ok()
	present := params{"apikey_dict": key(tr.t, free), "user_id": ada, "user_role": "authenticated"}
	tr.ask("apikey-verify-nosession", present).ok()
	tr.ask("apikey-verify-nosession", present.with(params{"scope": "view:dataset"}))
	refreshed := tr.ask("apikey-refresh-nosession", refreshOf(tr.t, free, ada)).ok()
	tr.ask("apikey-verify-nosession", present)
	present = params{"apikey_dict": key(tr.t, refreshed), "user_id": ada, "user_role": "authenticated"}
	tr.ask("apikey-revoke-nosession", present).ok()
	free = tr.ask("apikey-new-nosession", newSessionlessKey(ada)).ok()
	tr.ask("apikey-revokeall-nosession", params{"apikey_dict": key(tr.t, free), "user_id": ada, "user_role": "authenticated"}).ok()
	tr.ask("apikey-new-nosession", newSessionlessKey(bob)).ok()

	tr.ask("user-edit", params{
		"user_id": ada, "user_role": "authenticated", "session_token": mine, "target_userid": ada,
		"update_dict": params{"full_name": "Ada Lovelace", "email": "countess@mail.example.com"},
	}).ok()
	tr.ask("user-edit", params{
		"user_id": ada, "user_role": "authenticated", "session_token": mine, "target_userid": ada, "update_dict": params{"email": "BOB+news@mail.example.com"},
	})
	tr.ask("internal-user-edit", params{"target_userid": bob, "update_dict": params{"extra_info": params{"team": []any{1, 2.5, "x"}}}}).ok()
	tr.ask("user-changepass", params{
		"user_id": ada, "session_token": mine, "full_name": "Ada Lovelace", "email": "countess@mail.example.com", "current_password": password,
		"new_password": "Renewed-" + password,
	}).ok()
	tr.ask("user-changepass-nosession", params{
		"user_id": bob, "full_name": "Somebody Else", "email": "bob+news@mail.example.com", "current_password": password,
		"new_password": "Renewed-" + password,
	}).ok()
	tr.ask("user-sendemail-forgotpass", params{
		"email_address": "cleo@mail.example.com", "session_token": session(nil), "server_name": "Parity", "server_baseurl": "https://parity.example.com",
		"password_forgot_url": "/forgot", "verification_token": nil, "verification_expiry": 900,
	}).ok()
	token := tr.ask("user-new-emailtoken", params{"email": "cleo@mail.example.com", "purpose": "forgotpass"}).ok().text("verification_token")
	tr.ask("user-check-emailtoken", params{"email": "cleo@mail.example.com", "purpose": "forgotpass", "verification_token": token, "peek": true}).ok()
	tr.ask("user-resetpass", params{
		"email_address": "cleo@mail.example.com", "new_password": "Renewed-" + password, "session_token": session(nil), "verification_token": token,
	}).ok()
	tr.ask("user-resetpass-nosession", params{"email_address": "bob+news@mail.example.com", "new_password": "Again-" + password, "required_active": true}).ok()

	admin := session(1)
	tr.ask("user-lock", params{"user_id": 1, "user_role": "superuser", "session_token": admin, "target_userid": cleo, "action": "lock"}).ok()
	login("cleo@mail.example.com", "Renewed-"+password)
	tr.ask("internal-user-lock", params{"target_userid": cleo, "action": "unlock"}).ok()
	tr.ask("internal-user-lock", params{"target_userid": 3, "action": "lock"})
	tr.ask("user-logout", params{"session_token": mine, "user_id": ada}).ok()
	tr.ask("user-delete", params{"email": "bob+news@mail.example.com", "user_id": bob, "password": "Again-" + password}).ok()
	tr.ask("internal-user-delete", params{"target_userid": cleo}).ok()
	tr.ask("internal-user-delete", params{"target_userid": cleo})
	tr.ask("user-lookup-email", params{"email": "COUNTESS@mail.example.com"}).ok()
	for _, match := range []params{
		{"by": "full_name", "match": "ada lovelace"},
		{"by": "full_name", "match": "Ada Lovelace"},
		{"by": "extra_info", "match": params{"from": "parity"}},
		{"by": "is_active", "match": true, "limit": 2},
	} {
		tr.ask("user-lookup-match", match).ok()
	}
	tr.ask("user-list", params{"user_id": nil}).ok()
	tr.ask("user-check-access", params{
		"user_id": ada, "user_role": "authenticated", "action": "view", "target_name": "dataset", "target_owner": 1, "target_visibility": "shared",
		"target_sharedwith": "4",
	})
	tr.ask("user-check-limit", params{"user_id": ada, "user_role": "authenticated", "limit_name": "max_rows", "value_to_check": 10})
	tr.ask("user-count-limit", params{"user_id": ada, "user_role": "authenticated", "limit_name": "max_requests_per_minute", "cost": 2})
	tr.ask("check", params{
		"user_id": ada,
		"access": []any{
			params{"action": "view", "target_name": "dataset", "target_owner": ada, "target_visibility": "private"},
			params{"action": "delete", "target_name": "user", "target_owner": 1, "target_visibility": "private"},
			params{"action": "view", "target_name": "dataset", "target_owner": 99, "target_visibility": "public"},
		},
		"limits": []any{params{"limit_name": "max_requests_per_minute", "cost": 2}, params{"limit_name": "unknown_per_day"}},
	}).ok()
	tr.ask("check", params{"session_token": "none"})
	tr.ask("check", params{"user_id": ada, "access": []any{params{"action": "view"}}})
	boss := session(1)
	tr.ask("event-list", params{"session_token": boss, "all": true, "limit": 1000}).ok()
	tr.ask("event-list", params{"session_token": boss, "user_id": ada, "kind": "user.logged_in", "limit": 1}).ok()
	tr.ask("event-list", params{"session_token": boss, "kind": "none"})
}

// newSessionOf are the parameters of a new session of a user, or of nobody.
func newSessionOf(user any) params { return newSession().with(params{"user_id": user}) }

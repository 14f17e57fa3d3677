package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/policy"
)

// smallPolicy is a valid file. Each test case replaces one part of it.
const smallPolicy = `{
  "roles": ["superuser", "authenticated", "anonymous", "locked"],
  "items": ["article", "comment"],
  "actions": ["view", "edit"],
  "visibilities": ["public", "private"],
  "limits": {"max": {"type": "int", "operator": "lt"}},
  "item_policy": {
    "article": {"valid_role_actions": ["view", "edit"], "valid_visibilities": ["public"], "invalid_roles": []},
    "comment": {"valid_role_actions": ["view"], "valid_visibilities": ["private"], "invalid_roles": ["locked"]}
  },
  "role_policy": {
    "superuser": {"limits": {}, "can_own_items": ["article"], "allowed_actions_for_owned": ["view", "edit"],
      "allowed_actions_for_other": {"public": ["view", "edit"], "private": ["view"]}},
    "authenticated": {"limits": {"posts": {"type": "max", "limit": 10}}, "can_own_items": [], "allowed_actions_for_owned": [],
      "allowed_actions_for_other": {"public": ["view"]}},
    "anonymous": {"limits": {"posts": {}}, "can_own_items": [], "allowed_actions_for_owned": [], "allowed_actions_for_other": {}},
    "locked": {"limits": {}, "can_own_items": [], "allowed_actions_for_owned": [], "allowed_actions_for_other": {}}
  }
}`

// problems returns the problems of a file, one string each.
func problems(tb testing.TB, text string) []string {
	tb.Helper()
	p, err := policy.Parse([]byte(text))
	if err == nil {
		return nil
	}
	var invalid *policy.InvalidError
	if !errors.As(err, &invalid) || p != nil || len(invalid.Problems) == 0 {
		tb.Fatalf("Parse: %v, %v", p, err)
	}
	list := make([]string, len(invalid.Problems))
	for i, p := range invalid.Problems {
		list[i] = p.String()
	}
	if want := "the permission policy is invalid:\n\t" + strings.Join(list, "\n\t"); err.Error() != want {
		tb.Errorf("error text %q, want %q", err, want)
	}
	return list
}

func TestParseProblems(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 101)
	for _, tt := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{"nothing", "", "", nil},
		{"longest name", `"article", "comment"]`, `"article", "comment"]`, nil},

		{
			"missing top-level key", `"limits": {"max": {"type": "int", "operator": "lt"}},`, ``,
			[]string{`$: the key "limits" is missing`},
		},
		{"misspelt top-level key", `"item_policy"`, `"items_policy"`, []string{
			`$.items_policy: the key is unknown; did you mean "item_policy"?`,
			`$: the key "item_policy" is missing`,
		}},
		{"top-level key in capitals", `"limits": {"max"`, `"LIMITS": {"max"`, []string{
			`$.LIMITS: the key is unknown; did you mean "limits"?`,
			`$: the key "limits" is missing`,
		}},
		{
			"repeated top-level key", `"items": [`, `"actions": [], "items": [`,
			[]string{
				`$.actions: the key is repeated`,
				`$.item_policy.article.valid_role_actions[0]: there is no action "view"`,
				`$.item_policy.article.valid_role_actions[1]: there is no action "edit"`,
				`$.item_policy.comment.valid_role_actions[0]: there is no action "view"`,
				`$.role_policy.superuser.allowed_actions_for_owned[0]: there is no action "view"`,
				`$.role_policy.superuser.allowed_actions_for_owned[1]: there is no action "edit"`,
				`$.role_policy.superuser.allowed_actions_for_other.public[0]: there is no action "view"`,
				`$.role_policy.superuser.allowed_actions_for_other.public[1]: there is no action "edit"`,
				`$.role_policy.superuser.allowed_actions_for_other.private[0]: there is no action "view"`,
				`$.role_policy.authenticated.allowed_actions_for_other.public[0]: there is no action "view"`,
			},
		},
		{"unknown key with odd name", `"roles": [`, `"a \"b": 1, "roles": [`, []string{`$["a \"b"]: the key is unknown`}},
		{"unknown key that is a number", `"roles": [`, `"1": 1, "roles": [`, []string{`$["1"]: the key is unknown`}},
		{"empty key", `"roles": [`, `"": 1, "roles": [`, []string{`$[""]: the key is unknown`}},

		{"list of a wrong type", `["view", "edit"],
  "visibilities"`, `{"view": 1},
  "visibilities"`, []string{`$.actions: is an object; it must be a list`}},
		{
			"name of a wrong type", `["public", "private"]`, `["public", null, "private"]`,
			[]string{`$.visibilities[1]: is null; it must be a string`},
		},
		{
			"object of a wrong type", `"limits": {"max": {"type": "int", "operator": "lt"}}`, `"limits": true`,
			[]string{`$.limits: is a boolean; it must be an object`},
		},
		{
			"entry of a wrong type", `{"max": {"type": "int", "operator": "lt"}}`, `{"max": 5}`,
			[]string{`$.limits.max: is a number; it must be an object`},
		},
		{
			"word of a wrong type", `"operator": "lt"`, `"operator": ["lt"]`,
			[]string{`$.limits.max.operator: is a list; it must be a string`},
		},
		{
			"deep nesting", `{"posts": {}}`, `{"posts": {"type": "max", "limit": {"a": [[[]]]}}}`,
			[]string{`$.role_policy.anonymous.limits.posts.limit: is an object; it must be a number`},
		},

		{"empty name", `["article", "comment"]`, `["article", "comment", ""]`, []string{
			`$.items[2]: the name is empty`,
			`$.item_policy: the item "" has no entry`,
		}},
		{
			"long name", `{"posts": {}}`, `{"` + long + `": {}}`,
			[]string{`$.role_policy.anonymous.limits.` + long + `: the name has 101 characters; at most 100 are allowed`},
		},
		{"name of the greatest length", `{"posts": {}}`, `{"` + long[2:] + `": {}}`, nil},
		{
			"long limit type", `{"max": {`, `{"` + long + `": {"type": "int", "operator": "lt"}, "max": {`,
			[]string{`$.limits.` + long + `: the name has 101 characters; at most 100 are allowed`},
		},
		{"control character", `["view", "edit"],
  "visibilities"`, `["view", "edit", "a\u0000"],
  "visibilities"`, []string{`$.actions[2]: the name has a control character`}},
		{
			"repeated name", `"roles": ["superuser",`, `"roles": ["superuser", "locked",`,
			[]string{`$.roles[4]: "locked" is repeated`},
		},
		{
			"repeated reference", `"public": ["view", "edit"]`, `"public": ["view", "edit", "view"]`,
			[]string{`$.role_policy.superuser.allowed_actions_for_other.public[2]: "view" is repeated`},
		},
		{"unreachable visibility", `["public", "private"]`, `["public", "private", "shraed", "secret"]`, []string{
			`$.visibilities[2]: "shraed" would be open to nobody; the visibilities are public, unlisted, private, shared; did you mean "shared"?`,
			`$.visibilities[3]: "secret" would be open to nobody; the visibilities are public, unlisted, private, shared`,
		}},

		{
			"role without an entry", `"roles": ["superuser",`, `"roles": ["superuser", "staff",`,
			[]string{`$.role_policy: the role "staff" has no entry`},
		},
		{"entry of an undeclared role", `"anonymous": {"limits": {"posts": {}}`, `"anonymus": {"limits": {"posts": {}}`, []string{
			`$.role_policy.anonymus: there is no role "anonymus"; did you mean "anonymous"?`,
			`$.role_policy: the role "anonymous" has no entry`,
		}},
		{
			"item without an entry", `["article", "comment"]`, `["article", "comment", "draft"]`,
			[]string{`$.item_policy: the item "draft" has no entry`},
		},
		{"entry of an undeclared item", `["article", "comment"]`, `["comment", "article-text"]`, []string{
			`$.item_policy.article: there is no item "article"`,
			`$.item_policy: the item "article-text" has no entry`,
			`$.role_policy.superuser.can_own_items[0]: there is no item "article"`,
		}},
		{
			"missing keys of an item", `"article": {"valid_role_actions": ["view", "edit"], "valid_visibilities": ["public"], "invalid_roles": []}`,
			`"article": {}`,
			[]string{
				`$.item_policy.article: the key "valid_role_actions" is missing`,
				`$.item_policy.article: the key "valid_visibilities" is missing`,
				`$.item_policy.article: the key "invalid_roles" is missing`,
			},
		},
		{
			"missing keys of a role", `"locked": {"limits": {}, "can_own_items": [], "allowed_actions_for_owned": [], "allowed_actions_for_other": {}}`,
			`"locked": {"owned": []}`,
			[]string{
				`$.role_policy.locked.owned: the key is unknown`,
				`$.role_policy.locked: the key "limits" is missing`,
				`$.role_policy.locked: the key "can_own_items" is missing`,
				`$.role_policy.locked: the key "allowed_actions_for_owned" is missing`,
				`$.role_policy.locked: the key "allowed_actions_for_other" is missing`,
			},
		},
		{
			"references to undeclared names",
			`"comment": {"valid_role_actions": ["view"], "valid_visibilities": ["private"], "invalid_roles": ["locked"]}`,
			`"comment": {"valid_role_actions": ["veiw"], "valid_visibilities": ["shared"], "invalid_roles": ["Locked"]}`,
			[]string{
				`$.item_policy.comment.valid_role_actions[0]: there is no action "veiw"; did you mean "view"?`,
				`$.item_policy.comment.valid_visibilities[0]: there is no visibility "shared"`,
				`$.item_policy.comment.invalid_roles[0]: there is no role "Locked"; did you mean "locked"?`,
			},
		},
		{
			"undeclared names of a role", `"can_own_items": ["article"], "allowed_actions_for_owned": ["view", "edit"],
      "allowed_actions_for_other": {"public": ["view", "edit"], "private": ["view"]}`,
			`"can_own_items": ["artcle"], "allowed_actions_for_owned": ["view", "edits"],
      "allowed_actions_for_other": {"public": ["view", "edit", "delete"], "privat": ["view"]}`,
			[]string{
				`$.role_policy.superuser.can_own_items[0]: there is no item "artcle"; did you mean "article"?`,
				`$.role_policy.superuser.allowed_actions_for_owned[1]: there is no action "edits"; did you mean "edit"?`,
				`$.role_policy.superuser.allowed_actions_for_other.public[2]: there is no action "delete"`,
				`$.role_policy.superuser.allowed_actions_for_other.privat: there is no visibility "privat"; did you mean "private"?`,
			},
		},

		{"unknown type word", `"type": "int"`, `"type": "integer"`, []string{`$.limits.max.type: is "integer"; it must be one of: int, float`}},
		{"unknown operator", `"operator": "lt"`, `"operator": "<"`, []string{`$.limits.max.operator: is "<"; it must be one of: lt, gt`}},
		{
			"unknown limit type", `{"type": "max", "limit": 10}`, `{"type": "mx", "limit": 10}`,
			[]string{`$.role_policy.authenticated.limits.posts.type: there is no limit type "mx"; did you mean "max"?`},
		},
		{
			"half a limit", `{"type": "max", "limit": 10}`, `{"limit": 10}`,
			[]string{`$.role_policy.authenticated.limits.posts: the key "type" is missing`},
		},
		{
			"the other half", `{"type": "max", "limit": 10}`, `{"type": "max"}`,
			[]string{`$.role_policy.authenticated.limits.posts: the key "limit" is missing`},
		},
		{
			"limit as a string", `"limit": 10`, `"limit": "10"`,
			[]string{`$.role_policy.authenticated.limits.posts.limit: is a string; it must be a number`},
		},
		{
			"limit that is not finite", `"limit": 10`, `"limit": 1e400`,
			[]string{`$.role_policy.authenticated.limits.posts.limit: the number is too large`},
		},
		{
			"integer limit that is not finite", `"limit": 10`, `"limit": -1` + strings.Repeat("0", 309),
			[]string{`$.role_policy.authenticated.limits.posts.limit: the number is too large`},
		},
		{"greatest integer limit", `"limit": 10`, `"limit": 1` + strings.Repeat("0", 308), nil},
		{
			"limit entry of a wrong type", `{"type": "max", "limit": 10}`, `[]`,
			[]string{`$.role_policy.authenticated.limits.posts: is a list; it must be an object`},
		},
		{
			"repeated limit", `{"posts": {}}`, `{"posts": {}, "posts": {"type": 1}}`,
			[]string{`$.role_policy.anonymous.limits.posts: the key is repeated`},
		},
	} {
		if strings.Count(smallPolicy, tt.old) != 1 && tt.old != "" {
			t.Errorf("%s: %q is not in the policy once", tt.name, tt.old)
			continue
		}
		got := problems(t, strings.Replace(smallPolicy, tt.old, tt.new, 1))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestParseRequiresTheServersRoles(t *testing.T) {
	t.Parallel()
	got := problems(t, `{"roles": [], "items": [], "actions": [], "visibilities": [], "limits": {}, "item_policy": {}, "role_policy": {}}`)
	want := []string{
		`$.roles: the role "superuser" is required`,
		`$.roles: the role "authenticated" is required`,
		`$.roles: the role "anonymous" is required`,
		`$.roles: the role "locked" is required`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"", "the file is empty"},
		{" \n ", "the file is empty"},
		{"{\n  \"ü\": x", "syntax error at line 2, column 8: "},
		{"{\n\"roles\": [1,]}", "syntax error at line 2, column 12: "},
		{"[}", "syntax error at line 1, column 2: "},
		{"{1: 2}", "syntax error at line 1, column 2: "},
		{"{\"roles\":\n [", "syntax error at line 2, column 3: the text ends too early"},
		{"{\"roles\": \"\xff\"}", "syntax error at line 1, column 12: "},
		{"\ufeff{}", "syntax error at line 1, column 1: "},
		{"{}\n {}", "syntax error at line 2, column 2: text after the end of the policy"},
		{"{} // end", "syntax error at line 1, column 4: text after the end of the policy"},
		{"NaN", "syntax error at line 1, column 1: "},
		{strings.Repeat("[", 1_000_000), "syntax error at line 1, column 10001: "},
		{strings.Repeat(" ", 8<<20+1), "the file has 8388609 bytes; at most 8388608 are allowed"},
	} {
		got := problems(t, tt.text)
		if len(got) != 1 || !strings.HasPrefix(got[0], "$: "+tt.want) || strings.HasSuffix(got[0], ": ") {
			t.Errorf("%.20q: %q, want %q", tt.text, got, tt.want)
		}
	}
	for text, want := range map[string]string{
		`"roles"`: "$: is a string; it must be an object", "null": "$: is null; it must be an object",
		"[]": "$: is a list; it must be an object", " 1 ": "$: is a number; it must be an object",
	} {
		if got := problems(t, text); len(got) != 1 || got[0] != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := problems(t, smallPolicy+strings.Repeat(" ", 8<<20-len(smallPolicy))); got != nil {
		t.Errorf("greatest file: %q", got)
	}
}

// A list that could not be read makes no name unknown.
func TestParseReportsNoConsequences(t *testing.T) {
	t.Parallel()
	text := smallPolicy
	want := []string{}
	for _, key := range []string{"roles", "items", "actions", "visibilities"} {
		text = strings.Replace(text, fmt.Sprintf("%q: [", key), fmt.Sprintf("%q: 5, \"x-%s\": [", key, key), 1)
		want = append(want, fmt.Sprintf("$[%q]: the key is unknown", "x-"+key))
	}
	for _, key := range []string{"roles", "items", "actions", "visibilities"} {
		want = append(want, fmt.Sprintf("$.%s: is a number; it must be a list", key))
	}
	got := problems(t, text)
	for i, p := range got {
		got[i], _, _ = strings.Cut(p, "; did you mean")
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("cut", func(s string) string {
		s, _, _ = strings.Cut(s, "; did you mean")
		return s
	})); diff != "" {
		t.Error(diff)
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key   string
		limit int
	}{{"roles", 10_000}, {"items", 10_000}, {"actions", 1_000}, {"visibilities", 10_000}} {
		for _, n := range []int{tt.limit, tt.limit + 1} {
			list := make([]string, n)
			for i := range list {
				list[i] = fmt.Sprintf(`"n%d"`, i)
			}
			got := problems(t, fmt.Sprintf(`{%q: [%s]}`, tt.key, strings.Join(list, ",")))
			report := fmt.Sprintf("$.%s: there are %d names; at most %d are allowed", tt.key, n, tt.limit)
			found := strings.Contains(strings.Join(got, "\n"), report)
			if found != (n > tt.limit) {
				t.Errorf("%d %s: reported %v", n, tt.key, found)
			}
		}
	}
}

func TestParseListsAtMostAThousandProblems(t *testing.T) {
	t.Parallel()
	file := func(n int) string {
		return strings.Replace(smallPolicy, `"items": [`, `"items": [`+strings.Repeat("1, ", n), 1)
	}
	if got := problems(t, file(1000)); len(got) != 1000 || got[999] != "$.items[999]: is a number; it must be a string" {
		t.Errorf("1000 problems: %d, the last is %q", len(got), got[len(got)-1])
	}
	if got := problems(t, file(1234)); len(got) != 1001 || got[1000] != "$: 234 more problems are not listed" {
		t.Errorf("1234 problems: %d, the last is %q", len(got), got[len(got)-1])
	}
}

// Suggestions must not make a large file with many mistakes, or one with very
// long names, slow to refuse.
func TestParseBoundsSuggestions(t *testing.T) {
	t.Parallel()
	distinct := make([]string, 150)
	for i := range distinct {
		distinct[i] = fmt.Sprintf(`"article%d"`, i)
	}
	got := problems(t, strings.Replace(smallPolicy, `"can_own_items": ["article"]`,
		`"can_own_items": [`+strings.Join(distinct, ", ")+`]`, 1))
	if n := strings.Count(strings.Join(got, "\n"), "did you mean"); n != 100 || len(got) != 150 {
		t.Errorf("%d suggestions in %d problems, want 100 in 150", n, len(got))
	}
	long := strings.Repeat("a", 1<<20)
	got = problems(t, strings.NewReplacer(`"items": [`, `"items": ["`+long+`", `, `"can_own_items": ["article"`, `"can_own_items": ["`+long[1:]+`"`).
		Replace(smallPolicy))
	if text := strings.Join(got, "\n"); strings.Contains(text, "did you mean") || !strings.Contains(text, "the name has 1048576 characters") {
		t.Errorf("%d problems with long names, the first is %.200q", len(got), got[0])
	}
}

// A visibility without a list grants nothing, an empty limit limits nothing.
func TestParseOptionalParts(t *testing.T) {
	t.Parallel()
	p := mustParse(t, []byte(smallPolicy))
	q := &policy.Question{UserID: self, Role: "authenticated", Action: "view", Item: "article", Owner: stranger, Visibility: "public"}
	for role, want := range map[string]bool{"authenticated": true, "anonymous": false} {
		q.Role = role
		if got, err := p.Allows(q); got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", role, got, err, want)
		}
	}
	for role, want := range map[string]bool{"authenticated": false, "anonymous": true} {
		if got, err := p.WithinLimit(role, "posts", []byte("10")); got != want || err != nil {
			t.Errorf("limit of %s: %v, %v; want %v", role, got, err, want)
		}
	}
}

// A policy keeps nothing of the text that it was parsed from.
func TestParseCopies(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Replace(smallPolicy, `"limit": 10`, `"limit": 1234567`, 1))
	p := mustParse(t, text)
	clear(text)
	if ok, err := p.WithinLimit("authenticated", "posts", []byte("1234566")); !ok || err != nil {
		t.Errorf("limit: %v, %v", ok, err)
	}
	if !p.HasRole("authenticated") {
		t.Error("the role is gone")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallPolicy))
	f.Add([]byte(`{"roles":["superuser","authenticated","anonymous","locked"],"items":[],"actions":[],"visibilities":[],"limits":{},"item_policy":{},"role_policy":{}}`))
	f.Add([]byte(`{"roles": ["a", "a", 1], "x": {"y": [{}]}, "limits": {"": {"type": null}}}`))
	f.Add([]byte(`{"role_policy": {"\u0000": {"limits": {"a": {"type": "b", "limit": 1e999}}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := policy.Parse(text)
		if err != nil {
			var invalid *policy.InvalidError
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 || p != nil {
				t.Fatalf("%v, %v", p, err)
			}
			for _, problem := range invalid.Problems {
				if !strings.HasPrefix(problem.Path, "$") || problem.Message == "" {
					t.Errorf("problem %+v", problem)
				}
			}
			return
		}
		file := decode(t, text).(map[string]any)
		for _, role := range p.Roles() {
			for _, v := range allVisibilities {
				for _, item := range file["items"].([]any) {
					for _, action := range file["actions"].([]any) {
						q := &policy.Question{
							UserID: self, Role: role, Action: action.(string), Item: item.(string),
							Owner: stranger, Visibility: v, SharedWith: []int64{2},
						}
						if d := compare(p.Allows, file, q); d != "" {
							t.Fatal(d)
						}
						if granted, _ := p.Allows(q); granted != p.Explain(q).Granted {
							t.Fatalf("%+v: explained otherwise", q)
						}
					}
				}
			}
		}
	})
}

// TestPaths has problems be found at keys of all sorts: names of letters, digits and
// underscores follow a dot, and others are quoted (RFC 9535 §2.1.1).
func TestPaths(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"az": "$.az", "AZ": "$.AZ", "_": "$._", "a09": "$.a09", "é": "$.é", "a_b": "$.a_b",
		"0a": `$["0a"]`, "9": `$["9"]`, "a-b": `$["a-b"]`, "a/": `$["a/"]`, "a:": `$["a:"]`, "@": `$["@"]`, "[": `$["["]`, "`": "$[\"`\"]", "{": `$["{"]`, "": `$[""]`, "a b": `$["a b"]`,
	} {
		found := problems(t, strings.Replace(smallPolicy, "{", fmt.Sprintf("{%q: 1, ", key), 1))
		if len(found) != 1 || !strings.HasPrefix(found[0], want+": ") {
			t.Errorf("the problem with %q is not at %s: %q", key, want, found)
		}
	}
}

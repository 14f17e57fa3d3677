package api_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
)

func TestList(t *testing.T) {
	const whole = `{"action": "view", "target_name": "object", "target_owner": 1, "target_visibility": "public"}`
	short, _ := decode(t, api.Check, map[string]string{"access": `[["view", "object", 1, "public"]]`})
	long, _ := decode(t, api.Check, map[string]string{"access": "[" + whole + "]"})
	if diff := cmp.Diff(long, short); diff != "" {
		t.Errorf("the short form is another question:\n%s", diff)
	}
	// What an entry leaves out is not that of the one before.
	several, _ := decode(t, api.Check, map[string]string{"access": `[["view", "object", 1, "public", "7"], ["view", "object", 1, "public"], ["view", "object", 1, "public", null], ["edit", "object", 2, "public"]]`})
	want := api.List[api.AccessQuestion]{short.Access.Value[0], short.Access.Value[0], short.Access.Value[0], short.Access.Value[0]}
	want[0].TargetSharedWith = api.Some("7")
	want[3].Action, want[3].TargetOwner = "edit", 2
	if diff := cmp.Diff(want, several.Access.Value); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct{ access, problem string }{
		{"[]", ""},
		{" [ ] ", ""},
		{"[" + whole + "]", ""},
		{"[" + strings.Repeat(whole+",", 999) + whole + "]", ""},
		{"[" + strings.Repeat(whole+",", 1000) + whole + "]", "access: too long"},
		{`{}`, "access: incorrect type"},
		{`""`, "access: incorrect type"},
		{`null`, "access: incorrect type"},
		{`[1]`, "access: incorrect type [0]"},
		{`[` + whole + `, null]`, "access: incorrect type [1]"},
		{`[[]]`, "access: missing [0].action"},
		{`[["view", "object", 1]]`, "access: missing [0].target_visibility"},
		{`[["view", "object", 1, "public"], ["view", "object", 1, "public", null], [ "view","object",1,"public","1,2" ]]`, ""},
		{`[["view", "object", 1, "public", "1", 2]]`, "access: too long [0]"},
		{`[["view", "object", "1", "public"]]`, "access: incorrect type [0].target_owner"},
		{`[["view", null, 1, "public"]]`, "access: incorrect type [0].target_name"},
		{`[["view", "object", 1, "\ud800"]]`, "access: invalid text [0].target_visibility"},
		{`[{}]`, "access: missing [0].action"},
		{`[` + whole + `, {"action": "view", "target_name": 1}]`, "access: incorrect type [1].target_name"},
		{strings.Replace("["+whole+"]", "{", `{"action": "view", `, 1), "access: duplicate [0].action"},
		{strings.Replace("["+whole+"]", "{", `{"Action": "view", `, 1), "access: wrong letter case [0].action"},
		{strings.Replace("["+whole+"]", "{", `{"unknown": {"a": [1], "a": 2}, `, 1), ""},
		{strings.Replace("["+whole+"]", "{", `{"target_sharedwith": null, `, 1), ""},
		{strings.Replace("["+whole+"]", "{", `{"target_sharedwith": 7, `, 1), "access: incorrect type [0].target_sharedwith"},
		{strings.Replace("["+whole+"]", "object", `\ud800`, 1), "access: invalid text [0].target_name"},
		{strings.Replace("["+whole+"]", "object", strings.Repeat("x", 1025), 1), "access: too long [0].target_name"},
		{strings.Replace("["+whole+"]", ": 1", ": 9007199254740992", 1), "access: out of range [0].target_owner"},
	} {
		p, problems := decode(t, api.Check, map[string]string{"user_id": "1", "access": test.access})
		if got := strings.Join(problems, "; "); got != test.problem {
			t.Errorf("%.200s: %q, want %q", test.access, got, test.problem)
		}
		if test.problem != "" {
			continue
		}
		// Clients send what was read, in the same form.
		text, err := json.Marshal(p.Access.Value)
		if err != nil {
			t.Fatal(err)
		}
		again, problems := decode(t, api.Check, map[string]string{"access": string(text)})
		if diff := cmp.Diff(p.Access, again.Access); diff != "" || problems != nil {
			t.Errorf("%s: %v\n%s", text, problems, diff)
		}
	}
}

package policy_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each line of a golden file that begins with $ is a question, as the command
// line puts it; the lines below are the explanation.
func TestExplainGolden(t *testing.T) {
	for file, golden := range map[string]string{
		"../../docs/example-permissions.json": "testdata/example-explained.txt",
		"default-permissions-model.json":      "testdata/default-explained.txt",
	} {
		p := mustParse(t, []byte(readFile(t, file)))
		text := readFile(t, golden)
		var got strings.Builder
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "$") {
				continue
			}
			q := parseCommand(t, line)
			e := p.Explain(q)
			if granted, err := p.Allows(q); granted != e.Granted {
				t.Errorf("%s: explained %v, allowed %v, %v", line, e.Granted, granted, err)
			}
			if got.Len() > 0 {
				got.WriteString("\n")
			}
			got.WriteString(line + e.Text())
		}
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(text, got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", golden, diff)
		}
	}
}

// parseCommand reads the options of a command line.
func parseCommand(t *testing.T, line string) *policy.Question {
	t.Helper()
	q := &policy.Question{UserID: self, Owner: stranger}
	fields := strings.Fields(line)
	for i := 0; i+1 < len(fields); i++ {
		value := fields[i+1]
		switch fields[i] {
		case "--role":
			q.Role = value
		case "--action":
			q.Action = value
		case "--item":
			q.Item = value
		case "--visibility":
			q.Visibility = value
		case "--owner":
			if value == "self" {
				q.Owner = self
			}
		case "--shared":
			if value == "yes" {
				q.SharedWith = []int64{self}
			}
		}
	}
	return q
}

func TestDeciding(t *testing.T) {
	t.Parallel()
	p := mustParse(t, []byte(readFile(t, "../../docs/example-permissions.json")))
	for _, tt := range []struct {
		question policy.Question
		want     []string
	}{
		{
			policy.Question{UserID: 1, Role: "editor", Action: "edit", Item: "article", Owner: 1, Visibility: "public"},
			[]string{"yes $.role_policy.editor.allowed_actions_for_owned[3]"},
		},
		{
			policy.Question{UserID: 1, Role: "editor", Action: "edit", Item: "article", Owner: 2, Visibility: "public"},
			[]string{"yes $.role_policy.editor.allowed_actions_for_other.public[2]"},
		},
		{
			policy.Question{UserID: 1, Role: "editor", Action: "publish", Item: "draft", Owner: 3, Visibility: "shared", SharedWith: []int64{2}},
			[]string{"yes $.role_policy.editor.allowed_actions_for_other.shared[3]"},
		},
		{
			policy.Question{UserID: 1, Role: "editor", Action: "view", Item: "draft", Owner: 3, Visibility: "private"},
			[]string{"no ", "no $.role_policy.editor.allowed_actions_for_other"},
		},
		{
			policy.Question{UserID: 1, Role: "editor", Action: "view", Item: "draft", Owner: 3, Visibility: "shared", SharedWith: []int64{4}},
			[]string{"no "},
		},
		{
			policy.Question{UserID: 1, Role: "staff", Action: "publish", Item: "article", Owner: 1, Visibility: "private"},
			[]string{
				"no $.item_policy.article.valid_visibilities", "no $.item_policy.article.valid_role_actions",
				"no $.role_policy.staff.can_own_items", "no $.role_policy.staff.allowed_actions_for_owned",
			},
		},
		{
			policy.Question{UserID: 1, Role: "locked", Action: "view", Item: "article", Owner: 2, Visibility: "public"},
			[]string{"no $.item_policy.article.invalid_roles[0]", "no $.role_policy.locked.allowed_actions_for_other"},
		},
		{
			policy.Question{UserID: 1, Role: "x", Action: "x", Item: "x", Owner: 2, Visibility: "x"},
			[]string{"no $.roles", "no $.items", "no $.actions", "no $.visibilities"},
		},
		{
			policy.Question{UserID: 1, Role: "x", Action: "view", Item: "draft", Owner: 2, Visibility: "private"},
			[]string{"no $.roles"},
		},
		{
			policy.Question{UserID: 1, Role: "staff", Action: "view", Item: "article", Owner: 2, Visibility: "unlisted"},
			[]string{"no $.visibilities"},
		},
	} {
		var got []string
		for _, s := range p.Explain(&tt.question).Deciding() {
			mark := "no "
			if s.Holds {
				mark = "yes "
			}
			got = append(got, mark+s.Path)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v: decided by %q, want %q", tt.question, got, tt.want)
		}
	}
}

// A question may hold anything; a terminal must not be made to obey it.
func TestExplanationIsPrintable(t *testing.T) {
	t.Parallel()
	evil := "\x1b[2J\n\u202e"
	text := policy.Default().Explain(&policy.Question{Role: evil, Action: evil, Item: evil, Visibility: evil}).Text()
	if strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "[2J\n") {
		t.Errorf("%q", text)
	}
}

func TestSuggestions(t *testing.T) {
	t.Parallel()
	p := policy.Default()
	for _, tt := range []struct{ role, want string }{
		{"Staff", "staff"},
		{"STAFF", "staff"},
		{"satff", "staff"},
		{"stff", "staff"},
		{"stafff", "staff"},
		{"stuff", "staff"},
		{"stffa", ""},
		{"st", ""},
		{"authentcated", "authenticated"},
		{"autenticted", "authenticated"},
		{"anonymouse", "anonymous"},
		{"nobody", ""},
		{"", ""},
		{strings.Repeat("staff", 100), ""},
		{"superadmin", ""},
		{"locked!!", "locked"},
		{"locked!!!", "locked"},
		{"locked!!!!", ""},
		{"authenticXXXd", "authenticated"},
		{"authentiXXXXd", ""},
	} {
		found := p.Explain(&policy.Question{Role: tt.role}).Steps[0].Finding
		_, got, _ := strings.Cut(found, "did you mean ")
		if got = strings.Trim(got, `"?`); got != tt.want {
			t.Errorf("%q: suggested %q, want %q", tt.role, got, tt.want)
		}
	}
}

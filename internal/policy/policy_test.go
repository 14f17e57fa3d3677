package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/policy"
)

const (
	self      = 10
	stranger  = 11
	bystander = 12
)

// A situation is how the user and the item stand to each other.
type situation struct {
	column, visibility string
	owner              int64
	sharedWith         []int64
}

// situations holds every situation and the column of default-grants.txt that
// tells what is granted in it.
var situations = []situation{
	{"own", "public", self, nil},
	{"own", "unlisted", self, nil},
	{"own", "private", self, nil},
	{"own", "shared", self, nil},
	{"own", "shared", self, []int64{stranger}},
	{"public", "public", stranger, nil},
	{"public", "public", stranger, []int64{bystander}},
	{"unlisted", "unlisted", stranger, nil},
	{"private", "private", stranger, nil},
	{"private", "private", stranger, []int64{self, 2}},
	{"else", "shared", stranger, nil},
	{"else", "shared", stranger, []int64{bystander, 3, 20}},
	{"shared", "shared", stranger, []int64{bystander, self}},
	{"shared", "shared", stranger, []int64{2}},
	{"shared", "shared", stranger, []int64{bystander, 2, stranger}},
}

var letters = []struct{ letter, action string }{
	{"l", "list"},
	{"v", "view"},
	{"c", "create"},
	{"e", "edit"},
	{"d", "delete"},
	{"V", "change_visibility"},
	{"O", "change_owner"},
}

func TestDefaultGrants(t *testing.T) {
	t.Parallel()
	p := policy.Default()
	columns := []string{"role", "items", "valid", "own", "public", "unlisted", "private", "else", "shared"}
	rows := map[string]bool{}
	for line := range strings.Lines(readFile(t, "testdata/default-grants.txt")) {
		fields := strings.Fields(line)
		if fields[0][0] == '#' {
			continue
		}
		if len(fields) != len(columns) {
			t.Fatalf("%d fields in %q", len(fields), line)
		}
		cells := map[string]string{}
		for i, column := range columns {
			cells[column] = strings.Trim(fields[i], "-")
		}
		for item := range strings.SplitSeq(cells["items"], ",") {
			rows[cells["role"]+" "+item] = true
			for _, s := range situations {
				want := cells[s.column]
				if cells["valid"] == "private" && s.visibility != "private" {
					want = ""
				}
				if got := granted(t, p, cells["role"], item, s); got != want {
					t.Errorf("%s, %s, %+v: granted %q, want %q", cells["role"], item, s, got, want)
				}
			}
		}
	}
	if want := 5 * 7; len(rows) != want {
		t.Errorf("the table has %d pairs of role and item, want %d", len(rows), want)
	}
}

// granted returns the letters of all actions that are granted.
func granted(t *testing.T, p *policy.Policy, role, item string, s situation) string {
	t.Helper()
	var b strings.Builder
	for _, l := range letters {
		ok, err := p.Allows(&policy.Question{
			UserID: self, Role: role, Action: l.action, Item: item,
			Owner: s.owner, Visibility: s.visibility, SharedWith: s.sharedWith,
		})
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			b.WriteString(l.letter)
		}
	}
	return b.String()
}

func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	p := policy.Default()
	for _, tt := range []struct {
		role, limit string
		bound       int
	}{
		{"superuser", "max_requests", 5_000_000},
		{"superuser", "max_requests_per_minute", 60_000},
		{"staff", "max_requests", 1_000_000},
		{"staff", "max_requests_per_minute", 60_000},
		{"authenticated", "max_requests", 500_000},
		{"authenticated", "max_requests_per_minute", 6_000},
		{"anonymous", "max_requests", 100_000},
		{"anonymous", "max_requests_per_minute", 600},
		{"locked", "max_requests", 0},
		{"locked", "max_requests_per_minute", 0},
	} {
		for value, want := range map[int]bool{tt.bound - 1: true, tt.bound: false, tt.bound + 1: false} {
			got, err := p.WithinLimit(tt.role, tt.limit, fmt.Append(nil, value))
			if got != want || err != nil {
				t.Errorf("%s, %s, %d: %v, %v; want %v", tt.role, tt.limit, value, got, err, want)
			}
		}
	}
}

// The lists of the default file that no decision shows.
func TestDefaultFile(t *testing.T) {
	t.Parallel()
	var file map[string]any
	if err := json.Unmarshal(policy.DefaultJSON(), &file); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"items":        []any{"object", "dataset", "collection", "user", "session", "apikey", "preference"},
		"visibilities": []any{"public", "unlisted", "private", "shared"},
		"limits": map[string]any{
			"max": map[string]any{"type": "int", "operator": "lt"},
			"min": map[string]any{"type": "int", "operator": "gt"},
		},
	}
	for key := range want {
		if diff := cmp.Diff(want[key], file[key]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	p := policy.Default()
	want := []string{"anonymous", "authenticated", "locked", "staff", "superuser"}
	roles := p.Roles()
	if !slices.Equal(roles, want) {
		t.Fatalf("Roles() = %q, want %q", roles, want)
	}
	roles[0] = "nobody"
	if !slices.Equal(p.Roles(), want) {
		t.Error("a change of the result of Roles changed the policy")
	}
	for _, role := range want {
		if !p.HasRole(role) {
			t.Errorf("HasRole(%q) = false", role)
		}
	}
	for _, role := range []string{"", "nobody", "Staff", "object"} {
		if p.HasRole(role) {
			t.Errorf("HasRole(%q) = true", role)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	known := policy.Question{UserID: self, Role: "superuser", Action: "view", Item: "object", Owner: stranger, Visibility: "public"}
	for _, tt := range []struct {
		name   string
		change func(*policy.Question)
		want   bool
		err    error
	}{
		{"none", func(*policy.Question) {}, true, nil},
		{"role", func(q *policy.Question) { q.Role = "Superuser" }, false, policy.ErrUnknownRole},
		{"empty role", func(q *policy.Question) { q.Role = "" }, false, policy.ErrUnknownRole},
		{"action", func(q *policy.Question) { q.Action = "View" }, false, nil},
		{"item", func(q *policy.Question) { q.Item = "objects" }, false, nil},
		{"visibility", func(q *policy.Question) { q.Visibility = "Public" }, false, nil},
		{"empty visibility", func(q *policy.Question) { q.Visibility = "" }, false, nil},
	} {
		q := known
		tt.change(&q)
		got, err := policy.Default().Allows(&q)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("unknown %s: %v, %v; want %v, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestZeroPolicyDenies(t *testing.T) {
	t.Parallel()
	var p policy.Policy
	q := &policy.Question{Role: "superuser"}
	if ok, err := p.Allows(q); ok || !errors.Is(err, policy.ErrUnknownRole) {
		t.Errorf("Allows: %v, %v", ok, err)
	}
	if ok, err := p.WithinLimit("superuser", "max_requests", []byte("1")); ok || !errors.Is(err, policy.ErrUnknownRole) {
		t.Errorf("WithinLimit: %v, %v", ok, err)
	}
	if p.Explain(q).Granted {
		t.Error("Explain granted")
	}
}

func TestChecksDoNotAllocate(t *testing.T) {
	p := policy.Default()
	q := &policy.Question{
		UserID: self, Role: "authenticated", Action: "view", Item: "object",
		Owner: stranger, Visibility: "shared", SharedWith: []int64{bystander, self},
	}
	if n := testing.AllocsPerRun(100, func() {
		if ok, err := p.Allows(q); !ok || err != nil {
			t.Errorf("Allows: %v, %v", ok, err)
		}
	}); n != 0 {
		t.Errorf("Allows makes %v allocations", n)
	}
}

func BenchmarkAllows(b *testing.B) {
	for _, size := range []struct {
		name  string
		roles int
		items int
	}{{"default", 0, 0}, {"5000", 5000, 5000}} {
		b.Run(size.name, func(b *testing.B) {
			p := policy.Default()
			if size.roles > 0 {
				p = mustParse(b, largePolicy(size.roles, size.items))
			}
			questions := benchmarkQuestions(p, size.items)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, err := p.Allows(&questions[n%len(questions)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, size := range []struct {
		name string
		text []byte
	}{{"default", policy.DefaultJSON()}, {"5000", largePolicy(5000, 5000)}} {
		b.Run(size.name, func(b *testing.B) {
			b.SetBytes(int64(len(size.text)))
			for b.Loop() {
				if _, err := policy.Parse(size.text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchmarkQuestions returns questions over all roles and items, so that no
// cache holds only what a few of them need.
func benchmarkQuestions(p *policy.Policy, items int) []policy.Question {
	rng := rand.New(rand.NewPCG(1, 2))
	roles := p.Roles()
	questions := make([]policy.Question, 1<<14)
	for i := range questions {
		item := "dataset"
		if items > 0 {
			item = fmt.Sprintf("item%d", rng.IntN(items))
		}
		questions[i] = policy.Question{
			UserID: self, Role: roles[rng.IntN(len(roles))], Action: []string{"list", "view", "edit"}[rng.IntN(3)],
			Item: item, Owner: []int64{self, stranger}[rng.IntN(2)],
			Visibility: []string{"public", "unlisted", "private", "shared"}[rng.IntN(4)],
			SharedWith: []int64{bystander, self},
		}
	}
	return questions
}

// largePolicy returns a policy with many roles, each of which may own ten
// items, and many items.
func largePolicy(roles, items int) []byte {
	actions := []string{"list", "view", "create", "edit", "delete"}
	all := []string{"public", "unlisted", "private", "shared"}
	m := model{
		Roles: []string{"superuser", "staff", "authenticated", "anonymous", "locked"}, Items: []string{},
		Actions: actions, Visibilities: all, Limits: map[string]map[string]any{},
		ItemPolicy: map[string]map[string][]string{}, RolePolicy: map[string]rolePolicy{},
	}
	for i := len(m.Roles); i < roles; i++ {
		m.Roles = append(m.Roles, fmt.Sprintf("role%d", i))
	}
	for i := range items {
		name := fmt.Sprintf("item%d", i)
		m.Items = append(m.Items, name)
		m.ItemPolicy[name] = map[string][]string{
			"valid_role_actions": actions, "valid_visibilities": all, "invalid_roles": {m.Roles[i%roles]},
		}
	}
	for i, name := range m.Roles {
		r := rolePolicy{
			Limits: map[string]map[string]any{}, Owns: []string{}, Owned: actions,
			Other: map[string][]string{"public": {"list", "view"}, "unlisted": {"view"}, "shared": {"list", "view", "edit"}},
		}
		for j := range 10 {
			r.Owns = append(r.Owns, m.Items[(i*10+j)%items])
		}
		m.RolePolicy[name] = r
	}
	return m.text()
}

func mustParse(tb testing.TB, text []byte) *policy.Policy {
	tb.Helper()
	p, err := policy.Parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func readFile(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

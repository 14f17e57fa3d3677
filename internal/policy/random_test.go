package policy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"authnzerver/internal/policy"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random policies; 0 for a new one")

const (
	randomPolicies     = 500
	questionsPerPolicy = 2000
	limitsPerPolicy    = 200
)

// A model is a policy file that a test makes.
type model struct {
	Roles        []string                       `json:"roles"`
	Items        []string                       `json:"items"`
	Actions      []string                       `json:"actions"`
	Visibilities []string                       `json:"visibilities"`
	Limits       map[string]map[string]any      `json:"limits"`
	ItemPolicy   map[string]map[string][]string `json:"item_policy"`
	RolePolicy   map[string]rolePolicy          `json:"role_policy"`
}

type rolePolicy struct {
	Limits map[string]map[string]any `json:"limits"`
	Owns   []string                  `json:"can_own_items"`
	Owned  []string                  `json:"allowed_actions_for_owned"`
	Other  map[string][]string       `json:"allowed_actions_for_other"`
}

func (m *model) text() []byte {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return text
}

// decode decodes JSON for the reference.
func decode(tb testing.TB, text []byte) any {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("decode %.80q: %v", text, err)
	}
	return v
}

// newRandom returns a source of random numbers and tells how to repeat it.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -run %s -seed %d", t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// some returns a random part of list in random order. It is never nil.
func some(rng *rand.Rand, list []string, share float64) []string {
	part := []string{}
	for _, i := range rng.Perm(len(list)) {
		if rng.Float64() < share {
			part = append(part, list[i])
		}
	}
	return part
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// names returns up to limit names.
func names(rng *rand.Rand, prefix string, limit int) []string {
	list := make([]string, 1+rng.IntN(limit))
	for i := range list {
		list[i] = fmt.Sprint(prefix, pick(rng, []string{"", "-", " ", `"`, "ü", "."}), i)
	}
	return list
}

var allVisibilities = []string{"public", "unlisted", "private", "shared"}

func randomModel(rng *rand.Rand) *model {
	size := 5
	if rng.IntN(10) == 0 {
		size = 150 // more than two words of a bit set
	}
	share := pick(rng, []float64{0.4, 0.7, 0.95})
	m := &model{
		Roles: append(some(rng, []string{"superuser", "authenticated", "anonymous", "locked"}, 1),
			append(some(rng, []string{"staff"}, 0.8), names(rng, "role", size)...)...),
		Items:        names(rng, "item", size),
		Actions:      names(rng, "action", size),
		Visibilities: some(rng, allVisibilities, 0.95),
		Limits:       map[string]map[string]any{},
		ItemPolicy:   map[string]map[string][]string{},
		RolePolicy:   map[string]rolePolicy{},
	}
	for i := range 3 {
		m.Limits[fmt.Sprint("type", i)] = map[string]any{
			"type": pick(rng, []string{"int", "float"}), "operator": pick(rng, []string{"lt", "gt"}),
		}
	}
	for _, item := range m.Items {
		m.ItemPolicy[item] = map[string][]string{
			"valid_role_actions": some(rng, m.Actions, share),
			"valid_visibilities": some(rng, m.Visibilities, share),
			"invalid_roles":      some(rng, m.Roles, 1-share),
		}
	}
	for _, role := range m.Roles {
		r := rolePolicy{
			Limits: map[string]map[string]any{}, Owns: some(rng, m.Items, share),
			Owned: some(rng, m.Actions, share), Other: map[string][]string{},
		}
		for _, v := range some(rng, m.Visibilities, share) {
			r.Other[v] = some(rng, m.Actions, share)
		}
		for i := range rng.IntN(4) {
			r.Limits[fmt.Sprint("limit", i)] = map[string]any{
				"type": fmt.Sprint("type", rng.IntN(3)), "limit": json.Number(pick(rng, bounds)),
			}
		}
		if rng.IntN(4) == 0 {
			r.Limits["none"] = map[string]any{}
		}
		m.RolePolicy[role] = r
	}
	return m
}

func randomQuestion(rng *rand.Rand, m *model) *policy.Question {
	q := &policy.Question{
		UserID: 1 + rng.Int64N(4), Role: pick(rng, m.Roles), Action: pick(rng, m.Actions), Item: pick(rng, m.Items),
		Owner: 1 + rng.Int64N(4), Visibility: pick(rng, allVisibilities),
	}
	for range rng.IntN(4) {
		q.SharedWith = append(q.SharedWith, 1+rng.Int64N(5))
	}
	if rng.IntN(20) == 0 {
		wrong := pick(rng, []string{"", "nothing", "Public", "none"})
		switch rng.IntN(4) {
		case 0:
			q.Role = wrong
		case 1:
			q.Action = wrong
		case 2:
			q.Item = wrong
		case 3:
			q.Visibility = wrong
		}
	}
	return q
}

// compare returns what is different between an engine's and the reference's
// answer, or "".
func compare(allows func(*policy.Question) (bool, error), file map[string]any, q *policy.Question) string {
	got, err := allows(q)
	want, refErr := referenceAllows(file, q.UserID, q.Role, q.Action, q.Item, q.Owner, q.Visibility, q.SharedWith)
	if got != want || (err != nil) != (refErr != nil) || err != nil && !errors.Is(err, policy.ErrUnknownRole) {
		return fmt.Sprintf("%+v: got %v, %v; the reference says %v, %v", *q, got, err, want, refErr)
	}
	return ""
}

func TestRandomPoliciesAgainstReference(t *testing.T) {
	t.Parallel()
	rng := newRandom(t)
	count := map[string]int{}
	for range randomPolicies {
		m := randomModel(rng)
		text := m.text()
		p := mustParse(t, text)
		file := decode(t, text).(map[string]any)
		for range questionsPerPolicy {
			q := randomQuestion(rng, m)
			if d := compare(p.Allows, file, q); d != "" {
				t.Fatalf("%s\npolicy %s", d, text)
			}
			granted, _ := p.Allows(q)
			if e := p.Explain(q); e.Granted != granted {
				t.Fatalf("%+v: granted %v, explained as\n%spolicy %s", *q, granted, e.Text(), text)
			}
			if granted {
				count["granted"]++
				count["granted "+q.Visibility]++
				if q.UserID == q.Owner {
					count["granted owner"]++
				} else if q.Visibility == "shared" && !slices.Contains(q.SharedWith, q.UserID) && slices.Contains(q.SharedWith, 2) {
					count["granted everybody"]++
				} else if q.Visibility == "private" {
					count["granted private to others"]++
				}
			} else {
				count["denied"]++
			}
		}
	}
	t.Log(count)
	// A comparison of nothing but denials would show little.
	for _, what := range []string{
		"granted", "denied", "granted public", "granted unlisted", "granted private", "granted shared",
		"granted owner", "granted everybody", "granted private to others",
	} {
		if count[what] < 1000 {
			t.Errorf("only %d questions were %s", count[what], what)
		}
	}
}

// The bounds and values of limits meet often.
var (
	bounds = []string{
		"0", "1", "-1", "10", "10.5", "-10.5", "0.5", "-0.5", "1e3", "1000", "999.9999999999999999999",
		"9007199254740993", "9007199254740992", "1e22", "10000000000000000000000", "1.5e308",
		"123456789012345678901234567890", "-123456789012345678901234567890",
	}
	values = append([]string{
		"true", "false", "null", "[]", "[1]", "{}", `{"a": 1}`, `""`, `" "`, `"none"`, `"NaN"`, `"inf"`, `"-Infinity"`,
		"1e400", "-1e400", `"1e400"`, `"0x10"`, `"1_0"`, `"1__0"`, `"_10"`, `"10_"`, `"+10"`, `"--10"`, `"+ 10"`,
		`"1_0.5"`, `"1_.5"`, `"1._5"`, `"1e_1"`, `"1_e1"`, `"+_1"`, `".5"`, `"5."`, `"."`, `"e1"`, `"1e"`, `"1e0_1"`, `" 10 "`, `"\t10\n"`, `"\u00a010\u2003"`,
		`"\u000b10\f"`, `"\u001c10"`, `"10\u0000"`, `"\ufeff10"`, `"१०"`, `"１０.５"`, `"𝟙𝟘"`, `"1०"`, `"²"`, `"−10"`, `"00010"`,
		"-0", "-0.0", "0.0", "11", "9", "10.0", "10.4", "10.6", "4999999.9", " 10 ", "9007199254740994", `"9007199254740993"`,
		"999", "1001", "9999999999999999999999", "10000000000000000000001", "1e-400", "1E3", `"1E+3"`,
		strings.Repeat("9", 400), "-" + strings.Repeat("9", 400), `"` + strings.Repeat("0", 4298) + `10"`,
		`"` + strings.Repeat("0", 4299) + `10"`, strings.Repeat("9", 4301), "0." + strings.Repeat("0", 5000) + "1",
	}, bounds...)
)

func TestRandomLimitsAgainstReference(t *testing.T) {
	t.Parallel()
	rng := newRandom(t)
	within := 0
	for range randomPolicies {
		m := randomModel(rng)
		text := m.text()
		p := mustParse(t, text)
		file := decode(t, text).(map[string]any)
		for range limitsPerPolicy {
			value := pick(rng, values)
			role, limit := pick(rng, m.Roles), fmt.Sprint("limit", rng.IntN(4))
			switch rng.IntN(20) {
			case 0:
				role = "nobody"
			case 1:
				limit = "none"
			}
			got, err := p.WithinLimit(role, limit, []byte(value))
			want, refErr := referenceLimit(file, role, limit, decode(t, []byte(value)))
			if got != want || (err != nil) != (refErr != nil) || err != nil && !errors.Is(err, policy.ErrUnknownRole) {
				t.Fatalf("%s, %s, %.80s: got %v, %v; the reference says %v, %v\npolicy %s",
					role, limit, value, got, err, want, refErr, text)
			}
			if got {
				within++
			}
		}
	}
	if all := randomPolicies * limitsPerPolicy; within < all/10 || within > all*9/10 {
		t.Errorf("%d of %d values were within the limit", within, all)
	}
}

// The comparison must find engines that are wrong in a single rule.
func TestComparisonFindsBrokenEngines(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(p *policy.Policy, q policy.Question) (bool, error){
		"owners fall back to the actions for others": func(p *policy.Policy, q policy.Question) (bool, error) {
			granted, err := p.Allows(&q)
			if !granted && q.UserID == q.Owner {
				q.Owner++
				return p.Allows(&q)
			}
			return granted, err
		},
		"sharing with user 2 opens to nobody": func(p *policy.Policy, q policy.Question) (bool, error) {
			if q.UserID != 2 {
				q.SharedWith = slices.DeleteFunc(slices.Clone(q.SharedWith), func(id int64) bool { return id == 2 })
			}
			return p.Allows(&q)
		},
		"sharing with user 2 opens to the anonymous alone": func(p *policy.Policy, q policy.Question) (bool, error) {
			if q.Role != "anonymous" && !slices.Contains(q.SharedWith, q.UserID) {
				q.SharedWith = nil
			}
			return p.Allows(&q)
		},
		"superusers may do everything": func(p *policy.Policy, q policy.Question) (bool, error) {
			granted, err := p.Allows(&q)
			return granted || q.Role == "superuser", err
		},
		"private items are open to all": func(p *policy.Policy, q policy.Question) (bool, error) {
			granted, err := p.Allows(&q)
			if q.Visibility == "private" && q.UserID != q.Owner && !granted && err == nil {
				for _, s := range p.Explain(&q).Deciding() {
					granted = s.Path == ""
				}
			}
			return granted, err
		},
		"unlisted counts as public": func(p *policy.Policy, q policy.Question) (bool, error) {
			if q.Visibility == "unlisted" {
				q.Visibility = "public"
			}
			return p.Allows(&q)
		},
		"unknown roles are denied without an error": func(p *policy.Policy, q policy.Question) (bool, error) {
			granted, _ := p.Allows(&q)
			return granted, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := newRandom(t)
			for range 100 {
				m := randomModel(rng)
				text := m.text()
				p := mustParse(t, text)
				file := decode(t, text).(map[string]any)
				allows := func(q *policy.Question) (bool, error) { return broken(p, *q) }
				for range questionsPerPolicy {
					if compare(allows, file, randomQuestion(rng, m)) != "" {
						return
					}
				}
			}
			t.Error("the comparison did not notice")
		})
	}
}

// An engine with a policy that differs in a single entry of a list must be
// found, unless the entry makes no difference to the reference either.
func TestComparisonFindsChangedPolicies(t *testing.T) {
	t.Parallel()
	original := decode(t, policy.DefaultJSON()).(map[string]any)
	questions := allQuestions()
	effective := 0
	for i := 0; ; i++ {
		changed := decode(t, policy.DefaultJSON()).(map[string]any)
		n := i
		removeNth(changed["item_policy"], &n)
		removeNth(changed["role_policy"], &n)
		if n >= 0 {
			break
		}
		text, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		p := mustParse(t, text)
		reference := func(q *policy.Question) (bool, error) {
			return referenceAllows(changed, q.UserID, q.Role, q.Action, q.Item, q.Owner, q.Visibility, q.SharedWith)
		}
		differs, found := false, false
		for _, q := range questions {
			differs = differs || compare(reference, original, q) != ""
			found = found || compare(p.Allows, original, q) != ""
		}
		if differs != found {
			t.Errorf("removal %d: the reference differs: %v, the engine differs: %v", i, differs, found)
		}
		if found {
			effective++
		}
	}
	t.Logf("%d effective removals", effective)
	if effective < 100 {
		t.Errorf("only %d removals had an effect", effective)
	}
}

// removeNth removes the n-th string of all lists inside v, in a fixed order,
// and makes n negative when it has done so.
func removeNth(v any, n *int) any {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			v[key] = removeNth(v[key], n)
		}
		return v
	case []any:
		if *n >= 0 && *n < len(v) {
			v = slices.Delete(v, *n, *n+1)
			*n = -1
		} else if *n >= 0 {
			*n -= len(v)
		}
		return v
	default:
		return v
	}
}

// allQuestions returns every question about the default policy.
func allQuestions() []*policy.Question {
	var questions []*policy.Question
	for _, role := range policy.Default().Roles() {
		for _, item := range []string{"object", "dataset", "collection", "user", "session", "apikey", "preference"} {
			for _, l := range letters {
				for _, s := range situations {
					questions = append(questions, &policy.Question{
						UserID: self, Role: role, Action: l.action, Item: item,
						Owner: s.owner, Visibility: s.visibility, SharedWith: s.sharedWith,
					})
				}
			}
		}
	}
	return questions
}

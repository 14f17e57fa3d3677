package policy

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxName is the length of the longest name in characters: what the
	// database's column for roles holds.
	maxName = 100
	// maxNames is the greatest number of roles and of items, and maxActions
	// that of actions. They keep the bit sets of a policy under 33 MB.
	maxNames, maxActions = 10_000, 1_000
	// maxProblems is the number of problems that are listed. One more tells
	// how many there are beyond.
	maxProblems = 1_000
	// maxSuggestions is the number of problems up to which names are
	// suggested: for each of them all names are looked at.
	maxSuggestions = 100
)

// requiredRoles are the roles that the server itself gives to users: the
// first user, the two system users, and everybody who has signed up and
// verified the e-mail address.
var requiredRoles = []string{"superuser", "authenticated", "anonymous", "locked"}

// A Problem is one thing that is wrong with a policy file.
type Problem struct {
	// Path is the JSONPath (RFC 9535) of the value that is wrong, or of the
	// object or list that lacks something.
	Path string
	// Message says what is wrong. The line and column of a syntax error count
	// from 1, in characters.
	Message string
}

// String returns the path and the message.
func (p Problem) String() string { return p.Path + ": " + p.Message }

// An InvalidError is the error of [Parse]. It holds every problem of the
// file, or the first 1,000 and then one that tells how many are left out.
type InvalidError struct {
	Problems []Problem
}

// Error returns all problems, one a line.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return "the permission policy is invalid:\n\t" + strings.Join(lines, "\n\t")
}

// Parse checks and compiles a policy file. Its error is an [*InvalidError].
//
// The file is a JSON object of at most 8 MiB. It declares at most 10,000
// roles, 10,000 items and 1,000 actions; names have 1 to 100 characters, none
// of them a control character. Every key is required, except that a role
// without a list for some visibility may do nothing there, and that a limit
// that is an empty object is none. Nothing may be repeated, and no key may be
// there that has no meaning. Every name must be declared where it is used,
// and every declared role and item must have its entry. The roles superuser,
// anonymous and locked are required for the users that the server makes, and
// authenticated because everybody gets it who verifies an e-mail address.
func Parse(text []byte) (*Policy, error) {
	root, err := readDocument(text)
	if err != nil {
		return nil, &InvalidError{[]Problem{{"$", err.Error()}}}
	}
	var c checker
	d := c.document(&root)
	if c.omitted > 0 {
		c.problems = append(c.problems, Problem{"$", fmt.Sprintf("%d more problems are not listed", c.omitted)})
	}
	if len(c.problems) > 0 {
		return nil, &InvalidError{c.problems}
	}
	return compile(d), nil
}

// A checker turns JSON values into a document and collects the problems. A
// nil node is a missing one, which has been reported already.
type checker struct {
	problems []Problem
	omitted  int
}

func (c *checker) report(at path, format string, args ...any) {
	if len(c.problems) == maxProblems {
		c.omitted++
		return
	}
	c.problems = append(c.problems, Problem{string(at), fmt.Sprintf(format, args...)})
}

// suggestion is the function of that name while there are few problems.
func (c *checker) suggestion(name string, known []string) string {
	if len(c.problems) >= maxSuggestions {
		return ""
	}
	return suggestion(name, known)
}

func (c *checker) document(root *node) *document {
	top := c.object(root, "$", "roles", "items", "actions", "visibilities", "limits", "item_policy", "role_policy")
	d := &document{
		roles:        c.declaration(top["roles"], "$.roles", "role", maxNames),
		items:        c.declaration(top["items"], "$.items", "item", maxNames),
		actions:      c.declaration(top["actions"], "$.actions", "action", maxActions),
		visibilities: c.declaration(top["visibilities"], "$.visibilities", "visibility", maxNames),
		itemPolicy:   map[string]itemPolicy{},
		rolePolicy:   map[string]rolePolicy{},
	}
	for _, name := range requiredRoles {
		if !d.roles.has(name) {
			c.report("$.roles", "the role %q is required", name)
		}
	}
	for _, name := range d.visibilities.names {
		if visibilityOf(name) == unknownVisibility {
			c.report(path("$.visibilities").index(d.visibilities.index[name]), "%q would be open to nobody; the visibilities are %s%s",
				name, strings.Join(visibilityNames[:], ", "), c.suggestion(name, visibilityNames[:]))
		}
	}
	limitTypes := c.limitTypes(top["limits"], d)
	for _, m := range c.entries(top["item_policy"], "$.item_policy", &d.items) {
		d.itemPolicy[m.name] = c.itemPolicy(&m.value, path("$.item_policy").member(m.name), d)
	}
	for _, m := range c.entries(top["role_policy"], "$.role_policy", &d.roles) {
		d.rolePolicy[m.name] = c.rolePolicy(&m.value, path("$.role_policy").member(m.name), d, &limitTypes)
	}
	return d
}

// limitTypes fills in the types of limits and returns their names.
func (c *checker) limitTypes(n *node, d *document) vocabulary {
	names := vocabulary{kind: "limit type"}
	members, ok := c.members(n, "$.limits")
	if !ok {
		return names
	}
	names.index = map[string]int{}
	d.limitTypes = map[string]limitType{}
	for i, m := range members {
		at := path("$.limits").member(m.name)
		c.name(m.name, at)
		names.names = append(names.names, m.name)
		names.index[m.name] = i
		entry := c.object(&m.value, at, "type", "operator")
		d.limitTypes[m.name] = limitType{
			integer: c.choice(entry["type"], at.member("type"), "int", "float") == "int",
			below:   c.choice(entry["operator"], at.member("operator"), "lt", "gt") == "lt",
		}
	}
	return names
}

func (c *checker) itemPolicy(n *node, at path, d *document) itemPolicy {
	entry := c.object(n, at, "valid_role_actions", "valid_visibilities", "invalid_roles")
	return itemPolicy{
		validRoleActions:  c.references(entry["valid_role_actions"], at.member("valid_role_actions"), &d.actions),
		validVisibilities: c.references(entry["valid_visibilities"], at.member("valid_visibilities"), &d.visibilities),
		invalidRoles:      c.references(entry["invalid_roles"], at.member("invalid_roles"), &d.roles),
	}
}

func (c *checker) rolePolicy(n *node, at path, d *document, limitTypes *vocabulary) rolePolicy {
	entry := c.object(n, at, "limits", "can_own_items", "allowed_actions_for_owned", "allowed_actions_for_other")
	r := rolePolicy{
		limits:      map[string]*limit{},
		canOwnItems: c.references(entry["can_own_items"], at.member("can_own_items"), &d.items),
		owned:       c.references(entry["allowed_actions_for_owned"], at.member("allowed_actions_for_owned"), &d.actions),
		other:       map[string][]string{},
	}
	limitsAt := at.member("limits")
	limits, _ := c.members(entry["limits"], limitsAt)
	for _, m := range limits {
		c.name(m.name, limitsAt.member(m.name))
		if l := c.limit(&m.value, limitsAt.member(m.name), d, limitTypes); l != nil {
			r.limits[m.name] = l
		}
	}
	otherAt := at.member("allowed_actions_for_other")
	others, _ := c.members(entry["allowed_actions_for_other"], otherAt)
	for _, m := range others {
		c.reference(m.name, otherAt.member(m.name), &d.visibilities)
		r.other[m.name] = c.references(&m.value, otherAt.member(m.name), &d.actions)
	}
	return r
}

// limit returns a role's limit, nil when there is none.
func (c *checker) limit(n *node, at path, d *document, types *vocabulary) *limit {
	if n.kind == '{' && len(n.members) == 0 {
		return nil
	}
	entry := c.object(n, at, "type", "limit")
	typeName, typeOK := c.text(entry["type"], at.member("type"))
	if typeOK {
		c.reference(typeName, at.member("type"), types)
	}
	value := entry["limit"]
	if !c.is(value, at.member("limit"), '0') {
		return nil
	}
	l, ok := newLimit(d.limitTypes[typeName], value.text)
	if !ok {
		c.report(at.member("limit"), "the number is too large")
	}
	return l
}

// is checks the type of a value.
func (c *checker) is(n *node, at path, want jsontext.Kind) bool {
	if n == nil {
		return false
	}
	if n.kind != want {
		c.report(at, "is %s; it must be %s", kindName(n.kind), kindName(want))
		return false
	}
	return true
}

// object reads an object that has exactly these keys.
func (c *checker) object(n *node, at path, keys ...string) map[string]*node {
	members, ok := c.members(n, at)
	if !ok {
		return nil
	}
	values := make(map[string]*node, len(keys))
	for i := range members {
		name := members[i].name
		if !slices.Contains(keys, name) {
			c.report(at.member(name), "the key is unknown%s", c.suggestion(name, keys))
			continue
		}
		values[name] = &members[i].value
	}
	for _, key := range keys {
		if values[key] == nil {
			c.report(at, "the key %q is missing", key)
		}
	}
	return values
}

// members reads an object of any keys and leaves out repeated ones.
func (c *checker) members(n *node, at path) ([]member, bool) {
	if !c.is(n, at, '{') {
		return nil, false
	}
	seen := make(map[string]bool, len(n.members))
	members := make([]member, 0, len(n.members))
	for _, m := range n.members {
		if seen[m.name] {
			c.report(at.member(m.name), "the key is repeated")
			continue
		}
		seen[m.name] = true
		members = append(members, m)
	}
	return members, true
}

// entries reads an object that has one entry for each name of a vocabulary.
func (c *checker) entries(n *node, at path, v *vocabulary) []member {
	members, ok := c.members(n, at)
	if !ok {
		return nil
	}
	present := make(map[string]bool, len(members))
	for _, m := range members {
		c.reference(m.name, at.member(m.name), v)
		present[m.name] = true
	}
	for _, name := range v.names {
		if !present[name] {
			c.report(at, "the %s %q has no entry", v.kind, name)
		}
	}
	return members
}

// A listed name is an element of a list.
type listed struct {
	index int
	name  string
}

// list reads a list of names and leaves out repeated ones.
func (c *checker) list(n *node, at path) ([]listed, bool) {
	if !c.is(n, at, '[') {
		return nil, false
	}
	seen := make(map[string]bool, len(n.elements))
	list := make([]listed, 0, len(n.elements))
	for i := range n.elements {
		name, ok := c.text(&n.elements[i], at.index(i))
		switch {
		case !ok:
		case seen[name]:
			c.report(at.index(i), "%q is repeated", name)
		default:
			seen[name] = true
			list = append(list, listed{i, name})
		}
	}
	return list, true
}

// declaration reads a list of new names.
func (c *checker) declaration(n *node, at path, kind string, limit int) vocabulary {
	v := vocabulary{kind: kind}
	list, ok := c.list(n, at)
	if !ok {
		return v
	}
	if len(n.elements) > limit {
		c.report(at, "there are %d names; at most %d are allowed", len(n.elements), limit)
	}
	v.index = make(map[string]int, len(list))
	for _, l := range list {
		c.name(l.name, at.index(l.index))
		v.names = append(v.names, l.name)
		v.index[l.name] = l.index
	}
	return v
}

// references reads a list of names that are declared elsewhere.
func (c *checker) references(n *node, at path, v *vocabulary) []string {
	list, _ := c.list(n, at)
	names := make([]string, len(list))
	for i, l := range list {
		c.reference(l.name, at.index(l.index), v)
		names[i] = l.name
	}
	return names
}

// reference checks that a name is declared.
func (c *checker) reference(name string, at path, v *vocabulary) {
	if !v.has(name) {
		c.report(at, "there is no %s %q%s", v.kind, name, c.suggestion(name, v.names))
	}
}

// name checks a new name.
func (c *checker) name(name string, at path) {
	length := utf8.RuneCountInString(name)
	switch {
	case length == 0:
		c.report(at, "the name is empty")
	case length > maxName:
		c.report(at, "the name has %d characters; at most %d are allowed", length, maxName)
	case strings.ContainsFunc(name, unicode.IsControl):
		c.report(at, "the name has a control character")
	}
}

// text reads a string.
func (c *checker) text(n *node, at path) (string, bool) {
	if !c.is(n, at, '"') {
		return "", false
	}
	return n.text, true
}

// choice reads one of several words.
func (c *checker) choice(n *node, at path, words ...string) string {
	word, ok := c.text(n, at)
	if ok && !slices.Contains(words, word) {
		c.report(at, "is %q; it must be one of: %s", word, strings.Join(words, ", "))
	}
	return word
}

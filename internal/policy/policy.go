// Package policy decides who may do what with which item, and which values
// are within a role's limits.
//
// A policy is a JSON file. [Parse] checks the whole of it and compiles it:
// names become numbers and lists become bit sets, so that a check costs the
// same whatever the size of the policy. What a policy does not grant is
// denied. The package does no I/O and a [Policy] never changes.
package policy

import (
	_ "embed"
	"errors"
	"slices"
)

// ErrUnknownRole says that a policy does not have the role it was asked about.
var ErrUnknownRole = errors.New("the policy has no such role")

// anonymousUser is the id of the user in whose name everybody acts who is not
// logged in. An item that is shared with this user is shared with everybody.
const anonymousUser = 2

//go:embed default-permissions-model.json
var defaultJSON string

// A Policy is a checked and compiled permission policy. It is immutable, so
// that any number of goroutines may use it. Get one from [Parse] or [Default].
type Policy struct {
	roles   map[string]*role
	items   map[string]*item
	actions map[string]int
	source  document // for explanations
}

// A role is what a policy says about one role. The numbers in its sets are
// positions in the policy's lists.
type role struct {
	index      int
	reachesAll bool // whom an item is open to does not matter
	owns       set  // of items
	owned      set  // of actions
	other      [visibilityCount]set
	limits     map[string]*limit
}

// An item is what a policy says about one kind of item.
type item struct {
	index        int
	actions      set
	visibilities [visibilityCount]bool
	invalidRoles set
}

// Default returns the policy that is in force when none is configured. It
// compiles anew at every call, so keep it.
func Default() *Policy {
	p, err := Parse([]byte(defaultJSON))
	if err != nil {
		panic("policy: the built-in policy: " + err.Error()) // unreachable: a test parses the same file
	}
	return p
}

// DefaultJSON returns the file of the [Default] policy.
func DefaultJSON() []byte { return []byte(defaultJSON) }

// Roles returns the names of all roles, sorted. The caller may change the
// slice.
func (p *Policy) Roles() []string { return slices.Sorted(slices.Values(p.source.roles.names)) }

// HasRole reports whether the policy has a role of this name.
func (p *Policy) HasRole(role string) bool { return p.roles[role] != nil }

// Knows reports whether the policy has an action and an item of these names.
func (p *Policy) Knows(action, item string) bool {
	_, known := p.actions[action]
	return known && p.items[item] != nil
}

// A Question asks whether a user may do an action on an item.
type Question struct {
	// UserID and Role are the user who wants to act.
	UserID int64
	Role   string
	// Action and Item are names of the policy. Other names are denied.
	Action, Item string
	// Owner is the id of the item's owner.
	Owner int64
	// Visibility is public, unlisted, private or shared. All else is denied.
	Visibility string
	// SharedWith holds the ids of the users that the item is shared with. It
	// matters for the visibility shared alone.
	SharedWith []int64
}

// Allows reports whether the policy grants what q asks for. Its only error is
// [ErrUnknownRole], with which nothing is granted.
//
// Four things must come together: the item is open to the user, the item
// takes the action in this visibility and from this role, the role may own
// such items when the user is the owner, and the role's list for owned items
// or for those of others has the action. An owner whose role may not own the
// item gets nothing, not even what a stranger would get.
func (p *Policy) Allows(q *Question) (bool, error) {
	role := p.roles[q.Role]
	if role == nil {
		return false, ErrUnknownRole
	}
	item := p.items[q.Item]
	action, actionKnown := p.actions[q.Action]
	visible := visibilityOf(q.Visibility)
	if item == nil || !actionKnown || visible == unknownVisibility {
		return false, nil
	}
	if !item.visibilities[visible] || item.invalidRoles.has(role.index) || !item.actions.has(action) {
		return false, nil
	}
	if q.UserID == q.Owner { // whose item is always open
		return role.owns.has(item.index) && role.owned.has(action), nil
	}
	return role.other[visible].has(action) && (role.reachesAll || openToOthers(visible, q)), nil
}

// openToOthers reports whether an item is open to a user who is not its owner.
func openToOthers(v visibility, q *Question) bool {
	switch v {
	case public, unlisted:
		return true
	case shared:
		for _, id := range q.SharedWith {
			if id == q.UserID || id == anonymousUser {
				return true
			}
		}
	}
	return false
}

// reachesAll reports whether every item is open to a role. The two names are
// fixed; what the role may do with the items is up to the policy.
func reachesAll(role string) bool { return role == "superuser" || role == "staff" }

// A visibility says to whom an item is open. There are no others than these,
// because a policy has no means to say what another one would mean.
type visibility int

const (
	public visibility = iota
	unlisted
	private
	shared
	unknownVisibility
)

const visibilityCount = int(unknownVisibility)

var visibilityNames = [visibilityCount]string{"public", "unlisted", "private", "shared"}

func visibilityOf(name string) visibility {
	for v, known := range visibilityNames {
		if name == known {
			return visibility(v)
		}
	}
	return unknownVisibility
}

// A set is a set of small numbers, one bit each.
type set []uint64

func (s set) has(n int) bool { return n>>6 < len(s) && s[n>>6]>>(n&63)&1 == 1 }

// setOf returns the positions of names in a vocabulary.
func setOf(names []string, v *vocabulary) set {
	if len(names) == 0 {
		return nil
	}
	s := make(set, (len(v.names)+63)/64)
	for _, name := range names {
		n := v.index[name]
		s[n>>6] |= 1 << (n & 63)
	}
	return s
}

// compile turns a document without problems into a policy.
func compile(d *document) *Policy {
	p := &Policy{
		roles:   make(map[string]*role, len(d.roles.names)),
		items:   make(map[string]*item, len(d.items.names)),
		actions: d.actions.index,
		source:  *d,
	}
	for i, name := range d.items.names {
		entry := d.itemPolicy[name]
		it := &item{
			index:        i,
			actions:      setOf(entry.validRoleActions, &d.actions),
			invalidRoles: setOf(entry.invalidRoles, &d.roles),
		}
		for _, v := range entry.validVisibilities {
			it.visibilities[visibilityOf(v)] = true
		}
		p.items[name] = it
	}
	for i, name := range d.roles.names {
		entry := d.rolePolicy[name]
		r := &role{
			index:      i,
			reachesAll: reachesAll(name),
			owns:       setOf(entry.canOwnItems, &d.items),
			owned:      setOf(entry.owned, &d.actions),
			limits:     entry.limits,
		}
		for v, actions := range entry.other {
			r.other[visibilityOf(v)] = setOf(actions, &d.actions)
		}
		p.roles[name] = r
	}
	return p
}

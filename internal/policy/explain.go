package policy

import (
	"fmt"
	"slices"
	"strings"
)

// An Explanation says how a policy comes to an answer.
type Explanation struct {
	// Question is what was asked.
	Question Question
	// Granted is the answer. It is always that of [Policy.Allows], with which
	// an unknown role is an error.
	Granted bool
	// Steps are the conditions that were looked at, all of which must hold.
	// Where a name is unknown, those that depend on it are left out.
	Steps []Step
}

// A Step is one condition.
type Step struct {
	// Holds reports whether the condition is met.
	Holds bool
	// Path is the JSONPath (RFC 9535) of the rule in the policy file: of the
	// entry that meets the condition, or of the list that lacks one. It is
	// empty for a rule that is no policy's to make.
	Path string
	// Finding says what was found there.
	Finding string
}

// Explain answers q as [Policy.Allows] does and says why. It reads the
// policy's lists rather than the compiled form, and it does not stop at the
// first obstacle: a denial shows all that is missing.
func (p *Policy) Explain(q *Question) *Explanation {
	e := &explainer{question: q, document: &p.source}
	role := e.declared("$.roles", "role", q.Role, e.document.roles.names)
	item := e.declared("$.items", "item", q.Item, e.document.items.names)
	action := e.declared("$.actions", "action", q.Action, e.document.actions.names)
	visible := e.declared("$.visibilities", "visibility", q.Visibility, e.document.visibilities.names)
	if role && visible {
		e.open()
	}
	if item {
		e.itemRules(role, action, visible)
	}
	if role {
		e.roleRules(item, action, visible)
	}
	granted := !slices.ContainsFunc(e.steps, func(s Step) bool { return !s.Holds })
	return &Explanation{Question: *q, Granted: granted, Steps: e.steps}
}

// Deciding returns the steps that decide: those that do not hold, or when all
// do, the last one, which is the entry that grants the action.
func (e *Explanation) Deciding() []Step {
	if e.Granted {
		return e.Steps[len(e.Steps)-1:]
	}
	var failed []Step
	for _, s := range e.Steps {
		if !s.Holds {
			failed = append(failed, s)
		}
	}
	return failed
}

// Text returns the explanation for people to read, in several lines: the
// answer, what decides, and all steps.
func (e *Explanation) Text() string {
	var b strings.Builder
	q := &e.Question
	answer, verb := "denied", "may not"
	if e.Granted {
		answer, verb = "granted", "may"
	}
	owner := "somebody else's"
	if q.UserID == q.Owner {
		owner = "its own"
	}
	fmt.Fprintf(&b, "%s: %q %s %q %s %q, visibility %q\n", answer, q.Role, verb, q.Action, owner, q.Item, q.Visibility)
	b.WriteString("\ndecided by\n")
	writeSteps(&b, e.Deciding())
	b.WriteString("\nall conditions\n")
	writeSteps(&b, e.Steps)
	return b.String()
}

func writeSteps(b *strings.Builder, steps []Step) {
	for _, s := range steps {
		mark, where := "no ", s.Path
		if s.Holds {
			mark = "yes"
		}
		if where == "" {
			where = "fixed rule"
		}
		fmt.Fprintf(b, "  %s  %s: %s\n", mark, where, s.Finding)
	}
}

// An explainer collects the steps of one explanation.
type explainer struct {
	question *Question
	document *document
	steps    []Step
}

func (e *explainer) add(holds bool, at path, finding string) {
	e.steps = append(e.steps, Step{holds, string(at), finding})
}

// declared adds the step that a name is declared.
func (e *explainer) declared(at path, kind, name string, names []string) bool {
	i := slices.Index(names, name)
	if i < 0 {
		e.add(false, at, fmt.Sprintf("there is no %s %q%s", kind, name, suggestion(name, names)))
		return false
	}
	e.add(true, at.index(i), fmt.Sprintf("%q is one of the %s names", name, kind))
	return true
}

// listed adds the step that a list has a name.
func (e *explainer) listed(at path, name string, names []string) {
	if i := slices.Index(names, name); i >= 0 {
		e.add(true, at.index(i), fmt.Sprintf("%q is in the list", name))
	} else {
		e.add(false, at, fmt.Sprintf("%q is not in the list", name))
	}
}

// mayOwn adds the step that the role may own the item.
func (e *explainer) mayOwn(at path, items []string) {
	item := e.question.Item
	if slices.Contains(items, item) {
		e.listed(at, item, items)
		return
	}
	e.add(false, at, fmt.Sprintf("%q is not in the list, so its owner may do even less than others", item))
}

// open adds the step that the item is open to the user.
func (e *explainer) open() {
	q := e.question
	switch {
	case reachesAll(q.Role):
		e.add(true, "", fmt.Sprintf("all items are open to %q, whatever their visibility", q.Role))
	case q.Visibility == "public" || q.Visibility == "unlisted":
		e.add(true, "", fmt.Sprintf("%s items are open to everybody", q.Visibility))
	case q.UserID == q.Owner:
		e.add(true, "", "an item is open to its owner")
	case q.Visibility == "private":
		e.add(false, "", "private items are open to their owner alone")
	case slices.Contains(q.SharedWith, q.UserID):
		e.add(true, "", "the item is shared with the user")
	case slices.Contains(q.SharedWith, anonymousUser):
		e.add(true, "", fmt.Sprintf("the item is shared with user %d, and so with everybody", anonymousUser))
	default:
		e.add(false, "", "shared items are open to their owner and to whom they are shared with")
	}
}

// itemRules adds what the item's entry says.
func (e *explainer) itemRules(role, action, visible bool) {
	q := e.question
	entry, at := e.document.itemPolicy[q.Item], path("$.item_policy").member(q.Item)
	if visible {
		e.listed(at.member("valid_visibilities"), q.Visibility, entry.validVisibilities)
	}
	if role {
		at := at.member("invalid_roles")
		if i := slices.Index(entry.invalidRoles, q.Role); i >= 0 {
			e.add(false, at.index(i), fmt.Sprintf("%q is in the list, so it may do nothing", q.Role))
		} else {
			e.add(true, at, fmt.Sprintf("%q is not in the list", q.Role))
		}
	}
	if action {
		e.listed(at.member("valid_role_actions"), q.Action, entry.validRoleActions)
	}
}

// roleRules adds what the role's entry says.
func (e *explainer) roleRules(item, action, visible bool) {
	q := e.question
	entry, at := e.document.rolePolicy[q.Role], path("$.role_policy").member(q.Role)
	if q.UserID == q.Owner {
		if item {
			e.mayOwn(at.member("can_own_items"), entry.canOwnItems)
		}
		if action {
			e.listed(at.member("allowed_actions_for_owned"), q.Action, entry.owned)
		}
		return
	}
	if !visible || !action {
		return
	}
	at = at.member("allowed_actions_for_other")
	actions, ok := entry.other[q.Visibility]
	if !ok {
		e.add(false, at, fmt.Sprintf("there is no list for %q", q.Visibility))
		return
	}
	e.listed(at.member(q.Visibility), q.Action, actions)
}

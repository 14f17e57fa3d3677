package api

import (
	"reflect"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/jsonobject"
)

// A Problem says what is wrong with one parameter of a request.
type Problem struct {
	// Param is the parameter's name, never its value.
	Param string `json:"param"`
	// Problem is one of the Problem constants, followed by the name of a
	// member when it lies inside an object.
	Problem string `json:"problem"`
	// RequiredType holds the accepted type words.
	RequiredType TypeWords `json:"required_type"`
	// RequiredParam reports whether the parameter may not be left out.
	RequiredParam bool `json:"required_param"`
	// Accepted says which values of the type are accepted; empty when all.
	Accepted string `json:"accepted,omitzero"`
}

// TypeWords are the wire's words for the types that a parameter accepts. On
// the wire a single one is a string, several are an array.
type TypeWords []string

// MarshalJSON returns the wire form.
func (t TypeWords) MarshalJSON() ([]byte, error) {
	quoted := make([]string, len(t))
	for i, word := range t {
		quoted[i] = `"` + word + `"`
	}
	if len(quoted) == 1 {
		return []byte(quoted[0]), nil
	}
	return []byte("[" + strings.Join(quoted, ",") + "]"), nil
}

// UnmarshalJSON reads the wire form.
func (t *TypeWords) UnmarshalJSON(text []byte) error {
	*t = nil
	d := jsontext.NewDecoder(strings.NewReader(string(text)))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		if token.Kind() == '"' {
			*t = append(*t, token.String())
		}
		if d.StackDepth() == 0 {
			return nil
		}
	}
}

// A Member is one member of a request's body.
type Member = jsonobject.Member

// Decode reads the members of a request's body into p. Members that the
// request does not declare are ignored, unless they differ from a declared
// one only in letter case. All problems are returned at once, in the order of
// [Spec.Params]; p is usable only when there are none.
func (r Request[P, R]) Decode(members []Member, p *P) []Problem {
	return r.spec.decode(members, reflect.ValueOf(p).Elem())
}

// Invalid returns the failure for a parameter whose problem only the rules can
// see, or which is needed only beside others.
func (s *Spec) Invalid(param, problem string) *Failure {
	for i := range s.params {
		if f := &s.params[i]; f.name == param {
			return Invalid(s.Name, []Problem{s.problem(f, problem)})
		}
	}
	panic("api: " + s.Name + " has no parameter " + param) // unreachable: the rules name their own parameters
}

func (s *Spec) problem(f *field, problem string) Problem {
	accepted := ""
	if problem == ProblemTooLong || problem == ProblemOutOfRange {
		accepted = f.bounds.String()
	}
	return Problem{
		Param: f.name, Problem: problem, RequiredType: f.types,
		RequiredParam: f.required || problem == ProblemMissing, Accepted: accepted,
	}
}

func (s *Spec) decode(members []Member, params reflect.Value) []Problem {
	var problems []Problem
	report := func(f *field, problem string) { problems = append(problems, s.problem(f, problem)) }
	var space [16]jsontext.Value
	values := s.match(space[:0], members)
	for i := range s.params {
		f := &s.params[i]
		var raw jsontext.Value
		var problem string
		if values != nil {
			raw = values[i]
		} else {
			raw, problem = find(members, f.name)
		}
		switch {
		case problem != "":
			report(f, problem)
		case raw == nil:
			if f.required {
				report(f, ProblemMissing)
			}
		default:
			if problem := decodeValue(params.Field(f.index).Addr().Interface(), raw, f.bounds); problem != "" {
				report(f, problem)
			}
		}
	}
	return problems
}

// match appends the value of each parameter, nil for one that was left out, when every
// member is a parameter and none stands there twice, as is nearly always so: then nothing
// else can be wrong with the names. Otherwise it returns nil.
func (s *Spec) match(values []jsontext.Value, members []Member) []jsontext.Value {
	next, found := 0, 0 // clients often send them in the order of the declaration
	for i := range s.params {
		values = append(values, nil)
		for range members {
			if next == len(members) {
				next = 0
			}
			m := &members[next]
			next++
			if string(m.Name) == s.params[i].name {
				values[i] = m.Value
				found++
				break
			}
		}
	}
	if found < len(members) {
		return nil
	}
	return values
}

// find returns the value of the member called name. A second one, or one
// whose name differs only in letter case, is a problem: an attacker must not
// be able to show two readers two values.
func find(members []Member, name string) (value jsontext.Value, problem string) {
	for i := range members {
		m := &members[i]
		switch {
		case string(m.Name) == name && value != nil:
			problem = ProblemDuplicate
		case string(m.Name) == name:
			value = m.Value
		case len(m.Name) == len(name) && strings.EqualFold(string(m.Name), name):
			problem = ProblemLetterCase
		}
	}
	return value, problem
}

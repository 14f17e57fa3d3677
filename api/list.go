package api

import (
	"reflect"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/jsonobject"
)

// A List is a parameter that is a list of objects. The fields of T are their members, and
// are declared and checked as the parameters of a request are. In place of an object there
// may be a list of the values in the order of the fields, of which optional ones may be left
// out at its end: that is half as long, and read in half the time. A problem with a member
// is told with its place, for example "missing [3].action".
type List[T any] []T

func (*List[T]) words() []string { return []string{"list"} }

// element describes the members of T.
func (*List[T]) element() *Spec {
	typ := reflect.TypeFor[T]()
	return &Spec{params: paramFields(typ, typ.Name())}
}

func (l *List[T]) decode(raw jsontext.Value, b bounds) string {
	if raw.Kind() != '[' {
		return ProblemType
	}
	var few [16]jsontext.Value
	elements, err := jsonobject.AppendElements(few[:0], raw)
	switch {
	case err != nil:
		return ProblemType // unreachable: the request was found to be sound
	case int64(len(elements)) > b.max:
		return ProblemTooLong
	}
	list := make(List[T], len(elements))
	value := reflect.ValueOf(list)
	for i, element := range elements {
		member, problem := b.element.decodeElement(element, value.Index(i))
		if problem != "" {
			return problem + " [" + strconv.Itoa(i) + "]" + member
		}
	}
	*l = list
	return ""
}

// decodeElement reads an entry of a List. It returns the problem, or "", and behind a point
// the member that has it.
func (s *Spec) decodeElement(raw jsontext.Value, entry reflect.Value) (member, problem string) {
	switch raw.Kind() {
	case '{':
		var space [8]Member
		members, err := jsonobject.AppendMembers(space[:0], raw)
		if err != nil {
			return "", ProblemType // unreachable, as above
		}
		if problems := s.decode(members, entry); problems != nil {
			return "." + problems[0].Param, problems[0].Problem
		}
	case '[':
		var space [8]jsontext.Value
		values, err := jsonobject.AppendElements(space[:0], raw)
		switch {
		case err != nil:
			return "", ProblemType // unreachable, as above
		case len(values) > len(s.params):
			return "", ProblemTooLong
		}
		for i := range s.params {
			f := &s.params[i]
			switch {
			case i < len(values):
				problem = decodeValue(entry.Field(f.index).Addr().Interface(), values[i], f.bounds)
			case f.required:
				problem = ProblemMissing
			}
			if problem != "" {
				return "." + f.name, problem
			}
		}
	default:
		return "", ProblemType
	}
	return "", ""
}

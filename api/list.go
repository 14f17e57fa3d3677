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

func (l *List[T]) decode(raw jsontext.Value, b bounds) (problem string) {
	if raw.Kind() != '[' {
		return ProblemType
	}
	list := List[T]{}
	err := jsonobject.EachRow(raw, func(element jsontext.Value, values []jsontext.Value) bool {
		i := len(list)
		if int64(i) == b.max {
			problem = ProblemTooLong
			return false
		}
		var entry T
		if i > 0 && element[0] == '[' {
			entry = list[i-1] // what repeats need not be read again
		}
		list = append(list, entry)
		problem = b.element.decodeEntry(element, values, reflect.ValueOf(&list[i]).Elem(), i)
		return problem == ""
	})
	if err != nil {
		return ProblemType // unreachable: the request was found to be sound
	}
	*l = list
	return problem
}

// decodeEntry reads an entry of a List, whose values are given if it is a list itself. Its
// texts may be those that were found right in the entry before.
func (s *Spec) decodeEntry(raw jsontext.Value, values []jsontext.Value, entry reflect.Value, place int) (problem string) {
	at := func(problem, member string) string { return problem + " [" + strconv.Itoa(place) + "]" + member }
	switch raw.Kind() {
	case '{':
		var space [8]Member
		members, err := jsonobject.AppendMembers(space[:0], raw)
		if err != nil {
			return at(ProblemType, "") // unreachable, as above
		}
		if problems := s.decode(members, entry); problems != nil {
			return at(problems[0].Problem, "."+problems[0].Param)
		}
	case '[':
		if len(values) > len(s.params) {
			return at(ProblemTooLong, "")
		}
		for i := range s.params {
			f := &s.params[i]
			field := entry.Field(f.index)
			if field.Kind() != reflect.String {
				field.SetZero() // of the entry before
			}
			switch {
			case i < len(values):
				problem = decodeValue(field.Addr().Interface(), values[i], f.bounds)
			case f.required:
				problem = ProblemMissing
			}
			if problem != "" {
				return at(problem, "."+f.name)
			}
		}
	default:
		return at(ProblemType, "")
	}
	return ""
}

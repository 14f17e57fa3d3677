package api

import (
	"reflect"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/jsonobject"
)

// A List is a parameter that is a list of objects. The fields of T are their members, and
// are declared and checked as the parameters of a request are. A problem with a member
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
	var space [8]Member
	for i, element := range elements {
		place := "[" + strconv.Itoa(i) + "]"
		members, err := jsonobject.AppendMembers(space[:0], element)
		if err != nil {
			return ProblemType + " " + place
		}
		problems := b.element.decode(members, value.Index(i))
		if problems != nil {
			return problems[0].Problem + " " + place + "." + problems[0].Param
		}
	}
	*l = list
	return ""
}

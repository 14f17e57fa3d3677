package action

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// deleteMark is the string that removes a key in a merge.
const deleteMark = "__delete__"

// A jsonMember is one member of a JSON object.
type jsonMember struct {
	name  string
	value jsontext.Value
}

// membersOf splits a JSON object, which may be nil, into its members.
func membersOf(object []byte) ([]jsonMember, error) {
	object = bytes.TrimSpace(object)
	if len(object) == 0 || object[0] != '{' {
		return nil, nil // nothing is stored, or something that is not an object
	}
	d := jsontext.NewDecoder(bytes.NewReader(object))
	_, err := d.ReadToken()
	if err != nil {
		return nil, fmt.Errorf("read object: %w", err)
	}
	var members []jsonMember
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
		text := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("read object: %w", err)
		}
		members = append(members, jsonMember{text, value.Clone()})
	}
	return members, nil
}

// objectOf is the reverse of membersOf.
func objectOf(members []jsonMember) []byte {
	out := []byte{'{'}
	for i, m := range members {
		if i > 0 {
			out = append(out, ", "...)
		}
		// The error only tells that invalid UTF-8 was replaced; there is none.
		out, _ = jsontext.AppendQuote(out, m.name)
		out = append(append(out, ": "...), m.value...)
	}
	return append(out, '}')
}

func valueOf(members []jsonMember, name string) jsontext.Value {
	for _, m := range members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// set replaces the value of a member, or adds it at the end.
func set(members []jsonMember, name string, value jsontext.Value) []jsonMember {
	for i := range members {
		if members[i].name == name {
			members[i].value = value
			return members
		}
	}
	return append(members, jsonMember{name, value})
}

func remove(members []jsonMember, name string) []jsonMember {
	for i := range members {
		if members[i].name == name {
			return append(members[:i:i], members[i+1:]...)
		}
	}
	return members
}

// merge sets and removes the members of an object one by one, shallowly.
func merge(object []byte, update []jsonMember) ([]byte, error) {
	members, err := membersOf(object)
	if err != nil {
		return nil, err
	}
	for _, m := range update {
		if text, err := jsontext.AppendUnquote(nil, m.value); err == nil && string(text) == deleteMark {
			members = remove(members, m.name)
		} else {
			members = set(members, m.name, m.value)
		}
	}
	return objectOf(members), nil
}

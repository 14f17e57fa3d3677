package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxFile is the size of the largest policy file in bytes. A policy of
	// 5,000 roles and 5,000 items has about 3 MiB.
	maxFile = 8 << 20
	// maxDepth is the deepest nesting of objects and lists that a policy has:
	// role_policy, role, allowed_actions_for_other, visibility. What is nested
	// deeper sits inside a value of a wrong type and need not be kept.
	maxDepth = 5
)

// A document is the content of a policy file.
type document struct {
	roles, items, actions, visibilities vocabulary
	limitTypes                          map[string]limitType
	itemPolicy                          map[string]itemPolicy
	rolePolicy                          map[string]rolePolicy
}

// An itemPolicy is an entry of item_policy.
type itemPolicy struct{ validRoleActions, validVisibilities, invalidRoles []string }

// A rolePolicy is an entry of role_policy.
type rolePolicy struct {
	limits             map[string]*limit
	canOwnItems, owned []string
	other              map[string][]string // by visibility
}

// A vocabulary holds the names of one kind that a policy declares.
type vocabulary struct {
	kind  string
	names []string
	// index maps a name to its position. It is nil when the declaration could
	// not be read: then no name is called unknown because of that.
	index map[string]int
}

func (v *vocabulary) has(name string) bool {
	_, ok := v.index[name]
	return ok || v.index == nil
}

// A path is a JSONPath as in RFC 9535.
type path string

func (p path) member(name string) path {
	if isShorthand(name) {
		return p + "." + path(name)
	}
	quoted, _ := jsontext.AppendQuote(nil, name) // the error tells of invalid UTF-8; there is none
	return p + "[" + path(quoted) + "]"
}

func (p path) index(i int) path { return p + "[" + path(strconv.Itoa(i)) + "]" }

// isShorthand reports whether a name may follow a dot in a path.
func isShorthand(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// A node is a JSON value.
type node struct {
	kind     jsontext.Kind
	text     string // of a string, unquoted, or of a number
	members  []member
	elements []node
}

type member struct {
	name  string
	value node
}

// kindName names the type of a value.
func kindName(k jsontext.Kind) string {
	switch k {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 'n':
		return "null"
	default:
		return "a boolean"
	}
}

// readDocument reads a JSON text of one value. Names may be repeated. Its
// error says where the text is malformed.
func readDocument(text []byte) (node, error) {
	if len(text) > maxFile {
		return node{}, fmt.Errorf("the file has %d bytes; at most %d are allowed", len(text), maxFile)
	}
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true))
	root, err := readNode(d, 1)
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF):
		return node{}, errors.New("the file is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return node{}, fmt.Errorf("syntax error at %s: the text ends too early", position(text, len(text)))
	case errors.As(err, &syntax):
		return node{}, fmt.Errorf("syntax error at %s: %w", position(text, int(syntax.ByteOffset)), syntax.Err)
	case err != nil:
		return node{}, fmt.Errorf("read policy: %w", err) // unreachable: a bytes.Reader only ends
	}
	rest := bytes.TrimLeft(text[d.InputOffset():], " \t\r\n")
	if len(rest) > 0 {
		return node{}, fmt.Errorf("syntax error at %s: text after the end of the policy",
			position(text, len(text)-len(rest)))
	}
	return root, nil
}

// position says where an offset in bytes is: lines and columns count from 1,
// columns in characters.
func position(text []byte, offset int) string {
	before := text[:offset]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d", line, column)
}

func readNode(d *jsontext.Decoder, depth int) (node, error) {
	kind := d.PeekKind()
	container := kind == '{' || kind == '['
	if container && depth > maxDepth {
		err := d.SkipValue()
		return node{kind: kind}, err
	}
	token, err := d.ReadToken()
	if err != nil {
		return node{}, err
	}
	n := node{kind: kind}
	if !container {
		n.text = token.String()
		return n, nil
	}
	for d.PeekKind() != '}' && d.PeekKind() != ']' {
		var m member
		if kind == '{' {
			name, err := d.ReadToken()
			if err != nil {
				return node{}, err
			}
			m.name = name.String()
		}
		m.value, err = readNode(d, depth+1)
		if err != nil {
			return node{}, err
		}
		if kind == '{' {
			n.members = append(n.members, m)
		} else {
			n.elements = append(n.elements, m.value)
		}
	}
	_, err = d.ReadToken()
	return n, err
}

package api_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
)

var update = flag.Bool("update", false, "write the reference instead of comparing it")

// TestReference makes docs/api.md and docs/api.json from the declarations and
// their comments, and fails when the files in the repository differ.
// Run it with -update after changing a declaration.
func TestReference(t *testing.T) {
	ref := newReference(t)
	for name, text := range map[string][]byte{"../docs/api.md": ref.markdown(), "../docs/api.json": ref.json(t)} {
		if *update {
			err := os.WriteFile(name, text, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(committed), string(text)); diff != "" {
			t.Errorf("%s is stale; run go test ./api -update:\n%s", name, diff)
		}
	}
}

// A refField is a parameter, or a key of a result or of an object in one.
type refField struct {
	Name      string   `json:"name"`
	Types     []string `json:"types"`
	Required  *bool    `json:"required,omitzero"`
	Accepted  string   `json:"accepted,omitzero"`
	OnFailure bool     `json:"on_failure,omitzero"`
	Optional  bool     `json:"optional,omitzero"`
	Doc       string   `json:"doc,omitzero"`
}

type refRequest struct {
	Name     string         `json:"name"`
	Aliases  []string       `json:"aliases,omitzero"`
	Limit    api.LimitClass `json:"limit"`
	Hashes   int            `json:"hashes"`
	ReadOnly bool           `json:"read_only"`
	Counts   bool           `json:"counts"`
	Addition bool           `json:"addition"`
	Doc      string         `json:"doc"`
	Params   []refField     `json:"params"`
	Result   []refField     `json:"result"`
	Fails    []api.Code     `json:"fails"`
}

type refCode struct {
	Code      api.Code `json:"code"`
	Reason    string   `json:"reason"`
	Message   string   `json:"message"`
	Retryable bool     `json:"retryable"`
	Common    bool     `json:"common"`
}

type refEvent struct {
	Kind  api.EventKind `json:"kind"`
	About string        `json:"about"`
}

type refObject struct {
	Name   string     `json:"name"`
	Doc    string     `json:"doc"`
	Fields []refField `json:"fields"`
}

type reference struct {
	Requests []refRequest `json:"requests"`
	Objects  []refObject  `json:"objects"`
	Events   []refEvent   `json:"events"`
	Codes    []refCode    `json:"codes"`
}

// A declaration is what the source says about one request.
type declaration struct{ variable, params, result, doc string }

type source struct {
	requests map[string]declaration
	structs  map[string]*ast.StructType
	docs     map[string]string
}

func readSource(t *testing.T) *source {
	src := &source{map[string]declaration{}, map[string]*ast.StructType{}, map[string]string{}}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), entry.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range group.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if st, ok := s.Type.(*ast.StructType); ok {
						src.structs[s.Name.Name] = st
						src.docs[s.Name.Name] = prose(group.Doc)
					}
				case *ast.ValueSpec:
					src.addRequest(s, group.Doc)
				}
			}
		}
	}
	return src
}

func (src *source) addRequest(s *ast.ValueSpec, doc *ast.CommentGroup) {
	if len(s.Values) != 1 {
		return
	}
	call, ok := s.Values[0].(*ast.CallExpr)
	if !ok {
		return
	}
	generic, ok := call.Fun.(*ast.IndexListExpr)
	if !ok || generic.X.(*ast.Ident).Name != "define" {
		return
	}
	for _, element := range call.Args[0].(*ast.CompositeLit).Elts {
		pair := element.(*ast.KeyValueExpr)
		if pair.Key.(*ast.Ident).Name == "Name" {
			name, _ := strconv.Unquote(pair.Value.(*ast.BasicLit).Value)
			src.requests[name] = declaration{
				s.Names[0].Name, generic.Indices[0].(*ast.Ident).Name, generic.Indices[1].(*ast.Ident).Name, prose(doc),
			}
		}
	}
}

// prose returns a comment as running text, one line a paragraph.
func prose(doc *ast.CommentGroup) string {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(strings.TrimSpace(doc.Text()), "\n\n") {
		paragraphs = append(paragraphs, strings.ReplaceAll(paragraph, "\n", " "))
	}
	return strings.Join(paragraphs, "\n\n")
}

// field returns the Go type and the comment of the field with a JSON name.
func (src *source) field(structName, jsonName string) (goType ast.Expr, doc string) {
	for _, f := range src.structs[structName].Fields.List {
		if f.Tag == nil {
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if name == jsonName {
			return f.Type, strings.Replace(prose(f.Doc), f.Names[0].Name, "`"+jsonName+"`", 1)
		}
	}
	return nil, ""
}

func newReference(t *testing.T) *reference {
	src := readSource(t)
	ref := &reference{}
	for _, spec := range api.All() {
		decl, ok := src.requests[spec.Name]
		if !ok {
			t.Fatalf("%s: its declaration was not found", spec.Name)
		}
		if want := strings.ReplaceAll(spec.Name, "-", ""); !strings.EqualFold(decl.variable, want) {
			t.Errorf("%s is declared as %s", spec.Name, decl.variable)
		}
		r := refRequest{
			Name: spec.Name, Aliases: spec.Aliases, Limit: spec.Limit, Hashes: spec.Hashes, ReadOnly: spec.ReadOnly, Counts: spec.Counts,
			Addition: spec.Addition, Doc: decl.doc, Fails: spec.Fails, Params: []refField{}, Result: []refField{},
		}
		for _, p := range spec.Params() {
			_, doc := src.field(decl.params, p.Name)
			if doc == "" {
				t.Errorf("%s: parameter %s has no comment", spec.Name, p.Name)
			}
			r.Params = append(r.Params, refField{Name: p.Name, Types: p.Types, Required: &p.Required, Accepted: p.Bounds, Doc: doc})
		}
		for _, key := range spec.Result() {
			goType, doc := src.field(decl.result, key.Name)
			if doc == "" {
				t.Errorf("%s: result key %s has no comment", spec.Name, key.Name)
			}
			r.Result = append(r.Result, refField{Name: key.Name, Types: ref.wireTypes(src, goType), OnFailure: key.OnFailure, Optional: key.Optional, Doc: doc})
		}
		ref.Requests = append(ref.Requests, r)
	}
	slices.SortStableFunc(ref.Requests, func(a, b refRequest) int { return family(a.Name) - family(b.Name) })
	for _, e := range api.EventKinds() {
		ref.Events = append(ref.Events, refEvent(e))
	}
	for _, c := range api.Codes() {
		ref.Codes = append(ref.Codes, refCode(c))
	}
	return ref
}

// family orders the reference by the first word of the requests' names.
func family(name string) int {
	return slices.IndexFunc([]string{"session", "user", "apikey", "check", "event", "internal"}, func(f string) bool { return strings.HasPrefix(name+"-", f+"-") })
}

// wireTypes describes the JSON form of a Go type in a result. A struct is
// added to the reference's objects the first time it is met.
func (ref *reference) wireTypes(src *source, goType ast.Expr) []string {
	switch typ := goType.(type) {
	case *ast.StarExpr:
		return append(ref.wireTypes(src, typ.X), "None")
	case *ast.ArrayType:
		return []string{"list of " + ref.wireTypes(src, typ.Elt)[0]}
	case *ast.Ident:
		switch typ.Name {
		case "int64":
			return []string{"int"}
		case "string", "Email", "SessionToken", "Secret", "Position":
			return []string{"str"}
		case "bool":
			return []string{"bool"}
		case "Scopes":
			return []string{"list of str", "None"}
		case "Time", "Expiry":
			return []string{"datetime", "None"}
		case "Object":
			return []string{"dict", "None"}
		case "Code", "EventKind":
			return []string{"str"}
		case "AccessDecisions":
			return []string{"list of " + ref.wireTypes(src, ast.NewIdent("AccessDecision"))[0]}
		}
		if !slices.ContainsFunc(ref.Objects, func(o refObject) bool { return o.Name == typ.Name }) {
			ref.addObject(src, typ.Name)
		}
		return []string{typ.Name}
	}
	panic(fmt.Sprintf("no wire type for %T", goType))
}

func (ref *reference) addObject(src *source, name string) {
	at := len(ref.Objects)
	ref.Objects = append(ref.Objects, refObject{Name: name, Doc: src.docs[name]})
	for _, f := range src.structs[name].Fields.List {
		tag, _ := strconv.Unquote(f.Tag.Value)
		key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		ref.Objects[at].Fields = append(ref.Objects[at].Fields, refField{Name: key, Types: ref.wireTypes(src, f.Type), Doc: prose(f.Doc)})
	}
}

func (ref *reference) json(t *testing.T) []byte {
	text, err := json.Marshal(ref, jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

const preface = `# Reference of all requests

<!-- Generated from the declarations in package api by: go test ./api -update -->

A request is an object with the members ` + "`request`" + ` (a name below), ` + "`body`" + ` (its
parameters), ` + "`reqid`" + ` (any JSON value but null, sent back unchanged) and
` + "`client_ipaddr`" + ` (the end user's address; optional). It is sealed and sent as
[the wire](wire.md) says. The reply has ` + "`success`, `response` (the result), `messages`" + `
(texts that the end user may see) and ` + "`reqid`" + `; a failed one also has ` + "`failure_code`" + `,
to switch on, and ` + "`failure_reason`" + `, for the developer, and when the
same request may succeed later ` + "`retry_after`" + `, in seconds. ` + "`response`" + ` repeats all of
these but the reqid.

Types are ` + "`str`, `int`" + ` (no fraction, no exponent), ` + "`float`" + ` (with one of them), ` + "`bool`, `dict`" + `
(an object), ` + "`list`, `Any`" + ` (anything but null) and ` + "`None`" + ` (null). A ` + "`datetime`" + ` is ISO 8601 in
UTC without a zone, to the microsecond. Parameters that are not listed are
ignored. Lengths are in characters, sizes of objects in bytes of JSON text.
`

func (ref *reference) markdown() []byte {
	var b bytes.Buffer
	b.WriteString(preface)
	b.WriteString("\n| request | in a sentence |\n|---|---|\n")
	for _, r := range ref.Requests {
		first, _, _ := strings.Cut(r.Doc, "\n\n")
		sentence, _, _ := strings.Cut(first, ". ")
		_, sentence, _ = strings.Cut(sentence, " ")
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", r.Name, r.Name, strings.TrimSuffix(sentence, "."))
	}
	for _, r := range ref.Requests {
		r.markdown(&b)
	}
	b.WriteString("\n## Objects in results\n")
	for _, o := range ref.Objects {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| key | type |\n|---|---|\n", o.Name, o.Doc)
		for _, f := range o.Fields {
			fmt.Fprintf(&b, "| `%s` | %s |\n", f.Name, strings.Join(f.Types, " or "))
		}
	}
	b.WriteString("\n## Kinds of events\n\nWhat [`event-list`](#event-list) and [webhooks](events.md) tell. Details are in code font.\n\n| kind | written when |\n|---|---|\n")
	for _, e := range ref.Events {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.Kind, e.About)
	}
	b.WriteString("\n## Failure codes\n\nEvery request may also end in the codes marked “any”. After a code marked “retry”,\nnothing was changed and the same request may succeed a little later.\n\n| code | reason | |\n|---|---|---|\n")
	for _, c := range ref.Codes {
		var marks []string
		if c.Common {
			marks = append(marks, "any")
		}
		if c.Retryable {
			marks = append(marks, "retry")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Code, c.Reason, strings.Join(marks, ", "))
	}
	return b.Bytes()
}

func (r *refRequest) markdown(b *bytes.Buffer) {
	_, doc, _ := strings.Cut(r.Doc, " ") // the comment starts with the Go name
	fmt.Fprintf(b, "\n## %s\n\n%s%s\n\n", r.Name, strings.ToUpper(doc[:1]), doc[1:])
	facts := []string{"Limit class: " + string(r.Limit) + "."}
	if r.Hashes > 0 {
		facts = append(facts, fmt.Sprintf("Password hashes: at most %d.", r.Hashes))
	}
	if r.ReadOnly {
		facts = append(facts, "Changes nothing.")
	}
	if r.Counts {
		facts = append(facts, "Changes nothing but what was counted.")
	}
	if len(r.Aliases) > 0 {
		facts = append(facts, "Older name: `"+strings.Join(r.Aliases, "`, `")+"`.")
	}
	if r.Addition {
		facts = append(facts, "The Python server does not have this request.")
	}
	fmt.Fprintln(b, strings.Join(facts, " "))
	b.WriteString("\n| parameter | type | required | accepted | |\n|---|---|---|---|---|\n")
	for _, p := range r.Params {
		required := "no"
		if *p.Required {
			required = "yes"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", p.Name, strings.Join(p.Types, " or "), required, p.Accepted, cell(p.Doc))
	}
	if len(r.Result) == 0 {
		b.WriteString("\nThe result has no keys of its own.\n")
	} else {
		b.WriteString("\n| result | type | on failure | |\n|---|---|---|---|\n")
		for _, f := range r.Result {
			onFailure := ""
			if f.OnFailure {
				onFailure = "present"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.Name, strings.Join(f.Types, " or "), onFailure, cell(f.Doc))
		}
	}
	if len(r.Fails) > 0 {
		b.WriteString("\nFails with")
		for i, c := range r.Fails {
			separator := ", "
			if i == 0 {
				separator = " "
			}
			fmt.Fprintf(b, "%s`%s`", separator, c)
		}
		b.WriteString(".\n")
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "\n\n", " ") }

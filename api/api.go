// Package api is the public contract of authnzerver: every request that the
// server answers, declared once as a Go value with its parameters, its result
// and the failures it may end in.
//
// Validation, dispatch, the reference in docs/api.md, the machine-readable
// docs/api.json and the typed calls of package client are all derived from
// these declarations. Adding a request means adding one declaration here and
// its function in internal/action; the server does not start when either is
// missing.
//
// # Compatibility promise
//
// A request, parameter, result key or failure code that a release has served
// keeps its name, type and meaning in every later release. New optional
// parameters, result keys and codes may appear, so clients must ignore what
// they do not know.
package api

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A Spec describes one request. All fields are read-only after declaration.
type Spec struct {
	// Name is the request's name on the wire, for example "user-login".
	Name string
	// Aliases are older names under which clients may still ask for it.
	Aliases []string
	// Limit is the rate-limit class that the request is counted in.
	Limit LimitClass
	// ReadOnly marks a request that changes nothing. A success that needed no
	// password hash is then logged at debug level only.
	ReadOnly bool
	// Counts marks a request that changes nothing but what was counted against
	// limits. It is logged like a ReadOnly one.
	Counts bool
	// Hashes is the largest number of password hashes one call computes for
	// passwords of up to 256 characters. Longer ones cost twice as many.
	Hashes int
	// Fails lists the codes that the request's own rules can end in. Every
	// request may also end in the codes marked Common in [Codes].
	Fails []Code
	// Done is the message for the end user when the request succeeded and
	// has nothing more specific to say.
	Done string
	// Addition marks a request that the Python server did not have.
	Addition bool

	params []field
	result []resultField
	// doneTail is the end of a successful reply without messages of its own.
	doneTail []byte
}

// A LimitClass names the group whose allowance a request is counted in.
type LimitClass string

// The rate-limit classes. The first six share the allowance of the option
// "ratelimits" group of the same name; a Fixed class has its own default.
const (
	LimitSession  LimitClass = "session"
	LimitUser     LimitClass = "user"
	LimitAPIKey   LimitClass = "apikey"
	LimitInternal LimitClass = "internal"
	// LimitUserEmail counts by client address and by e-mail address.
	LimitUserEmail LimitClass = "user+email"
	// LimitFixed2Email admits 2 a minute by client and by e-mail address.
	LimitFixed2Email LimitClass = "fixed 2+email"
	// LimitFixed5 admits 5 a minute.
	LimitFixed5 LimitClass = "fixed 5"
	// LimitFixed10 admits 10 a minute.
	LimitFixed10 LimitClass = "fixed 10"
	// LimitFixed30 admits 30 a minute.
	LimitFixed30 LimitClass = "fixed 30"
)

// A Request is a declared request with the Go types of its parameters and of
// its result. Only this package makes Requests.
type Request[P, R any] struct{ spec *Spec }

// Spec returns the request's description.
func (r Request[P, R]) Spec() *Spec { return r.spec }

// declared holds every request. Only define adds to it, while the package's
// variables are initialised; it is read-only afterwards.
var declared []*Spec

// All returns the description of every declared request, in the order of the
// declarations, file by file.
func All() []*Spec { return slices.Clone(declared) }

// MayFail reports whether the request is declared to end in code c.
func (s *Spec) MayFail(c Code) bool {
	if slices.Contains(s.Fails, c) {
		return true
	}
	info, known := c.Info()
	return known && info.Common
}

// Param describes one parameter of a request.
type Param struct {
	Name string
	// Types are the type words of the wire: str, int, float, bool, dict, list,
	// Any and None. Several mean "one of these".
	Types []string
	// Required reports whether leaving the parameter out is a problem.
	Required bool
	// Strict reports that an optional parameter must be right when it is
	// sent: null, "" and the like do not stand for leaving it out.
	Strict bool
	// Bounds says in words which values are accepted; empty when every value
	// of the type is.
	Bounds string
}

// Params returns the request's parameters in declaration order, the required
// ones first.
func (s *Spec) Params() []Param {
	out := make([]Param, len(s.params))
	for i, f := range s.params {
		out[i] = Param{Name: f.name, Types: f.types, Required: f.required, Strict: f.strict}
		if f.bounds != anyNumber() {
			out[i].Bounds = f.bounds.String()
		}
	}
	return out
}

// ResultKey describes one key of a request's result.
type ResultKey struct {
	Name string
	// GoType is the key's Go type as written in package api.
	GoType string
	// OnFailure reports whether failed replies carry the key too, with null
	// for what is not known then.
	OnFailure bool
	// Optional reports whether a successful result may lack the key.
	Optional bool
}

// Result returns the keys of a successful result.
func (s *Spec) Result() []ResultKey {
	out := make([]ResultKey, len(s.result))
	for i, f := range s.result {
		out[i] = ResultKey{Name: f.name, GoType: f.goType, OnFailure: f.onFailure, Optional: f.optional}
	}
	return out
}

type field struct {
	name     string
	index    int
	required bool
	strict   bool
	types    []string
	bounds   bounds
}

type resultField struct {
	name      string
	index     int
	goType    string
	onFailure bool
	optional  bool
}

// define declares a request: declaring is registering. It panics on a
// malformed declaration, which the first test run or start shows.
func define[P, R any](s Spec) Request[P, R] {
	spec := &s
	spec.params = paramFields(reflect.TypeFor[P](), s.Name)
	spec.result = resultFields(reflect.TypeFor[R]())
	spec.doneTail = doneTail(spec)
	declared = append(declared, spec)
	return Request[P, R]{spec}
}

func paramFields(t reflect.Type, request string) []field {
	var required, optional []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "" {
			panic("api: " + request + ": parameter " + sf.Name + " has no name")
		}
		ptr := reflect.New(sf.Type).Interface()
		f := field{name: name, index: i, types: wireTypes(ptr), required: true}
		if optional, ok := ptr.(optionalParam); ok {
			f.required, f.strict = false, optional.strict()
		}
		f.bounds = boundsOf(ptr, sf.Tag)
		if f.required {
			required = append(required, f)
		} else {
			optional = append(optional, f)
		}
	}
	return append(required, optional...)
}

func resultFields(t reflect.Type) []resultField {
	var out []resultField
	for i := range t.NumField() {
		sf := t.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		out = append(out, resultField{
			name: name, index: i, goType: sf.Type.String(),
			onFailure: sf.Tag.Get("failure") == "present", optional: options == "omitzero",
		})
	}
	return out
}

// A bounds limits the values of one parameter. Lengths are in Unicode code
// points, sizes of objects in bytes of their JSON text.
type bounds struct {
	min, max int64
	unit     string // "", "characters", "bytes" or "entries"
	element  *Spec  // of the entries of a List
}

func (b bounds) String() string {
	if b.unit == "" {
		return fmt.Sprintf("%d to %d", b.min, b.max)
	}
	return fmt.Sprintf("at most %d %s", b.max, b.unit)
}

// anyNumber returns the bounds of numbers that have none of their own.
func anyNumber() bounds { return bounds{min: -MaxInteger, max: MaxInteger} }

// MaxInteger is the largest absolute value accepted for a numeric parameter:
// 2^53-1, the range that every JSON implementation keeps exact (RFC 7493 §2.2).
const MaxInteger = 1<<53 - 1

const (
	// maxText is the default limit of a text parameter in characters.
	maxText = 1024
	// maxObject is the limit of an object or free-form parameter in bytes.
	maxObject = 64 << 10
	// MaxPassword is the number of characters of a password that count;
	// longer ones are refused, never cut.
	MaxPassword = 1024
)

func boundsOf(ptr any, tag reflect.StructTag) bounds {
	var b bounds
	switch elemType(ptr) {
	case "str":
		b = bounds{max: maxText, unit: "characters"}
	case "dict", "Any":
		b = bounds{max: maxObject, unit: "bytes"}
	case "list":
		b = bounds{max: maxEntries, unit: "entries", element: elementOf(ptr)}
	case "int", "float":
		b = anyNumber()
	default:
		return anyNumber()
	}
	for key, dst := range map[string]*int64{"min": &b.min, "max": &b.max} {
		text, ok := tag.Lookup(key)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic("api: bad " + key + " bound: " + err.Error())
		}
		*dst = n
	}
	return b
}

package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Problems that validation finds with a parameter. The first two are the
// words that published clients know.
const (
	ProblemMissing    = "missing"
	ProblemType       = "incorrect type"
	ProblemTooLong    = "too long"
	ProblemTooDeep    = "too deeply nested"
	ProblemOutOfRange = "out of range"
	ProblemText       = "invalid text"
	ProblemDuplicate  = "duplicate"
	ProblemLetterCase = "wrong letter case"
	ProblemNotBeside  = "not allowed beside"
)

// A Password is a password as the end user typed it. It formats and logs as
// "[password]"; only JSON shows it.
type Password string

// An Email is an e-mail address as it was sent. It formats and logs as
// "[email]"; only JSON shows it.
type Email string

// A SessionToken is the secret that names a session. It formats and logs as
// "[session token]"; only JSON shows it.
type SessionToken string

// A Secret is a token or a text that holds one: an API key, a refresh token, a
// token that verifies an e-mail address. It formats and logs as "[secret]";
// only JSON shows it.
type Secret string

// Format hides the value from every verb of package fmt.
func (Password) Format(w fmt.State, _ rune) { hide(w, "[password]") }

// Format hides the value from every verb of package fmt.
func (Email) Format(w fmt.State, _ rune) { hide(w, "[email]") }

// Format hides the value from every verb of package fmt.
func (SessionToken) Format(w fmt.State, _ rune) { hide(w, "[session token]") }

// Format hides the value from every verb of package fmt.
func (Secret) Format(w fmt.State, _ rune) { hide(w, "[secret]") }

// LogValue hides the value from logs.
func (Password) LogValue() slog.Value { return slog.StringValue("[password]") }

// LogValue hides the value from logs.
func (Email) LogValue() slog.Value { return slog.StringValue("[email]") }

// LogValue hides the value from logs.
func (SessionToken) LogValue() slog.Value { return slog.StringValue("[session token]") }

// LogValue hides the value from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

func hide(w fmt.State, label string) {
	// fmt.State cannot fail in a way that the caller of a verb could handle.
	_, _ = io.WriteString(w, label)
}

// Object is a JSON object as it was sent, for example a user's extra_info.
type Object jsontext.Value

// MarshalJSON returns the object's text, or null when there is none.
func (o Object) MarshalJSON() ([]byte, error) { return rawOrNull(o) }

// UnmarshalJSON keeps a copy of the text.
func (o *Object) UnmarshalJSON(text []byte) error {
	*o = bytes.Clone(text)
	return nil
}

// Any is any JSON value but null, as it was sent.
type Any jsontext.Value

// MarshalJSON returns the value's text.
func (a Any) MarshalJSON() ([]byte, error) { return rawOrNull(a) }

// UnmarshalJSON keeps a copy of the text.
func (a *Any) UnmarshalJSON(text []byte) error {
	*a = bytes.Clone(text)
	return nil
}

func rawOrNull(text []byte) ([]byte, error) {
	if len(text) == 0 {
		return []byte("null"), nil
	}
	return text, nil
}

// Float is a number that was sent with a fraction or an exponent.
type Float float64

// MarshalJSON keeps the fraction, without which the wire would take the
// number for an integer.
func (f Float) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return nil, fmt.Errorf("api: %v is not a JSON number", float64(f))
	}
	text := strconv.FormatFloat(float64(f), 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return []byte(text), nil
}

// UserRef is a user id that clients may also send as a string of digits.
type UserRef int64

// Null is a parameter that must be sent but may be null. The zero value is
// null.
type Null[T any] struct {
	Value T
	// Set is false for null.
	Set bool
}

// Of returns a non-null parameter.
func Of[T any](v T) Null[T] { return Null[T]{Value: v, Set: true} }

// MarshalJSON returns the value or null.
func (n Null[T]) MarshalJSON() ([]byte, error) {
	if !n.Set {
		return []byte("null"), nil
	}
	return json.Marshal(n.Value)
}

// Opt is a parameter that may be left out. The zero value is left out.
type Opt[T any] struct {
	Value T
	// Set is false when the parameter was left out.
	Set bool
}

// Some returns a parameter that is present.
func Some[T any](v T) Opt[T] { return Opt[T]{Value: v, Set: true} }

// IsZero makes the encoder leave an unset parameter out.
func (o Opt[T]) IsZero() bool { return !o.Set }

// MarshalJSON returns the value.
func (o Opt[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

// Strict is a parameter that may be left out, but that must be right when it
// is sent: unlike with [Opt], a null or an empty value does not mean "not
// given". The zero value is left out.
type Strict[T any] struct {
	Value T
	// Set is false when the parameter was left out.
	Set bool
}

// Given returns a parameter that is present.
func Given[T any](v T) Strict[T] { return Strict[T]{Value: v, Set: true} }

// IsZero makes the encoder leave an unset parameter out.
func (s Strict[T]) IsZero() bool { return !s.Set }

// MarshalJSON returns the value.
func (s Strict[T]) MarshalJSON() ([]byte, error) { return json.Marshal(s.Value) }

// optionalParam is a parameter that may be left out; strict reports whether it
// must be right when it is sent.
type optionalParam interface{ strict() bool }

func (*Opt[T]) strict() bool { return false }

func (*Strict[T]) strict() bool { return true }

// paramType is a type that says itself what it accepts.
type paramType interface {
	// words returns the wire's type words.
	words() []string
	decode(raw jsontext.Value, b bounds) (problem string)
}

// Number is a number with or without a fraction.
type Number float64

func (*Number) words() []string { return []string{"float", "int"} }

func (n *Number) decode(raw jsontext.Value, b bounds) string {
	if raw.Kind() != '0' {
		return ProblemType
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f < float64(b.min) || f > float64(b.max) {
		return ProblemOutOfRange
	}
	*n = Number(f)
	return ""
}

// A Position is where a page of a list ends whose entries are in the order of their
// creation, the newest first, and after that of their ids. On the wire it is a text that
// clients send back as they got it.
type Position struct {
	Created time.Time
	ID      string
}

// String returns the text: the moment in microseconds since 1970, a point and the id.
func (p Position) String() string {
	return strconv.FormatInt(p.Created.UnixMicro(), 10) + "." + p.ID
}

// MarshalJSON returns the text.
func (p Position) MarshalJSON() ([]byte, error) { return appendText(nil, p.String()), nil }

// UnmarshalJSON reads the text.
func (p *Position) UnmarshalJSON(text []byte) error {
	if problem := p.decode(text, bounds{max: maxText}); problem != "" {
		return fmt.Errorf("position in a list: %s", problem)
	}
	return nil
}

func (*Position) words() []string { return []string{"str"} }

func (p *Position) decode(raw jsontext.Value, b bounds) string {
	var text string
	problem := decodeText(&text, raw, b, false)
	if problem != "" {
		return problem
	}
	moment, id, found := strings.Cut(text, ".")
	created, err := strconv.ParseInt(moment, 10, 64)
	if !found || err != nil || created < 0 || created > maxMoment {
		return ProblemText
	}
	*p = Position{time.UnixMicro(created).UTC(), id}
	return ""
}

// maxMoment is the end of the year 9999 in microseconds since 1970, after which no
// database has moments.
const maxMoment = 253402300799_999999

// TextOrInt is a text or a whole number, as it was sent.
type TextOrInt jsontext.Value

// TextOf returns the text as a TextOrInt.
func TextOf(text string) TextOrInt { return TextOrInt(appendText(nil, text)) }

// MarshalJSON returns the value's text.
func (v TextOrInt) MarshalJSON() ([]byte, error) { return rawOrNull(v) }

func (*TextOrInt) words() []string { return []string{"str", "int"} }

func (v *TextOrInt) decode(raw jsontext.Value, b bounds) string {
	var text string
	var number int64
	problem := decodeText(&text, raw, b, false)
	if raw.Kind() == '0' {
		problem = decodeInt(&number, raw, anyNumber())
	}
	*v = bytes.Clone(raw)
	return problem
}

// TextOrList is a text or a list of texts, as it was sent.
type TextOrList jsontext.Value

// MarshalJSON returns the value's text.
func (v TextOrList) MarshalJSON() ([]byte, error) { return rawOrNull(v) }

// ListOf returns the texts as a TextOrList, a single one without a list.
func ListOf(texts ...string) TextOrList {
	if len(texts) == 1 {
		return TextOrList(appendText(nil, texts[0]))
	}
	list := []byte{'['}
	for i, text := range texts {
		if i > 0 {
			list = append(list, ',')
		}
		list = appendText(list, text)
	}
	return append(list, ']')
}

func (*TextOrList) words() []string { return []string{"str", "list"} }

func (v *TextOrList) decode(raw jsontext.Value, b bounds) string {
	*v = bytes.Clone(raw)
	if raw.Kind() == '[' {
		_, problem := decodeTexts(raw, b)
		return problem
	}
	var text string
	return decodeText(&text, raw, b, false)
}

// decodeTexts reads a list of at most maxEntries texts.
func decodeTexts(raw jsontext.Value, b bounds) (texts []string, problem string) {
	var entries []jsontext.Value
	if raw.Kind() != '[' || json.Unmarshal(raw, &entries) != nil {
		return nil, ProblemType
	}
	if len(entries) > maxEntries {
		return nil, ProblemTooLong
	}
	for _, entry := range entries {
		var text string
		problem := decodeText(&text, entry, b, false)
		if problem != "" {
			return nil, problem
		}
		texts = append(texts, text)
	}
	return texts, ""
}

// maxEntries is how many entries a list may have.
const maxEntries = 100

// nullable lets Null and Opt tell their parts without naming T.
type nullable interface {
	elem() any
	decode(raw jsontext.Value, b bounds) (problem string)
}

func (n *Null[T]) elem() any { return &n.Value }

func (s *Strict[T]) elem() any { return &s.Value }

func (s *Strict[T]) decode(raw jsontext.Value, b bounds) string {
	problem := decodeValue(&s.Value, raw, b)
	s.Set = problem == ""
	return problem
}

func (n *Null[T]) decode(raw jsontext.Value, b bounds) string {
	if raw.Kind() == 'n' {
		return ""
	}
	problem := decodeValue(&n.Value, raw, b)
	n.Set = problem == ""
	return problem
}

func (o *Opt[T]) elem() any { return &o.Value }

// decode ignores a falsy value of the wrong type, as published clients send
// null or "" for "not given".
func (o *Opt[T]) decode(raw jsontext.Value, b bounds) string {
	problem := decodeValue(&o.Value, raw, b)
	if problem != "" && falsy(raw) {
		return ""
	}
	o.Set = problem == ""
	return problem
}

func falsy(raw jsontext.Value) bool {
	switch raw.Kind() {
	case 'n', 'f':
		return true
	case '"':
		return len(raw) == 2
	case '0':
		f, err := strconv.ParseFloat(string(raw), 64)
		return err == nil && f == 0
	case '[', '{':
		return len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
	}
	return false
}

func wireTypes(ptr any) []string {
	switch p := ptr.(type) {
	case nullable:
		inner := wireTypes(p.elem())
		if _, ok := ptr.(optionalParam); ok {
			return inner
		}
		return append(inner, "None")
	case paramType:
		return p.words()
	default:
		return []string{elemType(ptr)}
	}
}

// elemType returns the wire's type word for a Go parameter.
func elemType(ptr any) string {
	switch p := ptr.(type) {
	case *string, *Email, *Password, *SessionToken, *Secret:
		return "str"
	case *int64, *UserRef:
		return "int"
	case *bool:
		return "bool"
	case *Float:
		return "float"
	case *Object:
		return "dict"
	case *Any:
		return "Any"
	case nullable:
		return elemType(p.elem())
	case paramType:
		return p.words()[0]
	}
	panic(fmt.Sprintf("api: no wire type for %T", ptr))
}

// elementOf returns what describes the entries of a List, nil for other parameters.
func elementOf(ptr any) *Spec {
	switch p := ptr.(type) {
	case nullable:
		return elementOf(p.elem())
	case interface{ element() *Spec }:
		return p.element()
	}
	return nil
}

// decodeValue parses raw into *ptr. It returns the problem, or "".
func decodeValue(ptr any, raw jsontext.Value, b bounds) string {
	switch p := ptr.(type) {
	case *string:
		return decodeText(p, raw, b, false)
	case *Email:
		return decodeText((*string)(p), raw, b, false)
	case *SessionToken:
		return decodeText((*string)(p), raw, b, false)
	case *Secret:
		return decodeText((*string)(p), raw, b, false)
	case *Password:
		return decodeText((*string)(p), raw, b, true)
	case *int64:
		return decodeInt(p, raw, b)
	case *UserRef:
		return decodeUserRef(p, raw, b)
	case *bool:
		return decodeBool(p, raw)
	case *Float:
		return decodeFloat(p, raw, b)
	case *Object:
		return decodeRaw((*[]byte)(p), raw, b, raw.Kind() == '{')
	case *Any:
		return decodeRaw((*[]byte)(p), raw, b, raw.Kind() != 'n')
	case nullable:
		return p.decode(raw, b)
	case paramType:
		return p.decode(raw, b)
	}
	panic(fmt.Sprintf("api: no decoder for %T", ptr)) // unreachable: define checked the type
}

func decodeText(p *string, raw jsontext.Value, b bounds, nulAllowed bool) string {
	if raw.Kind() != '"' {
		return ProblemType
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		if *p != "" && string(inner) == *p {
			return "" // the same as in the entry of a list before, which was right
		}
		if !utf8.Valid(inner) {
			return ProblemText
		}
		*p = string(inner)
	} else {
		text, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return ProblemText
		}
		*p = string(text)
	}
	if int64(len(*p)) > b.max && int64(utf8.RuneCountInString(*p)) > b.max {
		return ProblemTooLong
	}
	// Databases other than SQLite cannot store U+0000.
	if !nulAllowed && strings.IndexByte(*p, 0) >= 0 {
		return ProblemText
	}
	return ""
}

func decodeInt(p *int64, raw jsontext.Value, b bounds) string {
	if raw.Kind() != '0' || bytes.ContainsAny(raw, ".eE") {
		return ProblemType
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n < b.min || n > b.max {
		return ProblemOutOfRange
	}
	*p = n
	return ""
}

func decodeUserRef(p *UserRef, raw jsontext.Value, b bounds) string {
	if raw.Kind() != '"' {
		return decodeInt((*int64)(p), raw, b)
	}
	var text string
	if problem := decodeText(&text, raw, bounds{max: math.MaxInt64}, false); problem != "" {
		return problem
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return ProblemType
	case err != nil, n < b.min, n > b.max:
		return ProblemOutOfRange
	}
	*p = UserRef(n)
	return ""
}

func decodeBool(p *bool, raw jsontext.Value) string {
	switch raw.Kind() {
	case 't':
		*p = true
	case 'f':
		*p = false
	default:
		return ProblemType
	}
	return ""
}

func decodeFloat(p *Float, raw jsontext.Value, b bounds) string {
	if raw.Kind() != '0' || !bytes.ContainsAny(raw, ".eE") {
		return ProblemType
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f < float64(b.min) || f > float64(b.max) {
		return ProblemOutOfRange
	}
	*p = Float(f)
	return ""
}

func decodeRaw(p *[]byte, raw jsontext.Value, b bounds, typeOK bool) string {
	if !typeOK {
		return ProblemType
	}
	switch {
	case int64(len(raw)) > b.max:
		return ProblemTooLong
	case depth(raw) > maxDepth:
		return ProblemTooDeep
	case raw.IsValid(): // no duplicate names, all of it UTF-8
		*p = bytes.Clone(raw)
		return ""
	case raw.IsValid(jsontext.AllowDuplicateNames(true)):
		return ProblemDuplicate
	default:
		return ProblemText
	}
}

// maxDepth is how deeply a parameter's arrays and objects may be nested.
const maxDepth = 32

// depth returns how deeply the arrays and objects of a JSON value are nested.
func depth(raw jsontext.Value) int {
	depth, deepest := 0, 0
	inText := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			i++ // what is escaped cannot end the text
		case c == '"':
			inText = !inText
		case inText:
		case c == '{', c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}', c == ']':
			depth--
		}
	}
	return deepest
}

// A Time is a moment on the wire: ISO 8601 in UTC without a zone, to the
// microsecond, the fraction left out when it is zero. The zero Time is null.
type Time time.Time

// MarshalJSON returns the wire form.
func (t Time) MarshalJSON() ([]byte, error) {
	u := time.Time(t).UTC().Truncate(time.Microsecond)
	return marshalTime(u, u.Nanosecond() != 0), nil
}

// marshalTime returns the wire form of a time in UTC.
func marshalTime(u time.Time, fraction bool) []byte {
	if u.IsZero() {
		return []byte("null")
	}
	text := append(make([]byte, 0, 32), '"')
	// Package time is several times as fast with this layout as with others.
	text = u.AppendFormat(text, time.RFC3339)
	text = text[:len(text)-len("Z")]
	if fraction {
		point := len(text)
		text = strconv.AppendInt(text, int64(1_000_000+u.Nanosecond()/1000), 10)
		text[point] = '.' // in place of the 1, which kept the zeros
	}
	return append(text, '"')
}

// UnmarshalJSON accepts everything that [ParseTime] does, and null.
func (t *Time) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*t = Time{}
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("read time: %w", err)
	}
	parsed, err := ParseTime(s)
	if err != nil {
		return err
	}
	*t = Time(parsed)
	return nil
}

// An Expiry is a Time that always shows its six fraction digits, because
// clients of the first generation refuse an expiry without a fraction.
type Expiry time.Time

// MarshalJSON returns the wire form.
func (e Expiry) MarshalJSON() ([]byte, error) { return marshalTime(time.Time(e).UTC(), true), nil }

// UnmarshalJSON accepts everything that [ParseTime] does, and null.
func (e *Expiry) UnmarshalJSON(text []byte) error { return (*Time)(e).UnmarshalJSON(text) }

// timeLayouts are the accepted forms; Go accepts a fraction of any length
// after the seconds whether or not the layout names one.
var timeLayouts = [...]string{
	"2006-1-2T15:4:5",
	"2006-1-2T15:4:5Z07:00",
	"2006-1-2T15:4:5Z0700",
}

// ParseTime reads a moment as clients write it: ISO 8601 with one or two
// digits for all parts but the year, with or without a fraction of up to nine
// digits, with or without "Z" or an offset; without either it is UTC. The
// result is in UTC, cut to the microsecond, and lies in the years 1 to 9999.
func ParseTime(s string) (time.Time, error) {
	if len(s) > 40 {
		return time.Time{}, fmt.Errorf("time of %d characters is too long", len(s))
	}
	s = strings.Replace(strings.Replace(s, "t", "T", 1), "z", "Z", 1)
	for _, layout := range timeLayouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		t = t.UTC().Truncate(time.Microsecond)
		if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
			break
		}
		return t, nil
	}
	return time.Time{}, fmt.Errorf("time is not of the form 2030-01-31T23:59:59.000000")
}

package jsonobject_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/jsonobject"
)

// A part is a member as texts.
type part struct{ name, value string }

func partsOf(text []byte) ([]part, error) {
	members, err := jsonobject.AppendMembers(nil, text)
	var parts []part
	for _, m := range members {
		parts = append(parts, part{string(m.Name), string(m.Value)})
	}
	return parts, err
}

// decoderParts is partsOf by package jsontext, which is the reference.
func decoderParts(text []byte) ([]part, error) {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	first, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	if first.Kind() != '{' {
		return nil, errors.New("no object")
	}
	var parts []part
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		one := part{name: name.String()}
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		one.value = string(value)
		parts = append(parts, one)
	}
	_, err = d.ReadToken()
	if err != nil {
		return nil, err
	}
	_, err = d.ReadToken()
	if !errors.Is(err, io.EOF) {
		return nil, errors.New("trailing data")
	}
	return parts, nil
}

func compareElements(t *testing.T, text []byte) {
	t.Helper()
	var got []string
	err := jsonobject.EachRow(text, func(element jsontext.Value, values []jsontext.Value) bool {
		got = append(got, string(element))
		var inner, want []string
		for _, value := range values {
			inner = append(inner, string(value))
		}
		if element[0] == '[' {
			want, _ = decoderElements(element)
		}
		if diff := cmp.Diff(want, inner); diff != "" {
			t.Errorf("%q has the row %q (-jsontext +got):\n%s", text, element, diff)
		}
		return true
	})
	want, wantErr := decoderElements(text)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: %v, package jsontext says %v", text, err, wantErr)
	}
	if diff := cmp.Diff(want, got); err == nil && diff != "" {
		t.Errorf("%q (-jsontext +got):\n%s", text, diff)
	}
}

// decoderElements returns the elements of an array by package jsontext.
func decoderElements(text []byte) ([]string, error) {
	d := jsontext.NewDecoder(bytes.NewReader(text), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	first, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	if first.Kind() != '[' {
		return nil, errors.New("no array")
	}
	var elements []string
	for d.PeekKind() != ']' {
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		elements = append(elements, string(value))
	}
	_, err = d.ReadToken()
	if err != nil {
		return nil, err
	}
	_, err = d.ReadToken()
	if !errors.Is(err, io.EOF) {
		return nil, errors.New("trailing data")
	}
	return elements, nil
}

var texts = []string{
	`{}`, ` { } `, "\t{\r\n}", ``, ` `, `{`, `}`, `{}}`, `{} {}`, `[]`, `"a"`, `{,}`, `{"a"}`, `{"a":}`, `{"a" 1}`, `{"a":1,}`, `{"a":1 "b":2}`,
	`{"a":1,"b":[1,2,{"c":null}],"d":{"e":{}}}`, `{"a" : true , "b" : false }`, `{"a":[ ]}`, `{"a":[1,]}`, `{"a":[,]}`, `{"a":[1 2]}`, `{"a":[}`, `{"a":{]}`,
	`{"a":tru}`, `{"a":truee}`, `{"a":nul`, `{"a":True}`, `{"a":NaN}`, `{a:1}`, `{'a':1}`, `{1:1}`, `{"a":1}x`, `{"a":/**/1}`,
	`{"a":0}`, `{"a":-0}`, `{"a":00}`, `{"a":01}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`, `{"a":5.}`, `{"a":1.50}`, `{"a":1e5}`, `{"a":1E+05}`, `{"a":1e-}`, `{"a":1e}`, `{"a":-1.0e-0}`, `{"a":0x1}`,
	`{"":""}`, `{"a\"b":"\\"}`, `{"\u0061":"\u00e9\ud83d\ude00"}`, `{"\ud800":"\udc00"}`, `{"a\u12":1}`, `{"a\u12g4":1}`, `{"\x":1}`, `{"a":"\`, `{"a":"\"}`, `{"a":"b`, "{\"a\":\"\n\"}", "{\"a\x00\":1}",
	"{\"\xff\":\"\xc3\"}", "{\"a\u00e9\":\"\u2028\"}", "\ufeff{}", `{"a":1,"a":2,"A":3}`, "{\"a\":\x7f}", "{\"\x7f\":1}", `{"\/":"\b\f\n\r\t"}`,
}

func TestAppendMembers(t *testing.T) {
	for _, text := range texts {
		compare(t, []byte(text))
	}
}

// compare splits a text, and an array of it and a number.
func compare(t *testing.T, text []byte) {
	t.Helper()
	compareElements(t, fmt.Appendf(nil, "[%s , 1]", text))
	compareElements(t, fmt.Appendf(nil, "[[%s , 1], [], %s]", text, text))
	compareElements(t, text)
	before := bytes.Clone(text)
	got, err := partsOf(text)
	want, wantErr := decoderParts(text)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: %v, package jsontext says %v", text, err, wantErr)
	}
	if err != nil {
		want = nil
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(part{})); diff != "" {
		t.Errorf("%q (-jsontext +got):\n%s", text, diff)
	}
	if !bytes.Equal(text, before) {
		t.Errorf("%q became %q", before, text)
	}
	var syntax *jsonobject.SyntaxError
	if err != nil && (!errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(text)) {
		t.Errorf("%q: unexpected error %v", text, err)
	}
}

// FuzzAppendMembers compares with package jsontext.
func FuzzAppendMembers(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { compare(t, text) })
}

func TestDepth(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(strings.Repeat(`{"a":`, n) + strings.Repeat("[", n) + strings.Repeat("]", n) + strings.Repeat("}", n))
	}
	_, err := jsonobject.AppendMembers(nil, nested(5000))
	if err != nil {
		t.Errorf("10,000 deep: %v", err)
	}
	for _, text := range [][]byte{nested(5001), []byte(strings.Repeat(`{"a":`, 1<<20)), []byte(`{"a":` + strings.Repeat("[", 1<<20))} {
		_, err = jsonobject.AppendMembers(nil, text)
		if err == nil {
			t.Errorf("%d bytes of nested objects passed", len(text))
		}
	}
}

func TestFlat(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`:                               true,
		`{"a": 1, "b": ["x", 2], "c": ""}`: true,
		`{"a": 1, "a": 1}`:                 false,
		`{"a": {}}`:                        false,
		`{"a": [[]]}`:                      false,
		`{"a": [{"b": 1, "b": 2}]}`:        false,
		`{"a": "\u0061"}`:                  false,
		"{\"a\": \"\xff\"}":                false,
		`{"ä": "ö"}`:                       true,
	} {
		members, err := jsonobject.AppendMembers(nil, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := jsonobject.Flat([]byte(text), members)
		if got != want {
			t.Errorf("%s: %v", text, got)
		}
		if got && !jsontext.Value(text).IsValid() {
			t.Errorf("%s is not valid", text)
		}
	}
}

func BenchmarkAppendMembers(b *testing.B) {
	for _, text := range []string{
		`{"user_id": 1, "user_role": "superuser", "action": "view", "target_name": "dataset",
			"target_owner": 2, "target_visibility": "shared", "target_sharedwith": "1"}`,
		`{"request": "apikey-verify-nosession", "body": {"apikey_dict": {"iss": "authnzerver", "ver": 1, "uid": 5, "rol": "authenticated",
			"usa": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "aud": "service", "sub": ["/api"], "ipa": "192.0.2.7",
			"tkn": "authnz_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG", "iat": "2026-01-01T00:00:00.000000", "nbf": "2026-01-01T00:00:00.000000",
			"exp": "2026-02-01T00:00:00.000000"}, "user_id": 5, "user_role": "authenticated"}, "reqid": 17, "client_ipaddr": "192.0.2.7"}`,
	} {
		b.Run(fmt.Sprint("here, bytes ", len(text)), func(b *testing.B) {
			b.ReportAllocs()
			var space [8]jsonobject.Member
			for b.Loop() {
				_, err := jsonobject.AppendMembers(space[:0], []byte(text))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("jsontext, bytes ", len(text)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := decoderParts([]byte(text))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

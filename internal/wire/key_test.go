package wire_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"authnzerver/internal/wire"
)

func TestParseKeys(t *testing.T) {
	t.Parallel()
	// The bytes of dashed need both characters in which the alphabets differ.
	const (
		dashed  = "-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_8="
		slashed = "+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8="
		mixed   = "-/-/-/-/-/-/-/-/-/-/-/-/-/-/-/-/-/-/-/-/-_8="
	)
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"one", plainKey, []string{plainKey}},
		{"line break after", plainKey + "\n", []string{plainKey}},
		{"blanks around", " \t" + plainKey + " \r\n", []string{plainKey}},
		{"double quotes", `"` + plainKey + `"`, []string{plainKey}},
		{"single quotes", " '" + plainKey + "' ", []string{plainKey}},
		{"blanks in quotes", `" ` + plainKey + ` "`, []string{plainKey}},
		{"standard alphabet", slashed, []string{dashed}},
		{"mixed alphabets", mixed, []string{dashed}},
		{"set bits behind the last byte", plainKey[:42] + "9=", []string{plainKey}},
		{"commas", plainKey + "," + otherKey, []string{plainKey, otherKey}},
		{"lines", plainKey + "\n" + otherKey + "\n", []string{plainKey, otherKey}},
		{"Windows lines", plainKey + "\r\n" + otherKey + "\r\n", []string{plainKey, otherKey}},
		{"commas and lines", plainKey + " ,\n\n , " + otherKey + ",\n", []string{plainKey, otherKey}},
		{"quotes around all", `"` + plainKey + ", " + otherKey + `"`, []string{plainKey, otherKey}},
		{"quotes around each", `"` + plainKey + `", '` + otherKey + `'`, []string{plainKey, otherKey}},
	} {
		r, err := wire.ParseKeys(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if r.Len() != len(tt.want) {
			t.Errorf("%s: %d keys, want %d", tt.name, r.Len(), len(tt.want))
			continue
		}
		for i, k := range tt.want {
			body := ring(t, k).AppendSeal(nil, []byte("x"), 0, time.Now())
			if m, err := r.Open(body); err != nil || m.Key != i {
				t.Errorf("%s: key %d: opened by %d, %v", tt.name, i, m.Key, err)
			}
		}
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	t.Parallel()
	const make = "authnzrv keygen"
	seventeen := strings.Repeat(plainKey+",", 17)
	var different []string
	for range 17 {
		different = append(different, wire.NewKey())
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"no key", make}},
		{"blanks", " \n,\t\n", []string{"no key", make}},
		{"quotes", `""`, []string{"no key", make}},
		{"empty quotes", ` "","" `, []string{"no key", make}},
		{"file name", "/etc/authnzerver/secret", []string{"key 1", make}},
		{"no padding", plainKey[:43], []string{"key 1", make}},
		{"31 bytes", base64.URLEncoding.EncodeToString(keyBytes()[:31]), []string{"key 1", make}},
		{"33 bytes", base64.URLEncoding.EncodeToString(append(keyBytes(), 32)), []string{"key 1", make}},
		{"64 bytes", base64.URLEncoding.EncodeToString(append(keyBytes(), keyBytes()...)), []string{"key 1", make}},
		{"blank inside", plainKey[:20] + " " + plainKey[20:], []string{"key 1", make}},
		{"two pairs of quotes", `"'` + plainKey + `'"`, []string{"key 1", make}},
		{"one quote", `"` + plainKey, []string{"key 1", make}},
		{"alien character", plainKey[:20] + "*" + plainKey[21:], []string{"key 1", make}},
		{"semicolon", plainKey + ";" + otherKey, []string{"key 1", make}},
		{"second bad", plainKey + "\n\n" + otherKey[:40], []string{"key 2", make}},
		{"twice", plainKey + "," + otherKey + "," + plainKey, []string{"key 3", "key 1"}},
		{"twice in other text", plainKey + "," + plainKey[:42] + "9=", []string{"key 2", "key 1"}},
		{"same signing half", plainKey + "," + plainKey[:24] + otherKey[24:], []string{"key 2", "key 1"}},
		{"17 times the same", seventeen, []string{"key 2", "key 1"}},
		{"17", strings.Join(different, "\n"), []string{"16"}},
	} {
		r, err := wire.ParseKeys(tt.text)
		if err == nil || r != nil {
			t.Errorf("%s: accepted", tt.name)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not contain %q", tt.name, err, want)
			}
		}
		for item := range strings.FieldsSeq(strings.ReplaceAll(tt.text, ",", " ")) {
			if len(item) > 8 && strings.Contains(err.Error(), item[:8]) {
				t.Errorf("%s: the error shows a key: %v", tt.name, err)
			}
		}
	}
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 100 {
		k := wire.NewKey()
		if len(k) != 44 || seen[k] {
			t.Fatalf("%d characters, seen: %t", len(k), seen[k])
		}
		seen[k] = true
		if b, err := base64.URLEncoding.Strict().DecodeString(k); err != nil || len(b) != 32 {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if r := ring(t, k); r.Len() != 1 {
			t.Fatalf("%d keys", r.Len())
		}
	}
}

func TestAPrintedRingShowsNoKey(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey, otherKey)
	if _, err := r.Open(r.AppendSeal(nil, []byte("x"), 1, time.Now())); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		text := fmt.Sprintf(verb, r)
		for _, part := range []string{plainKey[:8], otherKey[:8], "[0 1 2 3", "0x0, 0x1, 0x2", "00010203", "10111213", "[16 17 18"} {
			if strings.Contains(text, part) {
				t.Errorf("%s shows a key: %s", verb, text)
			}
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add(plainKey)
	f.Add(`"` + plainKey + `,` + otherKey + `"`)
	f.Add(" '" + otherKey + "' \r\n" + plainKey + ",")
	f.Add(plainKey[:42] + "9=")
	f.Add(strings.Repeat(plainKey+",", 17))
	f.Add("'\",\n\"'")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := wire.ParseKeys(text)
		if err != nil {
			for item := range strings.FieldsSeq(strings.ReplaceAll(text, ",", " ")) {
				if len(item) >= 40 && strings.Contains(err.Error(), item) {
					t.Errorf("the error shows a key: %v", err)
				}
			}
			return
		}
		if r.Len() < 1 || r.Len() > 16 || len(text) < 44*r.Len() {
			t.Fatalf("%d keys in %d characters", r.Len(), len(text))
		}
		for i := range r.Len() {
			m, err := r.Open(r.AppendSeal(nil, []byte("x"), i, time.Now()))
			if err != nil || m.Key != i {
				t.Errorf("key %d: opened by %d, %v", i, m.Key, err)
			}
		}
	})
}

package test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// window is how many bytes of a pattern are looked up at once.
const window = 8

// shortestSecret is the length in bytes from which every form of a secret fills
// a window: at the worst place in base64, a text of n bytes determines about
// 4n/3-2 characters.
const shortestSecret = 9

// leaks tells which secrets a text shows: as they are, in hexadecimal digits of
// either letter case, or in base64 of either alphabet, also as a part of
// something longer.
func leaks(text []byte, secrets []string) []string {
	type pattern struct {
		bytes      []byte
		form, what string
	}
	patterns := map[[window]byte][]pattern{}
	for _, secret := range secrets {
		add := func(form, shown string) {
			if len(shown) < window {
				return
			}
			head := [window]byte([]byte(shown))
			patterns[head] = append(patterns[head], pattern{[]byte(shown), form, secret})
		}
		digits := hex.EncodeToString([]byte(secret))
		add("as it is", secret)
		add("in hexadecimal digits", digits)
		add("in hexadecimal digits", strings.ToUpper(digits))
		for before := range 3 {
			// Three bytes make four characters, so that there are three ways
			// in which the secret may lie in what was encoded. The characters
			// at the ends depend on the neighbours.
			encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + secret))
			first := []int{0, 2, 3}[before]
			if (before+len(secret))%3 != 0 {
				encoded = encoded[:len(encoded)-1]
			}
			add("in base64", encoded[first:])
			add("in URL-safe base64", strings.NewReplacer("+", "-", "/", "_").Replace(encoded[first:]))
		}
	}
	var found []string
	for i := 0; i+window <= len(text); i++ {
		for _, p := range patterns[[window]byte(text[i:])] {
			if bytes.HasPrefix(text[i:], p.bytes) {
				line := text[bytes.LastIndexByte(text[:i], '\n')+1:]
				line, _, _ = bytes.Cut(line, []byte("\n"))
				found = append(found, fmt.Sprintf("%q %s: %s", p.what, p.form, line))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// TestLeaks keeps the search for secrets from finding nothing because it looks
// wrongly.
func TestLeaks(t *testing.T) {
	const secret = "canary@example.com"
	for name, text := range map[string]string{
		"plain":     "a line\nemail=" + secret + " more",
		"hex":       hex.EncodeToString([]byte("x" + secret)),
		"upper hex": strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"base64":    base64.StdEncoding.EncodeToString([]byte(`{"email":"` + secret + `"}`)),
		"base64, 1": base64.StdEncoding.EncodeToString([]byte("1" + secret + "123")),
		"base64, 2": base64.URLEncoding.EncodeToString([]byte("12" + secret + "1")),
	} {
		if found := leaks([]byte(text), []string{"something else", secret}); len(found) == 0 {
			t.Errorf("%s: nothing found in %q", name, text)
		}
	}
	if found := leaks([]byte("canary@example.org and nothing else"), []string{secret}); found != nil {
		t.Errorf("found %q where there is nothing", found)
	}
}

package token_test

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"authnzerver/internal/token"
)

var key = []byte("a key of the tests, not secret")

func minter(t testing.TB, prefix string, key []byte) *token.Minter {
	t.Helper()
	m, err := token.NewMinter(prefix, key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var kinds = []token.Kind{token.APIKey, token.Refresh, token.Verification}

func TestForm(t *testing.T) {
	forms := map[token.Kind]string{
		token.APIKey:       `^authnz_[0-9A-Za-z]{49}$`,
		token.Refresh:      `^authnz_r_[0-9A-Za-z]{49}$`,
		token.Verification: `^authnz_v_[0-9A-Za-z]{49}$`,
	}
	m := minter(t, token.DefaultPrefix, key)
	for kind, form := range forms {
		seen := map[string]bool{}
		for range 1000 {
			text := m.New(kind)
			if !regexp.MustCompile(form).MatchString(text) {
				t.Fatalf("%q does not match %s", text, form)
			}
			if !m.Made(kind, text) {
				t.Fatalf("%q is not known as a token of its maker", text)
			}
			if seen[text] {
				t.Fatalf("%q was made twice", text)
			}
			seen[text] = true
		}
	}
}

func TestKindsDoNotStandInForEachOther(t *testing.T) {
	m := minter(t, token.DefaultPrefix, key)
	for _, made := range kinds {
		for _, asked := range kinds {
			if got := m.Made(asked, m.New(made)); got != (made == asked) {
				t.Errorf("a token of kind %q passes as one of kind %q: %v", made, asked, got)
			}
		}
	}
}

// TestMistyped changes every character of a token, and its length.
func TestMistyped(t *testing.T) {
	m := minter(t, token.DefaultPrefix, key)
	good := m.New(token.APIKey)
	var bad []string
	for i := range good {
		other := "x"
		if good[i] == 'x' {
			other = "y"
		}
		bad = append(bad, good[:i]+other+good[i+1:], good[:i]+good[i+1:], good[:i]+other+good[i:])
	}
	bad = append(bad, "", "_", "authnz", "authnz_", " "+good, good+" ", good+"\n", strings.ToUpper(good), strings.Repeat(good, 100))
	for _, text := range bad {
		if m.Made(token.APIKey, text) {
			t.Errorf("%q passes for a token", text)
		}
	}
}

func TestPrefixAndKey(t *testing.T) {
	m := minter(t, "acme1", key)
	text := m.New(token.APIKey)
	if !strings.HasPrefix(text, "acme1_") {
		t.Errorf("%q does not have its prefix", text)
	}
	if !minter(t, token.DefaultPrefix, key).Made(token.APIKey, text) {
		t.Error("a change of prefix makes older tokens invalid")
	}
	if minter(t, "acme1", []byte("another key")).Made(token.APIKey, text) {
		t.Error("another server's token passes")
	}
	for _, prefix := range []string{"", "a", "Acme", "ac_me", "1acme", "acme-1", strings.Repeat("a", 17), "acmé", "acme\n"} {
		_, err := token.NewMinter(prefix, key)
		if err == nil {
			t.Errorf("prefix %q is accepted", prefix)
		}
	}
}

func TestDerive(t *testing.T) {
	m := minter(t, token.DefaultPrefix, key)
	parent, salt := m.New(token.Refresh), []byte("salt")
	first := m.Derive(token.Refresh, parent, salt)
	if !m.Made(token.Refresh, first) {
		t.Errorf("%q is not known as a token of its maker", first)
	}
	if again := m.Derive(token.Refresh, parent, salt); again != first {
		t.Errorf("derived %q, then %q", first, again)
	}
	secretOf := func(text string) string { return text[strings.LastIndexByte(text, '_')+1:][:43] }
	for name, other := range map[string]string{
		"kind":   m.Derive(token.APIKey, parent, salt),
		"parent": m.Derive(token.Refresh, m.New(token.Refresh), salt),
		"salt":   m.Derive(token.Refresh, parent, []byte("other")),
	} {
		if secretOf(other) == secretOf(first) {
			t.Errorf("another %s derives the same secret", name)
		}
	}
}

func TestHint(t *testing.T) {
	for text, want := range map[string]string{
		"authnz_0123456789abcdef": "authnz_01234567", "authnz_r_0123456789": "authnz_r_01234567", "authnz_0": "authnz_0", "": "",
	} {
		if got := token.Hint(text); got != want {
			t.Errorf("the hint of %q is %q, want %q", text, got, want)
		}
	}
}

func TestOld(t *testing.T) {
	for range 100 {
		if text := token.New(); !token.Old(text) {
			t.Errorf("%q does not have the old form", text)
		}
	}
	for _, text := range []string{"", strings.Repeat("a", 42), strings.Repeat("a", 44), strings.Repeat("a", 42) + "=", strings.Repeat("a", 43) + "\n"} {
		if token.Old(text) {
			t.Errorf("%q has the old form", text)
		}
	}
}

// TestForged: who does not know the key does not hit the checksum.
func TestForged(t *testing.T) {
	m := minter(t, token.DefaultPrefix, key)
	rapid.Check(t, func(t *rapid.T) {
		text := "authnz_" + rapid.StringMatching(`[0-9A-Za-z]{49}`).Draw(t, "digits")
		if m.Made(token.APIKey, text) {
			t.Fatalf("%q passes for a token", text)
		}
	})
}

func FuzzMade(f *testing.F) {
	m := minter(f, token.DefaultPrefix, key)
	for _, kind := range kinds {
		f.Add(m.New(kind))
	}
	f.Add("authnz__")
	f.Add(token.New())
	f.Fuzz(func(t *testing.T, text string) {
		is := 0
		for _, kind := range kinds {
			if m.Made(kind, text) {
				is++
			}
		}
		if is > 1 || is == 1 && token.Old(text) {
			t.Errorf("%q is of more than one kind", text)
		}
		token.Hint(text)
	})
}

func TestDigest(t *testing.T) {
	digest := token.Sum("abc")
	// FIPS 180-4's example.
	if got := digest.String(); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("digest %s", got)
	}
	parsed, err := token.ParseDigest(digest.String())
	if err != nil || parsed != digest {
		t.Errorf("parsed %v, %v", parsed, err)
	}
	for _, text := range []string{"", "ba78", strings.Repeat("g", 64), strings.Repeat("a", 65)} {
		_, err := token.ParseDigest(text)
		if err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

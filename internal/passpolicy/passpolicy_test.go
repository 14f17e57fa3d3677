package passpolicy_test

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/passpolicy"
)

// Words that tell the messages of the rules apart.
const (
	short     = "longer"
	common    = "most common"
	similar   = "resembles"
	frequency = "repeated"
	digits    = "digits"
	breached  = "stolen"
)

// verdict returns which rules the messages are about, in their order.
func verdict(t *testing.T, messages []string) []string {
	t.Helper()
	var rules []string
	for _, message := range messages {
		n := len(rules)
		for _, rule := range []string{short, common, similar, frequency, digits, breached} {
			if strings.Contains(message, rule) {
				rules = append(rules, rule)
			}
		}
		if len(rules) != n+1 {
			t.Fatalf("the message %q is not about exactly one rule", message)
		}
	}
	return rules
}

// loose are the rules of the vectors.
var loose = passpolicy.Rules{MinLength: 4, MaxSimilarity: 50, MaxCharFrequency: 0.3, MinPwnedMatches: 25}

func TestCheck(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: loose, ServerName: "h.example"})
	subject := passpolicy.Subject{Email: "e@x.y", FullNames: []string{"N"}}
	for _, tt := range []struct {
		password string
		want     []string
	}{
		{"ab  cd", []string{frequency}},
		{"    ", []string{short, frequency}},
		{"1234²", []string{digits}},
		{"１２３４５６", []string{digits}},
		{"٠١٢٣٤٥", []string{digits}},
		{"①⑵⒊❹", []string{digits}},
		{"123½", nil}, // a fraction is a number but no digit
		{"123Ⅷ", nil}, // so is a Roman numeral
		{"Password", []string{common}},
		{"PASSWORD", []string{common}},
		{"passw0rd", []string{common}},
		{"123456", []string{common, digits}},
		{"AaAaBbBb", []string{common}},    // the Python server's list lacks it
		{"Usuckballz1", []string{common}}, // that list has it with a capital, which never matched
		{"CcCcZzZz", nil},                 // the cases of a letter are two characters
		{"\u00a0abcd\u00a0", []string{frequency}},
		{"\u00a0abc\u00a0", []string{short, frequency}},
		{"a\x00\x1f b c", nil},
		{"", []string{short}},
		{"e\u0301o\u0302u\u0308", []string{short, frequency}}, // three letters, as people count
		{"H.EXAMPLE", []string{similar}},
		{"straße9", nil},
		{"aaaa~", []string{frequency}},
	} {
		got := verdict(t, c.Check(t.Context(), tt.password, subject))
		if !slices.Equal(got, tt.want) {
			t.Errorf("Check(%q) is about %q, want %q", tt.password, got, tt.want)
		}
	}
}

func TestCheckComparesWithEachTarget(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: loose, ServerName: "auth.example"})
	subject := passpolicy.Subject{Email: "walrus@x.y", FullNames: []string{"N", "Strauß Éva"}}
	for password, want := range map[string][]string{
		"walrus9":     {similar},
		" walrus9 ":   {similar},
		"STRAUSS ÉVA": {similar},
		"auth.EXAMPL": {similar},
		"zebra-qkw":   nil,
	} {
		if got := verdict(t, c.Check(t.Context(), password, subject)); !slices.Equal(got, want) {
			t.Errorf("Check(%q) is about %q, want %q", password, got, want)
		}
	}
}

func TestEmptyPasswordEqualsAnEmptyName(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: loose, ServerName: "h.example"})
	got := verdict(t, c.Check(t.Context(), "", passpolicy.Subject{Email: "e@x.y", FullNames: []string{""}}))
	if want := []string{short, similar}; !slices.Equal(got, want) {
		t.Errorf("the messages are about %q, want %q", got, want)
	}
}

func TestMessagesFollowTheRules(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: passpolicy.DefaultRules()})
	messages := c.Check(t.Context(), "111111", passpolicy.Subject{Email: "111111@1.1"})
	if diff := cmp.Diff([]string{short, common, similar, frequency, digits}, verdict(t, messages)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if !strings.Contains(messages[0], "12") {
		t.Errorf("%q does not tell the minimum length", messages[0])
	}
}

// A long password is judged by all of its 1,024 characters.
func TestLongPasswordsAreNotCut(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: passpolicy.Rules{
		MinLength: 1024, MaxSimilarity: 50, MaxCharFrequency: 0.3, MinPwnedMatches: 25,
	}})
	password := strings.Repeat("0123456789abcdef", 64)
	if got := c.Check(t.Context(), password, passpolicy.Subject{}); got != nil {
		t.Errorf("Check of 1,024 characters = %q, want nil", got)
	}
	if got := verdict(t, c.Check(t.Context(), password[1:], passpolicy.Subject{})); !slices.Equal(got, []string{short}) {
		t.Errorf("Check of 1,023 characters is about %q, want %q", got, short)
	}
	tail := strings.Repeat("0123456789abcdef", 40) + strings.Repeat("z", 384)
	if got := verdict(t, c.Check(t.Context(), tail, passpolicy.Subject{})); !slices.Equal(got, []string{frequency}) {
		t.Errorf("Check of a tail of one letter is about %q, want %q", got, frequency)
	}
}

func TestEveryCommonPasswordIsRefused(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("data/common-passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if !slices.IsSorted(list) || len(list) != 49_233 {
		t.Fatalf("the list has %d entries, want 49,233; sorted: %t", len(list), slices.IsSorted(list))
	}
	c := passpolicy.New(passpolicy.Options{Rules: loose})
	refused := func(password string) bool {
		return slices.Contains(verdict(t, c.Check(t.Context(), password, passpolicy.Subject{})), common)
	}
	for _, password := range list {
		if !refused(password) || !refused(strings.ToUpper(password)) {
			t.Errorf("%q passes", password)
		}
		for _, other := range []string{password + "~", "~" + password, password + "\n"} {
			if refused(other) {
				t.Errorf("%q is refused", other)
			}
		}
	}
	for _, other := range []string{"", "\n", "~~~~", "\x00", "password\n123456"} {
		if refused(other) {
			t.Errorf("%q is refused", other)
		}
	}
}

func TestCheckStricter(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: passpolicy.DefaultRules(), ServerName: "h.example"})
	subject := passpolicy.Subject{Email: "walrus@x.y"}
	for _, tt := range []struct {
		name     string
		password string
		o        passpolicy.Overrides
		want     []string
	}{
		{"nothing", "kq7-Zmv2-pTw", passpolicy.Overrides{}, nil},
		{"longer", "kq7-Zmv2-pTw", passpolicy.Overrides{MinLength: new(13)}, []string{short}},
		{"shorter", "kq7-Zmv2", passpolicy.Overrides{MinLength: new(8)}, []string{short}},
		{"impossible length", strings.Repeat("kq7-Zmv2", 128), passpolicy.Overrides{MinLength: new(2000)}, []string{short}},
		{"less similar", "walrus-27-Zmv", passpolicy.Overrides{MaxSimilarity: new(33)}, []string{similar}},
		{"similarity of zero", "kq7-Zmv2-pTw", passpolicy.Overrides{MaxSimilarity: new(0)}, []string{similar}},
		{"more similar", "walrus@x.y--", passpolicy.Overrides{MaxSimilarity: new(100)}, []string{similar}},
		{"negative similarity", "kq7-Zmv2-pTw", passpolicy.Overrides{MaxSimilarity: new(-1)}, nil},
		{"rarer", "kq7-Zmv2-pTw", passpolicy.Overrides{MaxCharFrequency: new(0.1)}, []string{frequency}},
		{"more frequent", "kkkkkkq7-Zmv", passpolicy.Overrides{MaxCharFrequency: new(1.0)}, []string{frequency}},
		{"negative frequency", "kq7-Zmv2-pTw", passpolicy.Overrides{MaxCharFrequency: new(-1.0)}, nil},
		{"no number", "kq7-Zmv2-pTw", passpolicy.Overrides{MaxCharFrequency: new(math.NaN())}, nil},
	} {
		got := verdict(t, c.CheckStricter(t.Context(), tt.password, subject, tt.o))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: the messages are about %q, want %q", tt.name, got, tt.want)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	c := passpolicy.New(passpolicy.Options{Rules: passpolicy.DefaultRules(), ServerName: "auth.example.org"})
	subject := passpolicy.Subject{Email: "someone@example.org", FullNames: []string{"Someone Else"}}
	for b.Loop() {
		c.Check(b.Context(), "correct horse battery staple", subject)
	}
}

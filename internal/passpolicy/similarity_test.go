package passpolicy_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"authnzerver/internal/passpolicy"
)

func TestSimilarity(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		password, target string
		want             float64
	}{
		{"password", "testuser@test.org", 32.0},
		{"password", "test user", 35.294117647058826},
		{"password", "localhost", 23.52941176470588},
		{"passwordpassword123", "testuser@test.org", 22.22222222222222},
		{"passwordpassword123", "test user", 21.428571428571427},
		{"testuser", "testuser@test.org", 64.0},
		{"testuser123", "test user", 80.0},
		{"testuser123", "testuser@test.org", 57.14285714285714},
		{"atyse6m3bsbl", "test-user@test.org", 26.666666666666668},
		{"tide", "diet", 25.0},
		{"diet", "tide", 50.0},
		{"qabxcd", "abycdf", 66.66666666666666},
		{"abcabba", "cbabac", 46.15384615384615},
		{"private", "pirate", 76.92307692307693},
		{"ab ab", "abab", 88.88888888888889},
		{"correct horse battery", "horse@battery.org", 63.1578947368421},
		{"", "", 100.0},
		{"abc", "", 0.0},
		{"", "abc", 0.0},
		{"userpassword", strings.Repeat("user", 50) + "@x.y", 3.7037037037037033},
	} {
		if got := passpolicy.Similarity(tt.password, tt.target); got != tt.want {
			t.Errorf("Similarity(%q, %q) = %v, want %v", tt.password, tt.target, got, tt.want)
		}
	}
}

// The golden file holds random texts and what difflib of Python 3.11 says
// about them: 100*SequenceMatcher(None, password, target).ratio().
func TestSimilarityEqualsDifflibs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/similarity.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []struct {
		Password, Target string
		Want             float64
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	long := 0
	for _, g := range golden {
		if utf8.RuneCountInString(g.Target) >= 200 {
			long++
		}
		if got := passpolicy.Similarity(g.Password, g.Target); got != g.Want {
			t.Errorf("Similarity(%q, %q) = %v, want %v", g.Password, g.Target, got, g.Want)
		}
	}
	if len(golden) < 100 || long < 10 {
		t.Errorf("the golden file has %d rows, %d of them with long targets: too few", len(golden), long)
	}
}

// plainMatched finds common blocks by trying all pairs of positions.
func plainMatched(a, b []rune) int {
	at, bt, best := 0, 0, 0
	for i := range a {
		for j := range b {
			n := 0
			for i+n < len(a) && j+n < len(b) && a[i+n] == b[j+n] {
				n++
			}
			if n > best {
				at, bt, best = i, j, n
			}
		}
	}
	if best == 0 {
		return 0
	}
	return plainMatched(a[:at], b[:bt]) + best + plainMatched(a[at+best:], b[bt+best:])
}

func TestSimilarityEqualsThePlainMethod(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("abcé")), 0, 40, -1)
		password, target := text.Draw(t, "password"), text.Draw(t, "target")
		a, b := []rune(password), []rune(target)
		if len(a)+len(b) == 0 {
			return
		}
		want := 2.0 * float64(plainMatched(a, b)) / float64(len(a)+len(b)) * 100.0
		if got := passpolicy.Similarity(password, target); got != want {
			t.Fatalf("Similarity(%q, %q) = %v, want %v", password, target, got, want)
		}
	})
}

// hard are pairs of the greatest lengths that make for much work: few letters,
// short blocks, and blocks that peel one character at a time off the region.
func hard() map[string][2]string {
	distinct := func(n, step int) string {
		var b strings.Builder
		for i := range n {
			b.WriteRune(rune('\u4e00' + i*step%n))
		}
		return b.String()
	}
	spaced := func(n int, every string) string {
		var b strings.Builder
		for i := range n / 2 {
			b.WriteString(every)
			b.WriteRune(rune('\u4e00' + i))
		}
		return b.String()
	}
	reverse := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			rest := b.String()
			b.Reset()
			b.WriteRune(r)
			b.WriteString(rest)
		}
		return b.String()
	}
	var twelves strings.Builder
	for i := range 1024 {
		twelves.WriteRune(rune('\u4e00' + i%94))
	}
	return map[string][2]string{
		"typical":          {"correct horse battery staple", "someone.with.a.name@example.org"},
		"peel/199":         {strings.Repeat("a", 1024), spaced(198, "a")},
		"two letters/199":  {strings.Repeat("ab", 512), strings.Repeat("ba", 99)},
		"one letter/199":   {strings.Repeat("a", 1024), strings.Repeat("a", 199)},
		"distinct/1024":    {distinct(1024, 1), distinct(1024, 3)},
		"reversed/1024":    {distinct(1024, 1), reverse(distinct(1024, 1))},
		"ten of each/1024": {reverse(twelves.String()), twelves.String()},
		"popular/1024":     {strings.Repeat("ab", 512), strings.Repeat("ba", 512)},
	}
}

// A password of the greatest length must not keep a processor busy for long.
// These take milliseconds; the limit is for slow machines.
func TestSimilarityTakesBoundedTime(t *testing.T) {
	t.Parallel()
	for name, pair := range hard() {
		start := time.Now()
		passpolicy.Similarity(pair[0], pair[1])
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func BenchmarkSimilarity(b *testing.B) {
	for name, pair := range hard() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				passpolicy.Similarity(pair[0], pair[1])
			}
		})
	}
}

package mail_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"authnzerver/internal/mail"
)

// TestWrap has the line lengths that Python's textwrap gives.
func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		token string
		want  []int
	}{
		{"", nil},
		{"a", []int{1}},
		{strings.Repeat("a", 70), []int{70}},
		{strings.Repeat("a", 71), []int{70, 1}},
		{strings.Repeat("a-b", 40), []int{68, 52}},
		{strings.Repeat("a", 60) + "-" + strings.Repeat("b", 60), []int{61, 60}},
		{strings.Repeat("gAAAA-_", 20), []int{69, 63, 8}},
		{strings.Repeat("-", 150), []int{70, 70, 10}},
		{strings.Repeat("ab--", 40), []int{70, 70, 20}},
		{strings.Repeat("a", 69) + "--" + strings.Repeat("b", 70), []int{69, 2, 70}},
		{strings.Repeat("a", 68) + "-b-cd" + strings.Repeat("e", 70), []int{69, 70, 4}},
		{strings.Repeat("é-", 80), []int{70, 70, 20}},
	} {
		var got []int
		for _, line := range mail.Wrap(tt.token) {
			got = append(got, utf8.RuneCountInString(line))
		}
		if len(got) != len(tt.want) {
			t.Errorf("%.20q…: lengths %v, want %v", tt.token, got, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%.20q…: lengths %v, want %v", tt.token, got, tt.want)
				break
			}
		}
	}
}

// TestWrapIsLinear: a token comes from a request of up to 1 MiB.
func TestWrapIsLinear(t *testing.T) {
	for _, pattern := range []string{"-", "a--", "a-", "aa-"} {
		started := time.Now()
		mail.Wrap(strings.Repeat(pattern, 1<<20/len(pattern)))
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("1 MiB of %q took %v", pattern, took)
		}
	}
}

func TestWrapLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.StringOf(rapid.RuneFrom([]rune("aZ09-_=+/.é"))).Draw(t, "token")
		lines := mail.Wrap(token)
		if got := strings.Join(lines, ""); got != token {
			t.Fatalf("%q became %q", token, got)
		}
		for _, line := range lines {
			if n := utf8.RuneCountInString(line); n == 0 || n > 70 {
				t.Fatalf("a line of %d characters", n)
			}
		}
	})
}

package passpolicy_test

import (
	"strings"
	"testing"

	"authnzerver/internal/passpolicy"
)

func TestParseRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want passpolicy.Rules
	}{
		{"", passpolicy.DefaultRules()},
		{" ; ", passpolicy.DefaultRules()},
		{"min_pass_length:12; max_unsafe_similarity:50; max_char_frequency:0.3; min_pwned_matches:25", passpolicy.DefaultRules()},
		{"min_pass_length:8;max_unsafe_similarity:33;max_char_frequency:0.2;min_pwned_matches:1;", passpolicy.Rules{8, 33, 0.2, 1}},
		{"min_pwned_matches : 3 ;\tmax_char_frequency:1; min_pass_length:20", passpolicy.Rules{20, 50, 1, 3}},
		{"min_pass_length:1;max_unsafe_similarity:1;max_char_frequency:0.01;min_pwned_matches:1", passpolicy.Rules{1, 1, 0.01, 1}},
		{"min_pass_length:1024;max_unsafe_similarity:100;max_char_frequency:1;min_pwned_matches:1000000000", passpolicy.Rules{1024, 100, 1, 1e9}},
	} {
		got, err := passpolicy.ParseRules(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("ParseRules(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseRulesNamesTheItem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, item string }{
		{"min_pass_length:0", "min_pass_length"},
		{"min_pass_length:1025", "min_pass_length"},
		{"min_pass_length:-1", "min_pass_length"},
		{"min_pass_length:12.0", "min_pass_length"},
		{"min_pass_length:", "min_pass_length"},
		{"min_pass_length", "min_pass_length"},
		{"min_pass_length:12:12", "min_pass_length"},
		{"min_pass_length:12;min_pass_length:12", "min_pass_length"},
		{"max_unsafe_similarity:0", "max_unsafe_similarity"},
		{"max_unsafe_similarity:101", "max_unsafe_similarity"},
		{"max_char_frequency:NaN", "max_char_frequency"},
		{"max_char_frequency:Inf", "max_char_frequency"},
		{"max_char_frequency:-0.3", "max_char_frequency"},
		{"max_char_frequency:0", "max_char_frequency"},
		{"max_char_frequency:0.009", "max_char_frequency"},
		{"max_char_frequency:1.01", "max_char_frequency"},
		{"max_char_frequency:1e999", "max_char_frequency"},
		{"min_pwned_matches:0", "min_pwned_matches"},
		{"min_pwned_matches:1000000001", "min_pwned_matches"},
		{"min_pwned_matches:99999999999999999999", "min_pwned_matches"},
		{"min_length:12", "min_length"},
		{"MIN_PASS_LENGTH:12", "MIN_PASS_LENGTH"},
		{"12;50;0.3;25", "12"},
		{"min_pass_length:12;;", `""`},
		{";min_pass_length:12", `""`},
	} {
		got, err := passpolicy.ParseRules(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.item) {
			t.Errorf("ParseRules(%q) = %+v, %v, want an error that names %s", tt.text, got, err, tt.item)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("min_pass_length:12; max_unsafe_similarity:50; max_char_frequency:0.3; min_pwned_matches:25")
	f.Add("min_pass_length:1;;")
	f.Add("max_char_frequency:nan")
	f.Add("max_char_frequency:0x1p-3;")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := passpolicy.ParseRules(text)
		if err != nil {
			return
		}
		if r.MinLength < 1 || r.MinLength > 1024 || r.MaxSimilarity < 1 || r.MaxSimilarity > 100 ||
			!(r.MaxCharFrequency >= 0.01 && r.MaxCharFrequency <= 1) ||
			r.MinPwnedMatches < 1 || r.MinPwnedMatches > 1e9 {
			t.Errorf("ParseRules(%q) = %+v, which is out of bounds", text, r)
		}
	})
}

package passpolicy

import (
	"fmt"
	"strconv"
	"strings"
)

// Rules are the limits of a password policy. The zero Rules refuse every
// password.
type Rules struct {
	// MinLength is the least number of characters, from 1 to 1,024.
	MinLength int
	// MaxSimilarity is the similarity in percent, from 1 to 100, from which
	// on a password is refused.
	MaxSimilarity int
	// MaxCharFrequency is the largest share of a password, from 0.01 to 1,
	// that a single character may make up.
	MaxCharFrequency float64
	// MinPwnedMatches is how many times, from 1 to 1,000,000,000, a password
	// must be in the breach list to be refused.
	MinPwnedMatches int
}

// The bounds of the limits. The longest minimum equals the longest password
// that the server takes.
const (
	maxMinLength     = 1024
	maxMaxSimilarity = 100
	minMaxFrequency  = 0.01
	maxMaxFrequency  = 1
	maxPwnedMatches  = 1_000_000_000
)

// DefaultRules returns the rules of a server that is not told otherwise. They
// are the Python server's.
func DefaultRules() Rules {
	return Rules{MinLength: 12, MaxSimilarity: 50, MaxCharFrequency: 0.3, MinPwnedMatches: 25}
}

// ParseRules reads a policy such as
//
//	min_pass_length:12; max_unsafe_similarity:50; max_char_frequency:0.3; min_pwned_matches:25
//
// Items may come in any order. One that is absent has its default. Blanks and
// a last semicolon mean nothing. An error names the item.
func ParseRules(text string) (Rules, error) {
	text = strings.NewReplacer(" ", "", "\t", "").Replace(text)
	text = strings.TrimSuffix(text, ";")
	r := DefaultRules()
	if text == "" {
		return r, nil
	}
	seen := make(map[string]bool)
	for item := range strings.SplitSeq(text, ";") {
		name, value, found := strings.Cut(item, ":")
		if !found {
			return Rules{}, fmt.Errorf("password policy item %q: want a name, a colon and a value", item)
		}
		if seen[name] {
			return Rules{}, fmt.Errorf("password policy item %s: given twice", name)
		}
		seen[name] = true
		if err := r.set(name, value); err != nil {
			return Rules{}, err
		}
	}
	return r, nil
}

func (r *Rules) set(name, value string) error {
	switch name {
	case "min_pass_length":
		return setInt(&r.MinLength, name, value, maxMinLength)
	case "max_unsafe_similarity":
		return setInt(&r.MaxSimilarity, name, value, maxMaxSimilarity)
	case "min_pwned_matches":
		return setInt(&r.MinPwnedMatches, name, value, maxPwnedMatches)
	case "max_char_frequency":
		f, err := strconv.ParseFloat(value, 64)
		if err != nil || !(f >= minMaxFrequency && f <= maxMaxFrequency) { // NaN is in no range
			return fmt.Errorf("password policy item %s: want a number from %g to %d, not %q",
				name, minMaxFrequency, maxMaxFrequency, value)
		}
		r.MaxCharFrequency = f
		return nil
	default:
		return fmt.Errorf("password policy item %q: unknown name; the names are min_pass_length, max_unsafe_similarity, "+
			"max_char_frequency and min_pwned_matches", name)
	}
}

func setInt(field *int, name, value string, highest int) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > highest {
		return fmt.Errorf("password policy item %s: want a whole number from 1 to %d, not %q", name, highest, value)
	}
	*field = n
	return nil
}

// Overrides are limits that a request brings along; nil leaves the configured
// one. Negative values and NaN count as nil, as with the Python server.
type Overrides struct {
	MinLength        *int
	MaxSimilarity    *int
	MaxCharFrequency *float64
	MinPwnedMatches  *int
}

// stricter returns the rules with every limit that o makes stricter.
func (r Rules) stricter(o Overrides) Rules {
	if v := o.MinLength; v != nil && *v > r.MinLength {
		r.MinLength = *v
	}
	if v := o.MaxSimilarity; v != nil && *v >= 0 && *v < r.MaxSimilarity {
		r.MaxSimilarity = *v
	}
	if v := o.MaxCharFrequency; v != nil && *v >= 0 && *v < r.MaxCharFrequency {
		r.MaxCharFrequency = *v
	}
	if v := o.MinPwnedMatches; v != nil && *v >= 0 && *v < r.MinPwnedMatches {
		r.MinPwnedMatches = *v
	}
	return r
}

// Package passpolicy judges new passwords.
//
// Its six rules are those of the Python server: length, common passwords,
// similarity to the user's own data, repeated characters, digits only, and
// known breaches. A password is judged as a whole, in the form in which it is
// hashed; none is cut. Nothing in this package logs, and no message or error holds
// a password or any part of its hash.
package passpolicy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"

	"authnzerver/internal/passwd"
)

// Options configure a Checker.
type Options struct {
	Rules Rules
	// ServerName is the host name that passwords must not resemble.
	ServerName string
	// Breaches finds breached passwords; nil turns that rule off.
	Breaches *BreachClient
	// OnBreachError, when not nil, is told why a password could not be
	// looked up. It may be called by several goroutines at once.
	OnBreachError func(error)
}

// A Checker judges passwords. It is safe for concurrent use.
type Checker struct {
	rules         Rules
	serverName    []rune
	breaches      *BreachClient
	onBreachError func(error)
}

// New returns a Checker.
func New(o Options) *Checker {
	return &Checker{
		rules:         o.Rules,
		serverName:    target(o.ServerName),
		breaches:      o.Breaches,
		onBreachError: o.OnBreachError,
	}
}

// A Subject is the user whose password is judged.
type Subject struct {
	Email string
	// FullNames are all names that the password must not resemble, such as
	// the stored one and the one that was sent.
	FullNames []string
}

// Check returns a message for the end user for each rule that the password
// violates, in the order of the rules, and nil when it violates none. The
// breach list is asked only about passwords that pass all other rules; when it
// gives no answer, the password passes.
//
// Callers refuse passwords of more than 1,024 characters beforehand.
func (c *Checker) Check(ctx context.Context, password string, s Subject) []string {
	return c.check(ctx, password, s, c.rules)
}

// CheckStricter is Check with other limits. Only those stricter than the
// configured ones count.
func (c *Checker) CheckStricter(ctx context.Context, password string, s Subject, o Overrides) []string {
	return c.check(ctx, password, s, c.rules.stricter(o))
}

func (c *Checker) check(ctx context.Context, password string, s Subject, r Rules) []string {
	var messages []string
	password = passwd.Normalize(password)
	characters := []rune(password)
	folded := foldCase(password)
	prepared := []rune(collapse(folded))

	if n := utf8.RuneCountInString(collapse(password)); n < r.MinLength {
		messages = append(messages, fmt.Sprintf("Choose a longer password: it needs %d or more characters.", r.MinLength))
	}
	if listed(commonPasswords, folded) {
		messages = append(messages, "This password is among the most common ones and would be guessed at once.")
	}
	if c.similar(prepared, s, r.MaxSimilarity) {
		messages = append(messages, "This password resembles your name, your e-mail address or the name of this server too closely.")
	}
	if highestFrequency(characters) > r.MaxCharFrequency {
		messages = append(messages, "One character is repeated too often in this password.")
	}
	if allDigits(characters) {
		messages = append(messages, "A password must not consist of digits alone.")
	}
	if messages != nil {
		return messages
	}
	if n := c.breachCount(ctx, password); n > 0 && n >= r.MinPwnedMatches {
		return []string{fmt.Sprintf("This password was found %d times in stolen password lists. Never use it anywhere again.", n)}
	}
	return nil
}

// breachCount returns how often a password is known to have been stolen, 0
// when that is unknown.
func (c *Checker) breachCount(ctx context.Context, password string) int {
	if c.breaches == nil {
		return 0
	}
	n, err := c.breaches.Count(ctx, password)
	if err != nil {
		if c.onBreachError != nil {
			c.onBreachError(err)
		}
		return 0
	}
	return n
}

func (c *Checker) similar(prepared []rune, s Subject, limit int) bool {
	targets := [][]rune{c.serverName, target(s.Email)}
	for _, name := range s.FullNames {
		targets = append(targets, target(name))
	}
	return slices.ContainsFunc(targets, func(t []rune) bool {
		return similarity(prepared, t) >= float64(limit)
	})
}

// maxTarget is the most characters of a name or an address that a password is
// compared with. Stored ones have 280 at most; the limit bounds the work that
// a request can cause with a longer one.
const maxTarget = 1024

// target returns the form of a name or an address that passwords are
// compared with.
func target(text string) []rune {
	folded := []rune(foldCase(text))
	return folded[:min(len(folded), maxTarget)]
}

// foldCase does full Unicode case folding. Bytes that are not UTF-8 become
// U+FFFD.
//
// The library exchanges the two cases of Cherokee instead of folding them
// (golang.org/issue/46101); the small letters it leaves are folded here.
func foldCase(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'ꭰ' <= r && r <= 'ꮿ':
			return r - 'ꭰ' + 'Ꭰ'
		case 'ᏸ' <= r && r <= 'ᏽ':
			return r - 'ᏸ' + 'Ᏸ'
		default:
			return r
		}
	}, folder.String(text))
}

// folder has no state.
var folder = cases.Fold()

// collapse turns each run of characters up to U+0020 into one blank and trims
// white space from both ends.
func collapse(text string) string {
	return strings.TrimSpace(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' }), " "))
}

// highestFrequency returns the share, from 0 to 1, of the most frequent
// character.
func highestFrequency(characters []rune) float64 {
	counts := make(map[rune]int)
	highest := 0
	for _, r := range characters {
		counts[r]++
		highest = max(highest, counts[r])
	}
	if highest == 0 {
		return 0
	}
	return float64(highest) / float64(len(characters))
}

// allDigits reports whether there are characters and all are digits: decimal
// ones of any script, or of Unicode's numeric type Digit.
func allDigits(characters []rune) bool {
	for _, r := range characters {
		if !unicode.Is(unicode.Nd, r) && !unicode.Is(typeDigit, r) {
			return false
		}
	}
	return len(characters) > 0
}

// typeDigit holds the characters with the numeric type Digit that are not of
// category Nd, such as superscripts and circled digits (DerivedNumericType.txt
// of the Unicode Character Database). Unicode has added none since 6.3 and
// means to add none (UAX #44, §5.7.1).
var typeDigit = &unicode.RangeTable{
	LatinOffset: 2,
	R16: []unicode.Range16{
		{Lo: 0x00b2, Hi: 0x00b3, Stride: 1},
		{Lo: 0x00b9, Hi: 0x00b9, Stride: 1},
		{Lo: 0x1369, Hi: 0x1371, Stride: 1},
		{Lo: 0x19da, Hi: 0x19da, Stride: 1},
		{Lo: 0x2070, Hi: 0x2070, Stride: 1},
		{Lo: 0x2074, Hi: 0x2079, Stride: 1},
		{Lo: 0x2080, Hi: 0x2089, Stride: 1},
		{Lo: 0x2460, Hi: 0x2468, Stride: 1},
		{Lo: 0x2474, Hi: 0x247c, Stride: 1},
		{Lo: 0x2488, Hi: 0x2490, Stride: 1},
		{Lo: 0x24ea, Hi: 0x24ea, Stride: 1},
		{Lo: 0x24f5, Hi: 0x24fd, Stride: 1},
		{Lo: 0x24ff, Hi: 0x24ff, Stride: 1},
		{Lo: 0x2776, Hi: 0x277e, Stride: 1},
		{Lo: 0x2780, Hi: 0x2788, Stride: 1},
		{Lo: 0x278a, Hi: 0x2792, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x10a40, Hi: 0x10a43, Stride: 1},
		{Lo: 0x10e60, Hi: 0x10e68, Stride: 1},
		{Lo: 0x11052, Hi: 0x1105a, Stride: 1},
		{Lo: 0x1f100, Hi: 0x1f10a, Stride: 1},
	},
}

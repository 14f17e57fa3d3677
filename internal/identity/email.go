// Package identity checks and normalises what people call themselves: e-mail
// addresses and full names.
//
// An address is compared and stored in its normalised form only, so that no
// two spellings of it are two accounts. No error holds an address or a name.
package identity

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// The reasons for which an address is refused.
var (
	ErrInvalidEmail    = errors.New("invalid e-mail address")
	ErrReservedEmail   = errors.New("e-mail address with a reserved name")
	ErrDisposableEmail = errors.New("e-mail address of a disposable domain")
)

const (
	// maxStored is the size of the database columns of addresses and names,
	// in characters.
	maxStored = 280
	// maxLabel is the most characters of a domain's label that the Python
	// server accepts; the DNS has 63 (RFC 1035, §2.3.4).
	maxLabel = 255
	// localSymbols are the characters of a local part besides letters and
	// digits: those of RFC 5322's atoms (§3.2.3), and dots anywhere.
	localSymbols = ".!#$%&'*+/=?^_`{|}~-"
)

// NormalizeEmail returns the form in which an address is stored and looked up:
// compatibility-composed (NFKC) and case-folded in full. For every address
// that CheckEmailSyntax accepts this is its ASCII lower case. Any text has a
// normalised form, which is its own normalised form; nothing is trimmed.
//
// Since different texts have the same normalised form, such as k and the
// Kelvin sign, mail goes to the stored address and never to the one that a
// request brought.
func NormalizeEmail(address string) string {
	// Neither step works across an @, so the parts need not be taken apart.
	// Folding can undo composition and composition can make more to fold;
	// two rounds are what Unicode compares compatible texts by (D146).
	text := norm.NFKC.String(address)
	for range 2 {
		text = norm.NFKC.String(foldCase(text))
	}
	return text
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

// CheckEmailSyntax returns an error that wraps ErrInvalidEmail unless the
// whole text is a local part, an @ and a domain.
//
// The local part has ASCII letters, digits and the symbols of RFC 5322's
// atoms, with dots anywhere. The domain has one or more labels of 1 to 255
// ASCII letters, digits and hyphens, none at either end of a label; there is no
// IP address literal. The address has 280 characters at most.
func CheckEmailSyntax(address string) error {
	if len(address) > maxStored {
		return fmt.Errorf("%w: longer than %d characters", ErrInvalidEmail, maxStored)
	}
	local, domain, found := strings.Cut(address, "@")
	if !found {
		return fmt.Errorf("%w: no @", ErrInvalidEmail)
	}
	if local == "" || strings.ContainsFunc(local, func(r rune) bool { return !isLetterOrDigit(r) && !strings.ContainsRune(localSymbols, r) }) {
		return fmt.Errorf("%w: bad local part", ErrInvalidEmail)
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !isLabel(label) {
			return fmt.Errorf("%w: bad domain", ErrInvalidEmail)
		}
	}
	return nil
}

func isLabel(text string) bool {
	return text != "" && len(text) <= maxLabel &&
		!strings.HasPrefix(text, "-") && !strings.HasSuffix(text, "-") &&
		!strings.ContainsFunc(text, func(r rune) bool { return !isLetterOrDigit(r) && r != '-' })
}

func isLetterOrDigit(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// ParseEmail returns the normalised form of an address with which somebody may
// sign up. Its errors wrap ErrInvalidEmail when the syntax is wrong,
// ErrReservedEmail when the local part is a reserved name in any letter case,
// and ErrDisposableEmail when the domain, or one that it belongs to, hands out
// disposable addresses.
func ParseEmail(address string) (normalized string, err error) {
	if err := CheckEmailSyntax(address); err != nil {
		return "", err
	}
	normalized = NormalizeEmail(address)
	local, domain, _ := strings.Cut(normalized, "@")
	if listed(reservedNames, local) {
		return "", ErrReservedEmail
	}
	if isDisposable(domain) {
		return "", ErrDisposableEmail
	}
	return normalized, nil
}

// isDisposable reports whether a domain or one above it is listed. Domains
// above it that are public suffixes don't count: the list holds some under
// which anybody may have a name, such as edu.pl.
func isDisposable(domain string) bool {
	if listed(disposableDomains, domain) {
		return true
	}
	suffix, _ := publicsuffix.PublicSuffix(domain)
	for {
		_, parent, found := strings.Cut(domain, ".")
		if !found || len(parent) <= len(suffix) {
			return false
		}
		if listed(disposableDomains, parent) {
			return true
		}
		domain = parent
	}
}

//go:generate go run -C ../../tools/wordlists . -disposable-domains ../../internal/identity/data/disposable-domains.txt

// These lists have one entry a line, sorted by bytes. They are searched in the
// program's own image and take no heap.
var (
	//go:embed data/disposable-domains.txt
	disposableDomains string
	//go:embed data/reserved-names.txt
	reservedNames string
)

// listed reports whether word is a line of list. The lines are sorted by bytes
// and each ends in a line feed.
func listed(list, word string) bool {
	low, high := 0, len(list) // where lines start, or the end
	for low < high {
		middle := low + (high-low)/2
		start := low + strings.LastIndexByte(list[low:middle], '\n') + 1
		length := strings.IndexByte(list[start:], '\n')
		line := list[start : start+length]
		switch strings.Compare(line, word) {
		case 0:
			return true
		case -1:
			low = start + length + 1
		default:
			high = start
		}
	}
	return false
}

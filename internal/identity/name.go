package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/unicode/norm"
)

// ErrInvalidFullName is the reason for which a full name is refused.
var ErrInvalidFullName = errors.New("invalid full name")

// ParseFullName returns the form in which a full name is stored: composed
// (NFKC), with each run of characters up to U+0020 as one blank, trimmed of
// white space, and with & < > " ' escaped for HTML, the last as &#x27;. Its
// errors wrap ErrInvalidFullName.
//
// A name ends up in mail that the server sends to an address that somebody else
// may have typed. So that nobody can send an advertisement that way, a name
// must not have anything that a mail program makes a link of: "http" or "://"
// anywhere, an IPv4 address, or a host name under a public suffix. A host name
// is a word with a dot inside that ends in a suffix of the public suffix list.
// Hence bit.ly and T.Me are refused, and so are M.Sc and J.Li, which a blank
// after the dot makes acceptable. John Q.Public, St.John and A.Inamdar are
// names, since their ends only begin like a suffix.
//
// A name may be empty. It has one @ and 280 characters, as stored, at most.
func ParseFullName(name string) (stored string, err error) {
	if !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: not UTF-8", ErrInvalidFullName)
	}
	text := collapse(norm.NFKC.String(name))
	if strings.Count(text, "@") > 1 {
		return "", fmt.Errorf("%w: more than one @", ErrInvalidFullName)
	}
	stored = escaper.Replace(text)
	if utf8.RuneCountInString(stored) > maxStored {
		return "", fmt.Errorf("%w: longer than %d characters", ErrInvalidFullName, maxStored)
	}
	shown := foldCase(strings.Map(visible, text))
	if strings.Contains(shown, "http") || strings.Contains(shown, "://") || hasHostName(shown) {
		return "", fmt.Errorf("%w: looks like a web address", ErrInvalidFullName)
	}
	return stored, nil
}

// escaper escapes as the Python server does with Tornado 6.4, for the pages
// and mails that show stored names as they are.
var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;")

// collapse turns each run of characters up to U+0020 into one blank and trims
// white space from both ends.
func collapse(text string) string {
	return strings.TrimSpace(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' }), " "))
}

// visible maps a character to what a reader sees and a mail program follows:
// it drops characters without a look of their own, which could otherwise hide
// a host name, and takes the ideographic full stop for the dot that it is in a
// host name (RFC 3490, §3.1).
func visible(r rune) rune {
	switch {
	case r == '。':
		return '.'
	case unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return -1
	default:
		return r
	}
}

// hasHostName reports whether a folded text holds a host name under a public
// suffix or an IPv4 address.
func hasHostName(text string) bool {
	for _, ends := range []func(rune) bool{endsWord, endsLatinWord} {
		for word := range strings.FieldsFuncSeq(text, ends) {
			for host := range strings.SplitSeq(word, "..") { // no host name has an empty label
				host = strings.Trim(host, ".-")
				if strings.Contains(host, ".") && underPublicSuffix(host) {
					return true
				}
			}
		}
	}
	return false
}

// endsWord reports whether a character can't be in a host name. Symbols beyond
// ASCII can: some registries sell names of pictures.
func endsWord(r rune) bool {
	if r < utf8.RuneSelf {
		return !isLetterOrDigit(r) && r != '-' && r != '.'
	}
	return unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.IsControl(r)
}

// endsLatinWord reports whether a character can't be in a host name of Latin
// letters. Mail programs find one also between symbols, or in a script that is
// written without blanks.
func endsLatinWord(r rune) bool {
	return endsWord(r) || r >= utf8.RuneSelf && !unicode.In(r, unicode.Latin, unicode.M)
}

func underPublicSuffix(host string) bool {
	ascii, err := idna.Punycode.ToASCII(host)
	if err != nil {
		return true
	}
	// Without a rule for its end, the suffix is the last label alone. An IPv4
	// address is its own suffix.
	suffix, icann := publicsuffix.PublicSuffix(ascii)
	return icann || strings.Contains(suffix, ".")
}

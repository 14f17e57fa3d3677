package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDigits is the number of digits, leading zeros included, above which a
// text is no integer any more: Python's limit since CVE-2020-10735.
const maxDigits = 4300

// blanks are the ASCII characters that may surround a number.
const blanks = " \t\n\v\f\r"

// An integer is a whole number. It is kept in decimal, because it is only
// ever compared: so the cost grows no faster than its length.
type integer struct {
	negative bool
	digits   []byte // without leading zeros; none for zero
}

// compare returns -1, 0 or 1 as a is less than, equal to or greater than b.
func (a integer) compare(b integer) int {
	switch {
	case a.negative && !b.negative:
		return -1
	case b.negative && !a.negative:
		return 1
	case a.negative:
		return compareDigits(b.digits, a.digits)
	default:
		return compareDigits(a.digits, b.digits)
	}
}

func compareDigits(a, b []byte) int {
	switch {
	case len(a) < len(b):
		return -1
	case len(a) > len(b):
		return 1
	default:
		return bytes.Compare(a, b)
	}
}

// parseInteger reads a sign, which may be missing, and digits, between which
// single underscores may stand.
func parseInteger(text []byte) (integer, bool) {
	var n integer
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		n.negative = text[0] == '-'
		text = text[1:]
	}
	digits, ok := withoutUnderscores(text)
	if !ok || len(digits) == 0 || len(digits) > maxDigits {
		return integer{}, false
	}
	for _, b := range digits {
		if !isDigit(b) {
			return integer{}, false
		}
	}
	n.digits = bytes.TrimLeft(digits, "0")
	n.negative = n.negative && len(n.digits) > 0
	return n, true
}

// parseReal reads a decimal floating-point number as Python writes it. It
// fails when the number is not finite.
func parseReal(text []byte) (float64, bool) {
	text, ok := withoutUnderscores(text)
	if !ok {
		return 0, false
	}
	for _, b := range text {
		// strconv reads more: hexadecimal, Inf and NaN.
		if !isDigit(b) && strings.IndexByte("+-.eE", b) < 0 {
			return 0, false
		}
	}
	return realOfNumber(text)
}

// withoutUnderscores removes underscores. Each must be between two digits.
func withoutUnderscores(text []byte) ([]byte, bool) {
	if bytes.IndexByte(text, '_') < 0 {
		return text, true
	}
	plain := make([]byte, 0, len(text))
	for i, b := range text {
		if b != '_' {
			plain = append(plain, b)
			continue
		}
		if i == 0 || !isDigit(text[i-1]) || i == len(text)-1 || !isDigit(text[i+1]) {
			return nil, false
		}
	}
	return plain, true
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// pythonText prepares a text as Python does before it reads a number:
// surrounding blanks go, and decimal digits of all scripts become ASCII ones.
func pythonText(text []byte) ([]byte, bool) {
	ascii := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		switch {
		case r < utf8.RuneSelf:
			ascii = append(ascii, byte(r))
		case unicode.IsSpace(r):
			ascii = append(ascii, ' ')
		case unicode.IsDigit(r):
			ascii = append(ascii, decimalDigit(r))
		default:
			return nil, false
		}
	}
	return bytes.Trim(ascii, blanks), true
}

// decimalDigit returns the ASCII digit of the same value as a digit of any
// script. Unicode keeps the ten digits of a script together, in order, and
// never between other digits (Unicode Standard, section 4.6).
func decimalDigit(r rune) byte {
	for _, block := range unicode.Digit.R16 {
		if rune(block.Lo) <= r && r <= rune(block.Hi) {
			return '0' + byte((r-rune(block.Lo))%10)
		}
	}
	for _, block := range unicode.Digit.R32 {
		if rune(block.Lo) <= r && r <= rune(block.Hi) {
			return '0' + byte((r-rune(block.Lo))%10)
		}
	}
	return 0 // unreachable: r is one of unicode.Digit
}

// ParseSharedWith reads the ids of the users that an item is shared with:
// integers separated by commas, each as Python's int() reads it. The empty
// text and the word none, in any letter case, are nobody and give nil. Ids
// must fit into 64 bits.
func ParseSharedWith(text string) ([]int64, error) {
	if text == "" || strings.EqualFold(text, "none") {
		return nil, nil
	}
	ids := make([]int64, 0, strings.Count(text, ",")+1)
	for part := range strings.SplitSeq(text, ",") {
		id, err := parseID(part)
		if err != nil {
			return nil, fmt.Errorf("user id %d in the list: %w", len(ids)+1, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func parseID(text string) (int64, error) {
	ascii, ok := pythonText([]byte(text))
	if !ok {
		return 0, errors.New("not an integer")
	}
	n, ok := parseInteger(ascii)
	if !ok {
		return 0, errors.New("not an integer")
	}
	sign := ""
	if n.negative {
		sign = "-"
	}
	id, err := strconv.ParseInt(sign+"0"+string(n.digits), 10, 64)
	if err != nil {
		return 0, errors.New("out of range")
	}
	return id, nil
}

package policy

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// A limitType says how values are compared with a limit.
type limitType struct {
	integer bool // both are cut to whole numbers first
	below   bool // the value must be less, otherwise it must be greater
}

// A limit is a role's limit of some type. Which of the numbers counts depends
// on the type.
type limit struct {
	limitType
	whole integer
	real  float64
}

// newLimit returns a limit. It fails when the JSON number is not finite as a
// floating-point number (IEEE 754 binary64).
func newLimit(t limitType, number string) (*limit, bool) {
	text := []byte(number)
	real, ok := realOfNumber(text)
	if !ok {
		return nil, false
	}
	whole, _ := wholeOfNumber(text) // has at most 309 digits, or it were not finite
	return &limit{limitType: t, whole: whole, real: real}, true
}

// WithinLimit reports whether a value, given as JSON text, is within a limit
// of a role. Its only error is [ErrUnknownRole].
//
// A limit that the role does not have is not limited: every value is within
// it. The limit itself is not within the limit.
//
// For limits of the type int, fractions are cut off and integers of up to
// 4,300 digits are compared exactly; for float, values are binary64 numbers.
// Booleans count as 1 and 0, and strings as the number that Python's int()
// or float() makes of them. What is no number, and what is not finite, is
// within no limit.
func (p *Policy) WithinLimit(role, limit string, value []byte) (bool, error) {
	r := p.roles[role]
	if r == nil {
		return false, ErrUnknownRole
	}
	l := r.limits[limit]
	return l == nil || l.holds(value), nil
}

func (l *limit) holds(value []byte) bool {
	if !jsontext.Value(value).IsValid() {
		return false
	}
	value = bytes.TrimSpace(value)
	var order int
	if l.integer {
		whole, ok := wholeOf(value)
		if !ok {
			return false
		}
		order = whole.compare(l.whole)
	} else {
		real, ok := realOf(value)
		if !ok {
			return false
		}
		order = cmp.Compare(real, l.real)
	}
	if l.below {
		return order < 0
	}
	return order > 0
}

// wholeOf converts a JSON value as Python's int() does.
func wholeOf(value []byte) (integer, bool) {
	switch value[0] {
	case 't':
		return integer{digits: []byte("1")}, true
	case 'f':
		return integer{}, true
	case '"':
		text, ok := pythonText(unquote(value))
		if !ok {
			return integer{}, false
		}
		return parseInteger(text)
	case 'n', '[', '{':
		return integer{}, false
	default:
		return wholeOfNumber(value)
	}
}

// wholeOfNumber converts a JSON number. One with a fraction or an exponent is
// a binary64 number first, as it is for Python.
func wholeOfNumber(number []byte) (integer, bool) {
	if !bytes.ContainsAny(number, ".eE") {
		return parseInteger(number)
	}
	real, ok := realOfNumber(number)
	if !ok {
		return integer{}, false
	}
	return parseInteger(strconv.AppendFloat(nil, math.Trunc(real), 'f', 0, 64))
}

// realOf converts a JSON value as Python's float() does, unless the result is
// not finite.
func realOf(value []byte) (float64, bool) {
	switch value[0] {
	case 't':
		return 1, true
	case 'f':
		return 0, true
	case '"':
		text, ok := pythonText(unquote(value))
		if !ok {
			return 0, false
		}
		return parseReal(text)
	case 'n', '[', '{':
		return 0, false
	default:
		return realOfNumber(value)
	}
}

// realOfNumber converts a JSON number that is finite as binary64.
func realOfNumber(number []byte) (float64, bool) {
	real, err := strconv.ParseFloat(string(number), 64)
	return real, err == nil
}

// unquote returns the characters of a valid JSON string.
func unquote(value []byte) []byte {
	text, _ := jsontext.AppendUnquote(nil, value)
	return text
}

// ErrNotCountable says that a limit has no span of time in its name, or that
// values must be greater than it.
var ErrNotCountable = errors.New("the limit cannot be counted")

// windows are the ends of the names of limits that can be counted, with the spans
// of time that they mean.
var windows = [...]struct {
	suffix string
	span   time.Duration
}{
	{"_per_second", time.Second},
	{"_per_minute", time.Minute},
	{"_per_hour", time.Hour},
	{"_per_day", 24 * time.Hour},
}

// A Quota is how often something may be done.
type Quota struct {
	// Limited is false when the role does not have the limit.
	Limited bool
	// Most is how often it may be done in any span of the length Per: the
	// limit without its fraction, from 0 to 2^53 - 1.
	Most int64
	Per  time.Duration
}

// Quota returns what a role's limit means for counting. Its name must end in
// _per_second, _per_minute, _per_hour or _per_day. The errors are
// [ErrUnknownRole] and [ErrNotCountable].
func (p *Policy) Quota(role, limit string) (Quota, error) {
	r := p.roles[role]
	if r == nil {
		return Quota{}, ErrUnknownRole
	}
	var q Quota
	for _, w := range windows {
		if strings.HasSuffix(limit, w.suffix) {
			q.Per = w.span
		}
	}
	l := r.limits[limit]
	if q.Per == 0 || l != nil && !l.below {
		return Quota{}, ErrNotCountable
	}
	if l != nil {
		const most = 1<<53 - 1
		q.Limited = true
		q.Most = int64(min(max(0, math.Floor(l.real)), most))
	}
	return q, nil
}

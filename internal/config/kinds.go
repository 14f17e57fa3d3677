package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A kind is how the text of an option's value becomes a field of Config.
type kind struct {
	// values says in a few words what is allowed.
	values string
	// placeholder stands for the value in the help of the command line.
	placeholder string
	// path marks the path of a file or directory.
	path bool
	// expand marks a value in which placeholders are replaced.
	expand bool
	// none marks a value that may be the word none, for no value.
	none bool
	// bare marks a switch: its flag needs no value.
	bare bool
	// set parses the text, which is not blank, into its field.
	set func(c *Config, text string) *Error
}

// text is a value that is taken as it is, without white space around it.
func text(values string, field func(*Config) *string) kind {
	return kind{values: values, placeholder: "TEXT", set: func(c *Config, text string) *Error {
		*field(c) = strings.TrimSpace(text)
		return nil
	}}
}

// expanded is a kind of value in which placeholders are replaced.
func expanded(k kind) kind {
	k.expand = true
	return k
}

// verbatim is a value in which white space counts, except for line ends
// around it.
func verbatim(values string, field func(*Config) *string) kind {
	return kind{values: values, placeholder: "TEXT", set: func(c *Config, text string) *Error {
		*field(c) = strings.Trim(text, "\r\n")
		return nil
	}}
}

func path(values string, field func(*Config) *string) kind {
	k := text(values, field)
	k.placeholder, k.path, k.expand = "PATH", true, true
	return k
}

// orNone is a kind of value that may also be the word none, for no value.
func orNone(k kind) kind {
	set := k.set
	k.values += ", or none"
	k.none = true
	k.set = func(c *Config, text string) *Error {
		if isNone(text) {
			return nil
		}
		return set(c, text)
	}
	return k
}

func isNone(text string) bool { return strings.EqualFold(strings.TrimSpace(text), "none") }

func integer(low, high int, field func(*Config) *int) kind {
	return kind{
		values: fmt.Sprintf("%d to %d", low, high), placeholder: "NUMBER",
		set: func(c *Config, text string) *Error {
			n, err := parseRange(text, low, high)
			if err != nil {
				return err
			}
			*field(c) = n
			return nil
		},
	}
}

// span is a length of time, given as a whole number of units.
func span(low, high int, unit time.Duration, unitName string, field func(*Config) *time.Duration) kind {
	return kind{
		values: fmt.Sprintf("%d to %d %s", low, high, unitName), placeholder: strings.ToUpper(unitName),
		set: func(c *Config, text string) *Error {
			n, err := parseRange(text, low, high)
			if err != nil {
				return err
			}
			*field(c) = time.Duration(n) * unit
			return nil
		},
	}
}

func boolean(field func(*Config) *bool) kind {
	return kind{
		values: "true or false, 1 or 0", placeholder: "BOOL", bare: true,
		set: func(c *Config, text string) *Error {
			switch strings.ToLower(strings.TrimSpace(text)) {
			case "true", "t", "1", "yes", "on":
				*field(c) = true
			case "false", "f", "0", "no", "off":
				*field(c) = false
			default:
				return invalid("is not true or false")
			}
			return nil
		},
	}
}

func choice(field func(*Config) *string, words ...string) kind {
	return kind{
		values: strings.Join(words, ", "), placeholder: strings.Join(words, "|"),
		set: func(c *Config, text string) *Error {
			word := strings.ToLower(strings.TrimSpace(text))
			if !slices.Contains(words, word) {
				return invalid("is not one of " + strings.Join(words, ", "))
			}
			*field(c) = word
			return nil
		},
	}
}

// hosts are host names, separated by semicolons.
func hosts() kind {
	return kind{values: "names, separated by semicolons", placeholder: "NAMES", set: func(c *Config, text string) *Error {
		c.AllowedHosts = nil
		for name := range strings.SplitSeq(text, ";") {
			name = strings.TrimSpace(name)
			if name != "" {
				c.AllowedHosts = append(c.AllowedHosts, name)
			}
		}
		if c.AllowedHosts == nil {
			return invalid("holds no name, so that no request would be let in")
		}
		return nil
	}}
}

// address is what to listen on, without its port.
func address() kind {
	return kind{values: "an IP address or a host name", placeholder: "ADDRESS", set: func(c *Config, text string) *Error {
		text = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "["), "]")
		if net.ParseIP(text) == nil && strings.ContainsAny(text, ":/ \t") {
			return invalid("is not an IP address or a host name; the port is an option of its own")
		}
		c.Listen = text
		return nil
	}}
}

// logLevel takes the words of Tornado, the Python server's framework.
func logLevel() kind {
	const words = "debug, info, warning, error, none"
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn, "error": slog.LevelError,
	}
	return kind{values: words, placeholder: "LEVEL", set: func(c *Config, text string) *Error {
		word := strings.ToLower(strings.TrimSpace(text))
		level, known := levels[word]
		if !known && word != "none" {
			return invalid("is not one of " + words)
		}
		c.LogLevel, c.LogOff = level, word == "none"
		return nil
	}}
}

// service is the base URL of a web service.
func service(field func(*Config) *string) kind {
	return kind{values: "an http or https URL", placeholder: "URL", set: func(c *Config, text string) *Error {
		text = strings.TrimSpace(text)
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
			return invalid("is not an http or https URL without a query")
		}
		*field(c) = strings.TrimRight(text, "/")
		return nil
	}}
}

// listener is a host, which may be empty for all addresses, and a port.
func listener(field func(*Config) *string) kind {
	return kind{values: "an address and a port", placeholder: "ADDRESS:PORT", set: func(c *Config, text string) *Error {
		text = strings.TrimSpace(text)
		_, port, err := net.SplitHostPort(text)
		if err != nil {
			return invalid("is not an address and a port such as 127.0.0.1:9431")
		}
		_, wrong := parseRange(port, 0, 65535)
		if wrong != nil {
			return wrong
		}
		*field(c) = text
		return nil
	}}
}

// sample is how many lines of the log there are at most, and of how many others one.
func sample() kind {
	return kind{values: "two numbers, with a colon between them, or none", placeholder: "FIRST:EVERY", none: true, set: func(c *Config, text string) *Error {
		if isNone(text) {
			return nil
		}
		first, every, ok := strings.Cut(text, ":")
		if !ok {
			return invalid("is not two numbers with a colon between them, such as 100:100")
		}
		for _, number := range []struct {
			text  string
			field *int
		}{{first, &c.LogSample}, {every, &c.LogEvery}} {
			n, err := parseRange(number.text, 1, 1_000_000)
			if err != nil {
				return err
			}
			*number.field = n
		}
		return nil
	}}
}

// share is a number from 0 to 1.
func share(field func(*Config) *float64) kind {
	return kind{values: "a number from 0 to 1", placeholder: "NUMBER", set: func(c *Config, text string) *Error {
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || !(n >= 0 && n <= 1) {
			return invalid("is not a number from 0 to 1")
		}
		*field(c) = n
		return nil
	}}
}

func rateLimits() kind {
	return kind{
		values: "name:number pairs, separated by semicolons, or none", placeholder: "LIMITS",
		set: func(c *Config, text string) *Error {
			limits, err := ParseRateLimits(text)
			if err != nil {
				return invalid("is wrong: " + err.Error())
			}
			c.RateLimits = limits
			return nil
		},
	}
}

// secret is one key or several. Docker's env files keep quotes, and no key
// has any.
func secret() kind {
	return kind{
		values: "keys, or the path of a file that holds them", placeholder: "KEYS|PATH",
		set: func(c *Config, text string) *Error {
			c.Secret = unquote(strings.TrimSpace(text))
			return nil
		},
	}
}

// ignored is an option of the Python server that has no meaning here.
func ignored() kind {
	return kind{placeholder: "VALUE", bare: true, set: func(*Config, string) *Error { return nil }}
}

// flagOnly is a value that says where the others come from; it is taken from
// the command line before anything else.
func flagOnly() kind {
	return kind{values: "a path", placeholder: "PATH", set: func(*Config, string) *Error { return nil }}
}

func parseRange(text string, low, high int) (int, *Error) {
	n, err := parseInt(text)
	if err != nil {
		return 0, invalid(fmt.Sprintf("is not a whole number from %d to %d", low, high))
	}
	if n < int64(low) || n > int64(high) {
		return 0, &Error{Code: CodeOutOfRange, Message: fmt.Sprintf("is outside the range from %d to %d", low, high)}
	}
	return int(n), nil
}

// wholeNumber is the form of a number that the Python server takes.
var wholeNumber = regexp.MustCompile(`^[+-]?[0-9]+(_[0-9]+)*$`)

// parseInt reads a whole number of decimal digits, which single underscores
// may group. A number that is too large for an int64 is taken as the largest.
func parseInt(text string) (int64, error) {
	text = strings.TrimSpace(text)
	if !wholeNumber.MatchString(text) {
		return 0, strconv.ErrSyntax
	}
	n, _ := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64) // only the range can be wrong, and n is then its end
	return n, nil
}

// unquote takes one pair of equal quotes off a text.
func unquote(text string) string {
	if len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0] {
		return text[1 : len(text)-1]
	}
	return text
}

// maxQuoted is how many bytes of a wrong value an error shows.
const maxQuoted = 60

// quote shows a value in an error.
func quote(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxQuoted {
		end := maxQuoted
		for !utf8.RuneStart(text[end]) {
			end--
		}
		return strconv.Quote(text[:end] + "…")
	}
	return strconv.Quote(text)
}

package config

import "strings"

// A Code says what kind of mistake an Error reports.
type Code string

// The kinds of mistake.
const (
	// CodeMissing: a required option has no value.
	CodeMissing Code = "missing"
	// CodeInvalid: a value, or an entry of a confvars file, has the wrong
	// form.
	CodeInvalid Code = "invalid"
	// CodeOutOfRange: a number is too small or too large.
	CodeOutOfRange Code = "out_of_range"
	// CodeNotFound: a file, an environment variable or a place in a JSON
	// text does not exist.
	CodeNotFound Code = "not_found"
	// CodeUnreadable: a file exists and cannot be read.
	CodeUnreadable Code = "unreadable"
	// CodeUnavailable: a URL did not deliver a value.
	CodeUnavailable Code = "unavailable"
	// CodeSyntax: an envfile or a confvars file cannot be understood.
	CodeSyntax Code = "syntax"
	// CodeUnknown: a name is not that of an option or of a key.
	CodeUnknown Code = "unknown"
)

// An Error is one mistake in the configuration. Its text shows no value of an
// option that is a secret, nor one that came from a file or a URL.
type Error struct {
	// Option is the option's name, "" if the mistake belongs to none.
	Option string
	// Origin says where the mistake is: a flag, an environment variable, a
	// file with a line number or a JSON path, or a URL. It may be "".
	Origin string
	Code   Code
	// Message says what is wrong and what would be right.
	Message string

	cause error
}

func (e *Error) Error() string { return join(e.Option, e.Origin, e.Message) }

// Unwrap returns the error of the operating system that is behind this one,
// if there is one.
func (e *Error) Unwrap() error { return e.cause }

// at returns the error with the names that the place that found it didn't
// know.
func (e *Error) at(option, origin string) *Error {
	if e.Option == "" {
		e.Option = option
	}
	if e.Origin == "" {
		e.Origin = origin
	}
	return e
}

func invalid(message string) *Error { return &Error{Code: CodeInvalid, Message: message} }

// A Notice is something that the operator should know although it doesn't
// stop the server. It shows no secret.
type Notice struct {
	// Option is the option's name, "" if the notice belongs to none.
	Option string
	// Origin is as in Error.
	Origin  string
	Message string
}

func (n Notice) String() string { return join(n.Option, n.Origin, n.Message) }

func join(option, origin, message string) string {
	if option != "" && origin != "" {
		option, origin = option+" ("+origin+")", ""
	}
	var parts []string
	for _, part := range []string{option, origin, message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

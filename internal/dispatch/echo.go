package dispatch

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Echo returns the text of an echo request with the member dbtest added, which
// holds what the function returns.
func Echo(text []byte, dbtest func() (any, error)) ([]byte, error) {
	members, err := split(nil, text)
	if err != nil {
		return nil, err
	}
	isEcho := false
	var out []byte
	for _, m := range members {
		if string(m.Name) == "dbtest" {
			continue
		}
		if !m.Value.IsValid() {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, errUnclean)
		}
		isEcho = isEcho || string(m.Name) == "request" && string(m.Value) == `"echo"`
		out = appendMember(out, string(m.Name), m.Value)
	}
	if !isEcho {
		return nil, fmt.Errorf("%w: request is not echo", ErrMalformed)
	}
	rows, err := dbtest()
	if err != nil {
		return nil, fmt.Errorf("read the database: %w", err)
	}
	value, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("encode rows: %w", err)
	}
	return append(appendMember(out, "dbtest", value), '}'), nil
}

func appendMember(out []byte, name string, value jsontext.Value) []byte {
	separator := byte(',')
	if out == nil {
		separator = '{'
	}
	out = append(out, separator)
	// The error only tells that invalid UTF-8 was replaced.
	out, _ = jsontext.AppendQuote(out, name)
	return append(append(out, ':'), value...)
}

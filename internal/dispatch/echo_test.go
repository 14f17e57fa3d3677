package dispatch_test

import (
	"errors"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/dispatch"
)

func TestEcho(t *testing.T) {
	rows := func() (any, error) { return []string{"a", "b"}, nil }
	for text, want := range map[string]string{
		`{"request": "echo", "reqid" : 1.0, "body": {"x" :"\u00e9"}}`: `{"request":"echo","reqid":1.0,"body":{"x" :"\u00e9"},"dbtest":["a","b"]}`,
		`{"dbtest": "forged", "request": "echo"}`:                     `{"request":"echo","dbtest":["a","b"]}`,
		`{"request": "echo", "\"": 1, "\u00e9": {}}`:                  `{"request":"echo","\"":1,"é":{},"dbtest":["a","b"]}`,
	} {
		got, err := dispatch.Echo([]byte(text), rows)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]error{
		``: dispatch.ErrNotAuthentic, `{}`: dispatch.ErrNotAuthentic, `[]`: dispatch.ErrNotAuthentic, `{"request": "echo"`: dispatch.ErrNotAuthentic,
		`7`: dispatch.ErrMalformed, `{"request": "user-list"}`: dispatch.ErrMalformed, `{"request": ["echo"]}`: dispatch.ErrMalformed,
		`{"x": "echo"}`: dispatch.ErrMalformed, `{"request": "echo", "request": "echo"}`: dispatch.ErrMalformed,
		`{"request": "echo", "x": "\ud800"}`: dispatch.ErrMalformed, "{\"request\": \"echo\", \"x\": \"\xff\"}": dispatch.ErrMalformed,
		`{"request": "echo", "x": {"a": 1, "a": 2}}`: dispatch.ErrMalformed,
	} {
		got, err := dispatch.Echo([]byte(text), rows)
		if !errors.Is(err, want) {
			t.Errorf("%s: %s, %v, want %v", text, got, err, want)
		}
	}
	failed := errors.New("no database")
	_, err := dispatch.Echo([]byte(`{"request": "echo"}`), func() (any, error) { return nil, failed })
	if !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}

func FuzzEcho(f *testing.F) {
	f.Add([]byte(`{"request": "echo", "reqid": 1, "body": {"a": "\ud800"}}`))
	f.Add([]byte("{\"request\": \"echo\", \"\xff\": 1, \"\xfe\": 2}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := dispatch.Echo(text, func() (any, error) { return nil, nil })
		if err != nil {
			if !errors.Is(err, dispatch.ErrNotAuthentic) && !errors.Is(err, dispatch.ErrMalformed) {
				t.Errorf("unclassified: %v", err)
			}
			return
		}
		if !jsontext.Value(got).IsValid() {
			t.Errorf("%q is not JSON", got)
		}
	})
}

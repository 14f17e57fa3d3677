package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An Entry of a confvars file says how one option's value is found. All
// members may be absent.
type Entry struct {
	Env      []string       `json:"env,omitzero" help:"Names of environment variables (also in the envfile) that are tried before the option's own."`
	Default  jsontext.Value `json:"default,omitzero" help:"The value when nothing else gives one: a string, a number or a boolean. It does not go with file or http, whose failure is an error."`
	File     string         `json:"file,omitzero" help:"The path of the file that holds the value. Line ends around its text are dropped."`
	HTTP     *Request       `json:"http,omitzero" help:"The request whose answer holds the value."`
	From     string         `json:"from,omitzero" help:"The word value: what the flag, the environment, the envfile or default gives is the path or the URL of the value. http may then say how to ask, without url."`
	JSONPath string         `json:"json_path,omitzero" help:"The place of the value in a JSON text: names and, for arrays, positions from 0, separated by dots, such as data.keys.0. The Python server's form _arr_0 means the same. What stands there is a string, a number or a boolean."`
	Decode   Steps          `json:"decode,omitzero" help:"What is done with the value last, one word or an array of words: base64 (either alphabet, padded or not), trim (drops white space around it)."`
}

// A Request is an HTTP request of a confvars file. TLS certificates are
// verified, and redirects are followed on the same host only, so that headers
// stay there.
type Request struct {
	URL     string            `json:"url,omitzero" help:"An http or https URL."`
	Method  string            `json:"method,omitzero" help:"GET or POST. Without it POST if there is a form or a body, otherwise GET."`
	Headers map[string]string `json:"headers,omitzero" help:"Header fields."`
	Query   map[string]string `json:"query,omitzero" help:"Parameters that are added to the query of the URL."`
	Form    map[string]string `json:"form,omitzero" help:"A body in the form of a web form."`
	Body    jsontext.Value    `json:"body,omitzero" help:"A body: a string as it is, anything else as JSON."`
	Timeout string            `json:"timeout,omitzero" help:"How long everything may take, such as 500ms or 10s; at most 60s. Without it 5s."`
}

// Steps are the names of what is done with a value. In JSON one step may
// stand without an array.
type Steps []string

// UnmarshalJSON reads a string or an array of strings.
func (s *Steps) UnmarshalJSON(data []byte) error {
	if jsontext.Value(data).Kind() == '"' {
		*s = Steps{""}
		return json.Unmarshal(data, &(*s)[0])
	}
	return json.Unmarshal(data, (*[]string)(s))
}

const (
	fromValue = "value"

	stepBase64 = "base64"
	stepTrim   = "trim"

	// defaultTimeout is the Python server's.
	defaultTimeout = 5 * time.Second
	maxTimeout     = time.Minute
)

// envName is the form of a name in the environment (POSIX.1-2024 §8.1), in
// either case.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// parseConfvars reads a confvars file. It returns the entries that are right
// and the mistakes of the others.
func parseConfvars(path string) (map[string]Entry, []*Error) {
	if strings.HasSuffix(strings.ToLower(path), ".py") {
		return nil, []*Error{{Origin: path, Code: CodeInvalid, Message: "the file is a program of the Python server, and this one runs none: " +
			"write a JSON file in its place, an object from option names to entries, " +
			`in which readable_from_file "string" becomes {"from": "value"}, ("json", path) becomes {"from": "value", "json_path": path}, ` +
			`("http", method, …) becomes {"from": "value", "http": …}, env and default keep their names, and postprocess_value becomes decode; ` +
			"options that were not changed need no entry"}}
	}
	data, _, err := readFile(path)
	if err != nil {
		return nil, []*Error{err}
	}
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, []*Error{confvarsSyntax(path, data, err)}
	}
	var errs []*Error
	entries := map[string]Entry{}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		place := path + ": " + name
		o, known := lookup(name)
		if !known || o.bootstrap() {
			message := "there is no option of this name"
			if known {
				message = "the option comes from the command line alone"
			}
			errs = append(errs, &Error{Origin: place, Code: CodeUnknown, Message: message})
			continue
		}
		var entry Entry
		if err := json.Unmarshal(raw[name], &entry, json.RejectUnknownMembers(true)); err != nil {
			errs = append(errs, entryError(place, err).at(name, ""))
			continue
		}
		problems := entry.problems()
		for _, problem := range problems {
			errs = append(errs, invalid(problem.message).at(name, place+problem.member))
		}
		if len(problems) == 0 {
			entries[name] = entry
		}
	}
	return entries, errs
}

// confvarsSyntax describes a file that isn't a JSON object.
func confvarsSyntax(path string, data []byte, err error) *Error {
	var syntax *jsontext.SyntacticError
	if !errors.As(err, &syntax) {
		return &Error{Origin: path, Code: CodeSyntax, Message: "the file isn't a JSON object of option names and entries"}
	}
	offset := min(int(syntax.ByteOffset), len(data))
	line := 1 + bytes.Count(data[:offset], []byte("\n"))
	message := "the text isn't valid JSON"
	if errors.Is(err, jsontext.ErrDuplicateName) {
		message = "a name stands twice in one object: " + dotted(syntax.JSONPointer)
	}
	return &Error{Origin: path + ":" + strconv.Itoa(line), Code: CodeSyntax, Message: message}
}

// entryError describes an entry that isn't of Entry's form.
func entryError(place string, err error) *Error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return &Error{Origin: place, Code: CodeSyntax, Message: "the entry can't be read"}
	}
	if member := dotted(semantic.JSONPointer); member != "" {
		place += "." + member
	}
	if errors.Is(err, json.ErrUnknownName) {
		return &Error{Origin: place, Code: CodeUnknown, Message: "there is no member of this name"}
	}
	return &Error{Origin: place, Code: CodeInvalid, Message: "the value has the wrong type"}
}

// dotted writes a JSON pointer (RFC 6901) with dots.
func dotted(pointer jsontext.Pointer) string {
	return strings.Join(slices.Collect(pointer.Tokens()), ".")
}

// A problem is what is wrong with a member of an entry.
type problem struct{ member, message string }

// problems checks what the types don't say.
func (e *Entry) problems() []problem {
	var all []problem
	report := func(member, message string) { all = append(all, problem{member, message}) }
	for i, name := range e.Env {
		if !envName.MatchString(name) {
			report(".env."+strconv.Itoa(i), "the text isn't the name of an environment variable")
		}
	}
	if e.Default != nil {
		if _, err := scalar(e.Default); err != nil {
			report(".default", err.Error())
		}
	}
	switch {
	case e.From != "" && e.From != fromValue:
		report(".from", "the only word that may stand here is value")
	case e.From != "" && e.File != "":
		report(".file", "file and from exclude each other")
	case e.File != "" && e.HTTP != nil:
		report(".file", "file and http exclude each other")
	}
	if e.Default != nil && e.From == "" && (e.File != "" || e.HTTP != nil) {
		report(".default", "there is no default beside file or http, since a value that can't be had from there is an error")
	}
	if e.HTTP != nil {
		all = append(all, e.HTTP.problems(e.From != "")...)
	}
	if e.JSONPath != "" && slices.Contains(strings.Split(e.JSONPath, "."), "") {
		report(".json_path", "a name or a position is missing beside a dot")
	}
	for _, step := range e.Decode {
		if step != stepBase64 && step != stepTrim {
			report(".decode", "there is no step "+quote(step)+", only base64 and trim")
		}
	}
	return all
}

func (r *Request) problems(urlElsewhere bool) []problem {
	var all []problem
	report := func(member, message string) { all = append(all, problem{".http." + member, message}) }
	switch {
	case urlElsewhere && r.URL != "":
		report("url", "the URL is the value itself, since there is a from")
	case !urlElsewhere && !isURL(r.URL):
		report("url", "there must be an http or https URL")
	}
	hasBody := r.Form != nil || r.Body != nil
	switch strings.ToUpper(r.Method) {
	case "":
	case "GET":
		if hasBody {
			report("method", "a request with a form or a body is a POST")
		}
	case "POST":
	default:
		report("method", "the method is neither GET nor POST")
	}
	if r.Form != nil && r.Body != nil {
		report("form", "form and body exclude each other")
	}
	if _, err := r.timeout(); err != nil {
		report("timeout", err.Error())
	}
	return all
}

func (r *Request) timeout() (time.Duration, error) {
	if r.Timeout == "" {
		return defaultTimeout, nil
	}
	timeout, err := time.ParseDuration(r.Timeout)
	if err != nil || timeout <= 0 || timeout > maxTimeout {
		return 0, fmt.Errorf("the text isn't a length of time of at most %s, such as 500ms or 10s", maxTimeout)
	}
	return timeout, nil
}

func isURL(text string) bool {
	scheme, rest, found := strings.Cut(text, "://")
	return found && rest != "" && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// scalar returns the text of a JSON string, number or boolean.
func scalar(value jsontext.Value) (string, error) {
	switch value.Kind() {
	case '"':
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return "", errors.New("the string isn't valid Unicode")
		}
		return text, nil
	case '0', 't', 'f':
		return strings.TrimSpace(string(value)), nil
	default:
		return "", errors.New("what stands there is not a string, a number or a boolean")
	}
}

package config

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// retrieve applies an option's entry to what the flag, the environment or the
// envfile gave, which may be blank.
func (l *loader) retrieve(o *option, e Entry, given found) (found, *Error) {
	hasSource := e.File != "" || e.HTTP != nil
	if e.From == "" && hasSource {
		if !blank(given.text) {
			return given, nil
		}
		return l.process(o, e, e.File)
	}
	if blank(given.text) && e.Default != nil {
		text, err := scalar(e.Default)
		if err != nil {
			return found{}, invalid(err.Error())
		}
		given = found{text: text, origin: "default in the confvars file", shown: true}
	}
	switch {
	case blank(given.text):
		return found{}, nil
	case e.From == fromValue:
		return l.process(o, e, strings.TrimSpace(given.text))
	case e.JSONPath != "" || e.Decode != nil:
		return decode(e, given.text, given.origin)
	default:
		return given, nil
	}
}

// process reads the value from a file, or from a URL if the place is one or
// if the entry has one of its own.
func (l *loader) process(o *option, e Entry, place string) (found, *Error) {
	if place != "" && !isURL(place) {
		path, err := l.fill(place)
		if err != nil {
			return found{}, err
		}
		path = l.absolute(path)
		text, err := l.readText(o, path)
		if err != nil {
			return found{}, err
		}
		return decode(e, text, path)
	}
	request := Request{}
	if e.HTTP != nil {
		request = *e.HTTP
	}
	if place != "" {
		request.URL = place
	}
	origin := redact(request.URL)
	text, err := l.fetch(request)
	if err != nil {
		return found{}, err.at("", origin)
	}
	return decode(e, text, origin)
}

// decode finds the value in a text and decodes it.
func decode(e Entry, text, origin string) (found, *Error) {
	if e.JSONPath != "" {
		value, err := walk([]byte(text), e.JSONPath)
		if err != nil {
			return found{}, err.at("", origin)
		}
		text = value
	}
	for _, step := range e.Decode {
		switch step {
		case stepTrim:
			text = strings.TrimSpace(text)
		case stepBase64:
			decoded, err := decodeBase64(text)
			if err != nil {
				return found{}, invalid("base64: "+err.Error()).at("", origin)
			}
			text = decoded
		}
	}
	if blank(text) {
		return found{}, invalid("the value that was found is blank").at("", origin)
	}
	return found{text: text, origin: origin, final: true}, nil
}

// decodeBase64 takes the two alphabets of RFC 4648, padding or none, and
// white space anywhere.
func decodeBase64(text string) (string, error) {
	text = strings.Join(strings.Fields(text), "")
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	decoded, err := base64.RawStdEncoding.DecodeString(text)
	switch {
	case err != nil:
		return "", errors.New("the value isn't base64")
	case !utf8.Valid(decoded):
		return "", errors.New("what the value encodes isn't text")
	default:
		return string(decoded), nil
	}
}

// walk returns the text at a place in a JSON text.
func walk(data []byte, path string) (string, *Error) {
	value := jsontext.Value(data)
	if !value.IsValid() {
		return "", invalid("the text isn't valid JSON, so that json_path finds nothing in it")
	}
	steps := strings.Split(path, ".")
	for i, step := range steps {
		next := element(value, step)
		if next == nil {
			return "", &Error{
				Code:    CodeNotFound,
				Message: fmt.Sprintf("json_path %s: the JSON text has nothing at %s", path, strings.Join(steps[:i+1], ".")),
			}
		}
		value = next
	}
	text, err := scalar(value)
	if err != nil {
		return "", invalid(fmt.Sprintf("json_path %s: %s", path, err))
	}
	return text, nil
}

// element returns a member of an object or an element of an array, nil if
// there is none.
func element(value jsontext.Value, step string) jsontext.Value {
	switch value.Kind() {
	case '{':
		var members map[string]jsontext.Value
		if err := json.Unmarshal(value, &members); err != nil {
			return nil // unreachable: the text is valid
		}
		return members[step]
	case '[':
		position, err := strconv.ParseUint(strings.TrimPrefix(step, "_arr_"), 10, 32)
		var elements []jsontext.Value
		if err != nil || json.Unmarshal(value, &elements) != nil || position >= uint64(len(elements)) {
			return nil
		}
		return elements[position]
	default:
		return nil
	}
}

// variable is a placeholder for a variable of the environment.
var variable = regexp.MustCompile(`\[\[\w+\]\]`)

// fill replaces [[basedir]], [[homedir]] and [[NAME]], which stands for a
// variable of the environment or the envfile.
func (l *loader) fill(template string) (string, *Error) {
	var missing string
	filled := variable.ReplaceAllStringFunc(l.substitute(template), func(placeholder string) string {
		name := placeholder[2 : len(placeholder)-2]
		for _, value := range []string{l.environ[name], l.envfile[strings.ToUpper(name)].Value} {
			if !blank(value) {
				return value
			}
		}
		missing = name
		return ""
	})
	if missing != "" {
		return "", &Error{Code: CodeNotFound, Message: "[[" + missing + "]] stands for a variable that neither the environment nor the envfile has"}
	}
	return filled, nil
}

// fillAll replaces placeholders in the values of a map.
func (l *loader) fillAll(templates map[string]string) (map[string]string, *Error) {
	filled := make(map[string]string, len(templates))
	for name, template := range templates {
		value, err := l.fill(template)
		if err != nil {
			return nil, err
		}
		filled[name] = value
	}
	return filled, nil
}

// fillBody replaces placeholders in the strings of a JSON body.
func (l *loader) fillBody(body jsontext.Value) (string, *Error) {
	if body.Kind() == '"' {
		text, err := scalar(body)
		if err != nil {
			return "", invalid("http.body: " + err.Error())
		}
		return l.fill(text)
	}
	var content any
	if err := json.Unmarshal(body, &content); err != nil {
		return "", invalid("http.body can't be read")
	}
	content, err := l.fillJSON(content)
	if err != nil {
		return "", err
	}
	text, marshalErr := json.Marshal(content, json.Deterministic(true))
	if marshalErr != nil {
		return "", invalid("http.body can't be written as JSON")
	}
	return string(text), nil
}

func (l *loader) fillJSON(content any) (any, *Error) {
	var err *Error
	switch content := content.(type) {
	case string:
		return l.fill(content)
	case []any:
		for i := range content {
			if content[i], err = l.fillJSON(content[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for name := range content {
			if content[name], err = l.fillJSON(content[name]); err != nil {
				return nil, err
			}
		}
	}
	return content, nil
}

// A response is what a URL answered. Options whose requests are the same
// share one.
type response struct {
	text string
	err  *Error
}

// fetch sends a request and returns the text of the answer, without the line
// ends around it.
func (l *loader) fetch(r Request) (string, *Error) {
	filled, err := l.fillRequest(r)
	if err != nil {
		return "", err
	}
	key, marshalErr := json.Marshal(filled, json.Deterministic(true))
	if marshalErr != nil {
		return "", invalid("the request can't be written as JSON")
	}
	answer, asked := l.responses[string(key)]
	if !asked {
		answer.text, answer.err = send(filled)
		l.responses[string(key)] = answer
	}
	if answer.err != nil {
		// Each option has an error of its own, since each gets its name.
		shared := *answer.err
		return "", &shared
	}
	return answer.text, nil
}

// fillRequest replaces placeholders in a request. Its body is then a JSON
// string of what is to be sent.
func (l *loader) fillRequest(r Request) (filledRequest, *Error) {
	var f filledRequest
	var err *Error
	f.Method = strings.ToUpper(r.Method)
	if f.URL, err = l.fill(r.URL); err != nil {
		return f, err
	}
	if f.Headers, err = l.fillAll(r.Headers); err != nil {
		return f, err
	}
	query, err := l.fillAll(r.Query)
	if err != nil {
		return f, err
	}
	u, parseErr := url.Parse(f.URL)
	if parseErr != nil || u.Host == "" {
		return f, invalid("the text isn't a URL")
	}
	if len(query) > 0 {
		parameters := u.Query()
		for name, value := range query {
			parameters.Set(name, value)
		}
		u.RawQuery = parameters.Encode()
	}
	f.URL = u.String()
	if f.Body, f.Type, err = l.fillContent(r); err != nil {
		return f, err
	}
	if f.Method == "" {
		f.Method = http.MethodGet
		if r.Form != nil || r.Body != nil {
			f.Method = http.MethodPost
		}
	}
	f.Timeout = r.Timeout
	return f, nil
}

// fillContent returns the body of a request and its media type.
func (l *loader) fillContent(r Request) (body, mediaType string, err *Error) {
	switch {
	case r.Form != nil:
		fields, err := l.fillAll(r.Form)
		if err != nil {
			return "", "", err
		}
		form := url.Values{}
		for name, value := range fields {
			form.Set(name, value)
		}
		return form.Encode(), "application/x-www-form-urlencoded", nil
	case r.Body != nil:
		body, err := l.fillBody(r.Body)
		if r.Body.Kind() == '"' {
			return body, "text/plain; charset=utf-8", err
		}
		return body, "application/json", err
	default:
		return "", "", nil
	}
}

// A filledRequest is a request without placeholders.
type filledRequest struct {
	Method, URL, Body, Type string
	Headers                 map[string]string
	Timeout                 string
}

// send sends a request. Its errors show neither the URL nor what was sent.
func send(r filledRequest) (string, *Error) {
	unavailable := func(message string) (string, *Error) {
		return "", &Error{Code: CodeUnavailable, Message: message}
	}
	request, err := http.NewRequest(r.Method, r.URL, strings.NewReader(r.Body))
	if err != nil {
		return unavailable("the request can't be made")
	}
	if r.Type != "" {
		request.Header.Set("Content-Type", r.Type)
	}
	for name, value := range r.Headers {
		if strings.EqualFold(name, "Host") {
			request.Host = value
			continue
		}
		request.Header.Set(name, value)
	}
	timeout, err := (&Request{Timeout: r.Timeout}).timeout()
	if err != nil {
		return unavailable(err.Error())
	}
	client := http.Client{Timeout: timeout, CheckRedirect: checkRedirect}
	answer, err := client.Do(request)
	if err != nil {
		return unavailable(transportMessage(err, r.Timeout))
	}
	defer answer.Body.Close()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return unavailable(fmt.Sprintf("the answer is %d %s", answer.StatusCode, http.StatusText(answer.StatusCode)))
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxFile+1))
	if err != nil {
		return unavailable("reading the answer: " + transportMessage(err, r.Timeout))
	}
	if len(data) > maxFile {
		return unavailable(fmt.Sprintf("the answer has more than %d bytes", maxFile))
	}
	return strings.Trim(string(data), "\r\n"), nil
}

var errRedirect = errors.New("the answer is a redirect to another server, which isn't followed")

// maxRedirects is net/http's own limit.
const maxRedirects = 10

// checkRedirect keeps headers and bodies, which may hold credentials, on the
// server that they are meant for.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case next.URL.Host != first.Host || next.URL.Scheme != first.Scheme:
		return errRedirect
	case len(via) >= maxRedirects:
		return errors.New("there are too many redirects")
	default:
		return nil
	}
}

// transportMessage describes an error of net/http. Only errors of known kinds
// are shown, since others may quote the URL or the answer.
func transportMessage(err error, timeout string) string {
	var (
		waiting     net.Error
		network     *net.OpError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &waiting) && waiting.Timeout():
		if timeout == "" {
			timeout = defaultTimeout.String()
		}
		return "there was no answer within " + timeout
	case errors.Is(err, errRedirect):
		return errRedirect.Error()
	case errors.As(err, &certificate):
		return certificate.Error()
	case errors.As(err, &network):
		return network.Error()
	default:
		return "the connection broke, or what answered doesn't speak HTTP"
	}
}

// redact drops what may be secret from a URL: credentials, the query and the
// fragment.
func redact(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the URL"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

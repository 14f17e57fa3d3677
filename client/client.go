// Package client asks an authnzerver from Go.
//
//	c, err := client.New(client.Options{URL: "http://127.0.0.1:13431/", Secret: secret})
//	…
//	session, err := client.Do(ctx, c, api.SessionNew, api.SessionNewParams{
//		IPAddress: "192.0.2.7", UserAgent: r.UserAgent(),
//		Expires: time.Now().Add(24 * time.Hour).UTC().Format("2006-01-02T15:04:05.000000"),
//	})
//
// A request that the server understood and did not grant ends in an
// [*api.Failure], whose code callers switch on:
//
//	var failure *api.Failure
//	switch {
//	case errors.As(err, &failure) && failure.Code == api.CodeInvalidCredentials:
//
// or, for one code, errors.Is(err, api.Fail(api.CodeInvalidCredentials)).
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/api"
	"authnzerver/internal/wire"
)

// DefaultTimeout bounds a request when Options have no other. It is longer
// than the server works on one request, so that the server's own, clearer
// failure arrives first.
const DefaultTimeout = 6 * time.Second

// maxReply is the longest reply that is read, in bytes. A list of a hundred
// thousand users is shorter.
const maxReply = 256 << 20

// Errors of this package beside [*api.Failure] and [*StatusError]. Use
// errors.Is.
var (
	// ErrConnection: the server could not be reached or did not answer. It
	// is unknown whether the request was done.
	ErrConnection = errors.New("no answer from the server")
	// ErrReply: the answer was not sealed with this secret, or is not the
	// answer to this request.
	ErrReply = errors.New("the answer is not valid")
)

// A StatusError is an answer that was refused before it reached a request:
// 400 for a malformed or unknown request, 401 for another secret, a clock that
// is off or a repeated message, 404 for a host name that the server does not
// accept, 429 for too many requests.
type StatusError struct {
	// Status is the HTTP status.
	Status int
	// Text is the beginning of the answer.
	Text string
	// RetryAfter is how long to wait before the next try; 0 when the server
	// did not say.
	RetryAfter time.Duration
}

// Error returns the server's text, and what a 400 or a 401 usually means.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d: %s", e.Status, strings.TrimPrefix(e.Text, fmt.Sprintf("HTTP %d: ", e.Status)))
	switch e.Status {
	case http.StatusBadRequest:
		return text + " Is the request's name right?"
	case http.StatusUnauthorized:
		return text + " Is the secret the server's, and are both clocks right?"
	default:
		return text
	}
}

// Options configure a Client.
type Options struct {
	// URL is where the server listens, for example http://127.0.0.1:13431/.
	URL string
	// Secret is the pre-shared key, or several as the server's option has
	// them; the first seals requests.
	Secret string
	// Timeout bounds each request, whatever its context; DefaultTimeout
	// when 0.
	Timeout time.Duration
	// HTTP sends the requests; a client of its own, which keeps connections,
	// when nil.
	HTTP *http.Client
	// Now is the clock that requests are stamped with; time.Now when nil.
	Now func() time.Time
}

// A Client talks to one server. It keeps connections open between requests
// and is safe for concurrent use.
type Client struct {
	url     string
	keys    *wire.KeyRing
	timeout time.Duration
	http    *http.Client
	now     func() time.Time
}

// New returns a Client. It does not connect yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("URL %q is not of the form http://127.0.0.1:13431/", o.URL)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	keys, err := wire.ParseKeys(o.Secret)
	if err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	c := &Client{url: u.String(), keys: keys, timeout: o.Timeout, http: o.HTTP, now: o.Now}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = 64
		transport.DisableCompression = true
		c.http = &http.Client{
			Transport: transport,
			// The answer to a redirected request would be for another server.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return c, nil
}

type clientAddrKey struct{}

// WithClientAddr returns a context whose requests name the end user's address,
// which the server counts its limits by.
func WithClientAddr(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, clientAddrKey{}, addr)
}

// Do sends a request and returns its result. The error is an [*api.Failure],
// a [*StatusError], or wraps ErrConnection or ErrReply.
func Do[P, R any](ctx context.Context, c *Client, request api.Request[P, R], params P) (R, error) {
	var none R
	body, err := json.Marshal(params)
	if err != nil {
		return none, fmt.Errorf("encode the parameters of %s: %w", request.Spec().Name, err)
	}
	reply, err := c.Call(ctx, request.Spec().Name, body)
	if err != nil {
		return none, err
	}
	if !reply.Success {
		return none, reply.Failure
	}
	result, err := request.Result(reply)
	if err != nil {
		return none, fmt.Errorf("%w: %w", ErrReply, err)
	}
	return result, nil
}

// Call sends a request by name, with its parameters as a JSON object, and
// returns the reply whether or not it is a success.
func (c *Client) Call(ctx context.Context, name string, body jsontext.Value) (*api.Reply, error) {
	if body.Kind() != '{' {
		return nil, fmt.Errorf("the parameters of %s are not a JSON object", name)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	reqid := newReqID()
	envelope := struct {
		Request    string         `json:"request"`
		Body       jsontext.Value `json:"body"`
		ReqID      string         `json:"reqid"`
		ClientAddr string         `json:"client_ipaddr,omitzero"`
	}{Request: name, Body: body, ReqID: reqid}
	envelope.ClientAddr, _ = ctx.Value(clientAddrKey{}).(string)
	text, err := json.Marshal(envelope)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	sealed, err := c.post(ctx, c.keys.AppendSeal(nil, text, 0, c.now()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	message, err := c.keys.Open(sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrReply, err)
	}
	reply, err := api.ParseReply(message.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrReply, err)
	}
	// Without this, a recorded answer could be passed off as the answer to
	// another request.
	var echoed string
	err = json.Unmarshal(reply.ReqID, &echoed)
	if err != nil || echoed != reqid {
		return nil, fmt.Errorf("%s: %w: it has another reqid", name, ErrReply)
	}
	return reply, nil
}

// newReqID returns 128 random bits as text.
func newReqID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (c *Client) post(ctx context.Context, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the HTTP request: %w", err)
	}
	request.Header.Set("Content-Type", "text/plain; charset=UTF-8")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	defer response.Body.Close()
	limit := int64(maxReply)
	if response.StatusCode != http.StatusOK {
		limit = 512
	}
	var text bytes.Buffer
	_, err = text.ReadFrom(io.LimitReader(response.Body, limit))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnection, err)
	}
	if response.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 when absent or a date
		return nil, &StatusError{
			Status:     response.StatusCode,
			Text:       strings.TrimSpace(strings.ToValidUTF8(text.String(), "")),
			RetryAfter: time.Duration(max(0, seconds)) * time.Second,
		}
	}
	return text.Bytes(), nil
}

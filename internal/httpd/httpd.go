// Package httpd is the server's door: it takes sealed requests over HTTP,
// refuses what is not one as early and as cheaply as it can, and sends sealed
// replies.
package httpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/internal/dispatch"
	"authnzerver/internal/event"
	"authnzerver/internal/pii"
	"authnzerver/internal/tracing"
	"authnzerver/internal/wire"
)

// Limits of one HTTP request.
const (
	// MaxBody is the longest body that is read, in bytes.
	MaxBody = 1 << 20
	// MaxHeader is the longest header that is read, in bytes.
	MaxHeader = 16 << 10
	// requestTime bounds the work for one request. Published clients give up
	// after 5 s, and a late answer costs as much as a timely one.
	requestTime = 4500 * time.Millisecond
	// headerTime and bodyTime bound how long a slow client may take to send.
	headerTime = 5 * time.Second
	bodyTime   = 15 * time.Second
	// writeTime bounds reading, working and writing together.
	writeTime = 30 * time.Second
	// idleTime is how long an unused connection is kept.
	idleTime = 10 * time.Minute
)

// Options configure a Handler.
type Options struct {
	// AllowedHosts are the accepted names of the Host header, without ports;
	// letter case does not matter.
	AllowedHosts []string
	// Keys open requests and seal replies.
	Keys *wire.KeyRing
	// Accept refuses messages that are too old or were seen before.
	Accept func(context.Context, *wire.Message, time.Time) error
	// Do answers the request; see [dispatch.Table.Do].
	Do func(ctx context.Context, dst []byte, in *dispatch.Incoming) ([]byte, dispatch.Outcome, error)
	// Health reports what works.
	Health func(context.Context) Health
	// Echo, when not nil, answers POST /echo from the loopback address with
	// the request itself and what Echo returns under the key dbtest.
	Echo func(context.Context) (any, error)
	// Tracer makes spans of requests; nil for none.
	Tracer *tracing.Tracer
	// Observe, when not nil, is given the record of each request when it has ended.
	Observe func(*event.Record)
	// Log takes one record for each request.
	Log *slog.Logger
	// Sampler thins out the log; nil to log all.
	Sampler *event.Sampler
	// Hasher hashes personal data for the log.
	Hasher *pii.Hasher
	// Now is the time of day, for messages.
	Now func() time.Time
}

// A Health is the answer to GET /health.
type Health struct {
	// Workers is the number of requests that can hash a password at once.
	Workers int
	// Err says why the server is not healthy; nil when it is.
	Err error
	// PolicyErr says why the newest policy file is not in force; nil when it
	// is. The server is healthy with the older one.
	PolicyErr error
	// Shared reports that nodes share a store, and SharedErr why it cannot be
	// used; nil when it can. The server is healthy without it.
	Shared    bool
	SharedErr error
}

// A Handler serves HTTP. It is safe for concurrent use.
type Handler struct {
	Options
	hosts []string // in lower case
	// stopping is closed when the server begins to stop.
	stopping chan struct{}
}

// New returns a Handler.
func New(o Options) *Handler {
	h := &Handler{Options: o, stopping: make(chan struct{})}
	for _, host := range o.AllowedHosts {
		h.hosts = append(h.hosts, strings.ToLower(host))
	}
	return h
}

// Server returns an HTTP server for the handler with every time bounded. It is
// called once.
func (h *Handler) Server() *http.Server {
	server := h.bounded(h)
	server.RegisterOnShutdown(func() { close(h.stopping) })
	return server
}

// bounded returns an HTTP server with every time bounded.
func (h *Handler) bounded(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       bodyTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    MaxHeader,
		ErrorLog:          slog.NewLogLogger(h.Log.Handler(), slog.LevelDebug),
		// The general one answers OPTIONS * with 200, whatever the host.
		DisableGeneralOptionsHandler: true,
	}
}

// ServeHTTP answers one request and logs it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	record := &event.Record{Started: time.Now()}
	deadline := newDeadline(r.Context(), record.Started.Add(requestTime))
	defer deadline.release()
	ctx, span := h.Tracer.Request(event.NewContext(deadline, record), r.Header)
	defer func() {
		end(span, record)
		if record.Request == "" {
			record.Peer = peerOf(r).String()
		}
		record.Log(ctx, h.Log, h.Hasher, h.Sampler)
		if h.Observe != nil {
			h.Observe(record)
		}
	}()
	record.Status = h.serve(ctx, w, r)
}

// end ends the span of a request.
func end(span *tracing.Span, record *event.Record) {
	if span == nil {
		return
	}
	if record.Request != "" {
		span.Rename(record.Request)
		span.Set("authnzerver.request", record.Request)
	}
	if record.Code != "" {
		span.Set("authnzerver.code", record.Code)
	}
	if record.Refused != "" {
		span.Set("authnzerver.refused", record.Refused)
	}
	span.SetInt("http.response.status_code", record.Status)
	span.End(record.Err())
}

func (h *Handler) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) (status int) {
	if !slices.Contains(h.hosts, hostOf(r.Host)) {
		return refuse(w, refused(ctx, http.StatusNotFound, "host", "host is not in allowedhosts"))
	}
	method, serve := http.MethodPost, h.request
	switch {
	case r.URL.Path == "/":
	case r.URL.Path == "/health":
		method, serve = http.MethodGet, h.health
	case r.URL.Path == "/health/live":
		method, serve = http.MethodGet, h.live
	case r.URL.Path == "/health/ready":
		method, serve = http.MethodGet, h.ready
	case r.URL.Path == "/echo" && h.Echo != nil:
		serve = h.echo
	default:
		return refuse(w, refused(ctx, http.StatusNotFound, "path", "the path is not served"))
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		return refuse(w, refused(ctx, http.StatusMethodNotAllowed, "method", "the path is served with "+method+" only"))
	}
	return serve(ctx, w, r)
}

// hostOf returns the lower-case name of a Host header without its port.
func hostOf(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	return strings.ToLower(host)
}

func peerOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a listener without addresses, as tests may have
	}
	return peer.Addr().Unmap()
}

// refusals are the bodies of the answers that are not sealed. Clients go by
// the status.
var refusals = map[int]string{
	http.StatusBadRequest:            "HTTP 400: the request is malformed.\n",
	http.StatusUnauthorized:          "HTTP 401: the request could not be authenticated.\n",
	http.StatusNotFound:              "HTTP 404: there is nothing here.\n",
	http.StatusMethodNotAllowed:      "HTTP 405: this method is not served here.\n",
	http.StatusRequestTimeout:        "HTTP 408: the request was not sent in time.\n",
	http.StatusRequestEntityTooLarge: "HTTP 413: the request has more than 1 MiB.\n",
	http.StatusTooManyRequests:       "HTTP 429: the rate limit was exceeded.\n",
	http.StatusInternalServerError:   "HTTP 500: the request could not be served.\n",
}

// refused notes why a request was not answered, by a word and in a sentence, and returns
// the status.
func refused(ctx context.Context, status int, word, reason string) int {
	record := event.From(ctx)
	record.Refused = word
	record.Add(slog.String("refused", reason))
	return status
}

func refuse(w http.ResponseWriter, status int) int {
	return write(w, status, plainText, []byte(refusals[status]))
}

func write(w http.ResponseWriter, status int, contentType []string, body []byte) int {
	setHeader(w, contentType)
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // it fails when the client has gone, who is the only one to tell
	return status
}

// Values of headers, made once for all answers.
var (
	plainText = []string{"text/plain; charset=UTF-8"}
	jsonText  = []string{"application/json; charset=UTF-8"}
	noStore   = []string{"no-store"}
	noSniff   = []string{"nosniff"}
)

func setHeader(w http.ResponseWriter, contentType []string) {
	header := w.Header()
	header["Content-Type"] = contentType
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff
}

// A scratch holds the buffers of one request between uses.
type scratch struct {
	body   bytes.Buffer
	reply  []byte
	sealed []byte
	long   longReply
	in     dispatch.Incoming
}

// maxKept is the largest buffer that is kept for the next request, in bytes.
const maxKept = 64 << 10

// maxAhead is the largest buffer that is made for a body before it comes, in
// bytes. Nearly all requests fit; who only declares a long body gets no more.
const maxAhead = 16 << 10

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	s.long, s.in = longReply{}, dispatch.Incoming{} // which may hold a password
	if s.body.Cap() <= maxKept && cap(s.reply) <= maxKept && cap(s.sealed) <= 4*maxKept {
		s.body.Reset()
		scratches.Put(s)
	}
}

// request answers POST /.
func (h *Handler) request(ctx context.Context, w http.ResponseWriter, r *http.Request) int {
	s := scratches.Get().(*scratch)
	key, outcome, status := h.answer(ctx, w, r, s)
	if status != 0 || outcome.Sent {
		s.release()
		if outcome.Sent {
			return http.StatusOK
		}
		return refuse(w, status)
	}
	if outcome.Delay > 0 {
		// What waits keeps its reply and nothing else.
		reply := bytes.Clone(s.reply)
		s.release()
		h.delay(ctx, w, r, outcome.Delay)
		s = scratches.Get().(*scratch)
		s.reply = append(s.reply[:0], reply...)
	}
	defer s.release()
	setRetryAfter(w, outcome.RetryAfter)
	s.sealed = h.Keys.AppendSeal(s.sealed[:0], s.reply, key, h.Now())
	return write(w, http.StatusOK, plainText, s.sealed)
}

// answer leaves the reply in the scratch and returns the key to seal it with. A
// status other than 0 is the answer.
func (h *Handler) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, s *scratch) (key int, outcome dispatch.Outcome, status int) {
	message, status := h.open(ctx, w, r, s)
	if status != 0 {
		return 0, outcome, status
	}
	in := &s.in
	err := dispatch.Parse(message.Plaintext, in)
	if err != nil {
		return 0, outcome, failed(ctx, err)
	}
	in.Peer = peerOf(r)
	client := in.ClientAddr
	if client == "" {
		client = in.Peer.String()
	}
	event.From(ctx).SetClient(client)
	s.long = longReply{handler: h, ctx: ctx, w: w, key: message.Key}
	in.Long = &s.long
	reply, outcome, err := h.Do(ctx, s.reply[:0], in)
	if outcome.Sent {
		s.long.end(err)
		return 0, outcome, 0
	}
	if err != nil {
		var limited *dispatch.LimitedError
		if errors.As(err, &limited) {
			setRetryAfter(w, limited.RetryAfter)
		}
		return 0, outcome, failed(ctx, err)
	}
	s.reply = reply
	return message.Key, outcome, 0
}

// setRetryAfter sets the header Retry-After (RFC 9110 §10.2.3) to whole seconds,
// rounded up.
func setRetryAfter(w http.ResponseWriter, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
}

// delay waits before a reply is sent. It ends early with the connection and
// when the server stops, and it holds nothing but the goroutine.
func (h *Handler) delay(ctx context.Context, w http.ResponseWriter, r *http.Request, wait time.Duration) {
	event.From(ctx).Add(slog.String("delayed", wait.String()))
	// Only a writer that is no connection, as tests have, cannot be given the
	// time; it needs none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(wait + writeTime))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-h.stopping:
	}
}

// open reads and opens the envelope in the request's body. A status other than
// 0 is the answer.
func (h *Handler) open(ctx context.Context, w http.ResponseWriter, r *http.Request, s *scratch) (wire.Message, int) {
	if r.ContentLength > MaxBody {
		w.Header().Set("Connection", "close")
		return wire.Message{}, refused(ctx, http.StatusRequestEntityTooLarge, "too_long", "the declared body is too long")
	}
	if r.ContentLength > 0 {
		s.body.Grow(int(min(r.ContentLength, maxAhead)) + bytes.MinRead)
	}
	body := r.Body
	if r.ContentLength < 0 { // else net/http reads no more than was declared
		body = http.MaxBytesReader(w, body, MaxBody)
	}
	_, err := s.body.ReadFrom(body)
	if err != nil {
		return wire.Message{}, unread(ctx, err)
	}
	message, err := h.Keys.Open(s.body.Bytes())
	if err != nil {
		return wire.Message{}, failed(ctx, err)
	}
	err = h.Accept(ctx, &message, h.Now())
	if err != nil {
		return wire.Message{}, failed(ctx, err)
	}
	return message, 0
}

// unread notes why a body could not be read and returns the status.
func unread(ctx context.Context, err error) int {
	reason := "body: " + err.Error()
	var tooLong *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &tooLong):
		return refused(ctx, http.StatusRequestEntityTooLarge, "too_long", reason)
	case errors.As(err, &network) && network.Timeout():
		return refused(ctx, http.StatusRequestTimeout, "too_slow", reason)
	default:
		return refused(ctx, http.StatusBadRequest, "broken_off", reason)
	}
}

// refusals by their errors, each with the status and the word for it.
var refusalsOf = []struct {
	err    error
	status int
	word   string
}{
	{dispatch.ErrMalformed, http.StatusBadRequest, "malformed"},
	{dispatch.ErrNotAuthentic, http.StatusUnauthorized, "not_authentic"},
	{wire.ErrMalformed, http.StatusUnauthorized, "not_authentic"},
	{wire.ErrNotAuthentic, http.StatusUnauthorized, "not_authentic"},
	{wire.ErrStale, http.StatusUnauthorized, "stale"},
	{wire.ErrFuture, http.StatusUnauthorized, "future"},
	{wire.ErrReplayed, http.StatusUnauthorized, "replayed"},
	{wire.ErrReplayFull, http.StatusUnauthorized, "replay_window_full"},
}

// failed notes why a request was not answered and returns the status.
func failed(ctx context.Context, err error) int {
	var limited *dispatch.LimitedError
	if errors.As(err, &limited) {
		return refused(ctx, http.StatusTooManyRequests, "rate_limited", err.Error())
	}
	for _, refusal := range refusalsOf {
		if errors.Is(err, refusal.err) {
			return refused(ctx, refusal.status, refusal.word, err.Error())
		}
	}
	record := event.From(ctx)
	record.Refused = "internal_error"
	record.Fault(err)
	return http.StatusInternalServerError
}

// health answers GET /health in the form of the Python server, whose workers
// were processes.
func (h *Handler) health(ctx context.Context, w http.ResponseWriter, r *http.Request) int {
	started := time.Now()
	state := h.Health(ctx)
	word, status := "ok", http.StatusOK
	if state.Err != nil {
		event.From(ctx).Fault(state.Err)
		word, status = "database broken", http.StatusInternalServerError
	}
	var sharedOK *bool
	if state.Shared {
		ok := state.SharedErr == nil
		sharedOK = &ok
	}
	workers := make(map[string]string, state.Workers)
	for i := range state.Workers {
		workers["Authnzrv-Worker-"+strconv.Itoa(i+1)] = word
	}
	event.From(ctx).Routine = true
	text, err := json.Marshal(struct {
		Expected int               `json:"Expected-Workers"`
		Workers  map[string]string `json:"Workers"`
		Seconds  float64           `json:"Check-Time"`
		OK       bool              `json:"Health-Ok"`
		PolicyOK bool              `json:"Policy-Ok"`
		SharedOK *bool             `json:"Limitstore-Ok,omitzero"`
	}{state.Workers, workers, time.Since(started).Seconds(), state.Err == nil, state.PolicyErr == nil, sharedOK}, json.Deterministic(true))
	if err != nil {
		return refuse(w, failed(ctx, fmt.Errorf("encode health: %w", err)))
	}
	return write(w, status, jsonText, text)
}

// echo answers POST /echo: the request itself, sealed, for trying out a
// client's envelope.
func (h *Handler) echo(ctx context.Context, w http.ResponseWriter, r *http.Request) int {
	if !peerOf(r).IsLoopback() {
		return refuse(w, refused(ctx, http.StatusBadRequest, "echo", "echo is for the loopback address only"))
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	message, status := h.open(ctx, w, r, s)
	if status != 0 {
		return refuse(w, status)
	}
	reply, err := dispatch.Echo(message.Plaintext, func() (any, error) { return h.Echo(ctx) })
	if err != nil {
		return refuse(w, failed(ctx, err))
	}
	return write(w, http.StatusOK, plainText, h.Keys.AppendSeal(nil, reply, message.Key, h.Now()))
}

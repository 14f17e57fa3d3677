// Package event holds the one record that is kept of a request while it runs
// and logged when it ends.
package event

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"authnzerver/internal/pii"
)

// A Record collects what is worth knowing about one request. It belongs to
// the goroutine that serves the request.
//
// Nothing in it is a secret. Personal data is kept only until it is logged,
// as its keyed hash.
type Record struct {
	Started time.Time
	// Request is the request's name, empty until it is known.
	Request string
	// ReqID is the JSON text of the id that the frontend gave the request.
	ReqID string
	// Peer is the network address of the frontend.
	Peer string
	// Status is the HTTP status of the answer.
	Status int
	// Code is the failure code, empty for a success.
	Code string
	// Refused says by one word why there is no reply; empty when there is one.
	Refused string
	// Routine marks a request that read something, as thousands a second
	// do; it is logged at debug level unless it failed.
	Routine bool

	client   string
	email    string
	userID   int64
	target   int64
	internal error
	attrs    []slog.Attr
}

type key struct{}

// NewContext returns a context that carries the record.
func NewContext(ctx context.Context, r *Record) context.Context {
	return context.WithValue(ctx, key{}, r)
}

// From returns the record that the context carries, or a new one that nobody
// will see.
func From(ctx context.Context) *Record {
	if r, ok := ctx.Value(key{}).(*Record); ok {
		return r
	}
	return &Record{}
}

// SetClient notes the end user's address.
func (r *Record) SetClient(addr string) { r.client = addr }

// SetEmail notes the e-mail address that the request is about.
func (r *Record) SetEmail(email string) { r.email = email }

// SetUser notes the user who acts.
func (r *Record) SetUser(id int64) { r.userID = id }

// SetTarget notes the user who is acted on.
func (r *Record) SetTarget(id int64) { r.target = id }

// Fault notes an error that the frontend is told nothing about.
func (r *Record) Fault(err error) { r.internal = errors.Join(r.internal, err) }

// Err returns the errors that Fault noted; nil when there are none.
func (r *Record) Err() error { return r.internal }

// Add notes a fact that is neither secret nor personal.
func (r *Record) Add(attrs ...slog.Attr) { r.attrs = append(r.attrs, attrs...) }

// maxReqID is how much of a frontend's request id a log line shows.
const maxReqID = 128

// Log writes the record, unless there are so many like it that the sampler leaves it out.
func (r *Record) Log(ctx context.Context, log *slog.Logger, hasher *pii.Hasher, sampler *Sampler) {
	level := r.level()
	if !log.Enabled(ctx, level) {
		return
	}
	now := time.Now()
	if !sampler.admit(r, now) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	if r.Request != "" {
		attrs = append(attrs, slog.String("request", r.Request))
	}
	if r.ReqID != "" {
		id := r.ReqID
		if len(id) > maxReqID {
			id = id[:maxReqID] + "…"
		}
		attrs = append(attrs, slog.String("reqid", id))
	}
	attrs = append(attrs, slog.Int("status", r.Status))
	if r.Code != "" {
		attrs = append(attrs, slog.String("code", r.Code))
	}
	attrs = append(attrs, slog.Float64("ms", float64(now.Sub(r.Started).Microseconds())/1000))
	for _, personal := range []struct {
		name, value string
		known       bool
	}{
		{"client", r.client, r.client != ""},
		{"email", r.email, r.email != ""},
		{"user", strconv.FormatInt(r.userID, 10), r.userID != 0},
		{"target", strconv.FormatInt(r.target, 10), r.target != 0},
	} {
		if personal.known {
			attrs = append(attrs, slog.String(personal.name, hasher.Hash(personal.value)))
		}
	}
	attrs = append(attrs, r.attrs...)
	if r.Request == "" && r.Peer != "" {
		attrs = append(attrs, slog.String("peer", hasher.Hash(r.Peer)))
	}
	if r.internal != nil {
		attrs = append(attrs, slog.String("error", r.internal.Error()))
	}
	log.LogAttrs(ctx, level, "request", attrs...)
}

func (r *Record) level() slog.Level {
	switch {
	case r.internal != nil:
		return slog.LevelError
	case r.Status >= 400:
		return slog.LevelWarn
	case r.Routine && r.Code == "":
		return slog.LevelDebug
	default:
		return slog.LevelInfo
	}
}

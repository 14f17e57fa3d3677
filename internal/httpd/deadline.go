package httpd

import (
	"context"
	"sync"
	"time"
)

// A deadline is a context that ends at a moment, as one of
// [context.WithDeadline] does, but that starts no timer before somebody asks
// for its end. Most requests only read what is in memory and never ask, and
// the timer would be a good part of the work for them.
type deadline struct {
	context.Context // of the HTTP request
	at              time.Time

	mu    sync.Mutex
	timed context.Context // nil until somebody asks
	stop  context.CancelFunc
}

func newDeadline(parent context.Context, at time.Time) *deadline {
	return &deadline{Context: parent, at: at}
}

// asked returns the context with the timer.
func (d *deadline) asked() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.stop = context.WithDeadline(d.Context, d.at)
	}
	return d.timed
}

// release stops the timer.
func (d *deadline) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed != nil {
		d.stop()
	}
}

// Deadline implements [context.Context].
func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

// Done implements [context.Context].
func (d *deadline) Done() <-chan struct{} { return d.asked().Done() }

// Err implements [context.Context].
func (d *deadline) Err() error { return d.asked().Err() }

// Value implements [context.Context]. Package context finds the context with
// the timer by it, and so watches it without a goroutine.
func (d *deadline) Value(key any) any {
	d.mu.Lock()
	ctx := d.timed
	d.mu.Unlock()
	if ctx == nil {
		ctx = d.Context
	}
	return ctx.Value(key)
}

package httpd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadline compares a deadline with what it stands for.
func TestDeadline(t *testing.T) {
	type key struct{}
	const after = 3 * time.Second
	for _, test := range []struct {
		name   string
		parent time.Duration // until the parent ends by a deadline of its own
		cancel time.Duration // until the parent is cancelled
		ask    time.Duration // until somebody asks first
		want   error
		ends   time.Duration
	}{
		{"ends", time.Hour, time.Hour, 0, context.DeadlineExceeded, after},
		{"is asked late", time.Hour, time.Hour, 2 * time.Second, context.DeadlineExceeded, after},
		{"is asked too late", time.Hour, time.Hour, 5 * time.Second, context.DeadlineExceeded, 5 * time.Second},
		{"parent ends first", time.Second, time.Hour, 0, context.DeadlineExceeded, time.Second},
		{"parent is cancelled", time.Hour, time.Second, 0, context.Canceled, time.Second},
		{"parent was cancelled", time.Hour, time.Second, 2 * time.Second, context.Canceled, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				parent, stop := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), test.parent)
				defer stop()
				time.AfterFunc(test.cancel, stop)
				d := newDeadline(parent, time.Now().Add(after))
				defer d.release()
				if at, ok := d.Deadline(); !ok || at.Sub(start) != min(after, test.parent) {
					t.Errorf("Deadline is after %v, %v", at.Sub(start), ok)
				}
				time.Sleep(test.ask)
				if d.Value(key{}) != "value" {
					t.Error("the parent's value is lost before asking")
				}
				child, stopChild := context.WithCancel(d)
				defer stopChild()
				<-child.Done()
				if got := time.Since(start); got != test.ends {
					t.Errorf("ended after %v, want %v", got, test.ends)
				}
				if !errors.Is(d.Err(), test.want) || !errors.Is(child.Err(), test.want) {
					t.Errorf("Err is %v, the child's %v, want %v", d.Err(), child.Err(), test.want)
				}
				if d.Value(key{}) != "value" {
					t.Error("the parent's value is lost after asking")
				}
			})
		})
	}
}

// TestDeadlineRelease checks that a released deadline ends what depends on it.
// The bubble would deadlock if its timer, or a goroutine, stayed behind.
func TestDeadlineRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadline(t.Context(), time.Now().Add(time.Hour))
		child, stop := context.WithCancel(d)
		defer stop()
		if child.Err() != nil || d.Err() != nil {
			t.Fatalf("Err is %v and %v before the end", child.Err(), d.Err())
		}
		d.release()
		if child.Err() != context.Canceled || d.Err() != context.Canceled {
			t.Errorf("Err is %v and %v after release, want Canceled", child.Err(), d.Err())
		}
		newDeadline(t.Context(), time.Now().Add(time.Hour)).release() // nobody asked
	})
}

package passwd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestQueue fills the workers and the queue with work that takes a second.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(Options{Workers: 2, Queue: 3})
		start := time.Now()
		ended := make(chan time.Duration, 5)
		for range 5 {
			go func() {
				err := pool.run(t.Context(), func(context.Context) { time.Sleep(time.Second) })
				if err != nil {
					t.Error(err)
				}
				ended <- time.Since(start)
			}()
		}
		synctest.Wait()
		err := pool.run(t.Context(), func(context.Context) { t.Error("the sixth ran") })
		if !errors.Is(err, ErrBusy) || time.Since(start) != 0 {
			t.Errorf("sixth: %v after %v, want ErrBusy at once", err, time.Since(start))
		}
		for i := range 5 {
			if got, want := <-ended, time.Duration(i/2+1)*time.Second; got != want {
				t.Errorf("number %d ended after %v, want %v", i, got, want)
			}
		}
		err = pool.run(t.Context(), func(context.Context) {})
		if err != nil {
			t.Errorf("after the flood: %v", err)
		}
	})
}

// TestCallerGone checks that a hash whose caller gave up is finished, and holds
// its worker until then.
func TestCallerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(Options{Workers: 1, Queue: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		go func() {
			err := pool.run(ctx, func(ctx context.Context) {
				time.Sleep(10 * time.Second)
				if ctx.Err() != nil {
					t.Error("the work was cut off")
				}
			})
			if err != nil || time.Since(start) != 10*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}()
		time.Sleep(2 * time.Second)
		err := pool.run(t.Context(), func(context.Context) {})
		if err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("the next ran after %v (%v), want after 10s", time.Since(start), err)
		}
	})
}

// TestWaitEnds checks that waiting for a worker ends with the deadline, as a
// failure that can be retried, and gives its place in the queue back.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(Options{Workers: 1, Queue: 1})
		go func() { _ = pool.run(t.Context(), func(context.Context) { time.Sleep(time.Minute) }) }()
		synctest.Wait()
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := pool.run(ctx, func(context.Context) { t.Error("ran") })
			cancel()
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%v, want ErrBusy", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := pool.run(ctx, func(context.Context) { t.Error("ran") })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
		time.Sleep(time.Minute) // until the worker is done
	})
}

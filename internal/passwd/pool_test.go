package passwd

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// sleeping is work that takes so long.
func sleeping(d time.Duration) func(context.Context) error {
	return func(context.Context) error {
		time.Sleep(d)
		return nil
	}
}

// TestQueue fills the workers and the queue with work that takes 0.9 s.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(Options{Workers: 2, Queue: 3})
		start := time.Now()
		ended := make(chan time.Duration, 5)
		for range 5 {
			go func() {
				err := pool.run(t.Context(), sleeping(900*time.Millisecond))
				if err != nil {
					t.Error(err)
				}
				ended <- time.Since(start)
			}()
		}
		synctest.Wait()
		err := pool.run(t.Context(), func(context.Context) error { return errors.New("the sixth ran") })
		if !errors.Is(err, ErrBusy) || time.Since(start) != 0 {
			t.Errorf("sixth: %v after %v, want ErrBusy at once", err, time.Since(start))
		}
		for i := range 5 {
			if got, want := <-ended, time.Duration(i/2+1)*900*time.Millisecond; got != want {
				t.Errorf("number %d ended after %v, want %v", i, got, want)
			}
		}
		err = pool.run(t.Context(), sleeping(0))
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
			err := pool.run(ctx, func(ctx context.Context) error {
				time.Sleep(2500 * time.Millisecond)
				return ctx.Err()
			})
			if err != nil || time.Since(start) != 2500*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}()
		time.Sleep(time.Second)
		err := pool.run(t.Context(), sleeping(0))
		if err != nil || time.Since(start) != 2500*time.Millisecond {
			t.Errorf("the next ran after %v (%v), want after 2.5s", time.Since(start), err)
		}
	})
}

// TestWaitEnds checks that waiting for a worker ends with the deadline, as a
// failure that can be retried, and gives its place in the queue back.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(Options{Workers: 1, Queue: 1})
		go func() { _ = pool.run(t.Context(), sleeping(time.Minute)) }()
		synctest.Wait()
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := pool.run(ctx, func(context.Context) error { return errors.New("ran") })
			cancel()
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%v, want ErrBusy", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := pool.run(ctx, func(context.Context) error { return errors.New("ran") })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want Canceled", err)
		}
		time.Sleep(time.Minute) // until the worker is done
	})
}

// TestWaitBounded checks that nobody waits longer than maxWait, and that who
// would have to is refused at once as soon as it is known how long a hash takes.
func TestWaitBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := NewPool(Options{Workers: 2, Queue: 1000})
		const each = 800 * time.Millisecond
		flood := func(n int) (done int, waited []time.Duration) {
			start := time.Now()
			type outcome struct {
				err  error
				took time.Duration
			}
			outcomes := make(chan outcome)
			for range n {
				go func() {
					err := pool.run(t.Context(), sleeping(each))
					outcomes <- outcome{err, time.Since(start)}
				}()
			}
			for range n {
				o := <-outcomes
				switch {
				case o.err == nil:
					done++
				case errors.Is(o.err, ErrBusy):
					waited = append(waited, o.took)
				default:
					t.Error(o.err)
				}
			}
			return done, waited
		}
		// Two each at 0, 0.8 and 1.6 s.
		done, waited := flood(100)
		if done != 6 || len(waited) != 94 || slices.Min(waited) != maxWait || slices.Max(waited) != maxWait {
			t.Errorf("at first: %d done, %d refused after %v to %v, want 6, and 94 after %v",
				done, len(waited), slices.Min(waited), slices.Max(waited), maxWait)
		}
		// Now the sixth in the queue is expected to wait 2.4 s. The fifth, who is
		// let in, is one of a pair that starts after 2.4 s.
		done, waited = flood(100)
		slices.Sort(waited)
		if done != 6 || len(waited) != 94 || waited[92] != 0 || waited[93] != maxWait {
			t.Errorf("then: %d done, %d refused, want 6 and 94, of whom one waits %v", done, len(waited), maxWait)
		}
		// A hash that took very long does not lock everybody out.
		err := pool.run(t.Context(), sleeping(time.Hour))
		if err != nil {
			t.Error(err)
		}
		for range 100 {
			err = pool.run(t.Context(), sleeping(each))
			if err != nil {
				t.Error(err)
			}
		}
		if done, _ := flood(6); done != 6 {
			t.Errorf("after a long hash: %d done of 6", done)
		}
	})
}

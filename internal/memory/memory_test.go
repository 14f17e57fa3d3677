package memory

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatch allocates in bursts and checks when memory is given back.
func TestWatch(t *testing.T) {
	const burst = 10 * little
	for _, test := range []struct {
		name   string
		bursts []time.Duration // since the start
		until  time.Duration
		freed  []time.Duration
	}{
		{"after the start, once", nil, time.Minute, []time.Duration{every}},
		{"after a burst, once", []time.Duration{21 * time.Second}, time.Minute, []time.Duration{every, 30 * time.Second}},
		{
			"not between bursts",
			[]time.Duration{1 * time.Second, 6 * time.Second, 11 * time.Second, 16 * time.Second},
			time.Minute,
			[]time.Duration{25 * time.Second},
		},
		{"not before it is idle", []time.Duration{time.Second}, 8 * time.Second, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, stop := context.WithTimeout(t.Context(), test.until)
				defer stop()
				allocated := func() uint64 {
					passed := time.Since(start)
					total := uint64(passed / time.Second) // a trickle
					for _, at := range test.bursts {
						if at <= passed {
							total += burst
						}
					}
					return total
				}
				var freed []time.Duration
				watch(ctx, allocated, func() { freed = append(freed, time.Since(start)) })
				if !slices.Equal(freed, test.freed) {
					t.Errorf("freed after %v, want %v", freed, test.freed)
				}
				if time.Since(start) != test.until {
					t.Errorf("returned after %v, want %v", time.Since(start), test.until)
				}
			})
		})
	}
}

// TestAllocated checks that the runtime still has the metric, and that it
// counts garbage too.
func TestAllocated(t *testing.T) {
	before := allocated()
	for range 8 {
		runtime.KeepAlive(make([]byte, little))
	}
	if grown := allocated() - before; grown < 8*little {
		t.Errorf("%d bytes more, want at least %d", grown, 8*little)
	}
}

// TestTune checks that the collector is set up unless the environment has done
// so.
func TestTune(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	const hashing = 256 << 20
	for _, test := range []struct {
		gogc, gomemlimit string
		percent          int
		limit            int64
	}{
		{"", "", growth, hashing + besides},
		{"50", "", 77, hashing + besides},
		{"", "1GiB", growth, 77 << 20},
	} {
		t.Setenv("GOGC", test.gogc)
		t.Setenv("GOMEMLIMIT", test.gomemlimit)
		debug.SetGCPercent(77)
		debug.SetMemoryLimit(77 << 20)
		Tune(hashing)
		if got := debug.SetGCPercent(100); got != test.percent {
			t.Errorf("GOGC=%q: %d %%, want %d", test.gogc, got, test.percent)
		}
		if got := debug.SetMemoryLimit(-1); got != test.limit {
			t.Errorf("GOMEMLIMIT=%q: limit is %d, want %d", test.gomemlimit, got, test.limit)
		}
	}
}

package memory

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
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
		{"after the start, once", nil, time.Minute, []time.Duration{5 * time.Second}},
		{"after a burst, once", []time.Duration{21 * time.Second}, time.Minute, []time.Duration{5 * time.Second, 26 * time.Second}},
		{
			"not between bursts",
			[]time.Duration{1 * time.Second, 6 * time.Second, 11 * time.Second, 16 * time.Second},
			time.Minute,
			[]time.Duration{21 * time.Second},
		},
		{"not before it is idle", []time.Duration{time.Second}, 5 * time.Second, nil},
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
				watch(ctx, allocated, func() { freed = append(freed, time.Since(start)) }, func(bool) { t.Error("a burst is not much") })
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

// TestCollect is busy for a while.
func TestCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		allocated := func() uint64 { // 20 MiB a second from the 11th to the 33rd
			return uint64(min(max(time.Since(start)-11*time.Second, 0), 22*time.Second) / time.Second * (20 << 20))
		}
		var changes []string
		last := false
		watch(ctx, allocated, func() {}, func(busy bool) {
			if busy != last {
				changes = append(changes, fmt.Sprint(time.Since(start), busy))
			}
			last = busy
		})
		if want := []string{"12s true", "34s false"}; !slices.Equal(changes, want) {
			t.Errorf("%v, want %v", changes, want)
		}
	})
}

func TestBusyGrowth(t *testing.T) {
	for live, want := range map[uint64]int{0: 6400, 1 << 20: 6400, 8 << 20: 800, 16 << 20: 400, 1 << 30: 400} {
		if got := busyGrowth(live); got != want {
			t.Errorf("%d bytes are live: %d %%, want %d", live, got, want)
		}
	}
}

// TestFollow checks what Follow sets, and that it leaves the environment's choice alone.
func TestFollow(t *testing.T) {
	before := debug.SetGCPercent(77)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for gogc, want := range map[string]func(int) bool{
		"": func(percent int) bool { return percent >= growth }, "50": func(percent int) bool { return percent == 77 },
	} {
		t.Setenv("GOGC", gogc)
		debug.SetGCPercent(77)
		ctx, stop := context.WithTimeout(t.Context(), every+every/2)
		var following sync.WaitGroup
		following.Go(func() { Follow(ctx) })
		for ctx.Err() == nil {
			kept = make([]byte, much/8)
			time.Sleep(every / 20)
		}
		following.Wait()
		stop()
		if got := debug.SetGCPercent(77); !want(got) {
			t.Errorf("GOGC=%q: %d %%", gogc, got)
		}
	}
}

// kept keeps the compiler from leaving the allocation out.
var kept []byte

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
	limit := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(limit) })
	const hashing = 256 << 20
	for _, test := range []struct {
		gomemlimit string
		limit      int64
	}{
		{"", hashing + besides},
		{"1GiB", 77 << 20},
	} {
		t.Setenv("GOMEMLIMIT", test.gomemlimit)
		debug.SetMemoryLimit(77 << 20)
		Tune(hashing)
		if got := debug.SetMemoryLimit(-1); got != test.limit {
			t.Errorf("GOMEMLIMIT=%q: limit is %d, want %d", test.gomemlimit, got, test.limit)
		}
	}
}

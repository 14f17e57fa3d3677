// Package memory makes the runtime trade memory for speed where that pays, and
// give memory back when the server has nothing to do.
package memory

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// growth is how much garbage the heap may hold in percent of what is
	// live. With the runtime's own 100 and the few megabytes that are live, a
	// busy server would collect a hundred times a second; see
	// docs/performance.md for what that costs.
	growth = 400
	// besides is how much memory the server may use beside password hashes
	// before it collects more often, in bytes: full caches and a full window
	// of seen messages take about 300 MB.
	besides = 384 << 20
)

// Tune sets when garbage is collected. hashing is how much memory the password
// hashes that are computed at once take, in bytes; their garbage would add up
// to several times as much. What the environment says in GOGC or GOMEMLIMIT
// stays as it is.
func Tune(hashing int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(growth)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(hashing + besides)
	}
}

const (
	// every is how often it is looked whether the server is idle.
	every = 5 * time.Second
	// little is how much an idle server may allocate in that time, in bytes:
	// some 100 small requests.
	little = 1 << 20
)

// FreeWhenIdle gives unused memory back to the system whenever next to nothing
// has been allocated for five seconds, once until more is allocated again. Left
// alone, the runtime would keep what a few logins took for minutes. It returns
// when ctx ends.
func FreeWhenIdle(ctx context.Context) { watch(ctx, allocated, debug.FreeOSMemory) }

// allocated returns how much memory has been allocated in all, in bytes.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func watch(ctx context.Context, allocated func() uint64, free func()) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	busy, before := true, allocated()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		now := allocated()
		quiet := now-before < little
		if quiet && busy {
			free()
		}
		busy, before = !quiet, now
	}
}

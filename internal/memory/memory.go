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
	// ordinary is the runtime's own, which is enough for a server with little to do.
	ordinary = 100
	// least is up to which size, in bytes, the heap of a busy server grows without being
	// collected, however little of it is live.
	least = 64 << 20
	// besides is how much memory the server may use beside password hashes
	// before it collects more often, in bytes: full caches and a full window
	// of seen messages take about 300 MB.
	besides = 384 << 20
)

// Tune sets how much memory is used before more of it is collected. hashing is how much
// the password hashes that are computed at once take, in bytes; their garbage would add up
// to several times as much. What the environment says in GOMEMLIMIT stays as it is.
func Tune(hashing int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(hashing + besides)
	}
}

const (
	// every is how often it is looked what the server does.
	every = time.Second
	// little is how much an idle server may allocate in that time, in bytes: some
	// 20 small requests. It is idle after so many in a row.
	little    = 200 << 10
	idleAfter = 5
	// much is how much a busy server allocates in that time at least, in bytes: some
	// 2,000 small requests.
	much = 12 << 20
)

// FreeWhenIdle gives unused memory back to the system whenever next to nothing
// has been allocated for five seconds, once until more is allocated again. Left
// alone, the runtime would keep what a few logins took for minutes. It returns
// when ctx ends.
func FreeWhenIdle(ctx context.Context) { watch(ctx, allocated, debug.FreeOSMemory, func(bool) {}) }

// Follow is FreeWhenIdle that also lets more garbage gather while the server is busy, since
// each time that it is collected, all that is live is looked at, and requests wait for a CPU;
// unless the environment says in GOGC how much.
func Follow(ctx context.Context) {
	now := ordinary
	collect := func(busy bool) {
		wanted := ordinary
		if busy {
			wanted = busyGrowth(read("/gc/heap/live:bytes"))
		}
		// Setting it stops the server for a moment.
		if wanted > now*5/4 || wanted < now*4/5 {
			debug.SetGCPercent(wanted)
			now = wanted
		}
	}
	if os.Getenv("GOGC") != "" {
		collect = func(bool) {}
	}
	watch(ctx, allocated, debug.FreeOSMemory, collect)
}

// busyGrowth is how much garbage may gather in percent of what is live, in bytes.
func busyGrowth(live uint64) int { return max(growth, int(100*least/max(live, 1<<20))) }

// allocated returns how much memory has been allocated in all, in bytes.
func allocated() uint64 { return read("/gc/heap/allocs:bytes") }

// read reads a metric of the runtime.
func read(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func watch(ctx context.Context, allocated func() uint64, free func(), collect func(busy bool)) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	busy, quiet, before := false, 0, allocated()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		now := allocated()
		grown := now - before
		before = now
		if busy || grown >= much {
			busy = grown >= much
			collect(busy)
		}
		if grown >= little {
			quiet = 0
			continue
		}
		quiet++
		if quiet == idleAfter {
			free()
		}
	}
}

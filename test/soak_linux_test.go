package test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"authnzerver/test/figures"
)

var soak = flag.Duration("soak", 8*time.Second, "how long TestSoak asks")

// A level is how much of something a server holds at a moment.
type level struct {
	at          time.Duration // since the beginning
	resident    int64         // bytes, of the server and of its process for hashes
	goroutines  int
	descriptors int
}

func (s *server) level(t *testing.T, began time.Time) level {
	t.Helper()
	l := level{at: time.Since(began)}
	for _, pid := range append(s.children(), s.cmd.Process.Pid) {
		l.resident += int64(resident(t, pid)) << 10
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	try(t, "list descriptors", err)
	l.descriptors = len(entries)
	_, metrics := get(t, s.operations()+"/metrics")
	for line := range strings.Lines(metrics) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			l.goroutines, err = strconv.Atoi(strings.TrimSpace(value))
			try(t, "read a metric", err)
		}
	}
	return l
}

// growth returns by how many bytes an hour memory grows, by least squares, and the half of
// its interval of 99 %, for which moments are taken to err independently.
func growth(levels []level) (slope, interval float64) {
	n := float64(len(levels))
	var x, y, xx, xy float64
	for _, l := range levels {
		x += l.at.Hours() / n
		y += float64(l.resident) / n
	}
	for _, l := range levels {
		dx := l.at.Hours() - x
		xx += dx * dx
		xy += dx * (float64(l.resident) - y)
	}
	slope = xy / xx
	var rest float64
	for _, l := range levels {
		e := float64(l.resident) - y - slope*(l.at.Hours()-x)
		rest += e * e
	}
	return slope, 2.58 * math.Sqrt(rest/(n-2)/xx)
}

// TestSoak asks as TestModel does for as long as it is told, and looks how much memory, how
// many goroutines and descriptors the server holds: neither of the latter two grows, and in
// hours, memory does not either. What there is, is bounded: the model has thirty addresses.
// Connections that nobody closes are the control.
func TestSoak(t *testing.T) {
	t.Parallel()
	const mebibyte = 1 << 20
	s := start(t, "logging=info", "logsample=1:1000000", "metricslisten=127.0.0.1:0")
	m := newModel(rand.Uint64())
	ask := func(n int) {
		for range n {
			if _, _, problem := m.ask(s); problem != "" {
				t.Fatal(problem)
			}
		}
	}
	ask(50)
	before := s.level(t, time.Now())
	began, asked := time.Now(), 0
	var levels []level
	for time.Since(began) < *soak {
		for until := time.Now().Add(max(*soak/500, 200*time.Millisecond)); time.Now().Before(until); asked++ {
			ask(1)
		}
		levels = append(levels, s.level(t, began))
	}
	calm := func() bool {
		now := s.level(t, began)
		return now.goroutines <= before.goroutines+2 && now.descriptors <= before.descriptors+2
	}
	s.wait("goroutines and descriptors to be as many as before", calm)
	// Memory is looked at when it has had time to fill.
	warm := levels[len(levels)/4:]
	slope, interval := growth(warm)
	last := levels[len(levels)-1]
	if *soak >= 4*time.Hour && slope > mebibyte {
		t.Errorf("memory grows by %.1f MiB an hour", slope/mebibyte)
	}
	const opened = 5
	for range opened {
		conn, err := net.Dial("tcp", s.addr)
		try(t, "connect", err)
		defer conn.Close()
	}
	s.wait("the control to be found", func() bool { return !calm() })
	found(t, figures.Figure{
		Name: "soak", Value: slope / mebibyte, Unit: "MiB of memory an hour", Target: "at most 1 in eight hours", Control: float64(opened),
		Note: fmt.Sprintf("%d requests in %v; interval of 99 %% ± %.2f; %.1f MiB, %d goroutines and %d descriptors in the end, the latter %d and %d before; the control is connections that nobody closes",
			asked, *soak, interval/mebibyte, float64(last.resident)/mebibyte, last.goroutines, last.descriptors, before.goroutines, before.descriptors),
	})
}

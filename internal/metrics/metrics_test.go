package metrics_test

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/internal/metrics"
)

// shown returns the lines of the metrics with a prefix.
func shown(r *metrics.Registry, prefix string) string {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, nil)
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), prefix) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestText(t *testing.T) {
	t.Parallel()
	r := metrics.New()
	value := 1.5
	r.Gauge("test_gauge", "A gauge.", func() float64 { return value }, "pool", `a "b" \ c`)
	r.Gauge("test_gauge", "A gauge.", func() float64 { return 2 }, "pool", "z")
	r.CounterFunc("test_counted_total", "Counted elsewhere.", func() float64 { return 7 })
	c := r.Counter("test_requests_total", "Requests.", "request", "code")
	h := r.Histogram("test_seconds", "Times.", "request")
	c.Inc("a", "ok")
	c.Inc("a", "ok")
	c.Inc("b", "failed")
	h.Observe("a", 3*time.Millisecond)
	h.Observe("a", time.Minute)
	want := `# HELP test_gauge A gauge.
# TYPE test_gauge gauge
test_gauge{pool="a \"b\" \\ c"} 1.5
test_gauge{pool="z"} 2
# HELP test_counted_total Counted elsewhere.
# TYPE test_counted_total counter
test_counted_total 7
# HELP test_requests_total Requests.
# TYPE test_requests_total counter
test_requests_total{request="a",code="ok"} 2
test_requests_total{request="b",code="failed"} 1
# HELP test_seconds Times.
# TYPE test_seconds histogram
test_seconds_bucket{request="a",le="0.0005"} 0
test_seconds_bucket{request="a",le="0.001"} 0
test_seconds_bucket{request="a",le="0.0025"} 0
test_seconds_bucket{request="a",le="0.005"} 1
test_seconds_bucket{request="a",le="0.01"} 1
test_seconds_bucket{request="a",le="0.025"} 1
test_seconds_bucket{request="a",le="0.05"} 1
test_seconds_bucket{request="a",le="0.1"} 1
test_seconds_bucket{request="a",le="0.25"} 1
test_seconds_bucket{request="a",le="0.5"} 1
test_seconds_bucket{request="a",le="1"} 1
test_seconds_bucket{request="a",le="2.5"} 1
test_seconds_bucket{request="a",le="5"} 1
test_seconds_bucket{request="a",le="10"} 1
test_seconds_bucket{request="a",le="30"} 1
test_seconds_bucket{request="a",le="+Inf"} 2
test_seconds_sum{request="a"} 60.003
test_seconds_count{request="a"} 2
`
	if got := shown(r, "test_"); got != want {
		t.Errorf("the metrics are\n%s\nwant\n%s", got, want)
	}
	value = 3
	if got := shown(r, `test_gauge{pool="a`); got != "test_gauge{pool=\"a \\\"b\\\" \\\\ c\"} 3\n" {
		t.Errorf("the gauge is %s", got)
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if shown(r, name) == "" {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestCountingAtOnce(t *testing.T) {
	t.Parallel()
	r := metrics.New()
	c, h := r.Counter("test_total", "Requests.", "request"), r.Histogram("test_seconds", "Times.", "request")
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 1000 {
				c.Inc("a")
				h.Observe("a", time.Millisecond)
			}
		})
	}
	running.Wait()
	if got := shown(r, "test_total{"); got != "test_total{request=\"a\"} 8000\n" {
		t.Errorf("counted are %s", got)
	}
	if got := shown(r, "test_seconds_count"); got != "test_seconds_count{request=\"a\"} 8000\n" {
		t.Errorf("measured are %s", got)
	}
}

func BenchmarkObserve(b *testing.B) {
	r := metrics.New()
	c, h := r.Counter("test_total", "Requests.", "request", "code"), r.Histogram("test_seconds", "Times.", "request")
	b.ReportAllocs()
	for b.Loop() {
		c.Inc("session-exists", "ok")
		h.Observe("session-exists", time.Millisecond)
	}
}

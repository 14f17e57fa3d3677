// Package metrics keeps what is counted and measured, and shows it in the text format of
// Prometheus, version 0.0.4.
package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// A Registry holds metrics. It is safe for concurrent use, but for adding metrics, which
// comes before all else.
type Registry struct{ families []*family }

// A family is all metrics with one name.
type family struct {
	name, kind, help string
	set              *metrics.Set
}

// New returns a Registry without metrics. It shows those of the Go runtime and of the
// process in any case.
func New() *Registry { return &Registry{} }

// family returns the family with a name, which it adds when there is none.
func (r *Registry) family(name, kind, help string) *family {
	for _, f := range r.families {
		if f.name == name {
			return f
		}
	}
	f := &family{name, kind, help, metrics.NewSet()}
	r.families = append(r.families, f)
	return f
}

// metric returns the name of a metric with labels: names and values in turn.
func (f *family) metric(labels ...string) string {
	if len(labels) == 0 {
		return f.name
	}
	pairs := make([]string, 0, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+"="+strconv.Quote(labels[i+1]))
	}
	return f.name + "{" + strings.Join(pairs, ",") + "}"
}

// Gauge adds a metric that goes up and down. value is called when it is shown. Labels are
// names and values in turn.
func (r *Registry) Gauge(name, help string, value func() float64, labels ...string) {
	f := r.family(name, "gauge", help)
	f.set.NewGauge(f.metric(labels...), value)
}

// CounterFunc adds a metric that only grows, and that is counted elsewhere.
func (r *Registry) CounterFunc(name, help string, value func() float64, labels ...string) {
	f := r.family(name, "counter", help)
	f.set.NewGauge(f.metric(labels...), value)
}

// A Counter counts by the values of labels, of which there must be few.
type Counter struct {
	family *family
	labels []string
	counts sync.Map // by their values, joined
}

// Counter adds a metric that only grows, with labels of these names.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	return &Counter{family: r.family(name, "counter", help), labels: labels}
}

// Inc counts one more with these values of the labels.
func (c *Counter) Inc(values ...string) {
	key := strings.Join(values, "\x00")
	if found, ok := c.counts.Load(key); ok {
		found.(*metrics.Counter).Inc()
		return
	}
	labels := make([]string, 0, 2*len(values))
	for i, value := range values {
		labels = append(labels, c.labels[i], value)
	}
	count := c.family.set.GetOrCreateCounter(c.family.metric(labels...))
	c.counts.Store(key, count)
	count.Inc()
}

// buckets are the upper bounds of what durations are counted in, in seconds: a request
// from memory takes half a millisecond, one that hashes some tenths of a second, and
// after 4.5 seconds every request ends.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// A Histogram counts durations by the value of one label.
type Histogram struct {
	family *family
	label  string
	counts sync.Map
}

// Histogram adds a metric of durations, with a label of this name.
func (r *Registry) Histogram(name, help, label string) *Histogram {
	return &Histogram{family: r.family(name, "histogram", help), label: label}
}

// Observe counts a duration with this value of the label.
func (h *Histogram) Observe(value string, took time.Duration) {
	found, ok := h.counts.Load(value)
	if !ok {
		found = h.family.set.GetOrCreatePrometheusHistogramExt(h.family.metric(h.label, value), buckets)
		h.counts.Store(value, found)
	}
	found.(*metrics.PrometheusHistogram).Update(took.Seconds())
}

// ServeHTTP shows all metrics.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	for _, f := range r.families {
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		f.set.WritePrometheus(&text)
	}
	metrics.WriteGoMetrics(&text)
	metrics.WriteProcMetrics(&text)
	metrics.WriteFDMetrics(&text)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(text.Bytes()) // it fails when the reader has gone, who is the only one to tell
}

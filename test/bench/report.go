//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A row is one figure.
type row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Baseline is what the figure is compared with, in the same unit. Ratio
	// is the median of the ratios of all rounds.
	Baseline float64 `json:"baseline,omitzero"`
	Ratio    float64 `json:"ratio,omitzero"`
	// P50 and P99 are times from a request to its answer in milliseconds.
	P50 float64 `json:"p50_ms,omitzero"`
	P99 float64 `json:"p99_ms,omitzero"`
	// BaselineP99 is the 99th percentile of the empty handler.
	BaselineP99 float64 `json:"baseline_p99_ms,omitzero"`
	// CPU is the CPU time of the server for one answer in microseconds,
	// BaselineCPU that of the empty handler.
	CPU         float64 `json:"cpu_us,omitzero"`
	BaselineCPU float64 `json:"baseline_cpu_us,omitzero"`
	// Target is empty for a figure that is only for information.
	Target string `json:"target,omitzero"`
	Missed bool   `json:"missed,omitzero"`
}

func (r *row) verdict() string {
	switch {
	case r.Target == "":
		return ""
	case r.Missed:
		return "FAIL"
	default:
		return "pass"
	}
}

// compare returns the row of a throughput and a baseline that were measured in
// turns.
func compare(name string, rates, baseline []float64, times []time.Duration) row {
	ratios := make([]float64, len(rates))
	for i := range rates {
		ratios[i] = rates[i] / baseline[i]
	}
	r := row{Name: name, Value: median(rates), Unit: "/s", Baseline: median(baseline), Ratio: median(ratios)}
	r.P50, r.P99 = percentiles(times)
	return r
}

// percentiles returns the median and the 99th percentile in milliseconds.
func percentiles(times []time.Duration) (p50, p99 float64) {
	slices.Sort(times)
	return milliseconds(times[len(times)/2]), milliseconds(times[len(times)*99/100])
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// A requirement is what a figure must be.
type requirement struct {
	text string
	met  func(*row) bool
}

func below(limit float64) requirement {
	return requirement{fmt.Sprintf("< %g", limit), func(r *row) bool { return r.Value < limit }}
}

func upTo(limit float64) requirement {
	return requirement{fmt.Sprintf("≤ %g", limit), func(r *row) bool { return r.Value <= limit }}
}

func ratioUpTo(most float64) requirement {
	return requirement{fmt.Sprintf("≤ %.0f %%", 100*most), func(r *row) bool { return r.Ratio <= most }}
}

func ratioOf(least float64) requirement {
	return requirement{fmt.Sprintf("≥ %.0f %%", 100*least), func(r *row) bool { return r.Ratio >= least }}
}

// fast is required of requests that only read what is in memory: a share of the rate of
// the empty handler, with a p99 of no more than a multiple of its.
func fast(least, mostP99 float64) requirement {
	return requirement{fmt.Sprintf("≥ %.0f %%, p99 ≤ %g ×", 100*least, mostP99), func(r *row) bool {
		return r.Ratio >= least && r.P99 <= mostP99*r.BaselineP99
	}}
}

func p99Below(limit float64) requirement {
	return requirement{fmt.Sprintf("p99 < %g", limit), func(r *row) bool { return r.P99 < limit }}
}

// A report collects the rows, and the steps of the overload.
type report struct {
	rows        []row
	steps       []step
	comparisons []comparison
}

func (r *report) add(figure row) { r.rows = append(r.rows, figure) }

func (r *report) require(figure row, target requirement) {
	figure.Target, figure.Missed = target.text, !target.met(&figure)
	r.add(figure)
}

// finish prints the table, writes the file, and fails when a target was
// missed.
func (r *report) finish(p *plan) error {
	err := r.print(os.Stdout, p)
	if err != nil {
		return err
	}
	if p.json != "" {
		err := r.write(p)
		if err != nil {
			return err
		}
	}
	if slices.ContainsFunc(r.rows, func(figure row) bool { return figure.Missed }) ||
		slices.ContainsFunc(r.comparisons, func(c comparison) bool { return c.Missed }) {
		return errors.New("a required figure was missed")
	}
	return nil
}

func (r *report) print(out io.Writer, p *plan) error {
	if r.comparisons != nil {
		return r.printComparisons(out, p)
	}
	_, err := fmt.Fprintf(out, `
%d CPUs shared by server and generator, %d connections, %d rounds of %v each, %s

Baseline of requests: an empty handler in a process of its own, with the same
HTTP settings, that opens the same envelopes and seals a reply of the same size:
no replay window, no JSON, no log, no deadline. Rates are medians of the rounds,
a ratio is the median of the ratios of all rounds. CPU is that of the server for
one answer, with the baseline's behind it. "At half" is half the rate of the row
above, sent at constant intervals; times count from the moment at which a request
should have been sent, and are medians of the rounds.

`, cpus, p.connections, p.rounds, p.duration, runtime.Version())
	if err != nil {
		return err
	}
	width := 0
	for i := range r.rows {
		width = max(width, len(r.rows[i].Name))
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%*s\tmeasured\tbaseline\tratio\tp50 ms\tp99 ms\tbaseline\tCPU µs\tbaseline\ttarget\t\t\n", width, "")
	for i := range r.rows {
		figure := &r.rows[i]
		fmt.Fprintf(table, "%-*s\t%s %-2s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", width, figure.Name,
			value(figure.Value), figure.Unit, number(figure.Baseline), blank("%.0f %%", 100*figure.Ratio),
			number(figure.P50), number(figure.P99), number(figure.BaselineP99), blank("%.0f", figure.CPU), blank("%.0f", figure.BaselineCPU),
			figure.Target, figure.verdict())
	}
	err = table.Flush()
	if err != nil || r.steps == nil {
		return err
	}
	return r.printSteps(out, p)
}

// printSteps prints what came of the overload.
func (r *report) printSteps(out io.Writer, p *plan) error {
	_, err := fmt.Fprintf(out, `
Logins at a constant rate for %v each, with %d session-exists a second beside
them. Rates are a second, times milliseconds from the moment at which a request
should have been sent. The control is a server with %s, whose
hashes have the priority of all else.

`, p.stepTime, besideRate, strings.Join(controlOptions, " "))
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "server\tload\toffered\tfinished\tof highest\tp50\tp99\trefused\tp99\tslowest\tsession-exists p50\tp99\tof idle\ttime-outs\tfailures\tnormal after\t")
	for i := range r.steps {
		s := &r.steps[i]
		fmt.Fprintf(table, "%s\t%g\t%s\t%s\t%.0f %%\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f ×\t%d\t%d\t%s\t\n", s.Server, s.Load,
			number(s.Offered), number(s.Finished), 100*s.Share, number(s.P50), number(s.P99), number(s.Refused), number(s.RefusedP99),
			number(s.RefusedMax), number(s.BesideP50), number(s.BesideP99), s.Slower, s.TimedOut, s.Failed, number(s.Recovery))
	}
	return table.Flush()
}

// printComparisons prints what came of the sizes.
func (r *report) printComparisons(out io.Writer, p *plan) error {
	_, err := fmt.Fprintf(out, `
The same request on a database with %d users and on one with %d, each with %d
sessions and an API key, in turns, %d times, one after the other. Times are medians in
milliseconds. Servers have just started and know no row of their database; "again" is
the same requests once more. The ratio must be %g or less.

`, smallSize, p.users, sessionsEach, p.rounds, mostGrowth)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "database\trequest\t\tsmall\tlarge\tratio\t\t")
	for _, c := range r.comparisons {
		verdict := "pass"
		if c.Missed {
			verdict = "FAIL"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%s\t\n", c.Database, c.Request, c.About, c.Small, c.Large, c.Ratio, verdict)
	}
	fmt.Fprintln(table)
	for _, figure := range r.rows {
		fmt.Fprintf(table, "\t%s\t\t\t%s %s\t\t\t\n", figure.Name, value(figure.Value), figure.Unit)
	}
	return table.Flush()
}

// blank formats a number, and zero as nothing.
func blank(format string, n float64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

// value is number for what is always shown.
func value(n float64) string {
	if n == 0 {
		return "0"
	}
	return number(n)
}

// number shows at least three digits, and zero as nothing.
func number(n float64) string {
	switch {
	case n < 10:
		return blank("%.2f", n)
	case n < 100:
		return blank("%.1f", n)
	default:
		return blank("%.0f", n)
	}
}

func (r *report) write(p *plan) error {
	text, err := json.Marshal(struct {
		CPUs        int          `json:"cpus"`
		Connections int          `json:"connections"`
		Rounds      int          `json:"rounds"`
		Seconds     float64      `json:"round_seconds"`
		Go          string       `json:"go"`
		Rows        []row        `json:"rows"`
		Steps       []step       `json:"overload,omitzero"`
		Comparisons []comparison `json:"sizes,omitzero"`
	}{cpus, p.connections, p.rounds, p.duration.Seconds(), runtime.Version(), r.rows, r.steps, r.comparisons}, jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	return os.WriteFile(p.json, append(text, '\n'), 0o644)
}

package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Print prints the report for people to read.
func (r *Report) Print(out io.Writer) error {
	_, err := fmt.Fprintf(out, `%s, %d CPUs, which server and generator share; %s; %s
%d connections, %g s for each figure; started in %.0f ms

`, r.System, r.CPUs, r.Go, r.Database, r.Connections, r.Seconds, r.Start)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\thighest rate\t\t\t\t\thalf of it, constant\t\t")
	fmt.Fprintln(table, "request\ta second\tp50 ms\tp99 ms\tCPU µs\tMB after\tp50 ms\tp99 ms\t")
	for i := range r.Figures {
		f := &r.Figures[i]
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", f.Name, number(f.Rate), number(f.P50), number(f.P99),
			number(f.CPU), number(f.Memory), number(f.HalfP50), number(f.HalfP99))
	}
	err = table.Flush()
	if err != nil {
		return err
	}
	h := &r.Hashing
	_, err = fmt.Fprintf(out, `
Memory when idle: %s MB.
A password hash with --argon2="%s" takes %s ms alone; %s a second on all CPUs.
For logins of about %.0f ms: --argon2="%s", which takes %s ms alone.
`, number(r.IdleMemory), h.Params, number(h.Alone), number(h.Rate), h.Wanted, h.Recommended, number(h.Measured))
	return err
}

// number shows three digits or more, and what was not measured as a dash.
func number(n float64) string {
	switch {
	case n == 0:
		return "-"
	case n < 10:
		return fmt.Sprintf("%.2f", n)
	case n < 100:
		return fmt.Sprintf("%.1f", n)
	default:
		return fmt.Sprintf("%.0f", n)
	}
}

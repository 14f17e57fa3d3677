package hashproc

import (
	"sync/atomic"
	"testing"
	"time"

	"authnzerver/internal/passwd"
)

// BenchmarkHash computes hashes with the default parameters, four at a time, in
// both ways by turns.
func BenchmarkHash(b *testing.B) {
	p := newProcess(b)
	job := newJob("argon2id", 1)
	job.Params = passwd.DefaultParams
	for b.Loop() {
		b.ReportMetric(rate(b, func() error { _ = job.Compute(); return nil }), "here/s")
		b.ReportMetric(rate(b, func() error { _, err := p.Compute(job); return err }), "there/s")
	}
}

func rate(b *testing.B, compute func() error) float64 {
	b.Helper()
	var n atomic.Int64
	began := time.Now()
	done := make(chan error, 4)
	for range cap(done) {
		go func() {
			for time.Since(began) < 4*time.Second {
				err := compute()
				if err != nil {
					done <- err
					return
				}
				n.Add(1)
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	return float64(n.Load()) / time.Since(began).Seconds()
}

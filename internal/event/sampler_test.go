package event_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"authnzerver/internal/event"
	"authnzerver/internal/pii"
)

// logged returns how many lines of the log n requests leave, and how many requests these
// say that they stand for.
func logged(t *testing.T, sampler *event.Sampler, n int, change func(*event.Record)) (lines, stand int) {
	t.Helper()
	hasher, err := pii.NewHasher("salt")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	for range n {
		r := event.Record{Started: time.Now(), Request: "user-login", Status: 200}
		change(&r)
		r.Log(t.Context(), log, hasher, sampler)
	}
	for line := range strings.Lines(out.String()) {
		lines++
		if strings.Contains(line, "stands_for=10") {
			stand += 10
		} else {
			stand++
		}
	}
	return lines, stand
}

func TestSampler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sampler := event.NewSampler(5, 10)
		expect := func(what string, n, lines, stand int, change func(*event.Record)) {
			t.Helper()
			gotLines, gotStand := logged(t, sampler, n, change)
			if gotLines != lines || gotStand != stand {
				t.Errorf("%s: %d lines that stand for %d requests, want %d and %d", what, gotLines, gotStand, lines, stand)
			}
		}
		same := func(*event.Record) {}
		expect("few", 5, 5, 5, same)
		expect("nine more", 9, 0, 0, same)
		expect("one more", 1, 1, 10, same)
		expect("many", 100, 10, 100, same)
		expect("another code", 5, 5, 5, func(r *event.Record) { r.Code = "invalid_credentials" })
		expect("another request", 5, 5, 5, func(r *event.Record) { r.Request = "user-new" })
		expect("refused", 5, 5, 5, func(r *event.Record) { r.Refused = "stale" })
		expect("another status", 5, 5, 5, func(r *event.Record) { r.Status = 429 })
		expect("a fault", 5, 5, 5, func(r *event.Record) { r.Fault(errors.New("x")) })
		time.Sleep(time.Second)
		expect("a second later", 20, 6, 15, same)
		sampler = nil
		expect("without a sampler", 100, 100, 100, same)
	})
}

//go:build !race

package wire_test

import (
	"testing"
	"time"

	"authnzerver/internal/wire"
)

// The race detector makes pools forget, so this is not tested with it.
func TestAllocations(t *testing.T) {
	r := ring(t, plainKey)
	now := time.Now()
	plain := make([]byte, 1000)
	sealed := r.AppendSeal(nil, plain, 0, now)
	body := make([]byte, len(sealed))
	w := newReplay(time.Hour, 10_000)
	if n := testing.AllocsPerRun(1000, func() {
		copy(body, sealed)
		if _, err := r.Open(body); err != nil {
			t.Error(err)
		}
	}); n > 5 {
		t.Errorf("Open allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { r.AppendSeal(nil, plain, 0, now) }); n > 5 {
		t.Errorf("AppendSeal allocates %v times", n)
	}
	m := wire.Message{Time: now}
	if n := testing.AllocsPerRun(1000, func() {
		m.ID[0]++
		if m.ID[0] == 0 {
			m.ID[1]++
		}
		if err := w.Accept(&m, now); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("Accept allocates %v times", n)
	}
}

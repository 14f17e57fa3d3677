package bench

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"authnzerver/internal/passwd"
)

// took is a machine on which a pass over a MiB takes so long.
func took(each time.Duration) func(passwd.Params) time.Duration {
	return func(p passwd.Params) time.Duration {
		return each * time.Duration(p.MemoryKiB/1024) * time.Duration(p.Passes)
	}
}

func TestRecommend(t *testing.T) {
	const each = 500 * time.Microsecond // 96 ms for the default
	for within, want := range map[time.Duration]string{
		0:                      "m=19456,t=2,p=1",
		18 * time.Millisecond:  "m=19456,t=2,p=1",
		32 * time.Millisecond:  "m=32768,t=2,p=4",
		64 * time.Millisecond:  "m=65536,t=2,p=4",
		96 * time.Millisecond:  "m=65536,t=3,p=4",
		128 * time.Millisecond: "m=65536,t=4,p=4",
		250 * time.Millisecond: "m=131072,t=3,p=4",
		time.Second:            "m=524288,t=3,p=4",
		time.Minute:            "m=1048576,t=4,p=4",
	} {
		p, time := recommend(within, took(each))
		if p.String() != want || time != took(each)(p) {
			t.Errorf("within %v: %s, which takes %v; want %s", within, p, time, want)
		}
	}
}

// Whatever the machine and the time: what is recommended can be configured, and takes no
// longer unless it is the least.
func TestRecommendAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		machine := took(time.Duration(rapid.Int64Range(1, 1e8).Draw(t, "ns a MiB")))
		within := time.Duration(rapid.Int64Range(0, 1e11).Draw(t, "ns"))
		p, time := recommend(within, machine)
		if _, err := passwd.ParseParams(p.String()); err != nil {
			t.Fatal(err)
		}
		if time > within && p != leastParams || time != machine(p) {
			t.Fatalf("within %v: %s, which takes %v", within, p, time)
		}
	})
}

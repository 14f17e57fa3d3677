package limit_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
	"time"

	"authnzerver/internal/limit"
)

func TestRuleBounds(t *testing.T) {
	t.Parallel()
	const year = 366 * 24 * time.Hour
	for _, c := range []struct {
		rule  limit.Rule
		valid bool
	}{
		{limit.Rule{Limit: 1, Per: time.Microsecond}, true},
		{limit.Rule{Limit: limit.MaxCalls, Per: year}, true},
		{limit.Rule{Limit: limit.MaxBurst, Burst: limit.MaxBurst, Per: time.Hour}, true},
		{limit.Rule{Limit: 1, Burst: 1, Per: time.Hour}, true},
		{limit.Rule{Limit: 0, Per: time.Minute}, false},
		{limit.Rule{Limit: 0, Burst: 5, Per: time.Minute}, false},
		{limit.Rule{Limit: -1, Per: time.Minute}, false},
		{limit.Rule{Limit: limit.MaxCalls + 1, Per: time.Minute}, false},
		{limit.Rule{Limit: limit.MaxBurst + 1, Burst: 1, Per: time.Minute}, false},
		{limit.Rule{Limit: 1, Burst: -1, Per: time.Minute}, false},
		{limit.Rule{Limit: 1, Burst: limit.MaxBurst + 1, Per: time.Minute}, false},
		{limit.Rule{Limit: 1}, false},
		{limit.Rule{Limit: 1, Per: -time.Minute}, false},
		{limit.Rule{Limit: 1, Per: year + time.Microsecond}, false},
		{limit.Rule{Limit: 1, Burst: 1, Per: time.Hour + time.Microsecond}, false},
		{limit.Rule{Limit: 1, Per: time.Minute + time.Nanosecond}, false},
	} {
		if got := c.rule.Valid(); got != c.valid {
			t.Errorf("%+v: valid %t", c.rule, got)
		}
		for cost, inRange := range map[int]bool{-1: false, 0: true, limit.MaxCalls: true, limit.MaxCalls + 1: false} {
			charge := limit.Charge{Rule: c.rule, Cost: cost}
			if got := !panics(charge.Check); got != (c.valid && inRange) {
				t.Errorf("%+v with the cost %d: taken %t", c.rule, cost, got)
			}
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// fileOf is a file of limits with accounts, each a key and numbers as they are stored, with
// the right checksum.
func fileOf(accounts ...[]byte) []byte {
	text := binary.AppendVarint([]byte("authnzerver limits 1\n"), time.Now().UnixMicro())
	for _, a := range accounts {
		text = append(binary.AppendUvarint(text, uint64(len(a))), a...)
	}
	return limit.Sum(append(text, 0))
}

func accountOf(key byte, numbers ...int64) []byte {
	a := bytes.Repeat([]byte{key}, len(limit.Key{}))
	for _, n := range numbers {
		a = binary.AppendVarint(a, n)
	}
	return a
}

// TestLoadBounds loads files whose checksum is right and which hold what a limiter could
// not calculate with.
func TestLoadBounds(t *testing.T) {
	t.Parallel()
	const second, minute = 1_000_000, 60_000_000
	rule := []int64{5, 5, minute, second, 1}
	with := func(numbers ...int64) []byte { return accountOf(1, append(rule[:len(rule):len(rule)], numbers...)...) }
	runs := func(n int) (numbers []int64) {
		for range n {
			numbers = append(numbers, second, second, 1)
		}
		return numbers
	}
	sound := fileOf(with(second, second, 1))
	for name, c := range map[string]struct {
		file []byte
		keys int // -1 when it is damaged
	}{
		"nothing":                         {fileOf(), 0},
		"an account":                      {sound, 1},
		"no runs":                         {fileOf(with()), 1},
		"two accounts":                    {fileOf(with(), accountOf(2, rule...)), 2},
		"as many runs as there can be":    {fileOf(with(runs(65)...)), 1},
		"one more":                        {fileOf(with(runs(66)...)), -1},
		"the most calls":                  {fileOf(with(second, second, math.MaxInt32)), 1},
		"more calls":                      {fileOf(with(second, second, math.MaxInt32+1)), -1},
		"more calls together":             {fileOf(with(second, second, math.MaxInt32, second, second, 1)), -1},
		"a run without calls":             {fileOf(with(second, second, 0)), -1},
		"negative calls":                  {fileOf(with(second, second, -1)), -1},
		"a run that ends before it began": {fileOf(with(second, second+1, 1)), -1},
		"half a run":                      {fileOf(with(second, second)), -1},
		"the most spent":                  {fileOf(accountOf(1, 5, 5, minute, second, 4*limit.MaxBurst)), 1},
		"more spent":                      {fileOf(accountOf(1, 5, 5, minute, second, 4*limit.MaxBurst+1)), -1},
		"spent less than nothing":         {fileOf(accountOf(1, 5, 5, minute, second, -1)), -1},
		"no limit":                        {fileOf(accountOf(1, 0, 5, minute, second, 1)), -1},
		"no span":                         {fileOf(accountOf(1, 5, 5, 0, second, 1)), -1},
		"a key without numbers":           {fileOf(accountOf(1)), -1},
		"a short key":                     {fileOf(accountOf(1)[1:]), -1},
		"a number without an end":         {fileOf(append(with(), 0x80)), -1},
		"nothing at all":                  {nil, -1},
		"the beginning only":              {[]byte("authnzerver limits 1\n"), -1},
		"no moment":                       {limit.Sum([]byte("authnzerver limits 1\n")), -1},
		"no end":                          {limit.Sum(fileOf()[:len(fileOf())-33]), -1},
		"more than the end":               {limit.Sum(append(sound[:len(sound)-32:len(sound)-32], 7)), -1},
		"an account that is longer":       {limit.Sum(append(sound[:len(sound)-33:len(sound)-33], 100, 1, 2, 3)), -1},
		"another checksum":                {append(sound[:len(sound)-1:len(sound)-1], sound[len(sound)-1]+1), -1},
		"another kind of file":            {limit.Sum(append([]byte("authnzerver limits 2\n"), sound[21:len(sound)-32]...)), -1},
	} {
		l := limit.NewLimiter(0, time.Now)
		err := l.Load(bytes.NewReader(c.file))
		if (err != nil) != (c.keys < 0) || l.Keys() != max(0, c.keys) {
			t.Errorf("%s: %d keys, error %v", name, l.Keys(), err)
		}
	}
	// Of keys in one shard, no more are kept than there is room for.
	var many [][]byte
	for i := range 5 {
		a := accountOf(1, rule...)
		a[1] = byte(i)
		many = append(many, a)
	}
	for capacity, want := range map[int]int{1: 1, 128: 2, 0: 5} {
		l := limit.NewLimiter(capacity, time.Now)
		err := l.Load(bytes.NewReader(fileOf(many...)))
		if err != nil || l.Keys() != want {
			t.Errorf("a limiter for %d keys has %d of 5, error %v", capacity, l.Keys(), err)
		}
	}
}

// TestCallsLeaveOneByOne has as many calls as are counted exactly leave the window each
// at its moment.
func TestCallsLeaveOneByOne(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := limit.NewLimiter(0, clock.Now)
	charge := limit.Charge{Key: keyer.Key("k"), Rule: perMinute(64, 0), Cost: 1}
	for range 64 {
		if !l.Spend(nil, charge).Allowed {
			t.Fatal("one of the first 64 calls is refused")
		}
		clock.now = clock.now.Add(100 * time.Millisecond)
	}
	clock.now = clock.now.Add(time.Minute - 6400*time.Millisecond)
	for i := range 63 {
		if !l.Spend(nil, charge).Allowed {
			t.Fatalf("when call %d is a minute old, none is let through", i)
		}
		got := l.Spend(nil, charge)
		if got.Allowed || got.RetryAfter != 100*time.Millisecond {
			t.Fatalf("when call %d is a minute old, another one is answered with %+v", i, got)
		}
		clock.now = clock.now.Add(100 * time.Millisecond)
	}
}

// TestAccountsStaySmall has a key make calls at all times: those of a 64th of the span
// are kept as one, so that an account has a largest size.
func TestAccountsStaySmall(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := limit.NewLimiter(0, clock.Now)
	charge := limit.Charge{Key: keyer.Key("k"), Rule: perMinute(6000, 0), Cost: 1}
	for range 6000 {
		clock.now = clock.now.Add(10 * time.Millisecond)
		if !l.Spend(nil, charge).Allowed {
			t.Fatal("a call at the average is refused")
		}
	}
	var file bytes.Buffer
	err := l.Save(&file)
	// 65 runs of three numbers of up to five bytes, and as much again for the rest.
	if err != nil || file.Len() > 2*65*3*5 {
		t.Errorf("an account takes %d bytes in a file, error %v", file.Len(), err)
	}
}

// TestIdleKeysMakeRoom fills the place for keys and lets one of them become idle: it is
// found among all others for a new key, once a second.
func TestIdleKeysMakeRoom(t *testing.T) {
	t.Parallel()
	const room = 200
	clock := newClock()
	l := limit.NewLimiter(64*room, clock.Now) // 64 parts
	key := func(i int) (k limit.Key) {
		k[1], k[2] = byte(i), byte(i>>8)
		return k
	}
	slow := limit.Rule{Limit: 1000, Per: time.Hour}
	for i := range room - 1 {
		l.Spend(nil, limit.Charge{Key: key(i), Rule: slow, Cost: 1})
	}
	l.Spend(nil, limit.Charge{Key: key(room), Rule: perMinute(1, 0), Cost: 1})
	if l.Keys() != room {
		t.Fatalf("there are %d keys, want %d", l.Keys(), room)
	}
	clock.now = clock.now.Add(time.Minute)
	l.Spend(nil, limit.Charge{Key: key(room + 1), Rule: slow, Cost: 1})
	if l.Keys() != room {
		t.Errorf("an idle key was not found: there are %d accounts, want %d", l.Keys(), room)
	}
	// Now none is idle, and who comes shares.
	l.Spend(nil, limit.Charge{Key: key(room + 2), Rule: slow, Cost: 1})
	l.Spend(nil, limit.Charge{Key: key(room + 3), Rule: slow, Cost: 1})
	if l.Keys() != room+2 {
		t.Errorf("there are %d accounts, want %d and two that are shared", l.Keys(), room)
	}
}

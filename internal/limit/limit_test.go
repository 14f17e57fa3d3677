package limit_test

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"authnzerver/internal/limit"
)

// A clock is steered by its test.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time { return c.now }

var keyer = limit.NewKeyer([]byte("secret of the tests"))

func perMinute(calls, burst int) limit.Rule {
	return limit.Rule{Limit: calls, Burst: burst, Per: time.Minute}
}

// A reference follows the words of the rule with the moments of all admitted
// calls and exact fractions.
type reference struct {
	rule  limit.Rule
	calls []time.Time
	busy  time.Time
	spent int
}

// earned is how many calls the rule's average admits in a span of time.
func (r *reference) earned(span time.Duration) *big.Rat {
	return big.NewRat(int64(span.Microseconds())*int64(r.rule.Limit), r.rule.Per.Microseconds())
}

func (r *reference) allows(now time.Time, cost int) bool {
	in := 0
	for _, at := range r.calls {
		if at.Add(r.rule.Per).After(now) {
			in++
		}
	}
	if in+cost > max(r.rule.Limit, r.rule.Burst) {
		return false
	}
	if r.rule.Burst == 0 {
		return true
	}
	earned := r.earned(now.Sub(r.busy))
	if earned.Cmp(big.NewRat(int64(r.spent+r.rule.Burst-1), 1)) >= 0 {
		r.spent = 0
	}
	if r.spent == 0 {
		return cost <= r.rule.Burst
	}
	return r.spent+cost <= r.rule.Burst || earned.Cmp(big.NewRat(int64(r.spent+cost-1), 1)) >= 0
}

func (r *reference) spend(now time.Time, cost int) bool {
	if !r.allows(now, cost) {
		return false
	}
	if r.spent == 0 {
		r.busy = now
	}
	r.spent += cost
	for range cost {
		r.calls = append(r.calls, now)
	}
	return true
}

var steps = rapid.OneOf(
	rapid.Just(time.Duration(0)),
	rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.IntRange(0, 3_000_000).Draw(t, "µs")) * time.Microsecond
	}),
	rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.IntRange(0, 200).Draw(t, "s")) * time.Second
	}),
)

// Limits that fit the window are exact: every call is decided as the words of
// the rule decide it, whatever other keys do in between.
func TestSmallLimitsAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		l := limit.NewLimiter(0, clock.Now)
		type account struct {
			reference

			key limit.Key
		}
		accounts := make([]account, rapid.IntRange(1, 3).Draw(t, "keys"))
		for i := range accounts {
			accounts[i].key = keyer.Key(fmt.Sprint(i))
			accounts[i].rule = perMinute(rapid.IntRange(1, 64).Draw(t, "limit"), rapid.IntRange(0, 64).Draw(t, "burst"))
		}
		for range rapid.IntRange(1, 300).Draw(t, "calls") {
			clock.now = clock.now.Add(steps.Draw(t, "step"))
			a := &accounts[rapid.IntRange(0, len(accounts)-1).Draw(t, "key")]
			cost := rapid.IntRange(0, 3).Draw(t, "cost")
			got := l.Spend(nil, limit.Charge{Key: a.key, Rule: a.rule, Cost: cost})
			if want := a.spend(clock.now, cost); got.Allowed != want {
				t.Fatalf("%+v at %s, cost %d: allowed %t, want %t", a.rule, clock.now, cost, got.Allowed, want)
			}
		}
	})
}

// What D14 of the contract promises holds for every limit: no window admits
// more than the larger of burst and limit, and no busy period more than its
// burst or its average.
func TestNoWindowAdmitsTooMuch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		l := limit.NewLimiter(0, clock.Now)
		rule := perMinute(rapid.IntRange(1, 1000).Draw(t, "limit"), rapid.IntRange(0, 1000).Draw(t, "burst"))
		charge := limit.Charge{Key: keyer.Key("k"), Rule: rule, Cost: 1}
		most := max(rule.Limit, rule.Burst)
		var admitted []time.Time
		words := &reference{rule: rule}
		for range rapid.IntRange(1, 60).Draw(t, "bursts") {
			clock.now = clock.now.Add(steps.Draw(t, "step"))
			for range rapid.IntRange(1, 200).Draw(t, "calls") {
				d := l.Spend(nil, charge)
				if !d.Allowed {
					break
				}
				if !words.allows(clock.now, 1) {
					t.Fatalf("%+v: admitted at %s what the rule refuses", rule, clock.now)
				}
				words.spend(clock.now, 1)
				admitted = append(admitted, clock.now)
			}
		}
		if n := fullestWindow(admitted, rule.Per); n > most {
			t.Fatalf("%+v: %d calls in one window", rule, n)
		}
	})
}

// fullestWindow returns the largest number of moments within any span, the end
// of the span not included.
func fullestWindow(moments []time.Time, span time.Duration) (most int) {
	for i, first := range moments {
		end, _ := slices.BinarySearchFunc(moments, first.Add(span), time.Time.Compare)
		most = max(most, end-i)
	}
	return most
}

// TestFullestWindowFindsBrokenLimiters is the control of the property above: a
// token bucket and a counter that starts anew every minute, under the same
// flood, admit more than they should.
func TestFullestWindowFindsBrokenLimiters(t *testing.T) {
	t.Parallel()
	const calls, burst = 120, 150
	start := newClock().now
	bucket, filled := float64(burst), start
	counted, minute := 0, start
	clock := &clock{}
	l := limit.NewLimiter(0, clock.Now)
	for name, spend := range map[string]func(time.Time) bool{
		"a token bucket": func(now time.Time) bool {
			bucket = min(burst, bucket+now.Sub(filled).Minutes()*calls)
			filled = now
			if bucket < 1 {
				return false
			}
			bucket--
			return true
		},
		"a counter of minutes": func(now time.Time) bool {
			if now.Sub(minute) >= time.Minute {
				counted, minute = 0, now.Truncate(time.Minute)
			}
			counted++
			return counted <= burst
		},
		"the limiter": func(now time.Time) bool {
			clock.now = now
			return l.Spend(nil, limit.Charge{Key: keyer.Key("k"), Rule: perMinute(calls, burst), Cost: 1}).Allowed
		},
	} {
		var admitted []time.Time
		for step := range 2000 {
			now := start.Add(45*time.Second + time.Duration(step)*100*time.Millisecond)
			for range 20 {
				if spend(now) {
					admitted = append(admitted, now)
				}
			}
		}
		n := fullestWindow(admitted, time.Minute)
		if broken := name != "the limiter"; broken != (n > burst) {
			t.Errorf("%s: %d calls in the fullest window", name, n)
		}
	}
}

// A refusal tells the first moment at which the call is admitted, and not one
// microsecond more or less.
func TestRetryAfterIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		l := limit.NewLimiter(0, clock.Now)
		rule := perMinute(rapid.IntRange(1, 700).Draw(t, "limit"), rapid.IntRange(0, 200).Draw(t, "burst"))
		charge := limit.Charge{Key: keyer.Key("k"), Rule: rule, Cost: 1}
		refused := 0
		for range rapid.IntRange(1, 40).Draw(t, "bursts") {
			clock.now = clock.now.Add(steps.Draw(t, "step"))
			d := l.Spend(nil, charge)
			for d.Allowed {
				d = l.Spend(nil, charge)
			}
			refused++
			if d.RetryAfter <= 0 {
				t.Fatalf("%+v: refused without a wait", rule)
			}
			clock.now = clock.now.Add(d.RetryAfter - time.Microsecond)
			if l.Spend(nil, charge).Allowed {
				t.Fatalf("%+v: admitted a microsecond before the wait of %s was over", rule, d.RetryAfter)
			}
			clock.now = clock.now.Add(time.Microsecond)
			if !l.Spend(nil, charge).Allowed {
				t.Fatalf("%+v: refused after the wait of %s", rule, d.RetryAfter)
			}
		}
	})
}

// The example of the contract.
func TestBurstThenAverage(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := limit.NewLimiter(0, clock.Now)
	charge := limit.Charge{Key: keyer.Key("k"), Rule: perMinute(120, 150), Cost: 1}
	flood := func() (n int, last limit.Decision) {
		for {
			last = l.Spend(nil, charge)
			if !last.Allowed {
				return n, last
			}
			n++
		}
	}
	for _, tt := range []struct {
		after time.Duration
		want  int
		retry time.Duration
	}{
		{0, 150, 75 * time.Second},
		{30 * time.Second, 0, 45 * time.Second},
		{45 * time.Second, 1, 500 * time.Millisecond},
		{500 * time.Millisecond, 1, 500 * time.Millisecond},
		{10 * time.Second, 20, 500 * time.Millisecond},
		{10 * time.Minute, 150, 75 * time.Second}, // never more than the burst
	} {
		clock.now = clock.now.Add(tt.after)
		got, last := flood()
		if got != tt.want || last.RetryAfter != tt.retry {
			t.Errorf("after %s: %d calls and a wait of %s, want %d and %s", tt.after, got, last.RetryAfter, tt.want, tt.retry)
		}
	}
}

// A flood without end gets the limit, but for what the coarseness of large
// windows costs.
func TestLongFloodGetsItsLimit(t *testing.T) {
	t.Parallel()
	for _, rule := range []limit.Rule{perMinute(10, 10), perMinute(120, 150), perMinute(600, 150), perMinute(3000, 150)} {
		clock := newClock()
		l := limit.NewLimiter(0, clock.Now)
		charge := limit.Charge{Key: keyer.Key("k"), Rule: rule, Cost: 1}
		got := 0
		for range 60_000 {
			for l.Spend(nil, charge).Allowed {
				got++
			}
			clock.now = clock.now.Add(10 * time.Millisecond)
		}
		want := 10 * rule.Limit
		if got > want+rule.Burst || got < want*98/100-1 {
			t.Errorf("%+v: %d calls in ten minutes, want about %d", rule, got, want)
		}
	}
}

// A call that one key cannot pay costs none of them anything.
func TestRefusedCallsCostNothing(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := limit.NewLimiter(0, clock.Now)
	client := limit.Charge{Key: keyer.Key("client"), Rule: perMinute(10, 10), Cost: 1}
	email := limit.Charge{Key: keyer.Key("email"), Rule: perMinute(2, 2), Cost: 1}
	for i := range 50 {
		d := l.Spend(nil, client, email)
		if want := i < 2; d.Allowed != want {
			t.Fatalf("call %d: allowed %t", i, d.Allowed)
		}
	}
	each := make([]limit.Decision, 2)
	d := l.Spend(each, client, email)
	client.Cost, email.Cost = 0, 0
	alone := []limit.Decision{l.Spend(nil, client), l.Spend(nil, email)}
	alone[1].Allowed, alone[1].RetryAfter = false, d.RetryAfter
	if diff := cmp.Diff(alone, each); diff != "" || d.Allowed || each[0].Remaining != 8 || each[1].Remaining != 0 {
		t.Errorf("each alone %+v, together %+v and %+v", alone, d, each)
	}
	if d := l.Spend(nil, client); d.Remaining != 8 || d.Reset != 66*time.Second {
		t.Errorf("the client has %d left and is reset in %s, want 8 and 1m6s", d.Remaining, d.Reset)
	}
	client.Cost = 11
	if d := l.Spend(nil, client); d.Allowed || d.RetryAfter != limit.Never {
		t.Errorf("a cost above the burst: %+v, want refused for ever", d)
	}
	l.Spend(nil, limit.Charge{Key: client.Key, Rule: client.Rule, Cost: 3})
	l.Refund(limit.Charge{Key: client.Key, Rule: client.Rule, Cost: 3})
	client.Cost = 0
	if d := l.Spend(nil, client); d.Remaining != 8 {
		t.Errorf("%d left after a refund, want 8", d.Remaining)
	}
}

// However many keys come: memory is bounded, nobody's count is reset, and
// newcomers are not let in unlimited.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	clock := newClock()
	const capacity = 6400
	l := limit.NewLimiter(capacity, clock.Now)
	rule := perMinute(10, 10)
	victim := limit.Charge{Key: keyer.Key("victim"), Rule: rule, Cost: 1}
	for l.Spend(nil, victim).Allowed {
		continue
	}
	admitted := 0
	for i := range 200_000 {
		if l.Spend(nil, limit.Charge{Key: keyer.Key("attacker", fmt.Sprint(i)), Rule: rule, Cost: 1}).Allowed {
			admitted++
		}
		if i%1000 == 0 && l.Spend(nil, victim).Allowed {
			t.Fatal("the victim's count was reset")
		}
	}
	const shared = 64 * 16
	if most := capacity + 10*shared; admitted > most || admitted < capacity {
		t.Errorf("%d of 200,000 keys were admitted at once, want at most %d", admitted, most)
	}
	if n := l.Keys(); n > capacity+shared {
		t.Errorf("%d accounts, want at most %d", n, capacity+shared)
	}
	clock.now = clock.now.Add(3 * time.Minute)
	fresh := limit.Charge{Key: keyer.Key("newcomer"), Rule: rule, Cost: 1}
	for i := range 10 {
		if !l.Spend(nil, fresh).Allowed {
			t.Fatalf("call %d of a newcomer is refused when all others are idle", i+1)
		}
	}
}

// A key that was counted on a shared account does not begin anew when there is
// room for one of its own.
func TestSharedAccountsAreNotLeft(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := limit.NewLimiter(64, clock.Now) // one key for each shard
	short := limit.Rule{Limit: 1, Per: time.Second}
	for i := range 2000 {
		l.Spend(nil, limit.Charge{Key: keyer.Key(fmt.Sprint(i)), Rule: short, Cost: 1})
	}
	late := limit.Charge{Key: keyer.Key("late"), Rule: perMinute(5, 5), Cost: 1}
	for l.Spend(nil, late).Allowed {
		continue
	}
	clock.now = clock.now.Add(5 * time.Second) // the others are idle
	if l.Spend(nil, late).Allowed {
		t.Error("a key that was limited on a shared account got a new one")
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		before := limit.NewLimiter(0, clock.Now)
		rule := perMinute(rapid.IntRange(1, 300).Draw(t, "limit"), rapid.IntRange(0, 100).Draw(t, "burst"))
		keys := rapid.IntRange(1, 20).Draw(t, "keys")
		for range rapid.IntRange(0, 100).Draw(t, "calls") {
			clock.now = clock.now.Add(steps.Draw(t, "step"))
			before.Spend(nil, limit.Charge{
				Key: keyer.Key(fmt.Sprint(rapid.IntRange(0, keys-1).Draw(t, "key"))), Rule: rule, Cost: rapid.IntRange(0, 9).Draw(t, "cost"),
			})
		}
		var file bytes.Buffer
		if err := before.Save(&file); err != nil {
			t.Fatal(err)
		}
		text := bytes.Clone(file.Bytes())
		after := limit.NewLimiter(0, clock.Now)
		if err := after.Load(&file); err != nil {
			t.Fatal(err)
		}
		for i := range keys {
			look := limit.Charge{Key: keyer.Key(fmt.Sprint(i)), Rule: rule}
			was, is := before.Spend(nil, look), after.Spend(nil, look)
			// Writing and reading the file takes a little of the real time.
			if is.Remaining < was.Remaining || is.Remaining > was.Remaining+rule.Limit || is.Reset > was.Reset || is.Reset < was.Reset-time.Second {
				t.Errorf("key %d: %+v was saved, %+v was loaded", i, was, is)
			}
		}
		text[rapid.IntRange(0, len(text)-1).Draw(t, "byte")] ^= 1
		damaged := limit.NewLimiter(0, clock.Now)
		if damaged.Load(bytes.NewReader(text)) == nil || damaged.Keys() != 0 {
			t.Error("a damaged file was loaded")
		}
	})
}

func FuzzLoad(f *testing.F) {
	l := limit.NewLimiter(0, time.Now)
	l.Spend(nil, limit.Charge{Key: keyer.Key("k"), Rule: perMinute(5, 5), Cost: 1})
	var file bytes.Buffer
	if err := l.Save(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Add([]byte("authnzerver limits 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := limit.NewLimiter(0, time.Now)
		if l.Load(bytes.NewReader(limit.Sum(text))) != nil && l.Keys() != 0 {
			t.Error("a part of a damaged file was loaded")
		}
		l.Spend(nil, limit.Charge{Key: keyer.Key("k"), Rule: perMinute(5, 5), Cost: 1})
	})
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for client, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "::FFFF:c000:0201": "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:DB8:1:2::": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
		"": "", "192.0.2.01": "", "192.0.2.1:80": "", "zzz": "", "192.0.2.1 ": "",
	} {
		if got := limit.Network(client); got != want {
			t.Errorf("Network(%q) = %q, want %q", client, got, want)
		}
	}
}

func TestKeysTellPartsApart(t *testing.T) {
	t.Parallel()
	seen := map[limit.Key]string{}
	for _, parts := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}, {}} {
		key := keyer.Key(parts...)
		if other, taken := seen[key]; taken {
			t.Errorf("%q has the key of %s", parts, other)
		}
		seen[key] = fmt.Sprintf("%q", parts)
		if key != limit.NewKeyer([]byte("secret of the tests")).Key(parts...) {
			t.Errorf("%q: another Keyer with the same secret makes another key", parts)
		}
		if key == limit.NewKeyer([]byte("another secret")).Key(parts...) {
			t.Errorf("%q: another secret makes the same key", parts)
		}
	}
}

func BenchmarkSpend(b *testing.B) {
	for _, rule := range []limit.Rule{perMinute(10, 10), perMinute(600, 150), perMinute(limit.MaxBurst, limit.MaxBurst), {Limit: limit.MaxCalls, Per: time.Hour}} {
		b.Run(fmt.Sprint(rule.Limit), func(b *testing.B) {
			l := limit.NewLimiter(0, limit.Clock())
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					l.Spend(nil, limit.Charge{Key: keyer.Key("session-exists", "192.0.2.1"), Rule: rule, Cost: 1})
				}
			})
		})
	}
}

// Package limit counts calls and says when there are too many.
//
// Every key has an account of its own under a [Rule]. The first calls of a
// quiet key, as many as the burst, pass at once; after that a call is refused
// until the average of those before it, since the key became busy, is within
// the limit. No span of
// the rule's length ever admits more than the larger of burst and limit, and a
// key that is quiet again never has more credit than its burst. Refused calls
// cost nothing, and the wait that a refusal tells is the true one.
package limit

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Capacity is how many keys a Limiter keeps apart. A key takes about 200 bytes,
// and 1.7 kB while it makes calls all the time.
const Capacity = 100_000

const (
	shards = 64
	// shared is how many accounts of a rule each shard has for the keys that
	// find no place.
	shared = 16
	// looks is how many keys are looked at for each new one, so that idle ones
	// go before there is no place.
	looks = 4
	// sweepEvery is how often, in microseconds, all keys of a full shard are
	// looked at.
	sweepEvery = 1_000_000
)

// A Charge is what a call costs a key.
type Charge struct {
	Key  Key
	Rule Rule
	// Cost is in calls, at most MaxCalls. One of 0 only looks.
	Cost int
}

// A Decision is the answer to a call.
type Decision struct {
	// Allowed reports whether every key could pay. If one could not, none has
	// paid.
	Allowed bool
	// RetryAfter is how long it takes until the call would be allowed if there
	// were no others; 0 when it is allowed. It is [Never] for what costs more
	// than can ever be paid.
	RetryAfter time.Duration
	// Remaining is what is left for further calls: the least of all keys.
	Remaining int
	// Reset is how long it takes until everything is left again if there are
	// no more calls: the longest of all keys.
	Reset time.Duration
}

// Never is the wait for what costs more than the rule admits at once.
const Never = time.Duration(math.MaxInt64)

// A Limiter keeps accounts in memory. It is safe for concurrent use.
//
// When there is no place for a new key, it shares one of a few accounts with
// others that came too late. Nothing is forgotten to make room: who brings
// millions of keys limits the newcomers among them, and nobody gets back
// what was spent.
type Limiter struct {
	now    func() int64
	shards [shards]shard
	// perShard is how many keys a shard keeps apart.
	perShard int
}

type shard struct {
	mu     sync.Mutex
	keys   map[Key]*account
	shared map[sharedKey]*account
	// swept is when all keys were last looked at.
	swept int64
}

// An account is a state with the rule that it is under.
type account struct {
	state

	rule Rule
	// used is when a call last went to it, so that no other charge of the
	// same call takes it for a forgotten one.
	used int64
}

// fresh reports whether the account says no more than a new one would.
func (a *account) fresh(now int64) bool {
	a.advance(&a.rule, now)
	return a.idle() && a.used != now
}

// A sharedKey names an account of those that found no place.
type sharedKey struct {
	rule Rule
	slot byte
}

// NewLimiter returns a Limiter for about capacity keys, Capacity when it is 0.
// now is the clock; the time must not go backwards, as that of time.Now may.
func NewLimiter(capacity int, now func() time.Time) *Limiter {
	if capacity == 0 {
		capacity = Capacity
	}
	l := &Limiter{
		now:      func() int64 { return now().UnixMicro() },
		perShard: max(1, capacity/shards),
	}
	for i := range l.shards {
		l.shards[i] = shard{keys: map[Key]*account{}, shared: map[sharedKey]*account{}}
	}
	return l
}

// Keys returns how many accounts there are: one a key, or one that several share.
func (l *Limiter) Keys() int {
	n := 0
	for i := range l.shards {
		l.shards[i].mu.Lock()
		n += len(l.shards[i].keys) + len(l.shards[i].shared)
		l.shards[i].mu.Unlock()
	}
	return n
}

// Clock returns a clock that begins with the time of day and then only goes
// forwards, at the pace of real time.
func Clock() func() time.Time {
	start := time.Now()
	wall := start.Round(0)
	return func() time.Time { return wall.Add(time.Since(start)) }
}

// Spend charges a call to all of its keys, or to none. Unless each is nil, it is as
// long as there are charges, and gets what became of each: Allowed is then whether this
// key could pay, be the others able to or not. Spend panics when a rule or a cost is out
// of its range, which is a mistake of the caller's.
func (l *Limiter) Spend(each []Decision, charges ...Charge) Decision {
	for i := range charges {
		charges[i].Check()
	}
	defer l.lock(charges)()
	now := l.now()
	d := Decision{Allowed: true, Remaining: math.MaxInt}
	var space [4]*account
	accounts := space[:0]
	for i := range charges {
		c := &charges[i]
		a := l.shard(c.Key).account(c, now, l.perShard)
		cost := int64(c.Cost)
		for j, earlier := range accounts {
			if earlier == a { // a shared one
				cost += int64(charges[j].Cost)
			}
		}
		accounts = append(accounts, a)
		one := Decision{Allowed: a.remaining(&c.Rule, now) >= cost}
		if !one.Allowed {
			d.Allowed = false
			one.RetryAfter = span(a.wait(&c.Rule, now, cost))
			d.RetryAfter = max(d.RetryAfter, one.RetryAfter)
		}
		if each != nil {
			each[i] = one
		}
	}
	for i, a := range accounts {
		rule := &charges[i].Rule
		if d.Allowed {
			a.spend(rule, now, int64(charges[i].Cost))
		}
		remaining, reset := int(a.remaining(rule, now)), span(a.reset(rule, now))
		d.Remaining = min(d.Remaining, remaining)
		d.Reset = max(d.Reset, reset)
		if each != nil {
			each[i].Remaining, each[i].Reset = remaining, reset
		}
	}
	return d
}

// Refund gives back what Spend has just taken.
func (l *Limiter) Refund(charges ...Charge) {
	defer l.lock(charges)()
	for i := range charges {
		s := l.shard(charges[i].Key)
		a := s.keys[charges[i].Key]
		if a == nil {
			a = s.shared[charges[i].sharedKey()]
		}
		if a != nil {
			a.refund(int64(charges[i].Cost))
		}
	}
}

// Check panics when the charge is out of its range, which is a mistake of the
// caller's.
func (c *Charge) Check() {
	if !c.Rule.Valid() || c.Cost < 0 || c.Cost > MaxCalls {
		panic(fmt.Sprintf("limit: a charge is out of range: %+v, cost %d", c.Rule, c.Cost))
	}
}

// reset is after how many microseconds everything is left again.
func (s *state) reset(r *Rule, now int64) int64 {
	var wait int64
	if n := len(s.runs); n > 0 {
		wait = s.runs[n-1].last + r.Per.Microseconds() - now
	}
	if s.spent > 0 {
		wait = max(wait, s.busy+s.full(r)-now)
	}
	return wait
}

func span(microseconds int64) time.Duration {
	if microseconds == never {
		return Never
	}
	return time.Duration(microseconds) * time.Microsecond
}

func (l *Limiter) shard(k Key) *shard { return &l.shards[k[0]%shards] }

// lock locks the shards of all charges, in one order for everybody.
func (l *Limiter) lock(charges []Charge) (unlock func()) {
	var space [4]byte
	places := space[:0]
	for i := range charges {
		places = append(places, charges[i].Key[0]%shards)
	}
	slices.Sort(places)
	places = slices.Compact(places)
	for _, i := range places {
		l.shards[i].mu.Lock()
	}
	return func() {
		for _, i := range places {
			l.shards[i].mu.Unlock()
		}
	}
}

func (c *Charge) sharedKey() sharedKey { return sharedKey{c.Rule, c.Key[1] % shared} }

// account returns the advanced account that a charge goes to.
func (s *shard) account(c *Charge, now int64, capacity int) *account {
	a := s.keys[c.Key]
	if a == nil {
		a = s.place(c, now, capacity)
	}
	a.rule, a.used = c.Rule, now
	a.advance(&c.Rule, now)
	return a
}

// place finds an account for a key that has none: one of its own if there is
// room, unless the key may have spent from a shared one.
func (s *shard) place(c *Charge, now int64, capacity int) *account {
	late := c.sharedKey()
	if a := s.shared[late]; a != nil {
		if !a.fresh(now) {
			return a
		}
		delete(s.shared, late)
	}
	s.sweep(now, looks)
	if len(s.keys) >= capacity && now-s.swept >= sweepEvery {
		s.swept = now
		s.sweep(now, len(s.keys))
	}
	a := &account{}
	if len(s.keys) >= capacity {
		s.shared[late] = a
	} else {
		s.keys[c.Key] = a
	}
	return a
}

// sweep looks at up to n keys and forgets those that are idle.
func (s *shard) sweep(now int64, n int) {
	for key, a := range s.keys {
		if n--; n < 0 {
			return
		}
		if a.fresh(now) {
			delete(s.keys, key)
		}
	}
}

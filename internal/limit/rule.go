package limit

import (
	"math"
	"time"
)

const (
	// MaxCalls is the largest limit of a Rule, and the largest cost of a call.
	MaxCalls = 1_000_000_000
	// MaxBurst is the largest burst of a Rule, and the largest limit of one that
	// has a burst.
	MaxBurst = 1_000_000
)

// A Rule says how many calls a key may make. It is comparable.
type Rule struct {
	// Limit is how many calls may be made in any span of the length Per, and
	// on average; from 1 to MaxCalls.
	Limit int
	// Burst is how many calls of a quiet key pass at once, at most MaxBurst.
	// A burst above the limit may fill one span of the length Per. Without a
	// burst there is no average: calls pass as long as the span has room.
	Burst int
	// Per is a span of whole microseconds up to 366 days, of a rule with a burst
	// up to an hour.
	Per time.Duration
}

// Valid reports whether all fields are within their ranges, so that no number
// that is calculated from them overflows.
func (r *Rule) Valid() bool {
	limit, per := MaxCalls, 366*24*time.Hour
	if r.Burst > 0 {
		limit, per = MaxBurst, time.Hour
	}
	return r.Limit >= 1 && r.Limit <= limit && r.Burst >= 0 && r.Burst <= MaxBurst &&
		r.Per >= time.Microsecond && r.Per <= per && r.Per%time.Microsecond == 0
}

// most is how many calls any span of the length Per admits.
func (r *Rule) most() int64 { return int64(max(r.Limit, r.Burst)) }

// largest is the largest cost that a call can ever pay.
func (r *Rule) largest() int64 {
	if r.Burst > 0 {
		return int64(r.Burst)
	}
	return int64(r.Limit)
}

// due is how long a key must have been busy for the average of n calls to be
// within the limit, in microseconds, rounded up.
func (r *Rule) due(n int64) int64 {
	limit := int64(r.Limit)
	return (n*r.Per.Microseconds() + limit - 1) / limit
}

// maxRuns is how many runs of calls a state keeps. Limits of up to as many
// calls are exact; with larger ones, calls within a 64th of the span leave it
// together with the last of them, so that a key which is always at its limit
// may get up to 1.6 % less than that, and never more.
const maxRuns = 64

// tick is how long a run may grow, in microseconds.
func (r *Rule) tick() int64 {
	if r.most() <= maxRuns {
		return 0
	}
	return r.Per.Microseconds() / maxRuns
}

// A run is a number of calls that leave the window together. Times are in
// microseconds.
type run struct{ first, last, calls int64 }

// A state is what is known of one key. Its zero value is a key that has made
// no call.
type state struct {
	// busy is when the key became busy, and spent is what it has spent since,
	// for the average.
	busy, spent int64
	// window is what the runs hold together: the calls of the last span.
	window int64
	runs   []run
}

// advance forgets what no longer counts: calls that have left the window, and
// the average of a key whose credit is a whole burst again.
func (s *state) advance(r *Rule, now int64) {
	per := r.Per.Microseconds()
	gone := 0
	for gone < len(s.runs) && s.runs[gone].last+per <= now {
		s.window -= s.runs[gone].calls
		gone++
	}
	s.runs = s.runs[gone:]
	if s.spent > 0 && now-s.busy >= s.full(r) {
		s.spent = 0
	}
}

// full is how long a busy key must have been busy to have a whole burst of
// credit again, in microseconds.
func (s *state) full(r *Rule) int64 {
	if r.Burst == 0 {
		return 0
	}
	return r.due(s.spent + int64(r.Burst) - 1)
}

// idle reports whether an advanced state says no more than none would.
func (s *state) idle() bool { return s.spent == 0 && s.window == 0 }

// remaining is what an advanced state may still spend at once.
func (s *state) remaining(r *Rule, now int64) int64 {
	free := r.most() - s.window
	if r.Burst > 0 {
		allowance := int64(r.Burst)
		if s.spent > 0 {
			// No overflow: advance bounds the time by what was spent.
			allowance = max(allowance, (now-s.busy)*int64(r.Limit)/r.Per.Microseconds()+1)
		}
		free = min(free, allowance-s.spent)
	}
	return max(0, free) // a rule may have been made stricter meanwhile
}

// never is the wait for what costs more than a call can ever pay.
const never = math.MaxInt64

// wait is after how many microseconds an advanced state could pay the cost if
// nobody else came.
func (s *state) wait(r *Rule, now, cost int64) int64 {
	if cost > r.largest() {
		return never
	}
	var wait int64
	if total := s.spent + cost; r.Burst > 0 && s.spent > 0 && total > int64(r.Burst) {
		wait = max(0, s.busy+r.due(total-1)-now)
	}
	excess := s.window + cost - r.most()
	for _, run := range s.runs {
		if excess <= 0 {
			break
		}
		excess -= run.calls
		wait = max(wait, run.last+r.Per.Microseconds()-now)
	}
	return wait
}

// spend takes the cost from an advanced state that can pay it.
func (s *state) spend(r *Rule, now, cost int64) {
	if cost == 0 {
		return
	}
	if r.Burst > 0 {
		if s.spent == 0 {
			s.busy = now
		}
		s.spent += cost
		// As many calls as the limit are worth exactly one span, which keeps
		// the numbers small without changing when what is due.
		for s.spent-int64(r.Limit) >= int64(r.Burst) {
			s.spent -= int64(r.Limit)
			s.busy += r.Per.Microseconds()
		}
	}
	s.window += cost
	if n := len(s.runs); n > 0 && now-s.runs[n-1].first <= r.tick() {
		s.runs[n-1].calls += cost
		s.runs[n-1].last = max(now, s.runs[n-1].last)
		return
	}
	s.runs = append(s.runs, run{now, now, cost})
}

// refund gives back what was spent last.
func (s *state) refund(cost int64) {
	s.spent = max(0, s.spent-cost)
	for n := len(s.runs); n > 0 && cost > 0; n = len(s.runs) {
		back := min(cost, s.runs[n-1].calls)
		s.runs[n-1].calls -= back
		s.window -= back
		cost -= back
		if s.runs[n-1].calls == 0 {
			s.runs = s.runs[:n-1]
		}
	}
}

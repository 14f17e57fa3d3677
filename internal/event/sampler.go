package event

import (
	"log/slog"
	"sync"
	"time"
)

// A Sampler thins out the log when there are many requests that end alike. A nil Sampler
// lets all through. It is safe for concurrent use.
type Sampler struct {
	first, every int

	mu     sync.Mutex
	second int64
	counts map[likeness]int
}

// A likeness is what requests have in common that count together. There are as many as
// requests have outcomes.
type likeness struct {
	request, code, refused string
	status                 int
	fault                  bool
}

// NewSampler returns a Sampler that lets through, of the requests of a second that end
// alike, as many as first and then every so-manieth one. Both are at least 1.
func NewSampler(first, every int) *Sampler {
	return &Sampler{first: first, every: every, counts: map[likeness]int{}}
}

// admit reports whether a record is to be logged, and notes in it for how many it stands
// if that is more than one.
func (s *Sampler) admit(r *Record, now time.Time) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.second {
		s.second = second
		clear(s.counts)
	}
	like := likeness{r.Request, r.Code, r.Refused, r.Status, r.internal != nil}
	s.counts[like]++
	beyond := s.counts[like] - s.first
	if beyond <= 0 {
		return true
	}
	if beyond%s.every != 0 {
		return false
	}
	r.Add(slog.Int("stands_for", s.every))
	return true
}

package wire

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// maxAhead is how far the clock of a sender may be ahead, in seconds. It is
// what the Fernet implementation of Python's cryptography package allows.
const maxAhead = 60

// maxCapacity keeps the number of messages in a window's file within 32 bits.
const maxCapacity = 1 << 30

var (
	// ErrStale says that a message is older than the window allows.
	ErrStale = errors.New("message is too old")
	// ErrFuture says that a message was made more than a minute from now.
	ErrFuture = errors.New("message comes from the future")
	// ErrReplayed says that the message was accepted before.
	ErrReplayed = errors.New("message was sent before")
	// ErrReplayFull says that the window has no place for one more message.
	ErrReplayFull = errors.New("replay window is full")

	errForgotten = fmt.Errorf("%w: the window does not reach back to it", ErrStale)
)

// A ReplayError tells why a message was not accepted. Err is or wraps one of
// ErrStale, ErrFuture, ErrReplayed and ErrReplayFull.
type ReplayError struct {
	Err error
	// Skew is the age of the message by the server's clock in whole seconds,
	// negative if the sender's clock is ahead. It ends at 292 years.
	Skew time.Duration
}

func (e *ReplayError) Error() string { return fmt.Sprintf("%v (age %v)", e.Err, e.Skew) }

func (e *ReplayError) Unwrap() error { return e.Err }

// A Replay is a window in time through which every message passes once. It is
// safe for concurrent use.
//
// A message stays known until its time stamp is older than the window is
// long; from then on it is refused for its age. It stays known for as long as the window
// is in any case, by a clock that does not jump, so that setting the time of day to and
// fro makes nobody forget it. Nothing is forgotten to make
// room: when the window is full, new messages are refused.
//
// If the clock is set back later, messages that were removed could be young enough
// again. The window therefore refuses what is not later than the latest time
// stamp it has removed. When the clock is set back by more than the whole
// window, this would shut everybody out until the clock is back where it was,
// and so would a window full of messages from then; only in this case does
// the window forget: that time stamp at once, and messages for want of room.
type Replay struct {
	length   int64 // in seconds; 0 turns the window off
	capacity int

	mu sync.Mutex
	// ids holds the messages by time stamp, so that all of one second age
	// out together.
	ids   map[int64]*second
	count int
	// swept is when aged messages were last removed, and elapsed tells how long the window
	// has been there then, and now.
	swept   int64
	age     time.Duration
	elapsed func() time.Duration
	// forgotten is the latest time stamp of the messages removed.
	forgotten int64
}

// A second holds the messages with one time stamp.
type second struct {
	ids map[[16]byte]struct{}
	// age is that of the window when the last of them was accepted.
	age time.Duration
}

// never is earlier than any time stamp.
const never = math.MinInt64

// NewReplay returns an empty window of the given length, rounded up to whole
// seconds, that holds up to capacity messages. A length of 0 turns it off: it
// accepts everything and keeps nothing.
//
// A message takes 20 to 40 bytes while it is known. NewReplay panics if the
// length is negative or the capacity not between 1 and 2³⁰.
func NewReplay(ttl time.Duration, capacity int) *Replay {
	if ttl < 0 || capacity < 1 || capacity > maxCapacity {
		panic("wire: a replay window can't have this size")
	}
	if ttl == 0 {
		return &Replay{forgotten: never}
	}
	made := time.Now()
	return &Replay{
		length:    int64((ttl-1)/time.Second) + 1,
		capacity:  capacity,
		ids:       map[int64]*second{},
		elapsed:   func() time.Duration { return time.Since(made) },
		swept:     never,
		forgotten: never,
	}
}

// Accept lets a message pass, or tells with a [*ReplayError] why not. Both
// ends of the window belong to it, in whole seconds.
func (w *Replay) Accept(m *Message, now time.Time) error {
	if w.length == 0 {
		return nil
	}
	seconds, stamp := now.Unix(), m.Time.Unix()
	var err error
	switch {
	case stamp < seconds-w.length:
		err = ErrStale
	case stamp > seconds+maxAhead:
		err = ErrFuture
	default:
		err = w.accept(m.ID, stamp, seconds)
	}
	if err != nil {
		return &ReplayError{Err: err, Skew: time.Unix(seconds, 0).Sub(time.Unix(stamp, 0))}
	}
	return nil
}

// Refuse makes the window refuse all messages that are not later than now, as
// is right after a crash, which loses what the window knew.
func (w *Replay) Refuse(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgotten = max(w.forgotten, now.Unix())
}

func (w *Replay) accept(id [16]byte, stamp, now int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sweep(now)
	if stamp > w.forgotten && w.count < w.capacity {
		if !w.add(id, stamp) {
			return ErrReplayed
		}
		return nil
	}
	switch {
	case w.knows(id, stamp):
		return ErrReplayed
	case stamp <= w.forgotten:
		return errForgotten
	}
	w.removeWhere(func(stamp int64) bool { return w.setBack(stamp, now) })
	if w.count == w.capacity {
		return ErrReplayFull
	}
	w.add(id, stamp)
	return nil
}

// sweep removes what has aged out, once a second.
func (w *Replay) sweep(now int64) {
	if w.swept == now {
		return
	}
	w.swept, w.age = now, w.elapsed()
	w.removeWhere(func(stamp int64) bool {
		if w.kept(stamp, now) || w.age-w.ids[stamp].age <= time.Duration(w.length)*time.Second {
			return false
		}
		w.forgotten = max(w.forgotten, stamp)
		return true
	})
	if w.setBack(w.forgotten, now) {
		w.forgotten = never
	}
}

// removeWhere removes the messages whose time stamps the condition holds for.
func (w *Replay) removeWhere(condition func(stamp int64) bool) {
	for stamp, of := range w.ids {
		if condition(stamp) {
			w.count -= len(of.ids)
			delete(w.ids, stamp)
		}
	}
}

// setBack tells whether the clock must have been set back by more than the
// window since a message with this time stamp was accepted: it was at most a
// minute ahead then, and no message may be as much as this ahead now.
func (w *Replay) setBack(stamp, now int64) bool {
	return stamp > now+w.length+2*maxAhead
}

// kept tells whether a message must still be known.
func (w *Replay) kept(stamp, now int64) bool { return stamp >= now-w.length }

// knows tells whether a message was accepted.
func (w *Replay) knows(id [16]byte, stamp int64) bool {
	of := w.ids[stamp]
	if of == nil {
		return false
	}
	_, known := of.ids[id]
	return known
}

// add notes a message, and reports whether it was not known.
func (w *Replay) add(id [16]byte, stamp int64) bool {
	of := w.ids[stamp]
	if of == nil {
		of = w.begin(stamp)
	}
	before := len(of.ids)
	of.ids[id] = struct{}{}
	if len(of.ids) == before {
		return false
	}
	of.age = w.age
	w.count++
	return true
}

// begin returns the place of the messages of a second, as large as that of the one
// before, so that it need not grow under load.
func (w *Replay) begin(stamp int64) *second {
	size := 0
	if before := w.ids[stamp-1]; before != nil {
		size = len(before.ids)
	}
	of := &second{ids: make(map[[16]byte]struct{}, size)}
	w.ids[stamp] = of
	return of
}

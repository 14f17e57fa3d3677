package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
	"time"
)

// maxAhead is how far the clock of a sender may be ahead, in seconds. It is
// what the Fernet implementation of Python's cryptography package allows.
const maxAhead = 60

// maxCapacity keeps the places of a window within 32 bits.
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
// long; from then on it is refused for its age. Nothing is forgotten to make
// room: when the window is full, new messages are refused.
//
// Messages that have aged out are removed by later calls of Accept, at most
// two by each, so that the window shrinks as fast as it can grow and no call
// takes long. They go in the order in which they came. One that must stay
// holds up those behind it, by less than a minute more than the window is
// long.
//
// If the clock is set back, messages that were removed could be young enough
// again. The window therefore refuses what is not later than the latest time
// stamp it has removed. When the clock is set back by more than the whole
// window, this would shut everybody out until the clock is back where it was,
// and so would a window full of messages from then; only in this case does
// the window forget: that time stamp at once, and messages for want of room.
type Replay struct {
	length int64 // in seconds; 0 turns the window off
	mask   uint64

	mu sync.Mutex
	// slots[0] is not used, so that the place 0 can mean none. Those from
	// used on have not been used yet.
	slots []slot
	used  uint32
	count int
	// free is the first of the slots in use again, linked by later.
	free uint32
	// oldest and newest are the ends of the list of messages in the order in
	// which they were accepted, linked by later.
	oldest, newest uint32
	// chains holds the first of the messages whose ids begin alike, in the
	// order in which they were accepted, linked by chained.
	chains []uint32
	// forgotten is the latest time stamp of the messages removed.
	forgotten int64
}

// A slot holds one message in 32 bytes.
type slot struct {
	id             [16]byte
	stamp          int64 // seconds since 1970; never if the slot is free
	chained, later uint32
}

// never is earlier than any time stamp.
const never = math.MinInt64

// NewReplay returns an empty window of the given length, rounded up to whole
// seconds, that holds up to capacity messages. A length of 0 turns it off: it
// accepts everything and keeps nothing.
//
// A message takes 32 bytes from when its place is first needed and 4 to 8
// bytes from the start. A capacity of a million takes 36 MB at most and is
// enough for 2,700 messages a second in a window of 300 seconds. NewReplay
// panics if the length is negative or the capacity not between 1 and 2³⁰.
func NewReplay(ttl time.Duration, capacity int) *Replay {
	if ttl < 0 || capacity < 1 || capacity > maxCapacity {
		panic("wire: a replay window can't have this size")
	}
	if ttl == 0 {
		return &Replay{forgotten: never}
	}
	chains := 1 << bits.Len(uint(capacity-1))
	return &Replay{
		length:    int64((ttl-1)/time.Second) + 1,
		mask:      uint64(chains - 1),
		slots:     make([]slot, capacity+1),
		used:      1,
		chains:    make([]uint32, chains),
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

func (w *Replay) accept(id [16]byte, stamp, now int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 2 {
		if w.oldest == 0 || w.kept(w.slots[w.oldest].stamp, now) {
			break
		}
		w.forgotten = max(w.forgotten, w.slots[w.oldest].stamp)
		w.removeOldest()
	}
	if w.setBack(w.forgotten, now) {
		w.forgotten = never
	}
	link, known := w.find(id)
	switch {
	case known:
		return ErrReplayed
	case stamp <= w.forgotten:
		return errForgotten
	}
	if w.count == len(w.slots)-1 {
		if !w.setBack(w.slots[w.oldest].stamp, now) {
			return ErrReplayFull
		}
		w.removeOldest()
		link, _ = w.find(id) // the link may have been in the slot removed
	}
	w.add(link, id, stamp)
	return nil
}

// setBack tells whether the clock must have been set back by more than the
// window since a message with this time stamp was accepted: it was at most a
// minute ahead then, and no message may be as much as this ahead now.
func (w *Replay) setBack(stamp, now int64) bool {
	return stamp > now+w.length+2*maxAhead
}

// kept tells whether a message must still be known.
func (w *Replay) kept(stamp, now int64) bool { return stamp >= now-w.length }

func (w *Replay) chain(id [16]byte) *uint32 {
	// The id is a part of a MAC and so as good as any hash of it.
	return &w.chains[binary.LittleEndian.Uint64(id[:])&w.mask]
}

// find looks for a message. If it is not known, the link is where it is to be
// put.
func (w *Replay) find(id [16]byte) (link *uint32, known bool) {
	link = w.chain(id)
	for *link != 0 {
		s := &w.slots[*link]
		if s.id == id {
			return nil, true
		}
		link = &s.chained
	}
	return link, false
}

// add puts a message at the end of its chain. There must be a place.
func (w *Replay) add(link *uint32, id [16]byte, stamp int64) {
	i := w.free
	if i == 0 {
		i = w.used
		w.used++
	} else {
		w.free = w.slots[i].later
	}
	w.slots[i] = slot{id: id, stamp: stamp}
	*link = i
	if w.oldest == 0 {
		w.oldest = i
	} else {
		w.slots[w.newest].later = i
	}
	w.newest = i
	w.count++
}

// removeOldest removes the message that was accepted first. There must be one.
func (w *Replay) removeOldest() {
	i := w.oldest
	s := &w.slots[i]
	*w.chain(s.id) = s.chained // the oldest of all is the first of its chain
	w.oldest = s.later
	*s = slot{stamp: never, later: w.free}
	w.free = i
	w.count--
}

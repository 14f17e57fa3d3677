package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"authnzerver/internal/wire"
)

// base is a moment inside a second.
var base = time.Unix(1_700_000_000, 999_999_999)

// message returns a message that is n-th of its kind and was made a number of
// seconds after base.
func message(n, seconds int) *wire.Message {
	m := new(wire.Message)
	fill(m, n, seconds)
	return m
}

func fill(m *wire.Message, n, seconds int) {
	m.Time = time.Unix(base.Unix()+int64(seconds), 0).UTC()
	// As in a MAC, the first bits depend on all of n.
	binary.LittleEndian.PutUint64(m.ID[:], uint64(n+1)*0x9e3779b97f4a7c15)
	binary.LittleEndian.PutUint64(m.ID[8:], uint64(n))
}

func after(seconds int) time.Time { return base.Add(time.Duration(seconds) * time.Second) }

func TestWindow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ttl  time.Duration
		made int
		want error
	}{
		{300 * time.Second, 0, nil},
		{300 * time.Second, -300, nil},
		{300 * time.Second, -301, wire.ErrStale},
		{300 * time.Second, 60, nil},
		{300 * time.Second, 61, wire.ErrFuture},
		{300 * time.Second, -1_700_000_000, wire.ErrStale},
		{300 * time.Second, 9_000_000_000, wire.ErrFuture},
		{time.Second, -1, nil},
		{time.Second, -2, wire.ErrStale},
		{time.Nanosecond, -1, nil},
		{time.Nanosecond, -2, wire.ErrStale},
		{1001 * time.Millisecond, -2, nil},
		{1001 * time.Millisecond, -3, wire.ErrStale},
		{math.MaxInt64, -1_700_000_000, nil},
	} {
		for _, now := range []time.Time{base, base.Truncate(time.Second)} {
			err := newReplay(tt.ttl, 10).Accept(message(0, tt.made), now)
			if !errors.Is(err, tt.want) {
				t.Errorf("window of %v, message made at %d: %v, want %v", tt.ttl, tt.made, err, tt.want)
				continue
			}
			var e *wire.ReplayError
			if tt.want != nil && (!errors.As(err, &e) || e.Skew != time.Duration(-tt.made)*time.Second) {
				t.Errorf("window of %v, message made at %d: clock difference %v", tt.ttl, tt.made, e)
			}
		}
	}
}

// The stamp of a message that Open never returns must not wrap around.
func TestImpossibleTimes(t *testing.T) {
	t.Parallel()
	w := newReplay(300*time.Second, 10)
	if err := w.Accept(&wire.Message{Time: time.Unix(math.MinInt64, 0)}, base); !errors.Is(err, wire.ErrStale) && !errors.Is(err, wire.ErrFuture) {
		t.Error(err)
	}
	if err := w.Accept(&wire.Message{}, base); !errors.Is(err, wire.ErrStale) {
		t.Error(err)
	}
}

func TestErrorsSayTheClockDifference(t *testing.T) {
	t.Parallel()
	w := newReplay(300*time.Second, 1)
	for _, tt := range []struct {
		message *wire.Message
		want    string
	}{
		{message(0, -301), "message is too old (age 5m1s)"},
		{message(0, 61), "message comes from the future (age -1m1s)"},
		{message(0, -3), "<nil>"},
		{message(0, -3), "message was sent before (age 3s)"},
		{message(1, 2), "replay window is full (age -2s)"},
	} {
		if got := fmt.Sprint(w.Accept(tt.message, base)); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestImpossibleWindowsPanic(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ttl      time.Duration
		capacity int
	}{{-1, 1}, {time.Second, 0}, {time.Second, -1}, {time.Second, 1<<30 + 1}, {0, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a window of %v and %d was made", tt.ttl, tt.capacity)
				}
			}()
			newReplay(tt.ttl, tt.capacity)
		}()
	}
}

func TestWindowOfLengthZeroIsOff(t *testing.T) {
	t.Parallel()
	w := newReplay(0, 1)
	for _, m := range []*wire.Message{message(0, 0), message(0, 0), message(1, -1_000_000), message(2, 1_000_000)} {
		if err := w.Accept(m, base); err != nil {
			t.Error(err)
		}
	}
}

// TestReencodedMessageIsAReplay has a negative control: a window that goes by
// the text, which every new text gets through.
func TestReencodedMessageIsAReplay(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	body := string(r.AppendSeal(nil, []byte("delete everything"), 0, base))
	w := newReplay(300*time.Second, 100)
	byText := map[string]bool{}
	accepted, acceptedByText := 0, 0
	for name, text := range reencodings(body) {
		if !byText[text] {
			byText[text] = true
			acceptedByText++
		}
		m, err := open(r, text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = w.Accept(&m, base)
		if err == nil {
			accepted++
		} else if !errors.Is(err, wire.ErrReplayed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if accepted != 1 {
		t.Errorf("accepted %d times", accepted)
	}
	if acceptedByText < 5 {
		t.Errorf("the texts are not different: the control accepted only %d", acceptedByText)
	}
}

func TestFullWindowRefusesTheNew(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 2, 3, 64, 100} {
		w := newReplay(10*time.Second, capacity)
		n := 0
		for ; n < capacity; n++ {
			if err := w.Accept(message(n, 0), base); err != nil {
				t.Fatalf("%d of %d: %v", n, capacity, err)
			}
		}
		for range 3 {
			if err := w.Accept(message(n, 0), after(10)); !errors.Is(err, wire.ErrReplayFull) {
				t.Errorf("%d of %d: %v", n, capacity, err)
			}
			for old := range capacity {
				if err := w.Accept(message(old, 0), after(10)); !errors.Is(err, wire.ErrReplayed) {
					t.Errorf("%d: %v", old, err)
				}
			}
		}
		// All have aged out now, and every call finds a place.
		for range capacity {
			if err := w.Accept(message(n, 11), after(11)); err != nil {
				t.Errorf("%d of %d, later: %v", n, capacity, err)
			}
			n++
		}
		if err := w.Accept(message(n, 11), after(11)); !errors.Is(err, wire.ErrReplayFull) {
			t.Errorf("full again: %v", err)
		}
	}
}

func TestClockSetBack(t *testing.T) {
	t.Parallel()
	const ttl = 300
	fill := func() *wire.Replay {
		w := newReplay(ttl*time.Second, 100)
		for i := range 10 {
			if err := w.Accept(message(i, i), after(i)); err != nil {
				t.Fatal(err)
			}
		}
		return w
	}
	t.Run("ahead and back", func(t *testing.T) {
		t.Parallel()
		w := fill()
		for i := range 20 {
			if err := w.Accept(message(100+i, 3600), after(3600)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if err := w.Accept(message(i, i), after(20)); !errors.Is(err, wire.ErrStale) {
				t.Errorf("message %d: %v", i, err)
			}
		}
		for i := range 10 {
			if err := w.Accept(message(200+i, 10+i), after(20)); err != nil {
				t.Errorf("new message %d: %v", i, err)
			}
		}
		for i := range 10 {
			if err := w.Accept(message(100+i, 3600), after(3600+i)); !errors.Is(err, wire.ErrReplayed) {
				t.Errorf("message %d from ahead: %v", i, err)
			}
		}
	})
	t.Run("a little", func(t *testing.T) {
		t.Parallel()
		w := fill()
		for i := range 10 {
			if err := w.Accept(message(100+i, ttl+10), after(ttl+10)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 10 {
			if err := w.Accept(message(i, i), after(i+ttl)); err == nil {
				t.Errorf("message %d accepted again", i)
			}
			if err := w.Accept(message(100+i, ttl+10), after(ttl-10)); !errors.Is(err, wire.ErrReplayed) {
				t.Errorf("message %d: %v", i, err)
			}
		}
		if err := w.Accept(message(200, ttl), after(ttl)); err != nil {
			t.Errorf("new message: %v", err)
		}
	})
	t.Run("more than the window", func(t *testing.T) {
		t.Parallel()
		w := fill()
		for i := range 10 {
			if err := w.Accept(message(100+i, 1000), after(1000)); err != nil {
				t.Fatal(err)
			}
		}
		// Room is made for as many as the window holds, and no more.
		const day = 86_400
		for i := range 100 {
			if err := w.Accept(message(1000+i, -day), after(-day)); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		if err := w.Accept(message(2000, -day), after(-day)); !errors.Is(err, wire.ErrReplayFull) {
			t.Error(err)
		}
		for i := range 100 {
			if err := w.Accept(message(1000+i, -day), after(-day)); !errors.Is(err, wire.ErrReplayed) {
				t.Errorf("message %d: %v", i, err)
			}
		}
	})
}

// With one chain, the place made is in the chain that the new message joins.
func TestClockSetBackWithOnePlace(t *testing.T) {
	t.Parallel()
	w := newReplay(fiveMinutes, 1)
	for i := range 10 {
		now := after(-86_400 * i)
		if err := w.Accept(message(i, -86_400*i), now); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if err := w.Accept(message(i, -86_400*i), now); !errors.Is(err, wire.ErrReplayed) {
			t.Fatalf("message %d again: %v", i, err)
		}
	}
}

// A world is a window beside a naive model of it, which never forgets.
type world struct {
	window        *wire.Replay
	ttl, capacity int // the ttl in seconds
	now           int // seconds after base
	latest        int // the latest that now has been
	lost          int // messages made before this may have been removed
	setBack       bool
	sent          []sent
}

type sent struct{ stamp, accepted int }

// tick moves the clock, which never is more than a minute before its latest:
// so far back the window promises to forget nothing.
func (w *world) tick(seconds int) {
	w.setBack = w.setBack || seconds < 0
	w.now = max(w.now+seconds, w.latest-60)
	w.latest = max(w.latest, w.now)
	w.lost = max(w.lost, w.now-w.ttl)
}

// restart carries the window over to a new one of another length.
func (w *world) restart(t *rapid.T, ttl int) {
	var file bytes.Buffer
	if err := w.window.Save(&file, after(w.now)); err != nil {
		t.Fatal(err)
	}
	w.ttl = ttl
	w.lost = max(w.lost, w.now-w.ttl)
	w.window = newReplay(time.Duration(ttl)*time.Second, w.capacity)
	if err := w.window.Load(&file, after(w.now)); err != nil {
		t.Fatal(err)
	}
}

// send sends the n-th message, which may be new, and compares with the model.
func (w *world) send(t *rapid.T, n, stamp int) {
	known, recent := 0, 0
	for _, s := range w.sent {
		if s.stamp >= w.lost && s.stamp+w.ttl >= w.now {
			known++
		}
		if s.accepted >= w.now-w.ttl-60 {
			recent++
		}
	}
	err := w.window.Accept(message(n, stamp), after(w.now))
	want := error(nil)
	switch {
	case stamp+w.ttl < w.now:
		want = wire.ErrStale
	case stamp > w.now+60:
		want = wire.ErrFuture
	case n < len(w.sent):
		want = wire.ErrReplayed
	}
	switch {
	case errors.Is(err, want):
	case errors.Is(err, wire.ErrStale) && stamp < w.lost && want != wire.ErrFuture:
	case errors.Is(err, wire.ErrReplayFull) && want == nil && (recent >= w.capacity || w.setBack):
	default:
		t.Fatalf("message %d of %d made at %d, now %d, window %d: %v, want %v", n, len(w.sent), stamp, w.now, w.ttl, err, want)
	}
	if err == nil {
		if known >= w.capacity {
			t.Fatalf("accepted although %d of %d are known", known, w.capacity)
		}
		w.sent = append(w.sent, sent{stamp, w.now})
	}
}

func TestReplayEqualsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.IntRange(1, 40)
		w := &world{
			ttl:      lengths.Draw(t, "ttl"),
			capacity: rapid.SampledFrom([]int{1, 2, 5, 16, 1000}).Draw(t, "capacity"),
		}
		back := rapid.Bool().Draw(t, "clock may go back")
		w.lost = -w.ttl
		w.window = newReplay(time.Duration(w.ttl)*time.Second, w.capacity)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 19).Draw(t, "step") {
			case 0:
				w.restart(t, lengths.Draw(t, "new ttl"))
			case 1:
				w.tick(rapid.IntRange(0, 200).Draw(t, "jump"))
			case 2:
				if back {
					w.tick(-rapid.IntRange(1, 60).Draw(t, "jump back"))
				}
			case 3, 4, 5:
				w.tick(rapid.IntRange(0, 5).Draw(t, "ticks"))
			case 6, 7, 8, 9, 10:
				if len(w.sent) > 0 {
					n := rapid.IntRange(max(0, len(w.sent)-30), len(w.sent)-1).Draw(t, "old message")
					w.send(t, n, w.sent[n].stamp)
				}
			default:
				w.send(t, len(w.sent), w.now+rapid.IntRange(-w.ttl-2, 62).Draw(t, "stamp"))
			}
		}
	})
}

// TestOneOfManySendersPasses lets goroutines race for the same messages while
// the clock moves.
func TestOneOfManySendersPasses(t *testing.T) {
	t.Parallel()
	const senders, messages, ttl = 8, 3000, 5
	w := newReplay(ttl*time.Second, messages)
	var passed [messages]atomic.Int32
	var clock atomic.Int64
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range messages {
				if g == 0 && i%100 == 0 {
					clock.Add(1)
				}
				now := int(clock.Load())
				// Half the senders repeat old messages, too.
				for _, n := range []int{i, i - i*(g%2)/2} {
					err := w.Accept(message(n, n/100), after(now))
					switch {
					case err == nil:
						passed[n].Add(1)
					case errors.Is(err, wire.ErrReplayFull):
						t.Errorf("message %d: %v", n, err)
					}
				}
			}
		})
	}
	wg.Wait()
	total := int32(0)
	for n := range passed {
		if passed[n].Load() > 1 {
			t.Errorf("message %d passed %d times", n, passed[n].Load())
		}
		total += passed[n].Load()
	}
	if total < messages/2 {
		t.Errorf("only %d messages passed", total)
	}
}

func BenchmarkAccept(b *testing.B) {
	// As a server that gets 3,000 messages a second lives: the window holds
	// 900,000 of them, and each call takes one in and lets one go.
	const rate, ttl = 3000, 300
	full := func() (*wire.Replay, int) {
		w := newReplay(ttl*time.Second, 1_000_000)
		n := 0
		for ; n < rate*(ttl+10); n++ {
			if err := w.Accept(message(n, n/rate), after(n/rate)); err != nil {
				b.Fatal(err)
			}
		}
		return w, n
	}
	b.Run("alone", func(b *testing.B) {
		w, n := full()
		var m wire.Message
		b.ReportAllocs()
		for b.Loop() {
			fill(&m, n, n/rate)
			if err := w.Accept(&m, after(n/rate)); err != nil {
				b.Fatal(err)
			}
			n++
		}
	})
	b.Run("parallel", func(b *testing.B) {
		w, first := full()
		var next atomic.Int64
		next.Store(int64(first))
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			var m wire.Message
			for pb.Next() {
				n := int(next.Add(1))
				fill(&m, n, n/rate)
				if err := w.Accept(&m, after(n/rate)); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("replayed", func(b *testing.B) {
		w, n := full()
		m, now := message(n-1, (n-1)/rate), after(n/rate)
		b.ReportAllocs()
		for b.Loop() {
			if err := w.Accept(m, now); err == nil {
				b.Fatal("accepted again")
			}
		}
	})
}

// newReplay returns a window for which much time has passed whenever it looks, so that the
// time of day alone decides what it forgets.
func newReplay(ttl time.Duration, capacity int) *wire.Replay {
	w := wire.NewReplay(ttl, capacity)
	var age time.Duration
	w.SetElapsed(func() time.Duration {
		age += 1000 * time.Hour
		return age
	})
	return w
}

// TestClockToAndFro sets the time of day an hour forwards, back to an hour before, and right
// again, all within less time than the window is long: what was accepted stays known. When
// as much time has passed, it is forgotten as ever.
func TestClockToAndFro(t *testing.T) {
	t.Parallel()
	w := wire.NewReplay(fiveMinutes, 100)
	var age time.Duration
	w.SetElapsed(func() time.Duration { return age })
	first := message(1, 0)
	err := w.Accept(first, base)
	if err != nil {
		t.Fatal(err)
	}
	for i, jump := range []int{3600, -3600, 86_400, -86_400} { // seconds
		age += time.Minute
		err := w.Accept(message(10+i, jump), after(jump))
		if err != nil {
			t.Errorf("a message after the jump of %d s: %v", jump, err)
		}
		err = w.Accept(first, after(1))
		if !errors.Is(err, wire.ErrReplayed) {
			t.Errorf("the message from before the jump of %d s: %v", jump, err)
		}
	}
	age += 2 * time.Minute
	err = w.Accept(message(20, 360), after(360))
	if err != nil {
		t.Error(err)
	}
	err = w.Accept(first, after(360))
	if !errors.Is(err, wire.ErrStale) {
		t.Errorf("after the window, the message is %v", err)
	}
	err = w.Accept(first, after(1))
	if !errors.Is(err, wire.ErrStale) {
		t.Errorf("after the window, when the clock is set back, the message is %v", err)
	}
}

package wire_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"authnzerver/internal/wire"
)

const fiveMinutes = 300 * time.Second

// filled returns a window of five minutes with n messages, one a second up to
// base, and what it saves at base.
func filled(t testing.TB, n int) (*wire.Replay, []byte) {
	t.Helper()
	w := newReplay(fiveMinutes, n+1)
	for i := range n {
		if err := w.Accept(message(i, -i), base); err != nil {
			t.Fatal(err)
		}
	}
	return w, saved(t, w)
}

func saved(t testing.TB, w *wire.Replay) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := w.Save(&file, base); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestWindowSurvivesARestart(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 10, 300} {
		_, file := filled(t, n)
		if want := 72 + 24*n; len(file) != want {
			t.Errorf("%d messages take %d bytes, want %d", n, len(file), want)
		}
		w := newReplay(fiveMinutes, n+1)
		if err := w.Load(bytes.NewReader(file), base); err != nil {
			t.Errorf("%d messages: %v", n, err)
		}
		for i := range n {
			if err := w.Accept(message(i, -i), base); !errors.Is(err, wire.ErrReplayed) {
				t.Errorf("message %d of %d: %v", i, n, err)
			}
		}
		if err := w.Accept(message(n, 0), base); err != nil {
			t.Errorf("new message after %d: %v", n, err)
		}
		if err := w.Accept(message(n+1, 0), base); !errors.Is(err, wire.ErrReplayFull) {
			t.Errorf("one more than there is room for, after %d: %v", n, err)
		}
	}
}

// More slots than Save looks at without a break.
func TestSaveFindsAll(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4094, 4095, 4096, 4097, 8192, 10_000} {
		w := newReplay(fiveMinutes, n)
		for i := range n {
			if err := w.Accept(message(i, 0), base); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(saved(t, w)); got != 72+24*n {
			t.Errorf("%d messages take %d bytes", n, got)
		}
	}
}

func TestLoadedMessagesAgeOut(t *testing.T) {
	t.Parallel()
	_, file := filled(t, 301)
	// 101 have aged out on the way, so that the rest has room.
	w := newReplay(fiveMinutes, 200)
	if err := w.Load(bytes.NewReader(file), after(101)); err != nil {
		t.Fatal(err)
	}
	if err := w.Accept(message(1000, 101), after(101)); !errors.Is(err, wire.ErrReplayFull) {
		t.Errorf("full window: %v", err)
	}
	for i := range 200 {
		if err := w.Accept(message(1000+i, 102+i), after(102+i)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

func TestWindowOfAnotherLength(t *testing.T) {
	t.Parallel()
	old := newReplay(fiveMinutes, 10)
	for i := range 5 {
		if err := old.Accept(message(i, 0), base); err != nil {
			t.Fatal(err)
		}
	}
	// These age out before the file is written.
	var file bytes.Buffer
	if err := old.Save(&file, after(400)); err != nil {
		t.Fatal(err)
	}
	t.Run("longer", func(t *testing.T) {
		t.Parallel()
		w := newReplay(time.Hour, 10)
		if err := w.Load(bytes.NewReader(file.Bytes()), after(400)); err != nil {
			t.Fatal(err)
		}
		if err := w.Accept(message(0, 0), after(400)); !errors.Is(err, wire.ErrStale) {
			t.Errorf("a message that the file does not hold: %v", err)
		}
		if err := w.Accept(message(5, 100), after(400)); err != nil {
			t.Errorf("new message: %v", err)
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		w := newReplay(0, 10)
		if err := w.Load(iotest.ErrReader(io.ErrClosedPipe), base); err != nil {
			t.Error(err)
		}
		again := newReplay(fiveMinutes, 10)
		if err := again.Load(bytes.NewReader(saved(t, w)), base); err != nil {
			t.Error(err)
		}
		if err := again.Accept(message(0, -300), base); err != nil {
			t.Error(err)
		}
	})
}

func TestLoadAddsToWhatIsThere(t *testing.T) {
	t.Parallel()
	_, file := filled(t, 5)
	w := newReplay(fiveMinutes, 12)
	for i := 3; i < 8; i++ {
		if err := w.Accept(message(i, -i), base); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Load(bytes.NewReader(file), base); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := w.Accept(message(i, -i), base); !errors.Is(err, wire.ErrReplayed) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if got := len(saved(t, w)); got != 72+24*8 {
		t.Errorf("the window takes %d bytes", got)
	}
}

// empty checks that a window knows nothing.
func empty(t *testing.T, name string, w *wire.Replay, n int) {
	t.Helper()
	if got := len(saved(t, w)); got != 72 {
		t.Errorf("%s: the window takes %d bytes", name, got)
	}
	for i := range n {
		if err := w.Accept(message(i, -i), base); err != nil {
			t.Errorf("%s: message %d: %v", name, i, err)
		}
	}
}

func TestDamagedFileLoadsNothing(t *testing.T) {
	t.Parallel()
	const n = 4
	_, file := filled(t, n)
	check := func(name string, damaged []byte) {
		t.Helper()
		w := newReplay(fiveMinutes, n+1)
		if err := w.Load(bytes.NewReader(damaged), base); err == nil {
			t.Errorf("%s: loaded", name)
			return
		}
		empty(t, name, w, n)
	}
	for i := range len(file) * 8 {
		damaged := bytes.Clone(file)
		damaged[i/8] ^= 1 << (i % 8)
		check(fmt.Sprintf("bit %d changed", i), damaged)
	}
	for i := range file {
		check(fmt.Sprintf("first %d bytes", i), file[:i])
	}
	check("one byte more", append(bytes.Clone(file), 0))
	check("twice", append(bytes.Clone(file), file...))
}

func TestFileWithoutRoomLoadsNothing(t *testing.T) {
	t.Parallel()
	_, file := filled(t, 6)
	w := newReplay(fiveMinutes, 5)
	if err := w.Load(bytes.NewReader(file), base); !errors.Is(err, wire.ErrReplayFull) {
		t.Error(err)
	}
	empty(t, "too many", w, 5)

	w = newReplay(fiveMinutes, 8)
	for i := range 3 {
		if err := w.Accept(message(100+i, 0), base); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Load(bytes.NewReader(file), base); !errors.Is(err, wire.ErrReplayFull) {
		t.Error(err)
	}
	if got := len(saved(t, w)); got != 72+24*3 {
		t.Errorf("the window takes %d bytes", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestFailingFilesAreReported(t *testing.T) {
	t.Parallel()
	w, file := filled(t, 3)
	if err := w.Save(brokenWriter{}, base); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	for i := range len(file) + 1 {
		w := newReplay(fiveMinutes, 4)
		in := io.MultiReader(bytes.NewReader(file[:i]), iotest.ErrReader(io.ErrClosedPipe))
		if err := w.Load(in, base); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("failing after %d bytes: %v", i, err)
		}
		empty(t, "failing", w, 3)
	}
	again := newReplay(fiveMinutes, 4)
	if err := again.Load(iotest.OneByteReader(bytes.NewReader(file)), base); err != nil {
		t.Errorf("byte by byte: %v", err)
	}
}

// FuzzLoad makes the checksum right, so that the fuzzer gets behind it.
func FuzzLoad(f *testing.F) {
	for _, n := range []int{0, 1, 5} {
		_, file := filled(f, n)
		f.Add(file[:len(file)-sha256.Size])
	}
	_, file := filled(f, 1)
	far := bytes.Clone(file[:len(file)-sha256.Size])
	binary.BigEndian.PutUint64(far[28:], 1<<63-1)
	binary.BigEndian.PutUint64(far[40:], 1<<63-1)
	f.Add(far)
	many := bytes.Clone(file[:len(file)-sha256.Size])
	binary.BigEndian.PutUint32(many[36:], 1<<32-1)
	f.Add(many)
	f.Fuzz(func(t *testing.T, content []byte) {
		w := newReplay(fiveMinutes, 3)
		if err := w.Load(bytes.NewReader(content), base); err == nil && len(content) < 72 {
			t.Fatal("loaded without a checksum")
		}
		sum := sha256.Sum256(content)
		w = newReplay(fiveMinutes, 3)
		err := w.Load(bytes.NewReader(append(bytes.Clone(content), sum[:]...)), base)
		first := saved(t, w)
		if err != nil && len(first) != 72 {
			t.Fatalf("refused with %v, but loaded", err)
		}
		again := newReplay(fiveMinutes, 3)
		if err := again.Load(bytes.NewReader(first), base); err != nil {
			t.Fatalf("what was saved does not load: %v", err)
		}
		if len(saved(t, again)) != len(first) {
			t.Fatal("what was loaded is not what was saved")
		}
		// The window still works, whatever the file said.
		for i := range 10 {
			err := w.Accept(message(i, 1000+i), after(1000+i))
			if err == nil {
				err = w.Accept(message(i, 1000+i), after(1000+i))
				if !errors.Is(err, wire.ErrReplayed) {
					t.Fatalf("sent again: %v", err)
				}
			}
		}
	})
}

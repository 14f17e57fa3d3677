package wire_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"authnzerver/internal/wire"
)

// TestSealer: a message has the same form whether it is sealed at once or in parts.
func TestSealer(t *testing.T) {
	t.Parallel()
	ring, err := wire.ParseKeys(wire.NewKey() + "," + wire.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(32<<10-40, 32<<10+40), rapid.IntRange(0, 200_000)).Draw(t, "size")
		text := bytes.Repeat([]byte("some text of a message, "), size/24+1)[:size]
		iv := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "iv"))
		key := rapid.IntRange(0, 1).Draw(t, "key")
		var sealed bytes.Buffer
		s, err := wire.NewSealerWithIV(ring, &sealed, key, now, iv)
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "part")
			wrote, err := s.Write(rest[:n])
			if err != nil || wrote != n {
				t.Fatalf("wrote %d of %d bytes: %v", wrote, n, err)
			}
			rest = rest[n:]
		}
		err = s.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sealed.Bytes(), wire.SealWithIV(ring, nil, text, key, now, iv)) {
			t.Fatalf("a message of %d bytes differs from one that was sealed at once", size)
		}
	})
}

// errFull is the error of a writer that takes no more.
var errFull = errors.New("full")

// A short takes some bytes and no more.
type short struct{ left int }

// Write implements io.Writer.
func (s *short) Write(data []byte) (int, error) {
	n := min(len(data), s.left)
	s.left -= n
	if n < len(data) {
		return n, errFull
	}
	return n, nil
}

// TestSealerFails: what cannot be sent is told.
func TestSealerFails(t *testing.T) {
	t.Parallel()
	ring, err := wire.ParseKeys(wire.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for room := range 300 {
		s, err := ring.NewSealer(&short{room}, 0, time.Now())
		for range 5 {
			if err == nil {
				_, err = s.Write(make([]byte, 40))
			}
		}
		if err == nil {
			err = s.Close()
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("with room for %d bytes: error %v", room, err)
		}
	}
}

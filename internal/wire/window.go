package wire

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// The file of a window is, with big-endian numbers,
//
//	magic ‖ horizon, 8 bytes ‖ number of messages, 4 bytes ‖
//	for each the time stamp, 8 bytes, and the id, 16 bytes ‖
//	SHA-256 of all that
//
// Messages that are not later than the horizon may be missing.
const (
	magic      = "authnzerver replay window 1\n"
	recordSize = 8 + 16
)

var errDamaged = errors.New("damaged, or not a replay window")

type record struct {
	stamp int64
	id    [16]byte
}

// Save writes what the window must know now, 24 bytes for each message, so
// that it survives a restart. What is accepted while Save runs may be missing.
func (w *Replay) Save(out io.Writer, now time.Time) error {
	records, horizon := w.records(now.Unix())
	b := make([]byte, 0, len(magic)+8+4+len(records)*recordSize+sha256.Size)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(horizon))
	b = binary.BigEndian.AppendUint32(b, uint32(len(records)))
	for _, r := range records {
		b = binary.BigEndian.AppendUint64(b, uint64(r.stamp))
		b = append(b, r.id[:]...)
	}
	sum := sha256.Sum256(b)
	if _, err := out.Write(append(b, sum[:]...)); err != nil {
		return fmt.Errorf("saving the replay window: %w", err)
	}
	return nil
}

// records returns the messages to be kept and the latest time stamp that one
// that is missing may have. Accept waits for one second's messages at a time.
func (w *Replay) records(now int64) (records []record, horizon int64) {
	if w.length == 0 {
		return nil, never
	}
	w.mu.Lock()
	horizon = max(now-w.length-1, w.forgotten)
	stamps := slices.Collect(maps.Keys(w.ids))
	w.mu.Unlock()
	for _, stamp := range stamps {
		if !w.kept(stamp, now) {
			continue
		}
		w.mu.Lock()
		if of := w.ids[stamp]; of != nil {
			for id := range of.ids {
				records = append(records, record{stamp, id})
			}
		}
		horizon = max(horizon, w.forgotten)
		w.mu.Unlock()
	}
	return records, horizon
}

// Load adds what Save has written. The length of the window need not be the
// same as then. If the file is damaged or holds more than there is room for,
// nothing is loaded; what has aged out does not count. A window that is turned
// off ignores the file.
func (w *Replay) Load(in io.Reader, now time.Time) error {
	if w.length == 0 {
		return nil
	}
	records, horizon, err := w.read(in, now.Unix())
	if err != nil {
		return fmt.Errorf("loading the replay window: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count+len(records) > w.capacity {
		return fmt.Errorf("loading the replay window: %w", ErrReplayFull)
	}
	w.forgotten = max(w.forgotten, horizon)
	for _, r := range records {
		w.add(r.id, r.stamp)
	}
	return nil
}

// read returns the messages of a file that must still be known, and the
// latest time stamp that a message may have that is not among them. It holds
// no more in memory than the window has places.
func (w *Replay) read(in io.Reader, now int64) (records []record, horizon int64, err error) {
	hash := sha256.New()
	buffered := bufio.NewReader(in)
	hashed := io.TeeReader(buffered, hash)

	var head [len(magic) + 8 + 4]byte
	if _, err := io.ReadFull(hashed, head[:]); err != nil {
		return nil, 0, damaged(err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, 0, errDamaged
	}
	horizon = int64(binary.BigEndian.Uint64(head[len(magic):]))
	count := binary.BigEndian.Uint32(head[len(magic)+8:])
	full := false
	for range count {
		var b [recordSize]byte
		if _, err := io.ReadFull(hashed, b[:]); err != nil {
			return nil, 0, damaged(err)
		}
		r := record{stamp: int64(binary.BigEndian.Uint64(b[:])), id: [16]byte(b[8:])}
		switch {
		case !w.kept(r.stamp, now):
			horizon = max(horizon, r.stamp)
		case len(records) == w.capacity:
			full = true
		default:
			records = append(records, r)
		}
	}

	// One byte more than the checksum shows whether the file ends there.
	sum, err := io.ReadAll(io.LimitReader(buffered, sha256.Size+1))
	if err != nil {
		return nil, 0, err
	}
	if !bytes.Equal(sum, hash.Sum(nil)) {
		return nil, 0, errDamaged
	}
	if full {
		return nil, 0, ErrReplayFull
	}
	return records, horizon, nil
}

// damaged turns an early end of the file into what it means.
func damaged(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errDamaged
	}
	return err
}

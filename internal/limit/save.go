package limit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// The file of a Limiter is, with numbers as varints,
//
//	magic ‖ moment of saving ‖ accounts ‖ 0 ‖ SHA-256 of all that
//
// where an account is its length in bytes ‖ key ‖ limit, burst and span of the
// rule ‖ how long it has been busy ‖ what it spent ‖ for each run the ages of
// its first and last call and their number. Times are in microseconds; the
// moment is a time of day, and everything else is before the moment.
const magic = "authnzerver limits 1\n"

// maxAccount is the longest account of a file, in bytes.
const maxAccount = 16 + (5+3*(maxRuns+1))*binary.MaxVarintLen64

var errDamaged = errors.New("damaged, or not a file of limits")

// Save writes what the keys have spent, so that it survives a restart.
func (l *Limiter) Save(out io.Writer) error {
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(out, sum))
	now := l.now()
	b := binary.AppendVarint([]byte(magic), time.Now().UnixMicro())
	_, err := w.Write(b)
	for i := range l.shards {
		if err != nil {
			break
		}
		err = l.shards[i].save(w, now)
	}
	if err == nil {
		err = w.WriteByte(0)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = out.Write(sum.Sum(nil))
	}
	if err != nil {
		return fmt.Errorf("save the limits: %w", err)
	}
	return nil
}

func (s *shard) save(w io.Writer, now int64) error {
	var text []byte
	s.mu.Lock()
	for key, a := range s.keys {
		a.advance(&a.rule, now)
		if a.idle() {
			continue
		}
		b := append([]byte(nil), key[:]...)
		for _, n := range []int64{
			int64(a.rule.Limit), int64(a.rule.Burst), a.rule.Per.Microseconds(), now - a.busy, a.spent,
		} {
			b = binary.AppendVarint(b, n)
		}
		for _, r := range a.runs {
			for _, n := range []int64{now - r.first, now - r.last, r.calls} {
				b = binary.AppendVarint(b, n)
			}
		}
		text = binary.AppendUvarint(text, uint64(len(b)))
		text = append(text, b...)
	}
	s.mu.Unlock()
	_, err := w.Write(text)
	return err
}

// Load takes what Save has written, of an empty Limiter only. If the file is
// damaged, nothing is loaded. The time since it was written counts, unless the
// clock was set back meanwhile.
func (l *Limiter) Load(in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, Capacity*maxAccount))
	if err == nil {
		err = l.load(text)
	}
	if err != nil {
		return fmt.Errorf("load the limits: %w", err)
	}
	return nil
}

func (l *Limiter) load(text []byte) error {
	body := len(text) - sha256.Size
	if body < 0 || !bytes.HasPrefix(text, []byte(magic)) {
		return errDamaged
	}
	if sum := sha256.Sum256(text[:body]); !bytes.Equal(sum[:], text[body:]) {
		return errDamaged
	}
	r := reader{text: text[len(magic):body]}
	moment := l.now() - max(0, time.Now().UnixMicro()-r.number())
	accounts := map[Key]*account{}
	for {
		length := r.length()
		if length == 0 {
			break
		}
		key, a := r.account(length, moment)
		if r.bad {
			return errDamaged
		}
		accounts[key] = a
	}
	if r.bad || len(r.text) > 0 {
		return errDamaged
	}
	for key, a := range accounts {
		s := l.shard(key)
		s.mu.Lock()
		if len(s.keys) < l.perShard {
			s.keys[key] = a
		}
		s.mu.Unlock()
	}
	return nil
}

// A reader takes numbers from the front of a text.
type reader struct {
	text []byte
	bad  bool
}

func (r *reader) number() int64 {
	n, size := binary.Varint(r.text)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.text = r.text[size:]
	return n
}

func (r *reader) length() int {
	n, size := binary.Uvarint(r.text)
	if size <= 0 || n > maxAccount || int(n) > len(r.text)-size {
		r.bad = true
		return 0
	}
	r.text = r.text[size:]
	return int(n)
}

// account takes an account whose ages are those of the moment given.
func (r *reader) account(length int, moment int64) (Key, *account) {
	one := reader{text: r.text[:length]}
	r.text = r.text[length:]
	var key Key
	if length < len(key) {
		r.bad = true
		return key, nil
	}
	one.text = one.text[copy(key[:], one.text):]
	limit, burst, per := one.number(), one.number(), one.number()
	a := &account{
		rule:  Rule{Limit: int(limit), Burst: int(burst), Per: span(per)},
		state: state{busy: moment - one.number(), spent: one.number()},
	}
	for len(one.text) > 0 && !one.bad {
		next := run{moment - one.number(), moment - one.number(), one.number()}
		a.runs = append(a.runs, next)
		a.window += next.calls
	}
	r.bad = r.bad || one.bad || !a.sound()
	return key, a
}

// sound reports whether an account that was read can be calculated with.
func (a *account) sound() bool {
	if !a.rule.Valid() || a.spent < 0 || a.spent > 4*MaxBurst || len(a.runs) > maxRuns+1 || a.window > math.MaxInt32 {
		return false
	}
	for _, run := range a.runs {
		if run.calls < 1 || run.calls > math.MaxInt32 || run.first > run.last {
			return false
		}
	}
	return true
}

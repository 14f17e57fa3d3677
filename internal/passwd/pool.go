// Package passwd hashes passwords under a budget of memory and processor time.
//
// One Argon2 hash takes tens of megabytes and a good part of a second of
// processor time. A [Pool] computes only so many at once, lets only so many
// wait, and refuses the rest at once, so that a flood of logins cannot take
// the machine down. A password is never cut. It is hashed in its [Normalize]d form.
package passwd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/text/unicode/norm"
)

// ErrBusy: too many hashes are waiting already, or this one would have waited
// too long. Nothing was computed; the same call may succeed later.
var ErrBusy = errors.New("too many password hashes are waiting")

// ErrFailed: a hash could not be computed. The same call may succeed later.
var ErrFailed = errors.New("the password hash could not be computed")

// cutAt is where the later Python server cut passwords, in characters.
const cutAt = 256

// maxWait is how long a hash may wait for a worker. A request has 4.5 s in all
// (see package httpd), of which the hash itself takes a part. Without a bound, an
// overloaded server hashes the passwords of those who have waited so long that
// they do not get their answers any more, and next to nobody gets one.
const maxWait = 2 * time.Second

// Options configure a Pool.
type Options struct {
	// Params are the cost of new hashes; DefaultParams when zero.
	Params Params
	// Workers is how many hashes are computed at once; at least 1.
	Workers int
	// Queue is how many more may wait for a worker.
	Queue int
	// Compute computes a hash; Job.Compute when nil. It must be safe for
	// concurrent use.
	Compute func(Job) ([]byte, error)
	// Begin, when not nil, is called when a hash is asked for, and what it returns when
	// that was computed or refused.
	Begin func(context.Context) (end func(error))
}

// A Pool computes password hashes. It is safe for concurrent use.
type Pool struct {
	params   Params
	compute  func(Job) ([]byte, error)
	begin    func(context.Context) func(error)
	dummy    string
	workers  chan struct{}
	queue    int64
	waiting  atomic.Int64
	computed atomic.Uint64
	// took is how long a hash has taken on average of late, in nanoseconds; 0
	// before the first.
	took atomic.Int64
}

// NewPool returns a Pool. It starts no goroutine and computes nothing yet.
func NewPool(o Options) *Pool {
	if o.Params == (Params{}) {
		o.Params = DefaultParams
	}
	if o.Compute == nil {
		o.Compute = func(job Job) ([]byte, error) { return job.Compute(), nil }
	}
	return &Pool{
		params:  o.Params,
		compute: o.Compute,
		begin:   o.Begin,
		dummy:   random(o.Params).String(),
		workers: make(chan struct{}, max(1, o.Workers)),
		queue:   int64(max(0, o.Queue)),
	}
}

// Params returns the cost of new hashes.
func (p *Pool) Params() Params { return p.params }

// Computed returns how many hashes were computed since the Pool was made.
func (p *Pool) Computed() uint64 { return p.computed.Load() }

// Stats returns how many workers there are, how many of them work, and how many hashes
// wait for one.
func (p *Pool) Stats() (workers, busy, waiting int) {
	return cap(p.workers), len(p.workers), int(p.waiting.Load())
}

// Dummy returns a hash that no password matches and that costs what a new hash
// costs. Compared in place of a missing user's, it hides that there is none.
func (p *Pool) Dummy() string { return p.dummy }

// Unusable returns a new hash of the same kind for an account that nobody can
// log in to with a password.
func (p *Pool) Unusable() string { return random(p.params).String() }

// Normalize returns the form of a password that is judged, hashed and compared: Unicode's
// Normalization Form C, as RFC 8265 §4.2.2 and NIST SP 800-63B-4 §3.1.1.2 have it. Keyboards
// differ in how they send an accented letter, and its forms look alike.
func Normalize(password string) string { return norm.NFC.String(password) }

// Hash returns the hash of a password, a PHC string with a new random salt.
// It fails with ErrBusy, ErrFailed or with the error of ctx.
func (p *Pool) Hash(ctx context.Context, password string) (string, error) {
	return p.fill(ctx, random(p.params), password)
}

// Replace is Hash for a password that was found to match a stored hash which is
// outdated. Its salt follows from the stored hash: whoever else replaces that one at
// the same time comes to the same hash, and sees that it is of the same password.
func (p *Pool) Replace(ctx context.Context, stored, password string) (string, error) {
	h := random(p.params)
	sum := sha256.Sum256([]byte("replaced password hash\x00" + stored))
	copy(h.salt, sum[:])
	return p.fill(ctx, h, password)
}

// fill computes a hash whose salt is given.
func (p *Pool) fill(ctx context.Context, h *hash, password string) (string, error) {
	err := p.run(ctx, func(context.Context) (err error) {
		h.key, err = p.hash(h.job(Normalize(password)))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	return h.String(), nil
}

// A Result is the outcome of comparing a password with a stored hash. The zero
// Result is "no match".
type Result struct {
	// Match reports whether the password is the right one.
	Match bool
	// Outdated reports that the password matched but that its hash should be
	// replaced: its parameters differ from the Pool's, or it was made of another
	// form of the password than new ones are.
	Outdated bool
}

// Verify compares a password with a stored hash, which may have other
// parameters than the Pool's. It computes one hash, and while that does not match,
// another for a password that is not in its normalized form, and another for one of
// more than 256 characters, as the Python server hashed them. What a wrong password
// costs does not depend on the stored hash. It fails with ErrMalformed, ErrBusy,
// ErrFailed, the error of ctx, or that of admit.
//
// admit, unless it is nil, is called when it is certain that the password will
// be compared at once, and decides whether it is. From then on the comparison
// goes on to its end, also when ctx ends: hanging up neither hides the outcome
// of a guess nor makes room for the next one.
func (p *Pool) Verify(ctx context.Context, stored, password string, admit func(context.Context) error) (Result, error) {
	h, err := parse(stored)
	if err != nil {
		return Result{}, err
	}
	var result Result
	err = p.run(ctx, func(ctx context.Context) (err error) {
		if admit != nil {
			err = admit(ctx)
		}
		if err == nil {
			result, err = p.verify(h, password)
		}
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("verify password: %w", err)
	}
	return result, nil
}

func (p *Pool) verify(h *hash, password string) (Result, error) {
	for i, form := range forms(password) {
		key, err := p.hash(h.job(form))
		if err != nil {
			return Result{}, err
		}
		if h.is(key) {
			return Result{Match: true, Outdated: i > 0 || !h.current(p.params)}, nil
		}
	}
	return Result{}, nil
}

// forms returns what the hash of a password may have been made of: first what new ones
// are, then what the Python server took, which did not normalize it, and of which the
// later one took the first 256 characters.
func forms(password string) []string {
	all := []string{Normalize(password)}
	if password != all[0] {
		all = append(all, password)
	}
	if first, longer := cut(password, cutAt); longer {
		all = append(all, first)
	}
	return all
}

// hash computes a hash and counts it.
func (p *Pool) hash(job Job) ([]byte, error) {
	key, err := p.compute(job)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	p.computed.Add(1)
	return key, nil
}

// cut returns the first n characters of s and whether there are more.
func cut(s string, n int) (string, bool) {
	for i := range s {
		if n == 0 {
			return s[:i], true
		}
		n--
	}
	return s, false
}

// run does work on a worker, as soon as one is free. Work that has begun ends.
func (p *Pool) run(ctx context.Context, work func(context.Context) error) (err error) {
	if p.begin != nil {
		end := p.begin(ctx)
		defer func() { end(err) }()
	}
	err = p.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { <-p.workers }()
	began := time.Now()
	err = work(context.WithoutCancel(ctx))
	p.learn(time.Since(began))
	return err
}

// learn takes the time of a hash into account, of which the last few count
// most. When two do so at once, one of them may be lost.
func (p *Pool) learn(took time.Duration) {
	const weight = 8
	average := time.Duration(p.took.Load())
	if average == 0 {
		average = took
	}
	p.took.Store(int64(average + (took-average)/weight))
}

// acquire waits for a worker, but no longer than maxWait.
func (p *Pool) acquire(ctx context.Context) error {
	err := ctx.Err()
	if err != nil {
		return err
	}
	select {
	case p.workers <- struct{}{}:
		return nil
	default:
	}
	place := p.waiting.Add(1)
	defer p.waiting.Add(-1)
	if place > p.queue {
		return ErrBusy
	}
	// Whoever would wait in vain is told at once.
	expected := time.Duration(place) * time.Duration(p.took.Load()) / time.Duration(cap(p.workers))
	if expected > maxWait {
		return fmt.Errorf("%w: this one would wait about %v", ErrBusy, expected.Round(time.Millisecond))
	}
	turn := time.NewTimer(maxWait)
	defer turn.Stop()
	select {
	case p.workers <- struct{}{}:
		return nil
	case <-turn.C:
		return fmt.Errorf("%w: none was free within %v", ErrBusy, maxWait)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%w: none was free in time", ErrBusy)
		}
		return ctx.Err()
	}
}

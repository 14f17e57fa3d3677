// Package limitstore keeps in a Valkey or Redis server what several nodes share:
// the counts of package limit, and which messages were seen.
//
// The algorithm is that of package limit, as one script on the server, which
// runs alone there and on the server's clock: the nodes' clocks do not matter,
// and nodes that ask at the same moment cannot both take the last call. When
// the server cannot be used, calls say so at once, and the node has to count
// alone until it can.
//
// The server may be any Redis from version 7.0 or Valkey. It must not be a
// cluster, where the keys of one call lie on several nodes; one is treated like a
// server that is down, and the log says why.
// Counts live as long as the server keeps them: without its append-only file, a
// restart begins all of them anew. Its maxmemory-policy should be noeviction, as
// a count that is evicted begins anew, too. A user of its access control lists
// needs
//
//	~authnzrv:* +ping +evalsha +eval +time +get +set +pttl +pexpire
//
// and +select for another database than 0.
//
// Keys name nobody, and expire when they say no more than none would.
package limitstore

import (
	"cmp"
	"context"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"authnzerver/internal/limit"
	"authnzerver/internal/tracing"
)

// Timeout bounds a call if the options do not. A server nearby answers in less
// than a millisecond, and the caller's own client waits.
const Timeout = 250 * time.Millisecond

const (
	// interval is how long it takes on average until the server is looked at
	// again.
	interval = time.Second

	limitPrefix = "authnzrv:limit:"
	seenPrefix  = "authnzrv:seen:"
)

var (
	// ErrDown says that the server cannot be used at the moment. A call that
	// began before that was noticed may have been counted.
	ErrDown = errors.New("the shared store cannot be used")
	// ErrDamaged says that the count of a key cannot be read. It was not begun
	// anew, and no key has paid.
	ErrDamaged = errors.New("a count in the shared store cannot be read")

	errClosed = fmt.Errorf("%w: it is closed", ErrDown)
)

//go:embed spend.lua
var script string

// Options say which server is used, and who is told about it.
type Options struct {
	// URL is redis://user:password@host:port/database, with rediss:// for TLS
	// and the same for valkey, or unix://user:password@/path?db=database. It may
	// have client_name and protocol (2 for an old proxy) as its parameters.
	URL string
	// Roots are the authorities whose certificates are trusted; those of the
	// machine if there are none.
	Roots *x509.CertPool
	// Timeout bounds a call, and half of the time for connecting; Timeout when it
	// is 0.
	Timeout time.Duration
	// Log gets one line whenever the server can no longer be used, and when it
	// can again. Nothing is logged when it is nil.
	Log *slog.Logger
}

// A Store is a connection to the server. It is safe for concurrent use.
type Store struct {
	client valkey.Client
	script *valkey.Lua
	log    *slog.Logger
	// timeout bounds a call.
	timeout time.Duration
	// state is why the store cannot be used, nil within when it can. It is
	// replaced only by those who know its present value, so that the end of a
	// call that began long ago says nothing about the present.
	state atomic.Pointer[state]
	stop  context.CancelFunc
	ended chan struct{}
}

type state struct{ err error }

// Open returns a Store, which must be closed. That the server cannot be used now
// is no error but a line in the log; a URL that says nothing meaningful is one. The
// error does not tell the URL, which may hold a password. Looking at the server
// takes at most four times the timeout.
func Open(ctx context.Context, o Options) (*Store, error) {
	option, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	if option.TLSConfig != nil {
		option.TLSConfig.RootCAs = o.Roots
	}
	// The client's first connection heeds no context.
	timeout := cmp.Or(o.Timeout, Timeout)
	option.Dialer.Timeout = 2 * timeout
	option.ConnWriteTimeout = 2 * timeout
	option.ForceSingleClient = true
	option.DisableCache = true
	// A script that was sent may have run.
	option.DisableRetry = true
	// The server runs one script after the other, and with one connection a
	// look at it is one at the connection of all calls, too.
	option.PipelineMultiplex = -1
	// A call has less than 1 kB each way.
	option.ReadBufferEachConn, option.WriteBufferEachConn = 1<<16, 1<<16

	s := &Store{
		script:  valkey.NewLuaScript(script),
		log:     cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		timeout: timeout,
		ended:   make(chan struct{}),
	}
	s.client, err = valkey.NewClient(option)
	if s.client == nil {
		return nil, fmt.Errorf("prepare connections to the shared store: %w", err)
	}
	s.state.Store(&state{})
	if err == nil {
		err = s.try(ctx)
	}
	if err != nil {
		_ = s.fail(s.state.Load(), err) // kept for Err, and logged
	}
	watching, stop := context.WithCancel(context.Background())
	s.stop = stop
	go s.watch(watching)
	return s, nil
}

// Close ends the connection. Calls that come later, or have not ended, get
// ErrDown.
func (s *Store) Close() {
	s.stop()
	<-s.ended
	s.state.Store(&state{errClosed})
	s.client.Close()
}

// Err tells why the store cannot be used, nil when it can. It is an ErrDown, is
// at most about two seconds old, and holds no password.
func (s *Store) Err() error { return s.state.Load().err }

// Spend charges a call to all of its keys, or to none, as limit.Limiter does with the
// same arguments, and panics like that. The error is ErrDown, ErrDamaged, or that of a context
// that had ended before; a call that has begun ends in time, whatever becomes of
// the context.
func (s *Store) Spend(ctx context.Context, each []limit.Decision, charges ...limit.Charge) (limit.Decision, error) {
	return s.spend(ctx, "", each, charges)
}

// spend is Spend at a moment in microseconds; none is the server's.
func (s *Store) spend(ctx context.Context, moment string, each []limit.Decision, charges []limit.Charge) (limit.Decision, error) {
	if len(charges) == 0 {
		return limit.Decision{Allowed: true, Remaining: math.MaxInt}, nil
	}
	keys, args := arguments(moment, charges)
	var numbers []int64
	err := s.do(ctx, func(ctx context.Context) (err error) {
		numbers, err = s.run(ctx, keys, args)
		return err
	})
	if err != nil {
		return limit.Decision{}, err
	}
	if numbers[0] < 0 {
		return limit.Decision{}, fmt.Errorf("%w: %s", ErrDamaged, keys[numbers[1]-1])
	}
	for i := range each {
		each[i] = decisionOf(numbers[4*(i+1):])
	}
	return decisionOf(numbers), nil
}

// decisionOf returns the decision in the first four numbers of the script's.
func decisionOf(numbers []int64) limit.Decision {
	d := limit.Decision{
		Allowed:    numbers[0] == 1,
		RetryAfter: time.Duration(numbers[1]) * time.Microsecond,
		Remaining:  int(numbers[2]),
		Reset:      time.Duration(numbers[3]) * time.Microsecond,
	}
	if numbers[1] < 0 {
		d.RetryAfter = limit.Never
	}
	return d
}

// run runs the script.
func (s *Store) run(ctx context.Context, keys, args []string) ([]int64, error) {
	numbers, err := s.script.Exec(ctx, s.client, keys, args).AsIntSlice()
	if err != nil {
		return nil, err
	}
	if len(numbers) == 2 && numbers[0] < 0 && numbers[1] >= 1 && numbers[1] <= int64(len(keys)) || len(numbers) == 4*(1+len(keys)) && numbers[0] >= 0 {
		return numbers, nil
	}
	return nil, fmt.Errorf("the script answered %d", numbers)
}

// arguments returns the script's keys and arguments.
func arguments(moment string, charges []limit.Charge) (keys, args []string) {
	keys = make([]string, 0, len(charges))
	args = make([]string, 0, 1+4*len(charges))
	args = append(args, moment)
	for i := range charges {
		c := &charges[i]
		c.Check()
		keys = append(keys, limitPrefix+hex.EncodeToString(c.Key[:]))
		args = append(args, strconv.Itoa(c.Rule.Limit), strconv.Itoa(c.Rule.Burst),
			strconv.FormatInt(c.Rule.Per.Microseconds(), 10), strconv.Itoa(c.Cost))
	}
	return keys, args
}

// FirstSight reports whether nobody has asked for the id within the time given,
// and remembers it for that time, from a millisecond up. The errors are those of
// Spend.
func (s *Store) FirstSight(ctx context.Context, id [16]byte, ttl time.Duration) (bool, error) {
	first := false
	err := s.do(ctx, func(ctx context.Context) error {
		key := seenPrefix + hex.EncodeToString(id[:])
		set := s.client.B().Set().Key(key).Value("").Nx().PxMilliseconds(max(1, roundUp(ttl))).Build()
		err := s.client.Do(ctx, set).Error()
		first = err == nil
		if valkey.IsValkeyNil(err) {
			return nil
		}
		return err
	})
	return first, err
}

// roundUp returns a time in milliseconds.
func roundUp(d time.Duration) int64 {
	n := d.Milliseconds()
	if d%time.Millisecond > 0 {
		n++
	}
	return n
}

// do makes a call, unless the store is known to be down. It ends in time, and
// when it fails, the store is down.
func (s *Store) do(ctx context.Context, call func(context.Context) error) error {
	err := ctx.Err()
	if err != nil {
		return fmt.Errorf("ask the shared store: %w", err)
	}
	was := s.state.Load()
	if was.err != nil {
		return was.err
	}
	// A client that goes away must not look like a server that does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	ctx, span := tracing.Start(ctx, "shared store")
	err = call(ctx)
	span.End(err)
	if err != nil {
		return s.fail(was, err)
	}
	return nil
}

// fail makes the store be down, if it still is as it was, and returns why it is.
func (s *Store) fail(was *state, err error) error {
	now := &state{fmt.Errorf("%w: %w", ErrDown, explain(err))}
	if s.state.CompareAndSwap(was, now) && (was.err == nil || answers(err) && was.err.Error() != now.err.Error()) {
		s.log.Warn("the shared store cannot be used; this node counts alone until it can", "error", explain(err))
	}
	return now.err
}

// answers reports whether an error is what the server says, and not that it
// says nothing: one that begins to refuse is worth a line, too.
func answers(err error) bool {
	_, ok := valkey.IsValkeyErr(err)
	return ok
}

// explain says what errors of a cluster mean.
func explain(err error) error {
	e, ok := valkey.IsValkeyErr(err)
	if !ok {
		return err
	}
	_, moved := e.IsMoved()
	if moved || e.IsClusterDown() || strings.HasPrefix(e.Error(), "CROSSSLOT") {
		return fmt.Errorf("it is a cluster, which is not supported: %w", err)
	}
	return err
}

// watch looks at the server from time to time.
func (s *Store) watch(ctx context.Context) {
	defer close(s.ended)
	for {
		// Nodes that lost the same server shall not all come back at once.
		timer := time.NewTimer(interval*3/4 + rand.N(interval/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		was := s.state.Load()
		switch err := s.look(ctx, was.err == nil); {
		case ctx.Err() != nil:
			return
		case err == nil && was.err != nil:
			s.log.Info("the shared store can be used again")
			s.state.CompareAndSwap(was, &state{})
		case err != nil:
			_ = s.fail(was, err) // kept for Err, and logged
		}
	}
}

// look reports what is wrong with the server. When it seems to be up, only
// whether it answers.
func (s *Store) look(ctx context.Context, up bool) error {
	if !up {
		return s.try(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.client.Do(ctx, s.client.B().Ping().Build()).Error()
}

// try runs the script once. A server may answer to PING and take no script or
// no value: it has no room, is a replica, or the user may not. The two keys
// lie in different slots, so that a cluster refuses them.
func (s *Store) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*s.timeout)
	defer cancel()
	charge := []string{"1", "0", "1", "1"}
	args := append(append([]string{""}, charge...), charge...)
	_, err := s.run(ctx, []string{limitPrefix + "trial", limitPrefix + "trial2"}, args)
	return err
}

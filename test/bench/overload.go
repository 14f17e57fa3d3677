//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/load"
	"authnzerver/internal/wire"
)

// The control is a server that takes on more than it can finish: all that
// arrive may wait, and so many are hashed at once that none is done in time.
// Its hashes have the same priority as all else.
var controlOptions = []string{"--hashqueue=65536", "--workers=128"}

// noBreaches lets users be made without the network.
const noBreaches = "--pwnedurl=none"

const (
	// users is how many users log in, in turns.
	users        = 20
	userPassword = "Quartz-lantern-7-meadow"

	// besideRate is how many session-exists are sent a second, beside the
	// logins and alone.
	besideRate = 200
	// warmUp is the beginning of a step, whose logins do not count: the queue
	// fills up.
	warmUp = 3 * time.Second
	// maxTime is how long the highest rate of logins is measured.
	maxTime = 10 * time.Second
	// clientTime is how long a client waits for an answer, as published
	// clients do; see requestTime of package httpd.
	clientTime = 5 * time.Second
	// mostWait is how late a refusal may come.
	mostWait = 2500 * time.Millisecond
	// mostRecovery is how long after the flood a login may be slow or refused.
	mostRecovery = 5 * time.Second
	// leastShare is how many of the logins at the highest rate must be
	// finished in the flood, mostSlower how many times its idle p99 that of
	// session-exists may be.
	leastShare, mostSlower = 0.9, 3.0
)

// loads are the offered rates of the steps before the flood, as multiples of
// the highest rate.
var loads = [...]float64{0.5, 1, 2, 5}

const (
	// floodLoad is that of the flood, of which the required figures are.
	floodLoad = 10
	// floods is how often the server is flooded; what is required are medians.
	floods = 3
	// sleepers is how many goroutines sleep in the system at once, where each
	// keeps others from running until the runtime notices.
	sleepers = 3
)

// An outcome is what came of one request.
type outcome int

const (
	finished outcome = iota
	refused          // with server_busy
	timedOut         // no answer in clientTime, or one that says request_timeout
	failed           // in any other way
)

// An answer is what came of one request, and how long after the moment at
// which it should have been sent: a request that is sent late because all are
// slow counts as slow.
type answer struct {
	outcome
	sent time.Duration // since the step began, as intended
	took time.Duration
}

// A gun sends requests at a constant rate, whatever the answers. Every request
// that is under way has a connection of its own.
type gun struct {
	address string
	keys    *wire.KeyRing
	mu      sync.Mutex
	free    []*load.Connection
}

func (g *gun) take() (*load.Connection, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.free); n > 0 {
		c := g.free[n-1]
		g.free = g.free[:n-1]
		return c, nil
	}
	return load.Connect(g.address)
}

func (g *gun) release(c *load.Connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free = append(g.free, c)
}

func (g *gun) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, c := range g.free {
		errs = append(errs, c.Close())
	}
	g.free = nil
	return errors.Join(errs...)
}

// shoot sends all requests, so many a second, from the moment given, and waits
// for all answers.
func (g *gun) shoot(ctx context.Context, m *load.Magazine, rate float64, began time.Time) ([]answer, error) {
	answers := make([]answer, len(m.Requests))
	errs := make([]error, len(m.Requests))
	var flying sync.WaitGroup
	for i, request := range m.Requests {
		sent := time.Duration(float64(i) / rate * float64(time.Second))
		sleepUntil(began.Add(sent))
		if ctx.Err() != nil {
			errs[i] = ctx.Err()
			break
		}
		flying.Go(func() {
			answers[i].sent = sent
			answers[i].outcome, answers[i].took, errs[i] = g.one(request, began.Add(sent))
		})
	}
	flying.Wait()
	return answers, errors.Join(errs...)
}

// sleepUntil sleeps more exactly than the runtime does, whose timers may be a
// millisecond late.
func sleepUntil(moment time.Time) {
	for left := time.Until(moment); left > 0; left = time.Until(moment) {
		length := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.Nanosleep(&length, nil) // a signal ends it early
	}
}

// one sends a request that should have been sent at the moment given.
func (g *gun) one(request []byte, intended time.Time) (outcome, time.Duration, error) {
	c, err := g.take()
	if err != nil {
		return 0, 0, err
	}
	err = c.SetDeadline(intended.Add(clientTime))
	if err != nil {
		return 0, 0, errors.Join(err, c.Close())
	}
	body, err := c.Exchange(request)
	took := time.Since(intended)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return timedOut, took, c.Close()
	}
	if err != nil {
		return 0, 0, errors.Join(err, c.Close())
	}
	message, err := g.keys.Open(body)
	g.release(c)
	if err != nil {
		return 0, 0, err
	}
	reply, err := api.ParseReply(message.Plaintext)
	switch {
	case err != nil:
		return 0, 0, err
	case reply.Success:
		return finished, took, nil
	case reply.Failure.Code == api.CodeBusy:
		return refused, took, nil
	case reply.Failure.Code == api.CodeTimeout:
		return timedOut, took, nil
	default:
		return failed, took, nil
	}
}

// A step is what came of one rate of logins with session-exists beside them.
// Times are in milliseconds, rates a second.
type step struct {
	Server  string  `json:"server"`
	Load    float64 `json:"load"` // a multiple of the highest rate
	Offered float64 `json:"offered"`
	// Finished counts the logins that were done during the step, without its
	// beginning; Share is their part of the highest rate.
	Finished float64 `json:"finished"`
	Share    float64 `json:"share"`
	Refused  float64 `json:"refused"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	// RefusedP99 and RefusedMax are the times to a refusal.
	RefusedP99 float64 `json:"refused_p99_ms"`
	RefusedMax float64 `json:"refused_max_ms"`
	// Beside are the p50 and p99 of session-exists, Slower is the p99 as a
	// multiple of what it is without logins.
	BesideP50 float64 `json:"session_exists_p50_ms"`
	BesideP99 float64 `json:"session_exists_p99_ms"`
	Slower    float64 `json:"session_exists_ratio"`
	// TimedOut and Failed count both kinds of requests.
	TimedOut int `json:"timed_out"`
	Failed   int `json:"failed"`
	// Recovery is the time from the end of the step to the end of the first
	// login that takes no longer than twice an unloaded one; only of floods.
	Recovery float64 `json:"recovery_ms,omitzero"`
}

// quantile returns the time in milliseconds that a part of the answers with an
// outcome stay below; 0 when there is none.
func quantile(answers []answer, o outcome, part float64) float64 {
	var times []time.Duration
	for _, a := range answers {
		if a.outcome == o {
			times = append(times, a.took)
		}
	}
	if times == nil {
		return 0
	}
	slices.Sort(times)
	return milliseconds(times[min(len(times)-1, int(part*float64(len(times))))])
}

func count(answers []answer, of func(answer) bool) int {
	n := 0
	for _, a := range answers {
		if of(a) {
			n++
		}
	}
	return n
}

// A victim is a server that is flooded.
type victim struct {
	*bench
	name   string
	gun    *gun
	emails []string
	normal time.Duration // of a login without load
	idle   float64       // p99 of session-exists without load, in milliseconds
}

// logins returns n sealed logins, each with a session of its own, which it ends.
func (v *victim) logins(ctx context.Context, n int) (*load.Magazine, error) {
	tokens, err := v.newSessions(ctx, n)
	if err != nil {
		return nil, err
	}
	return load.NewMagazine(v.keys, n, func(i int) any {
		p := api.UserLoginParams{SessionToken: tokens[i], Email: api.Email(v.emails[i%users]), Password: userPassword}
		return load.NewQuestion(api.UserLogin.Spec().Name, p, i)
	})
}

// beside returns session-exists for so long.
func (v *victim) beside(duration time.Duration) (*load.Magazine, error) {
	return load.NewMagazine(v.keys, int(besideRate*duration.Seconds()), func(i int) any {
		return load.NewQuestion(api.SessionExists.Spec().Name, api.SessionTokenParams{SessionToken: v.tokens[i%sessions]}, i)
	})
}

// soon is when a step begins that is prepared now. Garbage is collected before
// it: meanwhile, that would keep answers waiting.
func soon() time.Time {
	runtime.GC()
	return time.Now().Add(100 * time.Millisecond)
}

// alone returns the p99 of session-exists without logins, in milliseconds.
func (v *victim) alone(ctx context.Context) (float64, error) {
	m, err := v.beside(v.stepTime)
	if err != nil {
		return 0, err
	}
	answers, err := v.gun.shoot(ctx, m, besideRate, soon())
	return quantile(answers, finished, 0.99), err
}

// besideLoops returns what alone does while a loop of the lowest priority that
// there is keeps each CPU busy: no hash can disturb less than that.
func (v *victim) besideLoops(ctx context.Context) (p99 float64, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for range cpus {
		loop := exec.CommandContext(ctx, "chrt", "--idle", "0", "sh", "-c", "while :; do :; done")
		err := loop.Start()
		if err != nil {
			return 0, err
		}
		defer func() {
			stop()
			_ = loop.Wait() // says that it was killed
		}()
	}
	return v.alone(ctx)
}

// rest takes the figures of the server without load.
func (v *victim) rest(ctx context.Context) (err error) {
	v.idle, err = v.alone(ctx)
	if err != nil {
		return err
	}
	m, err := v.logins(ctx, 9)
	if err != nil {
		return err
	}
	var times []time.Duration
	for _, request := range m.Requests {
		_, took, err := v.gun.one(request, time.Now())
		if err != nil {
			return err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	v.normal = times[len(times)/2]
	return nil
}

// highest returns how many logins a second end when every one waits for the
// one before it, on twice as many connections as there are workers, with
// session-exists beside them as in all steps.
func (v *victim) highest(ctx context.Context) (rate float64, err error) {
	t, err := newTarget(v.server, 2*hashing)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	m, err := v.logins(ctx, int(maxTime.Seconds())*100)
	if err != nil {
		return 0, err
	}
	beside, err := v.beside(maxTime)
	if err != nil {
		return 0, err
	}
	shot := make(chan error, 1)
	go func() {
		_, err := v.gun.shoot(ctx, beside, besideRate, time.Now())
		shot <- err
	}()
	result, err := load.Fire(t.connections, v.keys, m, maxTime)
	return result.Rate(), errors.Join(err, <-shot)
}

// load offers a multiple of the highest rate. When asked to, it waits for
// logins to be normal again.
func (v *victim) load(ctx context.Context, highest, multiple float64, recover bool) (step, error) {
	say("%s: offering %g times the highest rate of logins", v.name, multiple)
	offered := multiple * highest
	m, err := v.logins(ctx, int(offered*v.stepTime.Seconds()))
	if err != nil {
		return step{}, err
	}
	beside, err := v.beside(v.stepTime)
	if err != nil {
		return step{}, err
	}
	after := &load.Magazine{}
	if recover {
		after, err = v.logins(ctx, 100)
		if err != nil {
			return step{}, err
		}
	}
	began := soon()
	var answers, others []answer
	var errs [3]error
	var recovery time.Duration
	var shooting sync.WaitGroup
	shooting.Go(func() { answers, errs[0] = v.gun.shoot(ctx, m, offered, began) })
	shooting.Go(func() { others, errs[1] = v.gun.shoot(ctx, beside, besideRate, began) })
	shooting.Go(func() { recovery, errs[2] = v.recovery(after, began.Add(v.stepTime)) })
	shooting.Wait()
	all := slices.Concat(answers, others)
	counted := v.stepTime - warmUp
	done := count(answers, func(a answer) bool {
		end := a.sent + a.took
		return a.outcome == finished && end >= warmUp && end < v.stepTime
	})
	s := step{
		Server: v.name, Load: multiple, Offered: offered, Finished: float64(done) / counted.Seconds(),
		Refused: float64(count(answers, func(a answer) bool { return a.outcome == refused })) / v.stepTime.Seconds(),
		P50:     quantile(answers, finished, 0.5), P99: quantile(answers, finished, 0.99),
		RefusedP99: quantile(answers, refused, 0.99), RefusedMax: quantile(answers, refused, 1),
		BesideP50: quantile(others, finished, 0.5), BesideP99: quantile(others, finished, 0.99),
		TimedOut: count(all, func(a answer) bool { return a.outcome == timedOut }),
		Failed:   count(all, func(a answer) bool { return a.outcome == failed }),
		Recovery: milliseconds(recovery),
	}
	s.Share, s.Slower = s.Finished/highest, s.BesideP99/v.idle
	return s, errors.Join(errs[:]...)
}

// recovery sends logins one after the other from the end of a step, until one
// is as fast as without load, and returns how long that was.
func (v *victim) recovery(m *load.Magazine, end time.Time) (time.Duration, error) {
	if m.Requests == nil {
		return 0, nil
	}
	sleepUntil(end)
	for _, request := range m.Requests {
		o, took, err := v.gun.one(request, time.Now())
		if err != nil {
			return 0, err
		}
		if o == finished && took <= 2*v.normal {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(end), nil
}

// newUsers makes the users that log in.
func (b *bench) newUsers(ctx context.Context, domain string) ([]string, error) {
	emails := make([]string, users)
	for i := range emails {
		emails[i] = fmt.Sprintf("reader-%d@%s.example.org", i, domain)
		_, err := client.Do(ctx, b.client, api.UserNew, api.UserNewParams{FullName: fmt.Sprintf("Reader %d", i), Email: api.Email(emails[i]), Password: userPassword})
		if err != nil {
			return nil, err
		}
		_, err = client.Do(ctx, b.client, api.UserSetEmailVerified, api.UserSetEmailVerifiedParams{Email: api.Email(emails[i])})
		if err != nil {
			return nil, err
		}
	}
	return emails, nil
}

// attack hands over a server that was started, with the figures of its rest,
// and stops it.
func (b *bench) attack(ctx context.Context, name string, server *load.Process, do func(*victim) error) (err error) {
	b.server = server
	defer func() { err = errors.Join(err, b.server.Stop()) }()
	b.client, err = client.New(client.Options{URL: "http://" + b.server.Address, Secret: b.secret})
	if err != nil {
		return err
	}
	b.tokens, err = b.newSessions(ctx, sessions)
	if err != nil {
		return err
	}
	end, err := preferred()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	v := &victim{bench: b, name: name, gun: &gun{address: b.server.Address, keys: b.keys}}
	v.emails, err = b.newUsers(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.gun.close()) }()
	say("%s: measuring it without load", name)
	err = v.rest(ctx)
	if err != nil {
		return err
	}
	return do(v)
}

// overload offers more logins than can be hashed, to the server as it is and
// to one that is set up so that it must fail.
func (b *bench) overload(ctx context.Context) error {
	runtime.GOMAXPROCS(cpus + sleepers)
	debug.SetGCPercent(-1) // see soon
	server, err := b.startServer(ctx, noBreaches)
	if err != nil {
		return err
	}
	var highest float64
	err = b.attack(ctx, "default", server, func(v *victim) (err error) {
		say("measuring the highest rate of logins")
		highest, err = v.highest(ctx)
		if err != nil {
			return err
		}
		for _, multiple := range loads {
			s, err := v.load(ctx, highest, multiple, false)
			if err != nil {
				return err
			}
			b.report.steps = append(b.report.steps, s)
		}
		return b.flood(ctx, v)
	})
	if err != nil {
		return err
	}
	server, err = b.startLowServer(ctx, append(controlOptions, noBreaches)...)
	if err != nil {
		return err
	}
	return b.attack(ctx, "control", server, func(v *victim) error {
		control, err := v.load(ctx, highest, floodLoad, true)
		if err != nil {
			return err
		}
		b.report.steps = append(b.report.steps, control)
		b.requireControl(&control)
		return nil
	})
}

// preferred gives the generator a higher priority than all else, as if it ran on
// another machine: else its own waits for a CPU would count as the server's. The
// function that it returns ends that. Only the superuser may do it.
func preferred() (end func() error, err error) {
	set := func(a unix.SchedAttr) error {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			err = unix.SchedSetAttr(id, &a, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) { // the thread has ended
				return err
			}
		}
		return nil
	}
	err = set(unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: -10})
	if errors.Is(err, unix.EPERM) {
		say("this user may not prefer the generator: its own waits for a CPU count as the server's")
		return func() error { return nil }, nil
	}
	return func() error { return set(unix.SchedAttr{Policy: unix.SCHED_NORMAL}) }, err
}

// flood takes the required figures: each time, the server's rest and highest
// rate of logins are measured anew right before, because machines drift.
func (b *bench) flood(ctx context.Context, v *victim) error {
	var shares, slower, finishes, highests, besides, idles []float64
	var worst step
	for range floods {
		say("measuring rest and the highest rate of logins again")
		err := v.rest(ctx)
		if err != nil {
			return err
		}
		highest, err := v.highest(ctx)
		if err != nil {
			return err
		}
		s, err := v.load(ctx, highest, floodLoad, true)
		if err != nil {
			return err
		}
		b.report.steps = append(b.report.steps, s)
		shares, slower = append(shares, s.Share), append(slower, s.Slower)
		finishes, highests = append(finishes, s.Finished), append(highests, highest)
		besides, idles = append(besides, s.BesideP99), append(idles, v.idle)
		worst.RefusedMax, worst.Recovery = max(worst.RefusedMax, s.RefusedMax), max(worst.Recovery, s.Recovery)
		worst.TimedOut, worst.Failed = worst.TimedOut+s.TimedOut, worst.Failed+s.Failed
	}
	say("measuring session-exists beside loops")
	loops, err := v.besideLoops(ctx)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("at %d times the highest rate: ", floodLoad)
	b.report.require(row{Name: name + "finished logins", Value: median(finishes), Unit: "/s", Baseline: median(highests), Ratio: median(shares)}, ratioOf(leastShare))
	b.report.require(row{Name: name + "p99 of session-exists", Value: median(besides), Unit: "ms", Baseline: median(idles), Ratio: median(slower)}, ratioUpTo(mostSlower))
	b.report.add(row{Name: "for comparison, beside empty loops", Value: loops, Unit: "ms", Baseline: median(idles), Ratio: loops / median(idles)})
	b.report.require(row{Name: name + "slowest refusal", Value: worst.RefusedMax, Unit: "ms"}, upTo(milliseconds(mostWait)))
	b.report.require(row{Name: name + "time-outs", Value: float64(worst.TimedOut)}, upTo(0))
	b.report.require(row{Name: name + "other failures", Value: float64(worst.Failed)}, upTo(0))
	b.report.require(row{Name: name + "until logins are normal", Value: worst.Recovery, Unit: "ms"}, upTo(milliseconds(mostRecovery)))
	return nil
}

// requireControl adds the figures that the control must miss: whoever cannot
// lose proves nothing.
func (b *bench) requireControl(s *step) {
	for _, figure := range []struct {
		name   string
		missed bool
	}{
		{"finished logins", s.Share < leastShare},
		{"bounded waiting", s.TimedOut > 0 || s.RefusedMax > milliseconds(mostWait)},
		{"isolation of session-exists", s.Slower > mostSlower},
	} {
		r := row{Name: "control: " + figure.name + " fails", Target: "yes", Missed: !figure.missed}
		if figure.missed {
			r.Value = 1
		}
		b.report.add(r)
	}
}

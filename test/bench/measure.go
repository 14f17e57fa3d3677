//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"authnzerver/api"
	"authnzerver/client"
	command "authnzerver/internal/bench"
	"authnzerver/internal/load"
	"authnzerver/internal/passwd"
	"authnzerver/internal/setup"
	"authnzerver/internal/store"
	"authnzerver/internal/wire"
)

const (
	adminEmail    = "admin@example.org"
	adminPassword = "correct horse battery staple"

	// starts is how often the start is timed.
	starts = 10
	// idle is how long a server is left alone before its memory is read,
	// idleLong after a load, so that the server notices that it is idle.
	idle     = 2 * time.Second
	idleLong = 12 * time.Second
	// someRequests is how many requests an idle server has served.
	someRequests = 1000
	// sessions is how many sessions the requests are about, in turns.
	sessions = 200
	// hashing is how many logins run at once, as many as the server's
	// default for workers.
	hashing = 4
)

// A bench is a measurement that is under way.
type bench struct {
	*plan
	dir    string
	log    *os.File
	keys   *wire.KeyRing
	secret string
	report report

	server *load.Process
	client *client.Client
	tokens []api.SessionToken
}

// measure measures everything, prints the table, and fails when a required
// figure is missed.
func (p *plan) measure(ctx context.Context) (err error) {
	b := &bench{plan: p}
	b.dir, err = os.MkdirTemp("", "authnzrv-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.log, err = os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	defer b.log.Close()
	err = b.setUp(ctx)
	if err != nil {
		return fmt.Errorf("set up a server: %w", err)
	}
	if p.only == partSizes {
		err = b.compareSizes(ctx)
		if err != nil {
			return err
		}
		return b.report.finish(p)
	}
	if p.only == "" || p.only == partRequests {
		err = b.measureServer(ctx)
		if err != nil {
			return err
		}
	}
	if p.only == "" || p.only == partFigures {
		err = b.measureFigures(ctx)
		if err != nil {
			return fmt.Errorf("figures: %w", err)
		}
	}
	if p.only == "" || p.only == partOverload {
		err = b.overload(ctx)
		if err != nil {
			return fmt.Errorf("overload: %w", err)
		}
	}
	return b.report.finish(p)
}

// measureServer takes the figures of a server that is not overloaded. The idle
// memory comes before the load, which fills the window of seen messages.
func (b *bench) measureServer(ctx context.Context) (err error) {
	err = b.timeStart(ctx)
	if err != nil {
		return fmt.Errorf("time the start: %w", err)
	}
	b.server, err = b.startServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Stop()) }()
	err = b.idleMemory(ctx)
	if err != nil {
		return fmt.Errorf("idle memory: %w", err)
	}
	requests, err := b.fastRequests(ctx)
	if err != nil {
		return err
	}
	rates := map[string]float64{}
	for _, r := range requests {
		if b.requests != "" && !slices.Contains(strings.Split(b.requests, ","), r.name) {
			continue
		}
		rates[r.label], err = b.throughput(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.label, err)
		}
	}
	if one, many := rates[checkOne], rates[checkMany]; one > 0 && many > 0 {
		b.report.require(row{Name: fmt.Sprintf("%d questions cost as much as so many checks of one", questions), Value: one / many}, below(3))
	}
	if b.requests != "" {
		return nil
	}
	err = b.memory(ctx, "memory after this load, idle for "+idleLong.String(), idleLong, false)
	if err != nil {
		return err
	}
	err = b.logins(ctx)
	if err != nil {
		return fmt.Errorf("user-login: %w", err)
	}
	err = b.memory(ctx, "memory after these logins, idle for "+idleLong.String(), idleLong, false)
	if err != nil {
		return err
	}
	info, err := os.Stat(b.plan.server)
	if err != nil {
		return err
	}
	b.report.require(row{Name: "size of the program", Value: float64(info.Size()) / 1e6, Unit: "MB"}, below(40))
	return nil
}

// say tells what is being done.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

func (b *bench) setUp(ctx context.Context) error {
	say("setting up")
	cmd := exec.CommandContext(ctx, b.plan.server, "--autosetup", "--basedir="+b.dir)
	cmd.Env = append(os.Environ(), "AUTHNZERVER_ADMIN_EMAIL="+adminEmail, "AUTHNZERVER_ADMIN_PASSWORD="+adminPassword)
	cmd.Stderr = b.log
	err := cmd.Run()
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(filepath.Join(b.dir, setup.SecretFile))
	if err != nil {
		return err
	}
	b.secret = string(secret)
	b.keys, err = wire.ParseKeys(b.secret)
	return err
}

// startServer starts the server as it is, but for the limits, and for a window
// of seen messages that the load does not fill: it has a place for a million.
func (b *bench) startServer(ctx context.Context, options ...string) (*load.Process, error) {
	return load.Start(ctx, b.log, nil, b.plan.server, b.serverArgs(options))
}

// startLowServer starts a server with the lowest priority, which that of its
// hashes cannot be below.
func (b *bench) startLowServer(ctx context.Context, options ...string) (*load.Process, error) {
	args := b.serverArgs(options)
	return load.Start(ctx, b.log, nil, "nice", func(host, port string) []string {
		return append([]string{"-n", "19", b.plan.server}, args(host, port)...)
	})
}

func (b *bench) serverArgs(options []string) func(host, port string) []string {
	return func(_, port string) []string {
		return append([]string{
			"--envfile=" + filepath.Join(b.dir, setup.EnvFile), "--listen=127.0.0.1", "--port=" + port,
			"--ratelimits=none", "--messagettl=30",
		}, options...)
	}
}

func (b *bench) startEmpty(ctx context.Context, reply []byte, options ...string) (*load.Process, error) {
	file := filepath.Join(b.dir, "reply")
	err := os.WriteFile(file, reply, 0o600)
	if err != nil {
		return nil, err
	}
	return load.Start(ctx, b.log, nil, "/proc/self/exe", func(host, port string) []string {
		return append([]string{
			emptyCommand, "-address=" + net.JoinHostPort(host, port),
			"-secret=" + filepath.Join(b.dir, setup.SecretFile), "-reply=" + file,
		}, options...)
	})
}

func (b *bench) timeStart(ctx context.Context) error {
	say("starting it %d times", starts)
	var times []time.Duration
	for range starts {
		p, err := b.startServer(ctx)
		if err != nil {
			return err
		}
		times = append(times, p.Took)
		err = p.Stop()
		if err != nil {
			return err
		}
	}
	slices.Sort(times)
	b.report.require(row{
		Name: fmt.Sprintf("start to first healthy answer, median of %d", starts), Value: milliseconds(times[starts/2]), Unit: "ms",
	}, below(100))
	return nil
}

// idleMemory makes the sessions that all requests are about on the way.
func (b *bench) idleMemory(ctx context.Context) error {
	say("reading the idle memory")
	err := b.memory(ctx, "memory when just started, idle for "+idle.String(), idle, true)
	if err != nil {
		return err
	}
	b.client, err = client.New(client.Options{URL: "http://" + b.server.Address, Secret: b.secret})
	if err != nil {
		return err
	}
	b.tokens, err = b.newSessions(ctx, sessions)
	if err != nil {
		return err
	}
	for i := range someRequests - sessions {
		_, err := client.Do(ctx, b.client, api.SessionExists, api.SessionTokenParams{SessionToken: b.tokens[i%sessions]})
		if err != nil {
			return err
		}
	}
	return b.memory(ctx, fmt.Sprintf("memory after %d requests, idle for %v", someRequests, idle), idle, true)
}

func (b *bench) memory(ctx context.Context, name string, wait time.Duration, required bool) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
	}
	bytes, err := b.server.Memory()
	if err != nil {
		return err
	}
	r := row{Name: name, Value: bytes / 1e6, Unit: "MB"}
	if required {
		b.report.require(r, below(40))
	} else {
		b.report.add(r)
	}
	return nil
}

func newSession() api.SessionNewParams {
	return api.SessionNewParams{
		IPAddress: "192.0.2.7", UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		UserID:    api.Of[api.UserRef](store.SuperuserID),
		Expires:   time.Now().Add(24 * time.Hour).UTC().Format("2006-01-02T15:04:05.000000"),
		ExtraInfo: api.Of(api.Object(`{"pref_datasets_always_private": true}`)),
	}
}

func (b *bench) newSessions(ctx context.Context, n int) ([]api.SessionToken, error) {
	tokens := make([]api.SessionToken, n)
	for i := range tokens {
		result, err := client.Do(ctx, b.client, api.SessionNew, newSession())
		if err != nil {
			return nil, err
		}
		tokens[i] = *result.SessionToken
	}
	return tokens, nil
}

// newKeys makes n API keys of the superuser.
func (b *bench) newKeys(ctx context.Context, n int) ([]api.APIKey, error) {
	keys := make([]api.APIKey, n)
	for i := range keys {
		result, err := client.Do(ctx, b.client, api.APIKeyNewNoSession, newKey())
		if err != nil {
			return nil, err
		}
		keys[i], err = api.ParseAPIKey(*result.APIKey)
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func newKey() api.APIKeyNewNoSessionParams {
	return api.APIKeyNewNoSessionParams{
		Issuer: "bench", Audience: "bench", Subject: api.ListOf("bench"), APIVersion: api.TextOf("1"),
		UserID: store.SuperuserID, UserRole: "superuser", IPAddress: "192.0.2.7", ExpiresSeconds: 86400, RefreshExpires: 86400,
	}
}

// A target is a server under load.
type target struct {
	*load.Process
	connections []*load.Connection
	rates       []float64 // answers a second, one for each round
	times       []time.Duration
	cpu         time.Duration
}

func newTarget(p *load.Process, connections int) (*target, error) {
	t := &target{Process: p}
	for range connections {
		c, err := load.Connect(p.Address)
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.connections = append(t.connections, c)
	}
	return t, nil
}

func (t *target) close() error {
	var errs []error
	for _, c := range t.connections {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// round takes the figures of one round.
func (t *target) round(keys *wire.KeyRing, m *load.Magazine, duration time.Duration) error {
	before, err := t.CPUTime()
	if err != nil {
		return err
	}
	v, err := load.Fire(t.connections, keys, m, duration)
	if err != nil {
		return err
	}
	after, err := t.CPUTime()
	if err != nil {
		return err
	}
	t.rates = append(t.rates, v.Rate())
	t.times = append(t.times, v.Times...)
	t.cpu += after - before
	return nil
}

// cpuMicroseconds returns the CPU time of an answer.
func (t *target) cpuMicroseconds() float64 {
	return float64(t.cpu.Microseconds()) / float64(len(t.times))
}

// A fastRequest is measured in turns with the empty handler.
type fastRequest struct {
	label, name string
	// fast is set for those that are required to be as fast as the empty handler, but
	// for a little.
	fast   bool
	params func(i int) any
}

// questions is how many the larger check asks.
const questions = 100

// The labels of the two checks.
const (
	checkOne  = "check, one question"
	checkMany = "check, 100 questions"
)

func (b *bench) fastRequests(ctx context.Context) ([]fastRequest, error) {
	keys, err := b.newKeys(ctx, sessions)
	if err != nil {
		return nil, fmt.Errorf("make API keys: %w", err)
	}
	tied, err := b.newTiedKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("make an API key of a session: %w", err)
	}
	access := api.UserCheckAccessParams{
		UserID: store.SuperuserID, UserRole: "superuser", Action: "view", TargetName: "dataset",
		TargetOwner: store.AnonymousID, TargetVisibility: "shared", TargetSharedWith: api.Of("1"),
	}
	limit := api.UserCheckLimitParams{
		UserID: store.SuperuserID, UserRole: "superuser", LimitName: "max_requests", ValueToCheck: api.Any("5000"),
	}
	verify := api.APIKeyVerifyParams{APIKeyDict: tied, UserID: api.Given[int64](store.SuperuserID), UserRole: api.Given("superuser")}
	check := func(n int) func(i int) any {
		return func(i int) any { return command.Questions(b.tokens[i%sessions], n) }
	}
	return []fastRequest{
		{api.SessionExists.Spec().Name, api.SessionExists.Spec().Name, true, func(i int) any {
			return api.SessionTokenParams{SessionToken: b.tokens[i%sessions]}
		}},
		{api.UserCheckAccess.Spec().Name, api.UserCheckAccess.Spec().Name, true, func(int) any { return access }},
		{api.UserCheckLimit.Spec().Name, api.UserCheckLimit.Spec().Name, true, func(int) any { return limit }},
		{api.APIKeyVerify.Spec().Name, api.APIKeyVerify.Spec().Name, true, func(int) any { return verify }},
		{api.APIKeyVerifyNoSession.Spec().Name, api.APIKeyVerifyNoSession.Spec().Name, true, func(i int) any {
			return api.APIKeyVerifyNoSessionParams{APIKeyDict: keys[i%sessions], UserID: store.SuperuserID, UserRole: "superuser"}
		}},
		{checkOne, api.Check.Spec().Name, false, check(1)},
		{checkMany, api.Check.Spec().Name, false, check(questions)},
		{api.SessionNew.Spec().Name, api.SessionNew.Spec().Name, false, func(int) any { return newSession() }},
	}, nil
}

// newTiedKey makes an API key of the first session.
func (b *bench) newTiedKey(ctx context.Context) (api.APIKey, error) {
	s := newSession()
	made, err := client.Do(ctx, b.client, api.APIKeyNew, api.APIKeyNewParams{
		Issuer: api.Given("bench"), Audience: "bench", Subject: api.ListOf("bench"), APIVersion: api.TextOf("1"), ExpiresDays: 1,
		UserID: store.SuperuserID, UserRole: "superuser", IPAddress: s.IPAddress, UserAgent: s.UserAgent, SessionToken: b.tokens[0],
	})
	if err != nil {
		return api.APIKey{}, err
	}
	return api.ParseAPIKey(*made.APIKey)
}

// magazine makes so many requests.
func (b *bench) magazine(name string, params func(i int) any, n int) (*load.Magazine, error) {
	return load.NewMagazine(b.keys, n, func(i int) any { return load.NewQuestion(name, params(i), i) })
}

// emptyFor starts the empty handler, which answers with the reply of the server to a
// request, and connects to it. The caller ends it.
func (b *bench) emptyFor(ctx context.Context, server *target, name string, params func(i int) any, options ...string) (empty *target, end func() error, err error) {
	one, err := b.magazine(name, params, 1)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := server.connections[0].Exchange(one.Take())
	if err != nil {
		return nil, nil, err
	}
	reply, err := b.keys.Open(sealed)
	if err != nil {
		return nil, nil, err
	}
	handler, err := b.startEmpty(ctx, reply.Plaintext, options...)
	if err != nil {
		return nil, nil, err
	}
	empty, err = newTarget(handler, b.connections)
	if err != nil {
		return nil, nil, errors.Join(err, handler.Stop())
	}
	return empty, func() error { return errors.Join(empty.close(), handler.Stop()) }, nil
}

// throughput measures a request in turns with the empty handler, which answers
// the same messages with the reply that the server gave to one of them. It returns the
// rate.
func (b *bench) throughput(ctx context.Context, r fastRequest) (rate float64, err error) {
	say("measuring %s", r.label)
	server, err := newTarget(b.server, b.connections)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	empty, end, err := b.emptyFor(ctx, server, r.name, r.params)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, end()) }()
	figure, err := b.inTurns(ctx, r.label, r.name, r.params, server, empty)
	if err != nil {
		return 0, err
	}
	if !r.fast {
		b.report.add(figure)
		return figure.Value, nil
	}
	b.report.require(figure, fast(leastFast, mostFastP99))
	return figure.Value, b.atHalf(ctx, r, figure.Value/2, server, empty)
}

// inTurns measures a request in turns with another server, which answers the same messages.
func (b *bench) inTurns(ctx context.Context, label, name string, params func(i int) any, server, empty *target) (row, error) {
	server.rates, server.times, server.cpu = nil, nil, 0
	turns := []*target{empty, server}
	requests := 2000 // more as soon as the rate is known
	for round := range b.rounds + 1 {
		if ctx.Err() != nil {
			return row{}, ctx.Err()
		}
		m, err := b.magazine(name, params, requests)
		if err != nil {
			return row{}, err
		}
		for _, t := range turns {
			err := t.round(b.keys, m, b.duration)
			if err != nil {
				return row{}, err
			}
			requests = max(requests, int(1.5*t.rates[len(t.rates)-1]*b.duration.Seconds()))
		}
		if round == 0 { // to warm up
			for _, t := range turns {
				t.rates, t.times, t.cpu = nil, nil, 0
			}
		}
		slices.Reverse(turns)
	}
	figure := compare(label, server.rates, empty.rates, server.times)
	_, figure.BaselineP99 = percentiles(empty.times)
	figure.CPU, figure.BaselineCPU = server.cpuMicroseconds(), empty.cpuMicroseconds()
	return figure, nil
}

// What is required of the fast requests.
const (
	leastFast   = 0.9
	mostFastP99 = 1.3
	// mostHalfP99 is in milliseconds.
	mostHalfP99 = 2
)

// atHalf measures the times at a constant rate.
func (b *bench) atHalf(ctx context.Context, r fastRequest, rate float64, server, empty *target) error {
	var medians, p99s, emptyP99s []float64
	for range b.rounds {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m, err := b.magazine(r.name, r.params, int(rate*b.duration.Seconds())+1)
		if err != nil {
			return err
		}
		for _, t := range []*target{server, empty} {
			v, err := load.Offer(t.connections, b.keys, m, rate, b.duration)
			if err != nil {
				return err
			}
			p50, p99 := percentiles(v.Times)
			if t == server {
				medians, p99s = append(medians, p50), append(p99s, p99)
			} else {
				emptyP99s = append(emptyP99s, p99)
			}
		}
	}
	b.report.require(row{
		Name: r.label + ", at half", Value: rate, Unit: "/s", P50: median(medians), P99: median(p99s), BaselineP99: median(emptyP99s),
	}, p99Below(mostHalfP99))
	return nil
}

// logins measures user-login in turns with the bare hash function, which is
// computed in this process with the same parameters, as many at once. A hash
// takes long, so there are fewer and longer rounds.
func (b *bench) logins(ctx context.Context) (err error) {
	const name = "user-login"
	say("measuring %s", name)
	rounds, duration := (b.rounds+3)/4, 4*b.duration
	server, err := newTarget(b.server, hashing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.close()) }()
	var hashes []float64
	for range rounds {
		// A login ends its session, so each needs one of its own.
		tokens, err := b.newSessions(ctx, sessions)
		if err != nil {
			return err
		}
		m, err := load.NewMagazine(b.keys, sessions, func(i int) any {
			return load.NewQuestion(name, api.UserLoginParams{SessionToken: tokens[i], Email: adminEmail, Password: adminPassword}, i)
		})
		if err != nil {
			return err
		}
		err = server.round(b.keys, m, duration)
		if err != nil {
			return err
		}
		hashes = append(hashes, command.HashRate(passwd.DefaultParams, hashing, duration))
	}
	figure := compare(name+", against bare Argon2", server.rates, hashes, server.times)
	b.report.require(figure, ratioOf(0.95))
	b.report.require(row{Name: "p99 of these, in hashes", Value: figure.P99 / milliseconds(command.HashTime(passwd.DefaultParams))}, upTo(4))
	return nil
}

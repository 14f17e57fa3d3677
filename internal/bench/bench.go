// Package bench measures what a server does on the machine and the database at hand.
//
// The server is a process of its own, with its defaults but for the limits, and is asked
// over HTTP as frontends ask it. Server and generator share the machine's CPUs.
package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/load"
	"authnzerver/internal/passwd"
	"authnzerver/internal/store"
	"authnzerver/internal/wire"
)

// Options say what to measure and for how long.
type Options struct {
	// Program is the server's.
	Program string
	// AuthDB is the URL of an empty database, or empty for an SQLite file in Folder.
	AuthDB string
	// Folder is where the server's files are, and the database; it is empty.
	Folder string
	// Duration is how long each request is measured at the highest rate, and again at
	// half of it.
	Duration time.Duration
	// Connections is how many keep-alive connections send requests.
	Connections int
	// Params are the cost of password hashes.
	Params passwd.Params
	// LoginTime is what a login may take, of which Argon2 gets nearly all.
	LoginTime time.Duration
	// Say is told what is being done.
	Say func(format string, args ...any)
}

// A Report is what was measured. Times are in milliseconds unless their name says else.
type Report struct {
	CPUs        int      `json:"cpus"`
	System      string   `json:"system"`
	Go          string   `json:"go"`
	Database    string   `json:"database"`
	Connections int      `json:"connections"`
	Seconds     float64  `json:"seconds"`
	Start       float64  `json:"start_ms"`
	IdleMemory  float64  `json:"idle_memory_mb,omitzero"`
	Figures     []Figure `json:"figures"`
	Hashing     Hashing  `json:"hashing"`
}

// A Figure is about one request.
type Figure struct {
	Name string `json:"name"`
	// Rate is how many a second were answered at the most, on all connections, and P50
	// and P99 how long these took.
	Rate float64 `json:"per_second"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	// CPU is the server's CPU time for one answer in microseconds, its hashing included.
	CPU float64 `json:"cpu_us,omitzero"`
	// Memory is what the server had in MB when it was done; Peak is the most so far.
	Memory float64 `json:"memory_mb,omitzero"`
	// HalfP50 and HalfP99 are the times at half the rate, sent at constant intervals,
	// from the moment at which each should have been sent; 0 where that was not tried.
	HalfP50 float64 `json:"half_p50_ms,omitzero"`
	HalfP99 float64 `json:"half_p99_ms,omitzero"`
}

// Hashing is about password hashes alone.
type Hashing struct {
	Params string `json:"params"`
	// Alone is how long one takes, and Rate how many a second are computed on all CPUs
	// without a server.
	Alone float64 `json:"alone_ms"`
	Rate  float64 `json:"per_second"`
	// Wanted is the time that a login may take, Recommended the parameters for it, and
	// Measured how long a hash with these takes alone.
	Wanted      float64 `json:"wanted_ms"`
	Recommended string  `json:"recommended"`
	Measured    float64 `json:"measured_ms"`
}

const (
	adminEmail    = "admin@example.org"
	adminPassword = "correct horse battery staple"
	// subjects is how many sessions, and keys, the requests are about, in turns.
	subjects = 200
	// many is how many questions the larger check asks.
	many = 100
	// idle is how long the server is left alone before its memory is read.
	idle = 2 * time.Second
)

// A bench is a measurement that is under way.
type bench struct {
	Options
	keys   *wire.KeyRing
	client *client.Client
	server *load.Process
	report Report

	sessions   []api.SessionToken
	sessionKey api.APIKey
	freeKeys   []api.APIKey
}

// Run measures. The database must be empty, which is an error of package store when it is
// not, and what it was filled with stays there.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	b := &bench{Options: o}
	b.report = Report{
		CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Connections: o.Connections, Seconds: o.Duration.Seconds(),
	}
	if b.AuthDB == "" {
		b.AuthDB = "sqlite:///" + filepath.Join(o.Folder, "bench.sqlite")
	}
	b.report.Database, err = store.CheckEmpty(ctx, b.AuthDB)
	if err != nil {
		return nil, err
	}
	b.measureHashes()
	err = b.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	defer func() { err = errors.Join(err, b.server.Stop()) }()
	err = b.measureServer(ctx)
	return &b.report, err
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// start starts the server twice, the first time to make the tables; the limits are off, and
// the window of seen messages has room for what is sent.
func (b *bench) start(ctx context.Context) error {
	b.Say("starting a server on %s", b.report.Database)
	secret := wire.NewKey()
	var err error
	b.keys, err = wire.ParseKeys(secret)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(b.Folder, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	env := []string{
		"AUTHNZERVER_ADMIN_EMAIL=" + adminEmail, "AUTHNZERVER_ADMIN_PASSWORD=" + adminPassword,
		"AUTHNZERVER_SECRET=" + secret, "AUTHNZERVER_PIISALT=" + wire.NewKey(), "AUTHNZERVER_AUTHDB=" + b.AuthDB,
	}
	args := func(host, port string) []string {
		return []string{
			"--listen=" + host, "--port=" + port, "--basedir=" + b.Folder, "--allowedhosts=localhost;" + host,
			"--ratelimits=none", "--messagettl=30", "--emailserver=none", "--pwnedurl=none", "--argon2=" + b.Params.String(),
		}
	}
	first, err := load.Start(ctx, log, env, b.Program, args)
	if err == nil {
		err = first.Stop()
	}
	if err == nil {
		b.server, err = load.Start(ctx, log, env, b.Program, args)
	}
	if err != nil {
		return err
	}
	b.report.Start = milliseconds(b.server.Took)
	b.client, err = client.New(client.Options{URL: "http://" + b.server.Address, Secret: secret})
	return err
}

// A request is what is measured of one kind.
type request struct {
	label string
	name  string
	body  func(i int) any
	// connections is how many send it; 0 for all.
	connections int
	// prepare makes so many bodies of requests that cannot be sent twice.
	prepare func(ctx context.Context, n int) (func(i int) any, error)
}

func (b *bench) measureServer(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(idle):
	}
	memory, err := b.server.Memory()
	if err != nil {
		return err
	}
	b.report.IdleMemory = memory / 1e6
	err = b.makeSubjects(ctx)
	if err != nil {
		return fmt.Errorf("make sessions and keys: %w", err)
	}
	for _, r := range b.requests() {
		err := b.measure(ctx, &r)
		for try := 1; try < tries && tooBusy(err); try++ {
			b.Say("the machine was too busy with something else; once more")
			err = b.measure(ctx, &r)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.label, err)
		}
	}
	return nil
}

// tries is how often a request is measured that the server was too busy for.
const tries = 5

func tooBusy(err error) bool {
	return errors.Is(err, api.Fail(api.CodeBusy)) || errors.Is(err, api.Fail(api.CodeTimeout))
}

func (b *bench) makeSubjects(ctx context.Context) (err error) {
	for range subjects {
		session, err := client.Do(ctx, b.client, api.SessionNew, newSession())
		if err != nil {
			return err
		}
		b.sessions = append(b.sessions, *session.SessionToken)
		made, err := client.Do(ctx, b.client, api.APIKeyNewNoSession, api.APIKeyNewNoSessionParams{
			Issuer: "bench", Audience: "bench", Subject: api.ListOf("bench"), APIVersion: api.TextOf("1"),
			UserID: store.SuperuserID, UserRole: roleSuperuser, IPAddress: address, ExpiresSeconds: 86400, RefreshExpires: 86400,
		})
		if err != nil {
			return err
		}
		key, err := api.ParseAPIKey(*made.APIKey)
		if err != nil {
			return err
		}
		b.freeKeys = append(b.freeKeys, key)
	}
	made, err := client.Do(ctx, b.client, api.APIKeyNew, api.APIKeyNewParams{
		Issuer: api.Given("bench"), Audience: "bench", Subject: api.ListOf("bench"), APIVersion: api.TextOf("1"), ExpiresDays: 1,
		UserID: store.SuperuserID, UserRole: roleSuperuser, IPAddress: address, UserAgent: userAgent, SessionToken: b.sessions[0],
	})
	if err != nil {
		return err
	}
	b.sessionKey, err = api.ParseAPIKey(*made.APIKey)
	return err
}

const (
	roleSuperuser = "superuser"
	address       = "192.0.2.7" // for documentation, RFC 5737
	userAgent     = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
)

func newSession() api.SessionNewParams {
	return api.SessionNewParams{
		IPAddress: address, UserAgent: userAgent, UserID: api.Of[api.UserRef](store.SuperuserID),
		Expires: time.Now().Add(24 * time.Hour).UTC().Format("2006-01-02T15:04:05.000000"),
	}
}

// Questions returns the parameters of a check of a session with so many questions about
// access.
func Questions(session api.SessionToken, n int) api.CheckParams {
	questions := make(api.List[api.AccessQuestion], n)
	for i := range questions {
		questions[i] = api.AccessQuestion{Action: "view", TargetName: "dataset", TargetOwner: store.SuperuserID, TargetVisibility: "private"}
	}
	return api.CheckParams{SessionToken: api.Given(api.Of(session)), Access: api.Given(questions)}
}

func (b *bench) requests() []request {
	session := func(i int) api.SessionToken { return b.sessions[i%subjects] }
	return []request{
		{label: "session-exists", name: "session-exists", body: func(i int) any {
			return api.SessionTokenParams{SessionToken: session(i)}
		}},
		{label: "user-check-access", name: "user-check-access", body: func(int) any {
			return api.UserCheckAccessParams{
				UserID: store.SuperuserID, UserRole: roleSuperuser, Action: "view", TargetName: "dataset",
				TargetOwner: store.AnonymousID, TargetVisibility: "shared", TargetSharedWith: api.Of("1"),
			}
		}},
		{label: "user-check-limit", name: "user-check-limit", body: func(int) any {
			return api.UserCheckLimitParams{
				UserID: store.SuperuserID, UserRole: roleSuperuser, LimitName: "max_requests", ValueToCheck: api.Any("5000"),
			}
		}},
		{label: "user-count-limit, by key", name: "user-count-limit", body: func(i int) any {
			return api.UserCountLimitParams{
				UserID: store.SuperuserID, UserRole: roleSuperuser, LimitName: "max_requests_per_minute",
				APIKeyDict: api.Given(api.Of(b.freeKeys[i%subjects])),
			}
		}},
		{label: "apikey-verify", name: "apikey-verify", body: func(int) any {
			return api.APIKeyVerifyParams{APIKeyDict: b.sessionKey, UserID: api.Given[int64](store.SuperuserID), UserRole: api.Given(roleSuperuser)}
		}},
		{label: "apikey-verify-nosession", name: "apikey-verify-nosession", body: func(i int) any {
			return api.APIKeyVerifyNoSessionParams{APIKeyDict: b.freeKeys[i%subjects], UserID: store.SuperuserID, UserRole: roleSuperuser}
		}},
		{label: "check, one question", name: "check", body: func(i int) any { return Questions(session(i), 1) }},
		{label: fmt.Sprintf("check, %d questions", many), name: "check", body: func(i int) any { return Questions(session(i), many) }},
		{label: "session-new, a write", name: "session-new", body: func(int) any { return newSession() }},
		{
			label: "user-login, with its hash", name: "user-login", connections: runtime.NumCPU(),
			prepare: func(ctx context.Context, n int) (func(i int) any, error) {
				tokens := make([]api.SessionToken, n) // a login ends its session
				for i := range tokens {
					made, err := client.Do(ctx, b.client, api.SessionNew, newSession())
					if err != nil {
						return nil, err
					}
					tokens[i] = *made.SessionToken
				}
				return func(i int) any {
					return api.UserLoginParams{SessionToken: tokens[i], Email: adminEmail, Password: adminPassword}
				}, nil
			},
		},
	}
}

// magazine makes n requests.
func (b *bench) magazine(ctx context.Context, r *request, n int) (*load.Magazine, error) {
	body := r.body
	if r.prepare != nil {
		var err error
		body, err = r.prepare(ctx, n)
		if err != nil {
			return nil, err
		}
	}
	return load.NewMagazine(b.keys, n, func(i int) any { return load.NewQuestion(r.name, body(i), i) })
}

// measure measures one request: a while to warm up and to learn its rate, at the highest
// rate, and at half of it.
func (b *bench) measure(ctx context.Context, r *request) (err error) {
	b.Say("measuring %s", r.label)
	n := r.connections
	if n == 0 {
		n = b.Connections
	}
	connections := make([]*load.Connection, 0, n)
	defer func() {
		for _, c := range connections {
			err = errors.Join(err, c.Close())
		}
	}()
	for range n {
		c, err := load.Connect(b.server.Address)
		if err != nil {
			return err
		}
		connections = append(connections, c)
	}
	fire := func(rate float64, duration time.Duration) (*load.Volley, error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		m, err := b.magazine(ctx, r, int(1.5*rate*duration.Seconds())+n)
		if err != nil {
			return nil, err
		}
		return load.Fire(connections, b.keys, m, duration)
	}
	guess, learning := 5000.0, b.Duration/4
	if r.prepare != nil {
		guess, learning = 3*b.report.Hashing.Rate, b.Duration
	}
	first, err := fire(guess, learning)
	if err != nil {
		return err
	}
	before, err := b.server.CPUTime()
	if err != nil {
		return err
	}
	full, err := fire(1.5*first.Rate(), b.Duration)
	if err != nil {
		return err
	}
	after, err := b.server.CPUTime()
	if err != nil {
		return err
	}
	memory, err := b.server.Memory()
	if err != nil {
		return err
	}
	figure := Figure{Name: r.label, Rate: full.Rate(), Memory: memory / 1e6}
	figure.CPU = float64((after - before).Microseconds()) / float64(len(full.Times))
	figure.P50, figure.P99 = quantiles(full.Times)
	m, err := b.magazine(ctx, r, int(full.Rate()/2*b.Duration.Seconds())+1)
	if err != nil {
		return err
	}
	half, err := load.Offer(connections, b.keys, m, full.Rate()/2, b.Duration)
	if err != nil {
		return err
	}
	figure.HalfP50, figure.HalfP99 = quantiles(half.Times)
	b.report.Figures = append(b.report.Figures, figure)
	return nil
}

// quantiles returns the median and the 99th percentile in milliseconds.
func quantiles(times []time.Duration) (p50, p99 float64) {
	slices.Sort(times)
	return milliseconds(times[len(times)/2]), milliseconds(times[len(times)*99/100])
}

// job is a hash with some parameters, as new hashes are made.
func job(p passwd.Params) passwd.Job {
	return passwd.Job{Variant: "argon2id", Params: p, Salt: make([]byte, 16), Password: adminPassword, Size: 32}
}

// HashTime returns how long a hash takes when nothing else runs: the lesser of two, unless it
// is so long that a disturbance makes no difference.
func HashTime(p passwd.Params) time.Duration {
	const long = 500 * time.Millisecond
	once := func() time.Duration {
		before := time.Now()
		job(p).Compute()
		return time.Since(before)
	}
	first := once()
	if first > long {
		return first
	}
	return min(first, once())
}

// HashRate returns how many hashes a second are computed in this process, so many at once.
func HashRate(p passwd.Params, atOnce int, duration time.Duration) float64 {
	var computed atomic.Int64
	var working sync.WaitGroup
	started := time.Now()
	for range atOnce {
		working.Go(func() {
			for time.Since(started) < duration {
				job(p).Compute()
				computed.Add(1)
			}
		})
	}
	working.Wait()
	return float64(computed.Load()) / time.Since(started).Seconds()
}

func (b *bench) measureHashes() {
	b.Say("measuring password hashes")
	p := b.Params
	recommended, measured := recommend(b.LoginTime, HashTime)
	b.report.Hashing = Hashing{
		Params: p.String(), Alone: milliseconds(HashTime(p)), Rate: HashRate(p, runtime.NumCPU(), b.Duration),
		Wanted: milliseconds(b.LoginTime), Recommended: recommended.String(), Measured: milliseconds(measured),
	}
}

// Package app puts the server together from its parts and runs it. It is the
// only package that knows all of them.
package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"authnzerver/internal/action"
	"authnzerver/internal/config"
	"authnzerver/internal/dispatch"
	"authnzerver/internal/event"
	"authnzerver/internal/httpd"
	"authnzerver/internal/identity"
	"authnzerver/internal/limit"
	"authnzerver/internal/limitstore"
	"authnzerver/internal/memory"
	"authnzerver/internal/passpolicy"
	"authnzerver/internal/passwd"
	"authnzerver/internal/pii"
	"authnzerver/internal/setup"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/internal/tracing"
	"authnzerver/internal/wire"
)

// replayCapacity is how many requests may be accepted within messagettl: at
// the default of 300 s, 14,000 a second for as long as that lasts. The window
// then takes about 130 MB; it takes nothing when there are no requests.
const replayCapacity = 1 << 22

// purgeEvery is how often expired rows are deleted, give or take 5 %, so that
// nodes which were started together do not purge together.
const purgeEvery = 24 * time.Hour

// An App is a server that is ready to run.
type App struct {
	cfg     *config.Config
	log     *slog.Logger
	version string
	now     func() time.Time
	store   *store.Store
	actions *action.Server
	policy  *policyFile
	pool    *passwd.Pool
	replay  *wire.Replay
	keys    *limit.Keyer
	limiter *limit.Limiter
	shared  *limitstore.Store // nil for one node
	// notices and events wake up who sends them.
	notices, events chan struct{}
	// firstRun is set when there was no cachedir, so that no run before this
	// one can have accepted anything.
	firstRun bool
	server   *http.Server
	// certificate is nil for a server without TLS.
	certificate *certificateFile
	tracer      *tracing.Tracer // nil for none
	observed    *observed       // nil for none
	// operations is the server for operators and listens at operationsAt; nil for none.
	operations   *http.Server
	operationsAt net.Listener
}

// Options are what a server gets beside its configuration.
type Options struct {
	// Log takes the log.
	Log *slog.Logger
	// Version is what the server tells of itself.
	Version string
	// Compute computes password hashes; in this process when nil.
	Compute func(passwd.Job) ([]byte, error)
	// Now is the time of day; time.Now when nil. How long something takes is measured
	// without it.
	Now func() time.Time
}

// Open checks the configuration whole, opens the database, and fills it when
// it is empty. Errors of the configuration are [*config.Error].
func Open(ctx context.Context, cfg *config.Config, o Options) (*App, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	log := o.Log
	a := &App{cfg: cfg, log: log, version: o.Version, now: o.Now, notices: make(chan struct{}, 1), events: make(chan struct{}, 1)}
	var errs []error
	check := func(option string, err error) {
		if err != nil {
			errs = append(errs, &config.Error{Option: option, Code: config.CodeInvalid, Message: err.Error()})
		}
	}
	keys, err := wire.ParseKeys(cfg.Secret)
	check("secret", err)
	hasher, err := pii.NewHasher(cfg.PIISalt)
	check("piisalt", err)
	params, err := passwd.ParseParams(cfg.Argon2)
	check("argon2", err)
	siteName, err := a.siteName()
	check("fqdn", err)
	rules, err := a.passwordRules(siteName)
	check("passpolicy", err)
	a.policy, err = openPolicy(cfg.Permissions, log)
	check("permissions", err)
	_, err = token.NewMinter(cfg.APIKeyPrefix, nil) // the key is in the database
	check("apikeyprefix", err)
	sender, templates, notices, err := OpenMail(cfg, nil)
	if err != nil {
		errs = append(errs, err)
	}
	for _, notice := range notices {
		log.Warn("templates of messages: " + notice)
	}
	sendEvent, err := openWebhook(cfg)
	if err != nil {
		errs = append(errs, err)
	}
	if cfg.TLSCertFile != "" {
		_, err := os.ReadFile(cfg.TLSKeyFile)
		check("tlscertkey", err)
		a.certificate, err = openCertificate(cfg.TLSCertFile, cfg.TLSKeyFile, log)
		check("tlscertfile", err)
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	err = a.makeCacheDir()
	if err != nil {
		return nil, err
	}
	a.pool = passwd.NewPool(passwd.Options{Params: params, Workers: cfg.Workers, Queue: cfg.HashQueue, Compute: o.Compute, Begin: traceHash})
	a.store, err = store.Open(ctx, store.Options{URL: cfg.AuthDB, NormalizeEmail: identity.NormalizeEmail, Now: a.now, SessionIdle: cfg.SessionIdle, Queued: a.noteQueued, Log: log})
	if err != nil {
		return nil, &config.Error{Option: "authdb", Code: config.CodeUnavailable, Message: err.Error()}
	}
	a.actions = &action.Server{
		Store: a.store, Passwords: a.pool, PasswordRules: rules, Policy: a.policy.current, Now: a.now,
		RefreshGrace: cfg.RefreshGrace, Templates: templates, MailPace: cfg.EmailPace,
		Lockout:  action.Lockout{Tries: cfg.UserLockTries, Duration: cfg.UserLockTime, MaxWait: cfg.MaxLoginWait},
		SiteName: siteName, Spend: a.spend, SendEvent: sendEvent, EventRetention: cfg.EventRetention,
	}
	if sender != nil {
		a.actions.SendMail = a.traceMail(sender.Send)
	}
	err = a.assemble(ctx, keys, hasher)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// makeCacheDir makes the directory for what must survive a restart.
func (a *App) makeCacheDir() error {
	if a.cfg.CacheDir == "" {
		return nil
	}
	_, err := os.Stat(a.cfg.CacheDir)
	a.firstRun = errors.Is(err, fs.ErrNotExist)
	err = os.MkdirAll(a.cfg.CacheDir, 0o700)
	if err != nil {
		return &config.Error{Option: "cachedir", Code: config.CodeUnavailable, Message: err.Error() + "; give another directory, or none"}
	}
	return nil
}

// siteName is the server's name: the option, or the machine's own.
func (a *App) siteName() (string, error) {
	if a.cfg.FQDN != "" {
		return a.cfg.FQDN, nil
	}
	name, err := os.Hostname() // not the full name, which only the network knows
	if err != nil {
		return "", fmt.Errorf("find the machine's name: %w", err)
	}
	return name, nil
}

func (a *App) passwordRules(siteName string) (*passpolicy.Checker, error) {
	rules, err := passpolicy.ParseRules(a.cfg.PassPolicy)
	if err != nil {
		return nil, err
	}
	options := passpolicy.Options{
		Rules:      rules,
		ServerName: siteName,
		OnBreachError: func(err error) {
			a.observed.breach()
			a.log.Warn("the list of breached passwords could not be asked; the password was accepted without it", "error", err)
		},
	}
	if a.cfg.PwnedURL != "" {
		options.Breaches, err = passpolicy.NewBreachClient(a.cfg.PwnedURL)
		if err != nil {
			return nil, fmt.Errorf("pwnedurl: %w", err)
		}
	}
	return passpolicy.New(options), nil
}

func (a *App) assemble(ctx context.Context, keys *wire.KeyRing, hasher *pii.Hasher) error {
	credentials, err := setup.Initialize(ctx, a.store, a.pool, setup.Admin{
		Email: a.cfg.AdminEmail, Password: a.cfg.AdminPassword, BaseDir: a.cfg.BaseDir, Roles: a.policy.current().Roles(),
	})
	if err != nil {
		return err
	}
	if credentials != "" {
		a.log.Info("the database was empty and has been initialised", "admin_credentials", credentials)
	}
	a.policy.addRoles = func(ctx context.Context, roles []string) error {
		return a.store.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.AddRoles(ctx, roles) })
	}
	err = a.policy.addRoles(ctx, a.policy.current().Roles())
	if err != nil {
		return fmt.Errorf("add the policy's roles to the database: %w", err)
	}
	a.actions.Tokens, err = token.NewMinter(a.cfg.APIKeyPrefix, a.store.TokenKey())
	if err != nil {
		return err
	}
	a.keys = limit.NewKeyer(a.store.TokenKey())
	a.actions.Keys = a.keys
	limits, err := a.makeLimits()
	if err != nil {
		return err
	}
	err = a.openStore(ctx)
	if err != nil {
		return err
	}
	table, err := dispatch.New(limits, routes(a.actions)...)
	if err != nil {
		return err
	}
	a.replay = wire.NewReplay(a.cfg.MessageTTL, replayCapacity)
	options := httpd.Options{
		AllowedHosts: a.cfg.AllowedHosts, Keys: keys, Accept: a.accept, Do: table.Do, Health: a.health,
		Log: a.log, Hasher: hasher, Now: a.now,
	}
	if a.cfg.LogSample > 0 {
		options.Sampler = event.NewSampler(a.cfg.LogSample, a.cfg.LogEvery)
	}
	err = a.observe(&options)
	if err != nil {
		return err
	}
	if a.cfg.Debug {
		options.Echo = a.roles
	}
	handler := httpd.New(options)
	a.server = handler.Server()
	if a.operationsAt != nil {
		a.operations = handler.Operations(a.observed.registry)
	}
	return nil
}

// Handler returns the server's HTTP handler, for servers inside tests, which
// call Close instead of Run.
func (a *App) Handler() http.Handler { return a.server.Handler }

// HashMemory returns how much memory the password hashes that are computed at
// once take, in bytes.
func (a *App) HashMemory() int64 {
	return int64(a.cfg.Workers) * int64(a.pool.Params().MemoryKiB) << 10
}

// Close closes the stores of a server that was not run.
func (a *App) Close() error {
	if a.shared != nil {
		a.shared.Close()
	}
	a.tracer.Close(context.Background())
	var err error
	if a.operationsAt != nil {
		err = a.operationsAt.Close()
		if errors.Is(err, net.ErrClosed) {
			err = nil // its server did
		}
	}
	return errors.Join(err, a.store.Close())
}

func (a *App) health(ctx context.Context) httpd.Health {
	return httpd.Health{Workers: a.cfg.Workers, Err: a.store.Ping(ctx), PolicyErr: a.policy.problem(), Shared: a.shared != nil, SharedErr: a.storeProblem()}
}

// roles returns the roles in the database, for /echo.
func (a *App) roles(ctx context.Context) (any, error) {
	type role struct {
		Name string `json:"name"`
		Desc string `json:"desc"`
	}
	roles := []role{}
	err := a.store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		rows, err := tx.Roles(ctx)
		for name, desc := range rows {
			roles = append(roles, role{name, desc})
		}
		return err
	})
	return roles, err
}

// Listen takes the address that the configuration names. It comes before Open,
// which may convert the database: a port that another server has, perhaps the
// one whose database it is, must stop the start before that.
func Listen(cfg *config.Config) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(cfg.Listen, strconv.Itoa(cfg.Port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &config.Error{
			Option: "port", Code: config.CodeUnavailable,
			Message: fmt.Sprintf("%s is in use by another program; stop that, or choose another port", net.JoinHostPort(cfg.Listen, strconv.Itoa(cfg.Port))),
		}
	case errors.Is(err, syscall.EACCES):
		return nil, &config.Error{
			Option: "port", Code: config.CodeUnavailable,
			Message: fmt.Sprintf("port %d is not permitted to this user; ports below 1024 need a privilege", cfg.Port),
		}
	case err != nil:
		return nil, &config.Error{Option: "listen", Code: config.CodeUnavailable, Message: err.Error()}
	}
	return listener, nil
}

// Run serves until ctx ends, lets the requests that are under way end, and
// closes everything, the listener too. ready is called with the address once
// requests are answered.
func (a *App) Run(ctx context.Context, listener net.Listener, ready func(net.Addr)) (err error) {
	defer func() { err = errors.Join(err, a.Close()) }()
	if a.certificate != nil {
		listener = tls.NewListener(listener, a.certificate.config())
	}
	err = a.loadReplay(ctx)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	jobs, stopJobs := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { a.policy.watch(jobs) })
	running.Go(func() { a.certificate.watch(jobs) })
	running.Go(func() { a.purgeDaily(jobs) })
	running.Go(func() { a.flushUses(jobs) })
	running.Go(func() { a.saveLimitsOften(jobs) })
	running.Go(func() { a.sendNotices(jobs) })
	running.Go(func() { a.sendEvents(jobs) })
	running.Go(func() { memory.Follow(jobs) })
	served := make(chan error, 2)
	go func() { served <- a.server.Serve(listener) }()
	if a.operations != nil {
		go func() { served <- a.operations.Serve(a.operationsAt) }()
		a.log.Info("serving metrics", "url", "http://"+a.operationsAt.Addr().String()+"/metrics")
	}
	ready(listener.Addr())
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	}
	a.log.Info("stopping")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownTimeout)
	defer cancel()
	drained := a.server.Shutdown(drain)
	if drained != nil {
		a.log.Warn("some requests did not end in time and were cut off", "after", a.cfg.ShutdownTimeout.String())
		err = errors.Join(err, a.server.Close())
	}
	if a.operations != nil {
		err = errors.Join(err, a.operations.Close())
	}
	stopJobs()
	running.Wait()
	return errors.Join(err, a.store.FlushUses(context.WithoutCancel(ctx)), a.saveReplay(), a.saveLimits())
}

// flushUses writes now and then which API keys and sessions were used, and deletes
// what the nodes have told each other.
func (a *App) flushUses(ctx context.Context) {
	ticker := time.NewTicker(store.FlushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := a.store.FlushUses(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Error("which API keys and sessions were used could not be written; the next try is in a minute", "error", err)
		}
		err = a.store.PurgeChanges(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Error("what other nodes have seen could not be deleted; the next try is in a minute", "error", err)
		}
	}
}

// purgeDaily deletes what expired long ago, at once and then every day.
func (a *App) purgeDaily(ctx context.Context) {
	for {
		sessions, keys, err := a.actions.PurgeExpired(ctx, a.cfg.SessionExpiry)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.Error("expired rows could not be deleted; the next try is in a day", "error", err)
		case sessions+keys > 0:
			a.log.Info("expired rows were deleted", "sessions", sessions, "keys", keys)
		}
		jitter := 0.95 + rand.Float64()/10
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(jitter * float64(purgeEvery))):
		}
	}
}

func (a *App) replayPath() string { return filepath.Join(a.cfg.CacheDir, "replay-window") }

// loadReplay reads the replay window of the last run. The file is removed, so
// that it is only there after a clean stop. Without it, or when it is damaged,
// it is unknown what the last run accepted: then messages of the time before
// this start are refused, and the start waits for the next second, with which
// the time stamps of new messages begin.
func (a *App) loadReplay(ctx context.Context) error {
	if a.cfg.CacheDir == "" || a.cfg.MessageTTL == 0 || a.firstRun {
		return nil
	}
	text, err := os.ReadFile(a.replayPath())
	if err == nil {
		err = a.replay.Load(bytes.NewReader(text), a.now())
	}
	removed := os.Remove(a.replayPath())
	if removed != nil && !errors.Is(removed, fs.ErrNotExist) {
		return &config.Error{Option: "cachedir", Code: config.CodeUnavailable, Message: removed.Error()}
	}
	if err == nil {
		return nil
	}
	a.log.Warn("the last run did not save what it had accepted; messages from before this start are refused", "error", err)
	now := a.now()
	a.replay.Refuse(now)
	select {
	case <-ctx.Done():
	case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
	}
	return nil
}

// saveReplay writes the replay window for the next run, whole or not at all.
func (a *App) saveReplay() error {
	if a.cfg.CacheDir == "" || a.cfg.MessageTTL == 0 {
		return nil
	}
	var window bytes.Buffer
	err := a.replay.Save(&window, a.now())
	if err != nil {
		return fmt.Errorf("save the replay window: %w", err)
	}
	err = replaceFile(a.replayPath(), window.Bytes())
	if err != nil {
		return fmt.Errorf("save the replay window: %w", err)
	}
	return nil
}

package app

import (
	"cmp"
	"context"
	"net"
	"runtime"
	"time"

	"authnzerver/internal/config"
	"authnzerver/internal/event"
	"authnzerver/internal/httpd"
	"authnzerver/internal/mail"
	"authnzerver/internal/metrics"
	"authnzerver/internal/store"
	"authnzerver/internal/tracing"
)

// An observed is what is counted about a server. A nil one counts nothing.
type observed struct {
	registry *metrics.Registry
	requests *metrics.Counter
	refused  *metrics.Counter
	times    *metrics.Histogram
	mails    *metrics.Counter
	queued   *metrics.Counter
	breaches *metrics.Counter
}

// The outcomes of what either succeeds or fails.
const (
	succeeded = "ok"
	failed    = "failed"
)

func outcomeOf(err error) string {
	if err != nil {
		return failed
	}
	return succeeded
}

// observe has the handler counted and traced as far as the configuration asks for it.
func (a *App) observe(o *httpd.Options) error {
	if a.cfg.TracesURL != "" {
		a.tracer = tracing.New(tracing.Options{
			URL: a.cfg.TracesURL, Share: a.cfg.TraceSample, Version: a.version, Instance: store.NewUUID(),
			OnError: func(err error) { a.log.Warn("traces were lost", "error", err) },
		})
		o.Tracer = a.tracer
	}
	if a.cfg.MetricsListen == "" {
		return nil
	}
	var err error
	a.operationsAt, err = net.Listen("tcp", a.cfg.MetricsListen)
	if err != nil {
		return &config.Error{Option: "metricslisten", Code: config.CodeUnavailable, Message: err.Error()}
	}
	a.observed = a.newObserved()
	o.Observe = a.observed.request
	return nil
}

// newObserved makes the metrics. Their names and labels are a promise to dashboards and
// alerts, as those of requests are to clients.
func (a *App) newObserved() *observed {
	r := metrics.New()
	o := &observed{
		registry: r,
		requests: r.Counter("authnzerver_requests_total", "Requests that were opened, by how they ended: ok, the failure code, or the word for a refusal.", "request", "code"),
		refused:  r.Counter("authnzerver_refused_total", "HTTP requests that got no sealed reply, by the word for why.", "reason"),
		times:    r.Histogram("authnzerver_request_duration_seconds", "How long requests took, waits after wrong passwords included.", "request"),
		mails:    r.Counter("authnzerver_mails_total", "Messages that were given to the mail server, by whether it took them.", "outcome"),
		queued:   r.Counter("authnzerver_sent_total", "Tries to send what is queued in the database: messages that the server sends on its own, and events to the webhook.", "queue", "outcome"),
		breaches: r.Counter("authnzerver_breach_list_failures_total", "Passwords that were accepted because the list of breached ones could not be asked."),
	}
	r.Gauge("authnzerver_build_info", "1, with what was built.", func() float64 { return 1 }, "version", a.version, "go", runtime.Version())
	started := float64(time.Now().UnixMilli()) / 1000
	r.Gauge("authnzerver_start_time_seconds", "When the server started, in Unix time.", func() float64 { return started })
	hashes := func(pick func(workers, busy, waiting int) int) func() float64 {
		return func() float64 { return float64(pick(a.pool.Stats())) }
	}
	r.CounterFunc("authnzerver_password_hashes_total", "Password hashes that were computed.", func() float64 { return float64(a.pool.Computed()) })
	r.Gauge("authnzerver_password_workers", "How many password hashes are computed at once at most.", hashes(func(workers, _, _ int) int { return workers }))
	r.Gauge("authnzerver_password_workers_busy", "How many are being computed.", hashes(func(_, busy, _ int) int { return busy }))
	r.Gauge("authnzerver_password_queue", "How many wait for a worker.", hashes(func(_, _, waiting int) int { return waiting }))
	r.Gauge("authnzerver_password_queue_limit", "How many may wait before more are refused.", func() float64 { return float64(a.cfg.HashQueue) })
	a.observeStore(r)
	r.Gauge("authnzerver_limit_keys", "Clients, addresses and the like that have spent something of a limit.", func() float64 { return float64(a.limiter.Keys()) })
	if a.shared != nil {
		r.Gauge("authnzerver_limitstore_up", "1 when the store that nodes share can be used.", func() float64 { return one(a.storeProblem() == nil) })
	}
	if a.certificate != nil {
		r.Gauge("authnzerver_certificate_expires_seconds", "When the certificate in force ends, in Unix time.", func() float64 { return float64(a.certificate.expires().Unix()) })
	}
	r.Gauge("authnzerver_policy_current", "1 when the newest policy file is in force, 0 when it was refused.", func() float64 { return one(a.policy.problem() == nil) })
	return o
}

// observeStore adds the metrics of the database.
func (a *App) observeStore(r *metrics.Registry) {
	stat := func(pick func(store.Stats) float64) func() float64 {
		return func() float64 { return pick(a.store.Stats()) }
	}
	for i, pool := range a.store.Stats().Pools {
		of := func(pick func(store.PoolStats) float64) func() float64 {
			return stat(func(s store.Stats) float64 { return pick(s.Pools[i]) })
		}
		r.Gauge("authnzerver_db_connections", "Connections to the database.", of(func(p store.PoolStats) float64 { return float64(p.InUse) }), "pool", pool.Name, "state", "in_use")
		r.Gauge("authnzerver_db_connections", "", of(func(p store.PoolStats) float64 { return float64(p.Idle) }), "pool", pool.Name, "state", "idle")
		r.CounterFunc("authnzerver_db_waits_total", "How often a connection had to be waited for.", of(func(p store.PoolStats) float64 { return float64(p.Waits) }), "pool", pool.Name)
		r.CounterFunc("authnzerver_db_wait_seconds_total", "How long connections were waited for, in all.", of(func(p store.PoolStats) float64 { return p.Waited.Seconds() }), "pool", pool.Name)
	}
	r.CounterFunc("authnzerver_db_retries_total", "Transactions that were tried again: another was in the way, or the connection was lost.", stat(func(s store.Stats) float64 { return float64(s.Retries) }))
	r.Gauge("authnzerver_db_writable", "0 when the last change could not be made because of the database.", stat(func(s store.Stats) float64 { return one(!s.Failing) }))
	r.CounterFunc("authnzerver_cache_loads_total", "Sessions, API keys and users that were read because they were not in memory.", stat(func(s store.Stats) float64 { return float64(s.Loads) }))
	for kind, pick := range map[string]func(store.Stats) float64{
		"session": func(s store.Stats) float64 { return float64(s.Sessions) },
		"apikey":  func(s store.Stats) float64 { return float64(s.Keys) },
		"user":    func(s store.Stats) float64 { return float64(s.Users) },
	} {
		r.Gauge("authnzerver_cache_rows", "Rows that are in memory, about.", stat(pick), "kind", kind)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// request counts a request that has ended.
func (o *observed) request(r *event.Record) {
	if r.Refused != "" {
		o.refused.Inc(r.Refused)
	}
	if r.Request == "" {
		return // nobody who has a key
	}
	o.requests.Inc(r.Request, cmp.Or(r.Code, r.Refused, succeeded))
	o.times.Observe(r.Request, time.Since(r.Started))
}

// queue counts a try to send something of a queue.
func (o *observed) queue(name string, err error) {
	if o != nil {
		o.queued.Inc(name, outcomeOf(err))
	}
}

// mail counts a message that was given to the mail server.
func (o *observed) mail(err error) {
	if o != nil {
		o.mails.Inc(outcomeOf(err))
	}
}

// breach counts a password that could not be looked up.
func (o *observed) breach() {
	if o != nil {
		o.breaches.Inc()
	}
}

// traceMail returns what sends messages, counted and traced.
func (a *App) traceMail(send func(context.Context, *mail.Message) error) func(context.Context, *mail.Message) error {
	return func(ctx context.Context, m *mail.Message) error {
		ctx, span := tracing.Start(ctx, "mail")
		err := send(ctx, m)
		span.End(err)
		a.observed.mail(err)
		return err
	}
}

// traceHash makes a span of a password hash, the wait for a worker included.
func traceHash(ctx context.Context) (end func(error)) {
	_, span := tracing.Start(ctx, "password hash")
	return span.End
}

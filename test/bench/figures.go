//go:build linux

package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/load"
	"authnzerver/internal/passwd"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

const (
	// manySessions is how many sessions there are when cheap requests are sent at a
	// constant rate.
	manySessions = 100_000
	// steady is how long they are sent.
	steady = 10 * time.Second
	// settled is how long a server is left alone before.
	settled = 5 * time.Second
	// mostSteadyP99 is in milliseconds.
	mostSteadyP99 = 10
	// burst is how many logins come at once.
	burst = 1000
	// workers is the server's default.
	workers = 4
	// besides is how much memory the server may have beside the hashes', in bytes.
	besides = 64e6
)

// oldParams are those of hashes that other programs made: 100 MiB.
var oldParams = passwd.Params{MemoryKiB: 100 << 10, Passes: 2, Lanes: 4}

// steadyRates are how many requests a second the kinds of databases must do.
var steadyRates = map[databases.Kind]float64{databases.SQLite: 5000, databases.PostgreSQL: 2000}

// measureFigures takes the figures that need a database of their own.
func (b *bench) measureFigures(ctx context.Context) (err error) {
	var servers databases.Servers
	defer func() { err = errors.Join(err, servers.Close()) }()
	for _, kind := range []databases.Kind{databases.SQLite, databases.PostgreSQL} {
		err := b.steadyLoad(ctx, &servers, kind)
		if err != nil {
			return fmt.Errorf("%s with %d sessions: %w", kind, manySessions, err)
		}
	}
	return b.loginBurst(ctx)
}

// steadyLoad measures requests at a constant rate on a database with many sessions, and on
// PostgreSQL the highest rate against that of a handler that makes one query for each.
func (b *bench) steadyLoad(ctx context.Context, servers *databases.Servers, kind databases.Kind) (err error) {
	s, err := b.newSide(ctx, servers, kind, smallSize)
	if err != nil {
		return err
	}
	tokens, err := fillSessions(ctx, s.url, manySessions)
	if err != nil {
		return fmt.Errorf("add sessions: %w", err)
	}
	err = s.serve(ctx, b, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	select { // until it has deleted what expired long ago
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(settled):
	}
	key, err := sessionlessKey(ctx, s.client)
	if err != nil {
		return err
	}
	exists := func(i int) any { return api.SessionTokenParams{SessionToken: tokens[i*stride%len(tokens)]} }
	t, err := newTarget(s.Process, b.connections)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	rate := steadyRates[kind]
	for _, r := range []fastRequest{
		{name: api.SessionExists.Spec().Name, params: exists},
		{name: api.APIKeyVerifyNoSession.Spec().Name, params: func(int) any {
			return api.APIKeyVerifyNoSessionParams{APIKeyDict: key, UserID: 1, UserRole: "superuser"}
		}},
	} {
		say("measuring %s on %s at %g a second", r.name, kind, rate)
		err := b.steadyRequest(ctx, r, kind, rate, t)
		if err != nil {
			return err
		}
	}
	if kind == databases.SQLite {
		return nil
	}
	return b.againstQueries(ctx, s, t, exists)
}

// steadyRequest measures a request at a constant rate, and the empty handler at the same.
func (b *bench) steadyRequest(ctx context.Context, r fastRequest, kind databases.Kind, rate float64, server *target) (err error) {
	offer := func(t *target) (p50, p99 float64, err error) {
		m, err := b.magazine(r.name, r.params, int(rate*steady.Seconds())+1)
		if err != nil {
			return 0, 0, err
		}
		v, err := load.Offer(t.connections, b.keys, m, rate, steady)
		if err != nil {
			return 0, 0, err
		}
		p50, p99 = percentiles(v.Times)
		return p50, p99, nil
	}
	figure := row{Name: fmt.Sprintf("%s, %s, %d sessions, constant", r.name, kind, manySessions), Value: rate, Unit: "/s"}
	figure.P50, figure.P99, err = offer(server)
	if err != nil {
		return err
	}
	empty, end, err := b.emptyFor(ctx, server, r.name, r.params)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	_, figure.BaselineP99, err = offer(empty)
	if err != nil {
		return err
	}
	b.report.require(figure, p99Below(mostSteadyP99))
	return nil
}

// againstQueries compares session-exists with an empty handler that also makes one query.
func (b *bench) againstQueries(ctx context.Context, s *side, server *target, exists func(i int) any) (err error) {
	const name = "session-exists"
	say("measuring %s on %s against a handler with one query", name, s.kind)
	querying, end, err := b.emptyFor(ctx, server, name, exists, "-database="+s.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	figure, err := b.inTurns(ctx, name+" on PostgreSQL, against a query for each", name, exists, server, querying)
	if err != nil {
		return err
	}
	b.report.require(figure, ratioOf(2))
	return nil
}

// fillSessions adds sessions of the superuser and returns their tokens.
func fillSessions(ctx context.Context, url string, n int) (tokens []api.SessionToken, err error) {
	db, err := databases.Open(url)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() // after the commit it does nothing
	const atOnce = 500
	for len(tokens) < n {
		var values []string
		for range atOnce {
			one := fmt.Sprint("a session of the bench, number ", len(tokens))
			tokens = append(tokens, api.SessionToken(one))
			values = append(values, fmt.Sprintf("('%s', 'bench-%d', '192.0.2.7', 'bench', 1, '2026-01-01 00:00:00.000000', '2099-01-01 00:00:00.000000')",
				token.Sum(one), len(tokens)))
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO sessions (session_token, session_id, ip_address, user_agent, user_id, created, expires) VALUES "+strings.Join(values, ", "))
		if err != nil {
			return nil, err
		}
	}
	return tokens, tx.Commit()
}

func sessionlessKey(ctx context.Context, c *client.Client) (api.APIKey, error) {
	made, err := client.Do(ctx, c, api.APIKeyNewNoSession, newKey())
	if err != nil {
		return api.APIKey{}, err
	}
	return api.ParseAPIKey(*made.APIKey)
}

// loginBurst measures the most memory of the server and its hashing process while many log
// in at once, a third of them with hashes that take more memory than the server's own.
func (b *bench) loginBurst(ctx context.Context) (err error) {
	say("measuring the memory while %d log in at once", burst)
	folder, err := os.MkdirTemp(b.dir, "burst")
	if err != nil {
		return err
	}
	var none databases.Servers
	s := &side{kind: databases.SQLite, users: smallSize}
	s.url, _, err = none.Make(ctx, s.kind, folder)
	if err == nil {
		err = s.serve(ctx, b, []string{noBreaches, "--emailserver=none", "--maxloginwait=0", "--userlocktries=100000"})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	var accounts []account
	for range users {
		a := s.member(ctx)
		accounts = append(accounts, a)
	}
	if s.err != nil {
		return s.err
	}
	db, err := databases.Open(s.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	old := phc(oldParams, userPassword, []byte("some salt of 16 "))
	for i := 0; i < len(accounts); i += 3 {
		_, err := db.ExecContext(ctx, "UPDATE users SET password = ? WHERE user_id = ?", old, accounts[i].id)
		if err != nil {
			return err
		}
	}
	peak, err := b.burst(ctx, s, accounts)
	if err != nil {
		return err
	}
	b.report.require(row{
		Name: fmt.Sprintf("memory while %d log in at once, a third with 100 MiB hashes", burst), Value: peak / 1e6, Unit: "MB",
	}, below(math.Round((workers*float64(oldParams.MemoryKiB)*1024+besides)/1e6)))
	return nil
}

// phc returns a stored hash.
func phc(p passwd.Params, password string, salt []byte) string {
	key := passwd.Job{Variant: "argon2id", Params: p, Salt: salt, Password: password, Size: 32}.Compute()
	return fmt.Sprintf("$argon2id$v=19$%s$%s$%s", p, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// burst lets all log in at once and returns the most memory that was taken.
func (b *bench) burst(ctx context.Context, s *side, accounts []account) (peak float64, err error) {
	sessions := make([]string, burst)
	for i := range sessions {
		sessions[i] = s.session(ctx, nil)
	}
	if s.err != nil {
		return 0, s.err
	}
	m, err := load.NewMagazine(b.keys, burst, func(i int) any {
		a := accounts[i%len(accounts)]
		return load.NewQuestion("user-login", params{"session_token": sessions[i], "email": a.email, "password": a.password}, i)
	})
	if err != nil {
		return 0, err
	}
	watching, stop := context.WithCancel(ctx)
	var watch, logins sync.WaitGroup
	var watchErr error
	watch.Go(func() {
		for watching.Err() == nil && watchErr == nil {
			var now float64
			now, watchErr = s.Memory()
			peak = max(peak, now)
			time.Sleep(20 * time.Millisecond)
		}
	})
	errs := make([]error, burst)
	outcomes := make([]outcome, burst)
	for i := range burst {
		logins.Go(func() {
			c, err := load.Connect(s.Address)
			if err != nil {
				errs[i] = err
				return
			}
			defer c.Close()
			body, err := c.Exchange(m.Requests[i])
			if err != nil {
				errs[i] = err
				return
			}
			opened, err := b.keys.Open(body)
			if err != nil {
				errs[i] = err
				return
			}
			reply, err := api.ParseReply(opened.Plaintext)
			switch {
			case err != nil:
				errs[i] = err
			case reply.Success:
				outcomes[i] = finished
			case reply.Failure.Code == api.CodeBusy:
				outcomes[i] = refused
			default:
				outcomes[i] = failed
			}
		})
	}
	logins.Wait()
	stop()
	watch.Wait()
	counts := map[outcome]int{}
	for _, o := range outcomes {
		counts[o]++
	}
	b.report.add(row{Name: "logins of these that were finished", Value: float64(counts[finished])})
	b.report.require(row{Name: fmt.Sprintf("logins of these that failed otherwise than with %s", api.CodeBusy), Value: float64(counts[failed])}, upTo(0))
	return peak, errors.Join(append(errs, watchErr)...)
}

// A querier makes one query, as a server without a cache does for each request.
type querier struct{ session *sql.Stmt }

func newQuerier(ctx context.Context, url string) (*querier, error) {
	db, err := databases.Open(url)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(16) // as many as the server has
	db.SetMaxIdleConns(16)
	session, err := db.PrepareContext(ctx, `SELECT s.session_id, s.ip_address, s.user_agent, s.expires, u.user_id, u.full_name, u.email, u.user_role, u.is_active
		FROM sessions s JOIN users u ON u.user_id = s.user_id WHERE s.session_token = $1`)
	return &querier{session}, err
}

// ask looks a session up.
func (q *querier) ask(ctx context.Context, sessionToken string) error {
	var id, address, agent, email, role string
	var name sql.NullString
	var expires time.Time
	var userID int64
	var active bool
	return q.session.QueryRowContext(ctx, token.Sum(sessionToken).String()).Scan(&id, &address, &agent, &expires, &userID, &name, &email, &role, &active)
}

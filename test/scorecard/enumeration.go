//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/identity"
	"authnzerver/internal/load"
	"authnzerver/internal/passwd"
	"authnzerver/internal/store"
	"authnzerver/internal/wire"
	"authnzerver/test/figures"
)

// cheap is the cost of the hashes: the least that the server takes, so that what else
// differs is not lost in the time of the hash.
const cheap = "m=7168,t=1,p=1"

// mostArea is how far from one half an area may be, its interval included.
const mostArea = 0.05

// What an account is.
const (
	known      = "known"      // active and verified
	unknown    = "unknown"    // nobody has the address
	locked     = "locked"     // by an administrator
	inactive   = "inactive"   // made so by an administrator
	unverified = "unverified" // signed up only
)

var states = []string{known, unknown, locked, inactive, unverified}

// A probe is a request by which a stranger could learn whether there is an account.
type probe struct {
	request string
	body    func(p *people, email string, id int64) any
}

// probes are the requests with an address in them that end users can bring about.
func probes() []probe {
	return []probe{
		{"user-login", func(p *people, email string, _ int64) any {
			return api.UserLoginParams{SessionToken: p.session(), Email: api.Email(email), Password: wrong}
		}},
		{"user-passcheck-nosession", func(_ *people, email string, _ int64) any {
			return api.UserPasscheckNoSessionParams{Email: api.Email(email), Password: wrong}
		}},
		{"user-new", func(_ *people, email string, _ int64) any {
			return api.UserNewParams{FullName: "Somebody New", Email: api.Email(email), Password: fresh}
		}},
		{"user-changepass-nosession", func(_ *people, email string, id int64) any {
			return api.UserChangePassNoSessionParams{UserID: id, FullName: "Somebody", Email: api.Email(email), CurrentPassword: wrong, NewPassword: fresh}
		}},
		{"user-delete", func(_ *people, email string, id int64) any {
			return api.UserDeleteParams{UserID: id, Email: api.Email(email), Password: wrong}
		}},
	}
}

// The passwords that are sent.
const (
	wrong = "harbour-Quartz-violin-12"
	fresh = "meadow-Lantern-violin-47"
)

// people are the accounts of a server, each used once.
type people struct {
	ids      map[string][]int64 // by their states
	sessions []api.SessionToken
}

// session returns a session that was not used before.
func (p *people) session() api.SessionToken {
	token := p.sessions[0]
	p.sessions = p.sessions[1:]
	return token
}

// addressOf is the address of an account; they all are of the same length.
func addressOf(state string, i int) string {
	return fmt.Sprintf("p-%-10.10s%07d@mail.example.org", state, i)
}

// email is addressOf without blanks.
func email(state string, i int) string { return strings.ReplaceAll(addressOf(state, i), " ", "x") }

// fill makes n accounts in each state.
func fill(ctx context.Context, url string, n int) (*people, error) {
	db, err := store.Open(ctx, store.Options{URL: url, NormalizeEmail: identity.NormalizeEmail})
	if err != nil {
		return nil, err
	}
	params, err := passwd.ParseParams(cheap)
	if err != nil {
		return nil, err
	}
	pool := passwd.NewPool(passwd.Options{Params: params, Workers: 1})
	hash, err := pool.Hash(ctx, "the password of everybody")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	p := &people{ids: map[string][]int64{}}
	for _, state := range states {
		const atOnce = 500
		for from := 0; from < n && state != unknown; from += atOnce {
			err := db.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
				for i := from; i < min(n, from+atOnce); i++ {
					name := "Somebody"
					u := store.User{
						SystemID: store.NewUUID(), FullName: &name, Email: email(state, i), PasswordHash: hash, Role: "authenticated",
						IsActive: true, EmailVerified: true, FirstVerified: tx.Now(), EmailVerifySent: tx.Now(),
					}
					switch state {
					case locked:
						u.Role, u.IsActive = "locked", false
					case inactive:
						u.IsActive = false
					case unverified:
						u.Role, u.IsActive, u.EmailVerified, u.FirstVerified = "locked", false, false, time.Time{}
					}
					err := tx.InsertUser(ctx, &u)
					if err != nil {
						return err
					}
					p.ids[state] = append(p.ids[state], u.ID)
				}
				return nil
			})
			if err != nil {
				return nil, errors.Join(err, db.Close())
			}
		}
	}
	for range n {
		p.ids[unknown] = append(p.ids[unknown], 1_000_000)
	}
	return p, db.Close()
}

// A try is one request.
type try struct {
	state string
	i     int
}

// An answer is how long one took and what an end user may see of it.
type answer struct {
	seconds float64
	seen    string
}

// enumerate measures whether the state of an account can be told from how long answers
// take or from what an end user sees.
func (c *card) enumerate(ctx context.Context, p *probe) (err error) {
	dir, err := os.MkdirTemp("", "scorecard")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	secret := wire.NewKey()
	url := "sqlite:///" + filepath.Join(dir, "auth.sqlite")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	start := func() (*load.Process, error) {
		return load.Start(ctx, log, []string{"AUTHNZERVER_ADMIN_PASSWORD=first superuser's passphrase"}, c.server, func(host, port string) []string {
			return []string{
				"--listen=" + host, "--port=" + port, "--authdb=" + url, "--basedir=" + dir, "--cachedir=none", "--secret=" + secret, "--piisalt=salt",
				"--argon2=" + cheap, "--pwnedurl=none", "--emailserver=none", "--ratelimits=none", "--userlocktries=100000", "--maxloginwait=0", "--logging=warning",
			}
		})
	}
	// Once to make the tables and the first users.
	server, err := start()
	if err != nil {
		return err
	}
	err = server.Stop()
	if err != nil {
		return err
	}
	// Two samples of known accounts are compared with each other, and with the others.
	everybody, err := fill(ctx, url, 2*c.size)
	if err != nil {
		return err
	}
	server, err = start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	asker, err := client.New(client.Options{URL: "http://" + server.Address, Secret: secret})
	if err != nil {
		return err
	}
	if p.request == "user-login" {
		err = everybody.visit(ctx, asker, (len(states)+2)*c.size)
		if err != nil {
			return err
		}
	}
	answers, err := c.ask(ctx, asker, p, everybody)
	if err != nil {
		return err
	}
	return c.compare(p, answers)
}

// visit makes sessions of nobody.
func (p *people) visit(ctx context.Context, asker *client.Client, n int) error {
	for range n {
		made, err := client.Do(ctx, asker, api.SessionNew, api.SessionNewParams{
			IPAddress: "192.0.2.7", UserAgent: "scorecard", Expires: time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05"),
		})
		if err != nil {
			return err
		}
		p.sessions = append(p.sessions, *made.SessionToken)
	}
	return nil
}

// again names the second sample of known accounts, and dear the sample that the control
// is about: known accounts whose answers take a quarter longer, where one hash more would
// take twice as long.
const (
	again = "known, again"
	dear  = "delayed"
)

// ask sends all tries, in an order drawn by lot.
func (c *card) ask(ctx context.Context, asker *client.Client, p *probe, everybody *people) (map[string][]answer, error) {
	var tries []try
	for _, state := range states {
		for i := range c.size {
			tries = append(tries, try{state, i})
		}
	}
	for i := range c.size {
		tries = append(tries, try{again, c.size + i})
	}
	random := rand.New(rand.NewPCG(c.seed, uint64(len(p.request))))
	random.Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })
	answers := map[string][]answer{}
	for _, t := range tries {
		state := t.state
		if state == again {
			state = known
		}
		body, err := json.Marshal(p.body(everybody, email(state, t.i), everybody.ids[state][t.i]))
		if err != nil {
			return nil, err
		}
		began := time.Now()
		reply, err := asker.Call(ctx, p.request, body)
		took := time.Since(began).Seconds()
		if err != nil {
			return nil, err
		}
		answers[t.state] = append(answers[t.state], answer{took, strings.Join(reply.Messages, "\n")})
		if t.state == again {
			answers[dear] = append(answers[dear], answer{took * 1.25, ""})
		}
	}
	return answers, nil
}

// compare reports the state that can be told best from a known one.
func (c *card) compare(p *probe, answers map[string][]answer) error {
	times := func(state string) []float64 {
		values := make([]float64, len(answers[state]))
		for i, a := range answers[state] {
			values[i] = a.seconds
		}
		return values
	}
	base := times(known)
	worst, worstState := 0.0, ""
	var notes []string
	for _, state := range append(slices.Clone(states[1:]), again) {
		area, margin := auc(times(state), base)
		notes = append(notes, fmt.Sprintf("%s %.3f±%.3f (%.2f ms)", state, area, margin, 1000*median(times(state))))
		if off := math.Abs(area-0.5) + margin; off > worst {
			worst, worstState = off, state
		}
	}
	control, _ := auc(times(dear), base)
	seen := map[string][]string{}
	for _, state := range states {
		for _, a := range answers[state] {
			if !slices.Contains(seen[a.seen], state) {
				seen[a.seen] = append(seen[a.seen], state)
			}
		}
	}
	pass := worst <= mostArea && len(seen) == 1 && math.Abs(control-0.5) > mostArea
	note := fmt.Sprintf("known %.2f ms; area against known: %s; worst is %s", 1000*median(base), strings.Join(notes, ", "), worstState)
	if len(seen) > 1 {
		note += fmt.Sprintf("; end users see %d answers: %q", len(seen), slices.Sorted(maps.Keys(seen)))
	}
	return c.report(figures.Figure{
		Name: "enumeration by " + p.request, Value: worst, Unit: "|AUC - 0.5| with its 99 % interval", Target: fmt.Sprintf("<= %v", mostArea),
		Pass: pass, Control: math.Abs(control - 0.5), Note: note,
	})
}

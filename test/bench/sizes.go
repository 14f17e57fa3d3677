//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/load"
	"authnzerver/internal/store"
	"authnzerver/test/databases"
)

const (
	// smallSize and largeSize are how many users the databases that are compared
	// have, and sessionsEach how many sessions each of these users.
	smallSize, largeSize = 1000, 1_000_000
	sessionsEach         = 5
	// mostGrowth is how many times as long a request may take on the large one.
	mostGrowth = 1.5
	// stride leads through the users of both so that none comes twice soon.
	stride = 7919
)

// sizeOptions let a server do what takes long for other reasons than the database
// quickly, and as often as asked for.
var sizeOptions = []string{
	"--ratelimits=none", "--messagettl=30", noBreaches, "--argon2=m=7168,t=1,p=1",
	"--emailserver=127.0.0.1", "--emailtls=off", "--emailpace=0", "--userlocktries=100000", "--maxloginwait=0",
}

// A side is a database of one size and its server. After the first error, which err
// keeps, it does nothing more.
type side struct {
	*load.Process
	kind   databases.Kind
	url    string
	users  int
	client *client.Client
	admin  string // a session of the superuser
	count  int    // of newcomers
	err    error
}

// A scenario is one request as it is asked.
type scenario struct {
	request string
	about   string
	// body prepares all that the i-th request needs and returns its parameters.
	body func(ctx context.Context, s *side, i int) params
}

type params = map[string]any

// compareSizes measures all requests on a small and on a large database of each kind.
func (b *bench) compareSizes(ctx context.Context) (err error) {
	for _, spec := range api.All() {
		if !slices.ContainsFunc(scenarios, func(sc scenario) bool { return sc.request == spec.Name }) {
			return fmt.Errorf("no scenario measures %s", spec.Name)
		}
	}
	mail, err := newMailSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mail.Close()) }()
	options := append(sizeOptions, fmt.Sprint("--emailport=", mail.port()))
	var servers databases.Servers
	defer func() { err = errors.Join(err, servers.Close()) }()
	for name := range strings.SplitSeq(b.databases, ",") {
		kind := databases.Kind(name)
		var sides []*side
		for _, users := range []int{smallSize, b.users} {
			s, err := b.newSide(ctx, &servers, kind, users)
			if err != nil {
				return fmt.Errorf("make a %s database with %d users: %w", kind, users, err)
			}
			sides = append(sides, s)
		}
		err := b.compareSides(ctx, sides[0], sides[1], options)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// newSide makes a database and fills it.
func (b *bench) newSide(ctx context.Context, servers *databases.Servers, kind databases.Kind, users int) (*side, error) {
	folder, err := os.MkdirTemp(b.dir, "side")
	if err != nil {
		return nil, err
	}
	s := &side{kind: kind, users: users}
	s.url, _, err = servers.Make(ctx, kind, folder)
	if err != nil {
		return nil, err
	}
	p, err := b.startServer(ctx, "--authdb="+s.url) // it makes the tables
	if err != nil {
		return nil, err
	}
	err = p.Stop()
	if err != nil {
		return nil, err
	}
	db, err := databases.Open(s.url)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	say("filling a %s database with %d users and %d sessions", kind, users, users*sessionsEach)
	err = databases.Fill(ctx, db, databases.Filling{Users: users, SessionsEach: sessionsEach, KeysEach: 1})
	if err != nil {
		return nil, err
	}
	return s, databases.Analyze(ctx, db, kind)
}

// serve starts the server, again if it runs, so that it remembers no rows.
func (s *side) serve(ctx context.Context, b *bench, options []string) error {
	if s.Process != nil {
		err := s.Stop()
		if err != nil {
			return err
		}
	}
	var err error
	s.Process, err = b.startServer(ctx, append(options, "--authdb="+s.url)...)
	if err != nil {
		return err
	}
	s.client, err = client.New(client.Options{URL: "http://" + s.Address, Secret: b.secret})
	if err != nil {
		return err
	}
	for range warmUps {
		s.ask(ctx, api.UserList.Spec().Name, params{"user_id": store.SuperuserID})
	}
	return s.err
}

// warmUps are how many requests a server gets before it is measured.
const warmUps = 50

// ask sends a request, which must succeed.
func (s *side) ask(ctx context.Context, name string, body params) params {
	if s.err != nil {
		return nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		s.err = err
		return nil
	}
	reply, err := s.client.Call(ctx, name, text)
	if err == nil && !reply.Success {
		err = reply.Failure
	}
	var result params
	if err == nil {
		err = json.Unmarshal(reply.Response, &result)
	}
	if err != nil {
		s.err = fmt.Errorf("%s, with %d users: %w", name, s.users, err)
	}
	return result
}

// A comparison is a request on the two databases; times are medians in milliseconds.
type comparison struct {
	Database string  `json:"database"`
	Request  string  `json:"request"`
	About    string  `json:"about,omitzero"`
	Small    float64 `json:"small_ms"`
	Large    float64 `json:"large_ms"`
	Ratio    float64 `json:"ratio"`
	Missed   bool    `json:"missed,omitzero"`
}

func (b *bench) compareSides(ctx context.Context, small, large *side, options []string) (err error) {
	sides := []*side{small, large}
	defer func() {
		for _, s := range sides {
			if s.Process != nil {
				err = errors.Join(err, s.Stop())
			}
		}
	}()
	for _, s := range sides {
		err := s.serve(ctx, b, options)
		if err != nil {
			return err
		}
		s.admin = s.session(ctx, store.SuperuserID)
	}
	err = b.listAll(ctx, large)
	if err != nil {
		return fmt.Errorf("list all users: %w", err)
	}
	for _, sc := range scenarios {
		err := b.compareRequest(ctx, sides, sc, options)
		if err != nil {
			return err
		}
	}
	return nil
}

// compareRequest measures one request, in turns. Everything is prepared before, and
// the servers start again, so that they find no row in their memory but those that
// the request itself leaves there; what only reads is then measured once more.
func (b *bench) compareRequest(ctx context.Context, sides []*side, sc scenario, options []string) error {
	say("measuring %s %s", sc.request, sc.about)
	bodies := make([][]params, len(sides))
	for side, s := range sides {
		for i := range b.rounds {
			bodies[side] = append(bodies[side], sc.body(ctx, s, i))
		}
		if s.err != nil {
			return s.err
		}
		err := s.serve(ctx, b, options)
		if err != nil {
			return err
		}
	}
	abouts := []string{sc.about}
	if slices.ContainsFunc(api.All(), func(spec *api.Spec) bool { return spec.Name == sc.request && spec.ReadOnly }) {
		abouts = append(abouts, strings.TrimPrefix(sc.about+", again", ", "))
	}
	for _, about := range abouts {
		times := make([][]float64, len(sides))
		for i := range b.rounds {
			for turn := range sides {
				side := (turn + i) % len(sides)
				s := sides[side]
				started := time.Now()
				s.ask(ctx, sc.request, bodies[side][i])
				times[side] = append(times[side], milliseconds(time.Since(started)))
				if s.err != nil {
					return s.err
				}
			}
		}
		c := comparison{Database: string(sides[0].kind), Request: sc.request, About: about, Small: median(times[0]), Large: median(times[1])}
		c.Ratio = c.Large / c.Small
		c.Missed = c.Ratio > mostGrowth
		b.report.comparisons = append(b.report.comparisons, c)
	}
	return nil
}

// listAll lists all users in one request, and drops the answer.
func (b *bench) listAll(ctx context.Context, s *side) error {
	say("listing all users")
	before, err := s.PeakMemory()
	if err != nil {
		return err
	}
	text, err := json.Marshal(load.NewQuestion(api.UserList.Spec().Name, params{"user_id": nil}, 1))
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Address, bytes.NewReader(b.keys.AppendSeal(nil, text, 0, time.Now())))
	if err != nil {
		return err
	}
	started := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, response.Body)
	err = errors.Join(err, response.Body.Close())
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	took := time.Since(started)
	after, err := s.PeakMemory()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("user-list of %d users on %s", s.users, s.kind)
	b.report.add(row{Name: name, Value: took.Seconds(), Unit: "s"})
	b.report.add(row{Name: name + ", size of the answer", Value: float64(n) / 1e6, Unit: "MB"})
	b.report.add(row{Name: name + ", peak of the memory before", Value: before / 1e6, Unit: "MB"})
	b.report.add(row{Name: name + ", peak of the memory after", Value: after / 1e6, Unit: "MB"})
	return nil
}

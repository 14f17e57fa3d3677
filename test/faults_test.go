package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authnzerver/test/databases"
	"authnzerver/test/figures"
	"authnzerver/test/redis"
	"authnzerver/test/smtpd"
)

// A fault is what happens on a link.
type fault int32

const (
	noFault fault = iota
	// slowLink holds up everything that the server sends for 200 ms.
	slowLink
	// silentLink takes everything and passes nothing on.
	silentLink
	// cutLink ends connections somewhere in an answer.
	cutLink
	// closedLink ends connections as soon as they are made.
	closedLink
)

var faultNames = map[fault]string{slowLink: "slow", silentLink: "silent", cutLink: "cut in mid-answer", closedLink: "closed"}

// A link stands between the server and something that it needs.
type link struct {
	network, address string // of that
	listener         net.Listener
	fault            atomic.Int32
	// left counts down the messages to where one is cut off; at 0 none is. toldOf is whether
	// that one still arrives.
	left   atomic.Int64
	toldOf atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	done  chan struct{}
}

func newLink(t *testing.T, network, address string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	try(t, "listen", err)
	l := &link{network: network, address: address, listener: listener, conns: map[net.Conn]bool{}, done: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			serving.Go(func() { l.serve(client) })
		}
	})
	t.Cleanup(func() {
		close(l.done)
		_ = listener.Close()
		l.cutAll()
		serving.Wait()
	})
	return l
}

// set has something happen from now on, to connections that are open, too.
func (l *link) set(f fault) {
	l.fault.Store(int32(f))
	if f == closedLink {
		l.cutAll()
	}
}

func (l *link) is(f fault) bool { return fault(l.fault.Load()) == f }

// keep notes an open connection.
func (l *link) keep(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
}

func (l *link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close()
}

func (l *link) cutAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *link) serve(client net.Conn) {
	l.keep(client)
	defer l.drop(client)
	if l.is(closedLink) {
		return
	}
	server, err := net.Dial(l.network, l.address)
	if err != nil {
		return
	}
	l.keep(server)
	defer l.drop(server)
	var copying sync.WaitGroup
	defer copying.Wait()
	copying.Go(func() {
		defer client.Close()
		l.pass(client, server, true)
	})
	l.pass(server, client, false)
	_ = server.Close()
}

// pass copies what comes from one end to the other, as far as the fault lets it.
func (l *link) pass(to, from net.Conn, answers bool) {
	part := make([]byte, 16<<10)
	for {
		n, err := from.Read(part)
		if err != nil {
			return
		}
		text := part[:n]
		for l.is(silentLink) { // until it is over
			select {
			case <-l.done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		if answers && l.is(slowLink) {
			time.Sleep(200 * time.Millisecond)
		}
		cut := answers && l.is(cutLink) && rand.IntN(3) == 0
		if cut {
			text = text[:rand.IntN(len(text))]
		}
		if !answers && l.left.Load() > 0 && l.left.Add(-1) == 0 {
			cut = true
			if !l.toldOf.Load() {
				return
			}
		}
		_, err = to.Write(text)
		if err != nil || cut {
			return
		}
	}
}

// cutMessage ends the connection at the n-th message from now on, before it arrives or before
// its answer does.
func (l *link) cutMessage(n int, arrives bool) {
	l.toldOf.Store(arrives)
	l.left.Store(int64(n))
}

// wasCut reports whether that has happened, and calls it off otherwise.
func (l *link) wasCut() bool { return l.left.Swap(0) <= 0 }

// hostAndPort are those of the link.
func (l *link) hostAndPort() (string, string) {
	host, port, _ := net.SplitHostPort(l.listener.Addr().String())
	return host, port
}

// databaseLink returns a link to a new database, and the URL through it.
func databaseLink(t *testing.T) (*link, string) {
	t.Helper()
	where, err := url.Parse(servers.New(t, kind))
	try(t, "read the URL", err)
	name := strings.TrimPrefix(where.Path, "/")
	if kind == databases.PostgreSQL {
		server, err := servers.PostgreSQL()
		try(t, "find PostgreSQL", err)
		l := newLink(t, "unix", filepath.Join(server.Dir, fmt.Sprint(".s.PGSQL.", server.Port)))
		return l, fmt.Sprintf("postgresql://authnz@%s/%s?sslmode=disable", l.listener.Addr(), name)
	}
	server, err := servers.MariaDB()
	try(t, "find MariaDB", err)
	l := newLink(t, "tcp", fmt.Sprint("127.0.0.1:", server.Port))
	return l, fmt.Sprintf("mysql://root@%s/%s", l.listener.Addr(), name)
}

// mayFailWith are the codes that requests may end in while the database has a fault.
var mayFailWith = []string{"db_error", "unknown_outcome", "request_timeout", "server_busy", "internal_error"}

// TestDatabaseLink has each fault happen to the connections to the database, under load.
// Every request gets an answer, what was acknowledged is there afterwards, what failed was
// not done, what is unknown was done whole or not at all, and when the fault is over, all is
// well without a restart.
func TestDatabaseLink(t *testing.T) {
	t.Parallel()
	if kind == databases.SQLite {
		return // there is no link
	}
	l, where := databaseLink(t)
	s := start(t, "authdb="+where)
	const clients = 4
	users := make([]*user, clients)
	for i := range users {
		users[i] = s.newUser()
	}
	// names are what each user may be called: what was acknowledged last, and what is unknown.
	names := make([][]string, clients)
	for i, u := range users {
		names[i] = []string{u.name}
	}
	for _, f := range []fault{slowLink, silentLink, cutLink, closedLink} {
		var stop atomic.Bool
		var busy sync.WaitGroup
		var answered, failed atomic.Int64
		for i, u := range users {
			busy.Go(func() {
				for n := 0; !stop.Load(); n++ {
					name := fmt.Sprintf("Client %d of fault %d at %d", i, f, n)
					r := s.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": name}})
					answered.Add(1)
					switch {
					case r.Success:
						names[i] = []string{name}
					case !slices.Contains(mayFailWith, r.Code):
						t.Errorf("while the link is %s, a change ended in %s", faultNames[f], r.Code)
					case r.Code == "unknown_outcome" || r.Code == "request_timeout":
						failed.Add(1)
						names[i] = append(names[i], name)
					default:
						failed.Add(1)
					}
					if r := s.call("user-list", params{"user_id": u.id}); !r.Success {
						failed.Add(1)
						if !slices.Contains(mayFailWith, r.Code) {
							t.Errorf("while the link is %s, a question ended in %s", faultNames[f], r.Code)
						}
					}
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		l.set(f)
		time.Sleep(6 * time.Second) // longer than a request may take
		l.set(noFault)
		s.wait("the server to be healthy after the link was "+faultNames[f], s.healthy)
		stop.Store(true)
		busy.Wait()
		if answered.Load() < clients || f != slowLink && failed.Load() == 0 {
			t.Errorf("while the link was %s, %d changes were answered, and %d requests failed: this shows nothing", faultNames[f], answered.Load(), failed.Load())
		}
		for i, u := range users {
			row := s.call("user-list", params{"user_id": u.id}).ok().Response["user_info"].([]any)[0].(map[string]any)
			if !slices.Contains(names[i], row["full_name"].(string)) {
				t.Errorf("after the link was %s, a user is called %q, want one of %q", faultNames[f], row["full_name"], names[i])
			}
			names[i] = []string{row["full_name"].(string)}
		}
	}
}

// TestEachMessageToTheDatabase has each kind of change fail at each of its messages to the
// database, the first, the second and so on, once before the message arrives and once before
// its answer does. What is said to be made is there, with its event and what it ends, what
// failed is not, and what is unknown is there whole or not at all.
func TestEachMessageToTheDatabase(t *testing.T) {
	t.Parallel()
	if kind == databases.SQLite {
		return // there are no messages; TestFailingSystemCalls has its calls fail
	}
	l, where := databaseLink(t)
	s := start(t, "authdb="+where)
	admin := s.superuser()
	w := s.newWriter(rand.New(rand.NewPCG(1, 1)))
	do := func(c *change) {
		t.Helper()
		w.acknowledged(c, s.call(c.name, c.body).ok())
	}
	cuts, made, failed := 0, 0, 0
	for _, kind := range []int{renames, opensSession, endsSession, makesKey, revokesKey, newPassword, locks} {
		for n, reached := 1, true; reached; n++ {
			for _, arrives := range []bool{false, true} {
				if w.account.locked {
					do(w.change(locks))
				}
				if kind == endsSession && len(w.account.sessions) == 0 {
					do(w.change(opensSession))
				}
				if kind == revokesKey && len(w.account.keys) == 0 {
					do(w.change(makesKey))
				}
				c := w.change(kind)
				l.cutMessage(n, arrives)
				r, err := s.tell(c.name, c.body)
				try(t, c.name, err)
				reached = l.wasCut()
				if reached {
					cuts++
				}
				what := fmt.Sprintf("%s whose message %d was cut off (arrives: %t)", c.name, n, arrives)
				switch {
				case r.Success:
					made++
					w.acknowledged(c, r)
				case !slices.Contains(mayFailWith, r.Code), !reached && r.Code != "server_busy":
					t.Errorf("%s ended in %s", what, r.Code)
				default:
					failed++
					if r.Code == "unknown_outcome" || r.Code == "request_timeout" {
						w.pending = c
					}
				}
				if problem := w.check(s, admin); problem != "" {
					t.Fatalf("%s: %s", what, problem)
				}
			}
		}
	}
	if cuts < 50 {
		t.Errorf("only %d messages were cut off: this shows nothing", cuts)
	}
	found(t, figures.Figure{
		Name: "each message to the database is cut off", Unit: "changes that are lost or half done", Target: "0", Control: float64(failed),
		Note: fmt.Sprintf("%d messages, once before they arrive and once before their answer does; %d changes were made, %d failed", cuts, made, failed),
	})
}

// TestStoreLink has each fault happen to the connections to the store that nodes share:
// requests go on, with the limits counted here.
func TestStoreLink(t *testing.T) {
	t.Parallel()
	store := redis.Start(t, redis.Options{TCP: true})
	where, err := url.Parse(store.URL)
	try(t, "read the URL", err)
	l := newLink(t, "tcp", where.Host)
	where.Host = l.listener.Addr().String()
	s := start(t, "limitstore="+where.String(), "ratelimits=session:600; burst:20")
	for i, f := range []fault{slowLink, silentLink, cutLink, closedLink} {
		l.set(f)
		let := 0
		for range 60 {
			n, _ := s.admitted(1, fmt.Sprintf("192.0.2.%d", i+1), "session-exists", params{"session_token": "x"})
			let += n
		}
		if let < 20 || let > 40 {
			t.Errorf("while the link is %s, %d of 60 requests passed, want 20 and few more", faultNames[f], let)
		}
		l.set(noFault)
		s.wait("the store to be used after the link was "+faultNames[f], s.storeOK)
	}
}

// TestMailLink has each fault happen to the connections to the mail server. A message that
// is said to be sent has arrived, and the next one goes through when the fault is over.
func TestMailLink(t *testing.T) {
	t.Parallel()
	mailbox := smtpd.Start(t, smtpd.Options{})
	l := newLink(t, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(mailbox.Port)))
	_, port := l.hostAndPort()
	s := start(t, append(withMail(mailbox), "emailport="+port)...)
	send := func() *reply {
		u := s.newUser()
		return s.call("user-sendemail-forgotpass", params{
			"email_address": u.email, "session_token": s.session(nil), "server_name": "Faults", "server_baseurl": "https://faults.example.com",
			"password_forgot_url": "/forgot", "verification_token": nil, "verification_expiry": 900,
		})
	}
	sent := 0
	for _, f := range []fault{slowLink, silentLink, cutLink, closedLink} {
		l.set(f)
		for range 3 {
			r := send()
			if r.Success {
				sent++
			} else if r.Code != "mail_not_sent" && r.Code != "request_timeout" {
				t.Errorf("while the link is %s, a message ended in %s", faultNames[f], r.Code)
			}
			if f == silentLink && r.Success {
				t.Error("a message went over a silent link")
			}
		}
		l.set(noFault)
		send().ok()
		sent++
	}
	s.wait("the messages", func() bool { return len(mailbox.Messages(t)) >= sent })
}

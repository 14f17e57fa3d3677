package test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/test/figures"
)

// fewKills is how often TestKilled kills the server, unless it is to take longer.
const fewKills = 8

var (
	kills     = flag.Int("kills", fewKills, "how often TestKilled kills the server")
	killsSeed = flag.Uint64("killsseed", 0, "the seed of TestKilled; 0 for another one each time")
)

// crashWriters is how many frontends write at once while the server is killed.
const crashWriters = 8

// errGone: the server was killed before it answered.
var errGone = errors.New("no answer")

// tell sends one request and returns the reply, or errGone. It is for servers that may be
// killed meanwhile.
func (s *server) tell(name string, body params) (*reply, error) {
	reqid := newReqID()
	text, err := json.Marshal(params{"request": name, "body": body, "reqid": reqid, "client_ipaddr": "192.0.2.81"})
	if err != nil {
		return nil, err
	}
	response, err := s.http.Post(s.url, "text/plain", strings.NewReader(seal(s.key, string(text), time.Now())))
	if err != nil {
		return nil, errGone
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, errGone
	}
	opened, _, err := unseal(s.key, string(answer))
	if err != nil {
		return nil, fmt.Errorf("%s: open the reply: %w", name, err)
	}
	return s.parse(name, opened), nil
}

// A change is something that a writer asks for. applied says how an account is when it was
// made; the reply is nil when it is not known.
type change struct {
	name    string
	body    params
	applied func(a *account, r *reply)
}

// An account is a user as a writer knows that it is: what was acknowledged.
type account struct {
	id       int
	email    string
	name     string
	password string
	locked   bool
	// sessions are the tokens, and keys the tokens of keys without a session.
	sessions, keys map[string]bool
	// strangers are how many sessions, or keys, there may be that the writer got no
	// answer about.
	strangeSessions, strangeKeys int
	// events is how many the log has about the account.
	events int
}

func (a *account) clone() *account {
	b := *a
	b.sessions, b.keys = maps.Clone(a.sessions), maps.Clone(a.keys)
	return &b
}

// endAll ends what a password change ends.
func (a *account) endAll() {
	a.sessions, a.keys = map[string]bool{}, map[string]bool{}
	a.strangeSessions, a.strangeKeys = 0, 0
}

// A writer changes one account, one change after the other.
type writer struct {
	random  *rand.Rand
	number  int
	account *account
	// pending is the change that the server was killed in, nil for none.
	pending *change
	acked   int
}

// newWriter returns the writer of a new user.
func (s *server) newWriter(random *rand.Rand) *writer {
	u := s.newUser()
	return &writer{random: random, account: &account{
		id: u.id, email: u.email, name: u.name, password: u.password, sessions: map[string]bool{}, keys: map[string]bool{}, events: 2,
	}}
}

// The kinds of changes, as change numbers them.
const (
	renames       = 0
	opensSession  = 3
	endsSession   = 6
	makesKey      = 7
	revokesKey    = 9
	newPassword   = 10
	locks         = 11
	manyOfChanges = 12
)

// next returns a change at random.
func (w *writer) next() *change { return w.change(w.random.IntN(manyOfChanges)) }

// change returns a change of a kind, or a lock when the account is not in a state for it.
func (w *writer) change(kind int) *change {
	a := w.account
	w.number++
	pick := func(from map[string]bool) string {
		all := slices.Sorted(maps.Keys(from))
		return all[w.random.IntN(len(all))]
	}
	switch {
	case kind < opensSession:
		name := fmt.Sprintf("Writer %d", w.number)
		return &change{"internal-user-edit", params{"target_userid": a.id, "update_dict": params{"full_name": name}}, func(a *account, _ *reply) { a.name = name }}
	case kind < endsSession && !a.locked:
		return &change{"session-new", newSession().with(params{"user_id": a.id}), func(a *account, r *reply) {
			if r == nil {
				a.strangeSessions++
			} else {
				a.sessions[r.text("session_token")] = true
			}
		}}
	case kind < makesKey && len(a.sessions) > 0:
		token := pick(a.sessions)
		return &change{"session-delete", params{"session_token": token}, func(a *account, _ *reply) { delete(a.sessions, token) }}
	case kind < revokesKey && !a.locked:
		return &change{"apikey-new-nosession", params{
			"user_id": a.id, "user_role": "authenticated", "issuer": "i", "audience": "a", "subject": "s", "apiversion": 1, "ip_address": "192.0.2.7",
			"expires_seconds": 3600, "not_valid_before": 0, "refresh_expires": 6000, "refresh_nbf": 0,
		}, func(a *account, r *reply) {
			if r == nil {
				a.strangeKeys++
				return
			}
			a.keys[r.keyToken()] = true
		}}
	case kind < newPassword && len(a.keys) > 0 && !a.locked:
		token := pick(a.keys)
		return &change{"apikey-revoke-nosession", params{
			"user_id": a.id, "user_role": "authenticated", "apikey_dict": params{"uid": a.id, "rol": "authenticated", "tkn": token},
		}, func(a *account, _ *reply) { delete(a.keys, token) }}
	case kind < locks && !a.locked:
		password := fmt.Sprintf("Vivid-lantern-%d-meadow-%d", w.number, w.random.IntN(1_000_000))
		return &change{"user-changepass-nosession", params{
			"user_id": a.id, "full_name": a.name, "email": a.email, "current_password": a.password, "new_password": password,
		}, func(a *account, _ *reply) {
			a.password = password
			a.endAll()
		}}
	default:
		action := "lock"
		if a.locked {
			action = "unlock"
		}
		return &change{"internal-user-lock", params{"target_userid": a.id, "action": action}, func(a *account, _ *reply) {
			a.locked = action == "lock"
			if a.locked {
				a.sessions, a.strangeSessions = map[string]bool{}, 0
			}
		}}
	}
}

// acknowledged notes that a change was made.
func (w *writer) acknowledged(c *change, r *reply) {
	c.applied(w.account, r)
	w.account.events++
	w.acked++
}

// write makes changes until the server is gone.
func (w *writer) write(s *server) error {
	for {
		c := w.next()
		r, err := s.tell(c.name, c.body)
		if errors.Is(err, errGone) {
			w.pending = c
			return nil
		}
		if err != nil {
			return err
		}
		if r.Code == "server_busy" {
			continue // nothing was done
		}
		if !r.Success {
			return fmt.Errorf("%s ended in %s", c.name, r.Code)
		}
		w.acknowledged(c, r)
	}
}

// differs says in which way an account is another one than it should be; "" for none.
func (s *server) differs(a *account, admin string) string {
	var row map[string]any
	for _, found := range s.call("user-list", params{"user_id": a.id}).ok().Response["user_info"].([]any) {
		row = found.(map[string]any)
	}
	role := map[bool]string{false: "authenticated", true: "locked"}[a.locked]
	if row == nil || row["full_name"] != a.name || row["user_role"] != role || row["is_active"] != !a.locked {
		return fmt.Sprintf("the user is %v", row)
	}
	if !a.locked {
		a.events++ // which tells of the check
		if r := s.callWhenFree("user-passcheck-nosession", params{"email": a.email, "password": a.password}); !r.Success {
			return "the password is another one"
		}
	}
	for token := range a.sessions {
		if r := s.call("session-exists", params{"session_token": token}); !r.Success {
			return "a session is missing"
		}
	}
	list := len(s.call("session-list", params{"session_token": admin, "user_id": a.id}).ok().Response["sessions"].([]any))
	if list < len(a.sessions) || list > len(a.sessions)+a.strangeSessions {
		return fmt.Sprintf("there are %d sessions, want %d and %d at most that got no answer", list, len(a.sessions), a.strangeSessions)
	}
	if !a.locked {
		for token := range a.keys {
			r := s.call("apikey-verify-nosession", params{
				"user_id": a.id, "user_role": "authenticated", "apikey_dict": params{"uid": a.id, "rol": "authenticated", "tkn": token},
			})
			if !r.Success {
				return "an API key is missing"
			}
		}
		list = len(s.call("apikey-list", params{"user_id": a.id, "user_role": "authenticated"}).ok().Response["apikeys"].([]any))
		if list < len(a.keys) || list > len(a.keys)+a.strangeKeys {
			return fmt.Sprintf("there are %d API keys, want %d and %d at most that got no answer", list, len(a.keys), a.strangeKeys)
		}
	}
	if events := s.eventsAbout(admin, a.id); events != a.events {
		return fmt.Sprintf("the log has %d events, want %d", events, a.events)
	}
	return ""
}

// eventsAbout returns how many events there are about a user.
func (s *server) eventsAbout(admin string, id int) (n int) {
	body := params{"session_token": admin, "user_id": id, "limit": 1000}
	for {
		r := s.call("event-list", body).ok()
		n += len(r.Response["events"].([]any))
		next, more := r.Response["next"]
		if !more {
			return n
		}
		body["after"] = next
	}
}

// check compares what the server has with what was acknowledged, and learns whether the
// change was made that got no answer: whole, or not at all.
func (w *writer) check(s *server, admin string) string {
	without := w.account.clone()
	first := s.differs(without, admin)
	if first == "" {
		w.account, w.pending = without, nil
		return ""
	}
	if w.pending == nil {
		return first
	}
	with := w.account.clone()
	if without.events > with.events {
		with.events = without.events // the check of the password was made
	}
	w.pending.applied(with, nil)
	with.events++
	second := s.differs(with, admin)
	if second != "" {
		return fmt.Sprintf("%s got no answer. If it was not made, %s; if it was, %s", w.pending.name, first, second)
	}
	w.account, w.pending = with, nil
	return ""
}

// TestKilled kills the server (SIGKILL) at random moments under a mixed load of writes, and
// looks after each restart whether everything that was acknowledged is there, and nothing
// that was not is there by half: neither a password that was changed while sessions that
// it ends go on, nor a change without its event. The database passes its own check.
func TestKilled(t *testing.T) {
	t.Parallel()
	seed := *killsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the seed is %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	key := newKey()
	options := []string{"secret=" + key, "workers=2", "logging=info", "logsample=1:1000"}
	s := startIn(t, dir, options...)
	admin := s.superuser()
	writers := make([]*writer, crashWriters)
	for i := range writers {
		writers[i] = s.newWriter(rand.New(rand.NewPCG(seed, uint64(i)+1)))
	}
	for cycle := range *kills {
		var running sync.WaitGroup
		for i, w := range writers {
			running.Go(func() {
				err := w.write(s)
				if err != nil {
					t.Errorf("cycle %d, writer %d: %v", cycle, i, err)
				}
			})
		}
		time.Sleep(time.Duration(20+random.IntN(300)) * time.Millisecond)
		s.kill()
		running.Wait()
		s = startIn(t, dir, options...)
		for i, w := range writers {
			if problem := w.check(s, admin); problem != "" {
				t.Errorf("cycle %d, user %d of writer %d: %s", cycle, w.account.id, i, problem)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	acked := 0
	for _, w := range writers {
		acked += w.acked
	}
	if acked < 10*(*kills) {
		t.Errorf("only %d changes were acknowledged in %d kills: this test shows nothing", acked, *kills)
	}
	planted := 0
	for _, fault := range faults {
		wrong := writers[0].account.clone()
		wrong.locked = false
		s.call("internal-user-lock", params{"target_userid": wrong.id, "action": "unlock"}).ok()
		wrong.events = s.eventsAbout(admin, wrong.id)
		fault.plant(wrong)
		if s.differs(wrong, admin) == "" {
			t.Errorf("the check does not find %s", fault.name)
		} else {
			planted++
		}
	}
	s.stop()
	got := authnzrv(t, dir, "", []string{"AUTHNZERVER_AUTHDB=" + databaseOf(t, dir)}, "db", "check")
	if got.status != 0 {
		t.Errorf("the database %s is not sound:\n%s%s", filepath.Base(dir), got.stdout, got.stderr)
	}
	found(t, figures.Figure{
		Name: "SIGKILL under a mixed load of writes", Unit: "users of whom something is lost or half done", Target: "0", Control: float64(planted), Seed: seed,
		Note: fmt.Sprintf("%d kills, %d acknowledged changes; of %d planted losses, %d were found", *kills, acked, len(faults), planted),
	})
}

// faults are what the check of TestKilled must find.
var faults = []struct {
	name  string
	plant func(*account)
}{
	{"a lost name", func(a *account) { a.name += " and more" }},
	{"a lost password", func(a *account) { a.password += "x" }},
	{"a lost lock", func(a *account) { a.locked = true }},
	{"a lost session", func(a *account) { a.sessions["none"] = true }},
	{"a lost key", func(a *account) { a.keys["none"] = true }},
	{"a lost event", func(a *account) { a.events++ }},
}

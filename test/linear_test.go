package test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"authnzerver/test/databases"
	"authnzerver/test/figures"
)

var (
	histories     = flag.Int("histories", 6, "how many histories TestLinearizable records")
	historiesSeed = flag.Uint64("historiesseed", 0, "the seed of TestLinearizable; 0 for another one each time")
)

// What the clients of a history do with objects.
const (
	writeName = iota // of a user
	readName
	endObject // a session or an API key
	askObject
)

// An action is one request of a history.
type action struct {
	kind   int
	object string
	value  string // of writeName
}

// An effect is what the reply told.
type effect struct {
	value   string // of readName
	there   bool   // of endObject and askObject
	unknown bool   // there is no reply that tells whether it was done
}

// linear says what users, sessions and keys are: names are registers, and what has ended
// stays so. The state is a name, or "there" or "gone".
var linear = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		place := map[string]int{}
		for _, op := range history {
			object := op.Input.(action).object
			if _, ok := place[object]; !ok {
				place[object] = len(parts)
				parts = append(parts, nil)
			}
			parts[place[object]] = append(parts[place[object]], op)
		}
		return parts
	},
	Init: func() any { return "" }, // before the first write, and there
	Step: func(state, input, output any) (bool, any) {
		a, e := input.(action), output.(effect)
		switch a.kind {
		case writeName:
			return true, a.value
		case readName:
			return e.value == state, state
		case endObject:
			return e.unknown || e.there == (state != "gone"), "gone"
		default:
			return e.there == (state != "gone"), state
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// A recorder records what clients do and see.
type recorder struct {
	mu      sync.Mutex
	history []porcupine.Operation
}

// record does something and notes when it began and ended. What may have been done at any
// time later has no end.
func (r *recorder) record(client int, a action, do func() (effect, bool)) {
	call := time.Now().UnixNano()
	e, known := do()
	end := time.Now().UnixNano()
	if !known && a.kind != writeName && a.kind != endObject {
		return // a question without an answer tells nothing
	}
	if !known {
		e.unknown, end = true, math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, porcupine.Operation{ClientId: client, Input: a, Call: call, Output: e, Return: end})
}

// objects are what the clients of one history share.
type objects struct {
	user     *user
	sessions []string // tokens
	keys     []string // tokens
}

func (s *server) newObjects(t testing.TB) *objects {
	t.Helper()
	const each = 3
	o := &objects{user: s.newUser()}
	for range each {
		o.sessions = append(o.sessions, s.session(o.user.id))
		r := s.call("apikey-new-nosession", newSessionlessKey(o.user.id)).ok()
		o.keys = append(o.keys, r.keyToken())
	}
	return o
}

// historyOf records what several clients do at once. Names are read from memory
// (session-exists) and from the database (user-list).
func (s *server) historyOf(t *testing.T, o *objects, random *rand.Rand) []porcupine.Operation {
	const clients, each = 8, 40
	r := &recorder{}
	watch := s.session(o.user.id) // nobody ends it
	name := func(client int, a action, value func() (string, bool)) {
		r.record(client, a, func() (effect, bool) {
			v, known := value()
			return effect{value: v}, known
		})
	}
	r.record(0, action{writeName, "name", "Start"}, func() (effect, bool) {
		s.call("internal-user-edit", params{"target_userid": o.user.id, "update_dict": params{"full_name": "Start"}}).ok()
		return effect{}, true
	})
	var running sync.WaitGroup
	for client := range clients {
		random := rand.New(rand.NewPCG(random.Uint64(), 0))
		running.Go(func() {
			for n := range each {
				session, key := o.sessions[random.IntN(len(o.sessions))], o.keys[random.IntN(len(o.keys))]
				presented := params{"user_id": o.user.id, "user_role": "authenticated", "apikey_dict": params{"uid": o.user.id, "rol": "authenticated", "tkn": key}}
				there := func(a action, name string, body params, gone string) {
					r.record(client, a, func() (effect, bool) {
						reply := s.call(name, body)
						return effect{there: reply.Success}, reply.Success || reply.Code == gone
					})
				}
				switch kind := random.IntN(40); {
				case kind < 8:
					a := action{writeName, "name", fmt.Sprintf("Client %d at %d", client, n)}
					name(client, a, func() (string, bool) {
						reply := s.call("internal-user-edit", params{"target_userid": o.user.id, "update_dict": params{"full_name": a.value}})
						return "", reply.Success
					})
				case kind < 16:
					name(client, action{kind: readName, object: "name"}, func() (string, bool) {
						reply := s.call("session-exists", params{"session_token": watch})
						if !reply.Success {
							return "", false
						}
						return reply.object("session_info")["full_name"].(string), true
					})
				case kind < 24:
					name(client, action{kind: readName, object: "name"}, func() (string, bool) {
						reply := s.call("user-list", params{"user_id": o.user.id})
						if !reply.Success {
							return "", false
						}
						return reply.Response["user_info"].([]any)[0].(map[string]any)["full_name"].(string), true
					})
				case kind < 25:
					there(action{kind: endObject, object: session}, "session-delete", params{"session_token": session}, "session_not_found")
				case kind < 32:
					there(action{kind: askObject, object: session}, "session-exists", params{"session_token": session}, "session_not_found")
				case kind < 33:
					there(action{kind: endObject, object: key}, "apikey-revoke-nosession", presented, "key_not_found")
				default:
					there(action{kind: askObject, object: key}, "apikey-verify-nosession", presented, "key_not_valid")
				}
			}
		})
	}
	running.Wait()
	return r.history
}

// TestLinearizable records what clients do to and see of a user, sessions and API keys at the
// same time, and checks that one order of it all explains it: each request has its effect
// at one moment between its beginning and its end. On database servers the connection is
// cut now and then, so that outcomes are unknown.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	seed := *historiesSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the seed is %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var l *link
	options := []string{"logging=info", "logsample=1:1000000"}
	if kind != databases.SQLite {
		var where string
		l, where = databaseLink(t)
		options = append(options, "authdb="+where)
	}
	s := start(t, options...)
	unknown, requests, planted := 0, 0, 0
	for i := range *histories {
		o := s.newObjects(t)
		stop := make(chan struct{})
		var faults sync.WaitGroup
		if l != nil && i%2 == 1 {
			faults.Go(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(150 * time.Millisecond):
						l.cutAll()
					}
				}
			})
		}
		history := s.historyOf(t, o, random)
		close(stop)
		faults.Wait()
		if l != nil {
			s.wait("the server to be healthy", s.healthy)
		}
		requests += len(history)
		for _, op := range history {
			if op.Output.(effect).unknown {
				unknown++
			}
		}
		if result := porcupine.CheckOperationsTimeout(linear, history, time.Minute); result != porcupine.Ok {
			t.Fatalf("history %d of %d requests is not linearizable: %v", i, len(history), result)
		}
		// A control: what a client that looks into an old copy would see is found.
		if stale := madeStale(history); stale != nil {
			if result := porcupine.CheckOperationsTimeout(linear, stale, time.Minute); result == porcupine.Ok {
				t.Errorf("history %d passes although a name was read that had been replaced", i)
			}
			planted++
		}
	}
	found(t, figures.Figure{
		Name: "linearizability", Unit: "histories that no order explains", Target: "0 of 1000", Control: float64(planted), Seed: seed,
		Note: fmt.Sprintf("%d histories, %d requests, %d of them without a known outcome; %d names that had been replaced were found", *histories, requests, unknown, planted),
	})
}

// madeStale returns a history in which the last name that was read is the first one, nil
// when that is no difference.
func madeStale(history []porcupine.Operation) []porcupine.Operation {
	last := -1
	for i, op := range history {
		if op.Input.(action).kind == readName && (last < 0 || op.Call > history[last].Call) {
			last = i
		}
	}
	// The first name must have been replaced before that one was read.
	replaced := slices.ContainsFunc(history, func(op porcupine.Operation) bool {
		return last >= 0 && op.Input.(action).kind == writeName && op.Input.(action).value != "Start" && op.Return < history[last].Call
	})
	if !replaced {
		return nil
	}
	stale := slices.Clone(history)
	stale[last].Output = effect{value: "Start"}
	return stale
}

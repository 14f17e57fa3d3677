package limitstore_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"
	"pgregory.net/rapid"

	"authnzerver/internal/limit"
	"authnzerver/internal/limitstore"
	"authnzerver/test/redis"
)

// patience bounds every wait for the server.
const patience = 20 * time.Second

var keyer = limit.NewKeyer([]byte("secret of the tests"))

func one(key string, rule limit.Rule) limit.Charge {
	return limit.Charge{Key: keyer.Key(key), Rule: rule, Cost: 1}
}

// name is how the store calls the key of a charge.
func name(c limit.Charge) string { return "authnzrv:limit:" + hex.EncodeToString(c.Key[:]) }

// A logbook is a log that a test reads.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// levels are those of the lines.
func (l *logbook) levels() string {
	var levels []string
	for line := range strings.Lines(l.String()) {
		_, rest, _ := strings.Cut(line, "level=")
		level, _, _ := strings.Cut(rest, " ")
		levels = append(levels, level)
	}
	return strings.Join(levels, " ")
}

// open opens a store, which is closed with the test.
func open(t testing.TB, s *redis.Server) (*limitstore.Store, *logbook) {
	t.Helper()
	return openURL(t, s, s.URL)
}

func openURL(t testing.TB, s *redis.Server, where string) (*limitstore.Store, *logbook) {
	t.Helper()
	return openPatient(t, s, where, patience) // a busy machine is no server that is down
}

func openPatient(t testing.TB, s *redis.Server, where string, timeout time.Duration) (*limitstore.Store, *logbook) {
	t.Helper()
	book := &logbook{}
	store, err := limitstore.Open(t.Context(), limitstore.Options{
		URL: where, Roots: s.Roots, Timeout: timeout, Log: slog.New(slog.NewTextHandler(book, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store, book
}

// openUp opens a store that can be used.
func openUp(t testing.TB, s *redis.Server) *limitstore.Store {
	t.Helper()
	store, book := open(t, s)
	if store.Err() != nil {
		t.Fatal(store.Err())
	}
	if book.String() != "" {
		t.Errorf("a store that can be used logged %s", book)
	}
	return store
}

// admin returns a client that may everything.
func admin(t testing.TB, s *redis.Server) func(words ...string) valkey.ValkeyResult {
	t.Helper()
	option, err := valkey.ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	client, err := valkey.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return func(words ...string) valkey.ValkeyResult {
		return client.Do(context.Background(), client.B().Arbitrary(words...).Build())
	}
}

func must(t testing.TB, result valkey.ValkeyResult) {
	t.Helper()
	err := result.Error()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func spend(t *testing.T, store *limitstore.Store, charges ...limit.Charge) limit.Decision {
	t.Helper()
	d, err := store.Spend(t.Context(), nil, charges...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func upTo(most int) *rapid.Generator[int] {
	return rapid.OneOf(rapid.IntRange(1, min(most, 64)), rapid.IntRange(1, min(most, 1000)), rapid.IntRange(1, most))
}

var rules = rapid.Custom(func(t *rapid.T) limit.Rule {
	r := limit.Rule{Limit: upTo(limit.MaxCalls).Draw(t, "limit")}
	r.Per = rapid.OneOf(
		rapid.Just(time.Minute), rapid.Just(24*time.Hour), rapid.Just(30*24*time.Hour),
		// A shorter one might end in the real time that a test takes.
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(30e6, 30*24*3600e6).Draw(t, "µs")) * time.Microsecond
		}),
	).Draw(t, "per")
	if rapid.Bool().Draw(t, "average") {
		r.Limit, r.Per = min(r.Limit, limit.MaxBurst), min(r.Per, time.Hour)
		r.Burst = upTo(min(limit.MaxBurst, 100*r.Limit)).Draw(t, "burst")
	}
	return r
})

// The script decides as package limit does, to the microsecond.
func TestSameDecisions(t *testing.T) {
	t.Parallel()
	store := openUp(t, redis.Start(t, redis.Options{}))
	run, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		memory := limit.NewLimiter(0, func() time.Time { return now })
		accounts := make([]limit.Charge, rapid.IntRange(1, 3).Draw(t, "keys"))
		for i := range accounts {
			accounts[i] = one(fmt.Sprint(run, i), rules.Draw(t, "rule"))
		}
		var last limit.Decision
		for range rapid.IntRange(1, 100).Draw(t, "calls") {
			switch {
			case !last.Allowed && last.RetryAfter != limit.Never && rapid.Bool().Draw(t, "until the retry"):
				now = now.Add(max(0, last.RetryAfter-time.Duration(rapid.IntRange(0, 1).Draw(t, "early"))*time.Microsecond))
			case rapid.Bool().Draw(t, "later"):
				per := accounts[0].Rule.Per.Microseconds()
				most := rapid.SampledFrom([]int64{1000, per / 70, per / 3, 3 * per}).Draw(t, "most")
				now = now.Add(time.Duration(rapid.Int64Range(0, most).Draw(t, "µs")) * time.Microsecond)
			}
			// The same key may come twice.
			charges := make([]limit.Charge, rapid.IntRange(1, 3).Draw(t, "charges"))
			for i := range charges {
				charges[i] = rapid.SampledFrom(accounts).Draw(t, "key")
				most := max(charges[i].Rule.Limit, charges[i].Rule.Burst)
				charges[i].Cost = rapid.OneOf(rapid.IntRange(0, 3), rapid.IntRange(0, min(limit.MaxCalls, most+1))).Draw(t, "cost")
			}
			wantEach, gotEach := make([]limit.Decision, len(charges)), make([]limit.Decision, len(charges))
			want := memory.Spend(wantEach, charges...)
			got, err := store.SpendAt(context.Background(), now, gotEach, charges...)
			if err != nil {
				t.Fatal(err)
			}
			if got != want || !slices.Equal(gotEach, wantEach) {
				t.Fatalf("at %s, %+v:\n%+v %+v, want\n%+v %+v", now, charges, got, gotEach, want, wantEach)
			}
			if !got.Allowed {
				refused++
			}
			last = got
		}
	})
	if refused == 0 {
		t.Error("no call was refused")
	}
}

// What is too much for whole numbers is so far away that only its order matters.
func TestExtremes(t *testing.T) {
	t.Parallel()
	store := openUp(t, redis.Start(t, redis.Options{}))
	year := 366 * 24 * time.Hour
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, rule := range []limit.Rule{
		{Limit: 1, Burst: limit.MaxBurst, Per: time.Hour},
		{Limit: limit.MaxBurst, Burst: limit.MaxBurst, Per: time.Hour},
		{Limit: limit.MaxCalls, Per: year},
		{Limit: 1, Per: time.Microsecond},
		{Limit: limit.MaxBurst, Burst: 1, Per: time.Microsecond},
	} {
		c := one(fmt.Sprint(rule), rule)
		c.Cost = max(rule.Burst, 1)
		if rule.Burst == 0 {
			c.Cost = rule.Limit
		}
		first, err := store.SpendAt(t.Context(), now, nil, c)
		if err != nil || !first.Allowed || first.Reset <= 0 || first.Remaining != max(0, first.Remaining) {
			t.Errorf("%+v: the first call got %+v, %v", rule, first, err)
		}
		second, err := store.SpendAt(t.Context(), now, nil, c)
		if err != nil || second.Allowed || second.RetryAfter <= 0 || second.RetryAfter > second.Reset {
			t.Errorf("%+v: the second call got %+v, %v", rule, second, err)
		}
		// In exact fractions: when the average of what both spend is due.
		if rule.Burst > 0 {
			due := new(big.Int).Mul(big.NewInt(int64(2*c.Cost-1)), big.NewInt(rule.Per.Microseconds()))
			due.Add(due, big.NewInt(int64(rule.Limit-1))).Div(due, big.NewInt(int64(rule.Limit)))
			window := rule.Per.Microseconds()
			if rule.Limit > rule.Burst {
				window = 0
			}
			want := max(window, min(due.Int64(), 1<<53))
			if !due.IsInt64() {
				want = 1 << 53
			}
			// Spans that were spent at once are taken off, which is exact.
			if second.RetryAfter.Microseconds() != want {
				t.Errorf("%+v: the wait is %d µs, want %d", rule, second.RetryAfter.Microseconds(), want)
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a charge that is out of its range was taken")
		}
	}()
	_, _ = store.Spend(t.Context(), nil, one("k", limit.Rule{Limit: 1, Per: year + time.Microsecond}))
}

// parallel calls a function of each of two nodes from 64 goroutines until they
// are refused, and returns how many calls were not.
func parallel(t *testing.T, nodes [2]func() (bool, error)) int64 {
	t.Helper()
	var admitted atomic.Int64
	var group sync.WaitGroup
	start := make(chan struct{})
	for _, call := range nodes {
		for range 64 {
			group.Go(func() {
				<-start
				for {
					ok, err := call()
					if err != nil {
						t.Error(err)
					}
					if err != nil || !ok {
						return
					}
					admitted.Add(1)
				}
			})
		}
	}
	close(start)
	group.Wait()
	return admitted.Load()
}

const burst = 500

func TestNodesCountTogether(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	charge := one("k", limit.Rule{Limit: 1, Burst: burst, Per: time.Hour})
	var nodes [2]func() (bool, error)
	for i := range nodes {
		store := openUp(t, server)
		nodes[i] = func() (bool, error) {
			d, err := store.Spend(context.Background(), nil, charge)
			return d.Allowed, err
		}
	}
	if got := parallel(t, nodes); got != burst {
		t.Errorf("%d calls were admitted, want %d", got, burst)
	}
}

// The same test finds nodes that read, decide and write.
func TestNodesThatDoNotCountTogether(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	var nodes [2]func() (bool, error)
	for i := range nodes {
		ask := admin(t, server)
		nodes[i] = func() (bool, error) {
			n, err := ask("GET", "n").AsInt64()
			if err != nil && !valkey.IsValkeyNil(err) || n >= burst {
				return false, err
			}
			return true, ask("SET", "n", strconv.FormatInt(n+1, 10)).Error()
		}
	}
	if got := parallel(t, nodes); got <= burst {
		t.Errorf("%d calls were admitted: the test cannot tell", got)
	}
}

func TestRefusedCallsChangeNothing(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, ask := openUp(t, server), admin(t, server)
	free, full := one("free", limit.Rule{Limit: 100, Burst: 50, Per: time.Hour}), one("full", limit.Rule{Limit: 2, Per: time.Hour})
	unused := one("unused", free.Rule)
	spend(t, store, free, full)
	spend(t, store, full)
	dump := func() string {
		var all []string
		for _, c := range []limit.Charge{free, full, unused} {
			text, err := ask("DUMP", name(c)).ToString()
			if err != nil && !valkey.IsValkeyNil(err) {
				t.Fatal(err)
			}
			until, err := ask("PEXPIRETIME", name(c)).AsInt64()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%q %d", text, until))
		}
		return strings.Join(all, "\n")
	}
	before := dump()
	for range 20 {
		for _, charges := range [][]limit.Charge{{free, unused, full}, {full, unused, free}, {full}} {
			d := spend(t, store, charges...)
			if d.Allowed || d.RetryAfter <= 59*time.Minute || d.RetryAfter > time.Hour || d.Remaining != 0 {
				t.Fatalf("%+v", d)
			}
		}
	}
	if after := dump(); after != before {
		t.Errorf("refused calls changed\n%s\nto\n%s", before, after)
	}
	free.Cost = 0
	if d := spend(t, store, free, unused); d.Remaining != 49 {
		t.Errorf("%+v, want 49 left", d)
	}
	if after := dump(); strings.Count(after, `"" -2`) != 0 {
		t.Errorf("the unused key was not charged: %s", after)
	}
}

func TestKeysExpire(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, ask := openUp(t, server), admin(t, server)
	// The key has a whole burst again after due(1+3-1) = 9 minutes.
	long := one("long", limit.Rule{Limit: 1, Burst: 3, Per: 3 * time.Minute})
	d := spend(t, store, long)
	if d.Reset != 9*time.Minute {
		t.Errorf("%+v, want to be reset in 9m", d)
	}
	left, err := ask("PTTL", name(long)).AsInt64()
	if err != nil || left > 9*60_000+1000 || left < 9*60_000-1000*int64(patience.Seconds()) {
		t.Errorf("the key lives %d ms, %v", left, err)
	}
	twice := one("twice", long.Rule)
	spend(t, store, twice, one("twice", limit.Rule{Limit: 5, Per: time.Second}))
	left, err = ask("PTTL", name(twice)).AsInt64()
	if err != nil || left < 60_000 {
		t.Errorf("a key under two rules lives %d ms, %v", left, err)
	}
	short := one("short", limit.Rule{Limit: 1, Per: time.Microsecond})
	_, err = store.FirstSight(t.Context(), [16]byte{1}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	spend(t, store, short)
	eventually(t, "only the long ones are left", func() bool {
		n, err := ask("DBSIZE").AsInt64()
		return err == nil && n == 2
	})
}

func TestFirstSight(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	stores := []*limitstore.Store{openUp(t, server), openUp(t, server)}
	for i := range 20 {
		var firsts atomic.Int64
		var group sync.WaitGroup
		for j := range 64 {
			group.Go(func() {
				first, err := stores[j%2].FirstSight(context.Background(), [16]byte{byte(i)}, time.Minute)
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		group.Wait()
		if firsts.Load() != 1 {
			t.Errorf("%d asked first", firsts.Load())
		}
	}
	eventually(t, "an id is forgotten after its time", func() bool {
		first, err := stores[0].FirstSight(t.Context(), [16]byte{99}, time.Nanosecond)
		if err != nil {
			t.Fatal(err)
		}
		again, err := stores[1].FirstSight(t.Context(), [16]byte{99}, 0)
		if err != nil {
			t.Fatal(err)
		}
		return first && again
	})
}

// down makes calls until the store is down, and sees that all fail then.
func down(t *testing.T, store *limitstore.Store, charge limit.Charge) {
	t.Helper()
	eventually(t, "the store is down", func() bool {
		_, err := store.Spend(t.Context(), nil, charge)
		return errors.Is(err, limitstore.ErrDown)
	})
	if !errors.Is(store.Err(), limitstore.ErrDown) {
		t.Errorf("the store is down, and says %v", store.Err())
	}
}

func up(t *testing.T, store *limitstore.Store) {
	t.Helper()
	eventually(t, "the store is up", func() bool { return store.Err() == nil })
}

func TestKilledServer(t *testing.T) {
	t.Parallel()
	for _, keeps := range []bool{false, true} {
		t.Run(fmt.Sprint(keeps), func(t *testing.T) {
			t.Parallel()
			server := redis.Start(t, redis.Options{AppendOnly: keeps})
			store, book := open(t, server)
			charge := one("k", limit.Rule{Limit: 2, Per: time.Hour})
			spend(t, store, charge)
			_, err := store.FirstSight(t.Context(), [16]byte{1}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			server.Kill(t)
			down(t, store, charge)
			_, err = store.FirstSight(t.Context(), [16]byte{2}, time.Hour)
			if !errors.Is(err, limitstore.ErrDown) {
				t.Errorf("FirstSight: %v", err)
			}
			server.Restart(t)
			up(t, store)
			// What the server keeps, it keeps; that is the operator's choice.
			want := 1
			if keeps {
				want = 0
			}
			if d := spend(t, store, charge); !d.Allowed || d.Remaining != want {
				t.Errorf("after the restart: %+v, want %d left", d, want)
			}
			first, err := store.FirstSight(t.Context(), [16]byte{1}, time.Hour)
			if err != nil || first == keeps {
				t.Errorf("after the restart: first %t, %v", first, err)
			}
			if book.levels() != "WARN INFO" {
				t.Errorf("the log has\n%s", book)
			}
		})
	}
}

// A node without calls notices, too, so that its health is true. That a server
// which says nothing is away in another way is not worth a line.
func TestIdleNodeNotices(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, book := openPatient(t, server, server.URL, time.Second)
	server.Pause(t)
	eventually(t, "the store is down", func() bool { return store.Err() != nil })
	first := store.Err().Error()
	server.Kill(t)
	eventually(t, "the reason is another", func() bool { return store.Err().Error() != first })
	server.Restart(t)
	up(t, store)
	if book.levels() != "WARN INFO" {
		t.Errorf("the log has\n%s", book)
	}
}

func TestPausedServer(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, book := openPatient(t, server, server.URL, time.Second)
	charge := one("k", limit.Rule{Limit: 100, Per: time.Hour})
	spend(t, store, charge)
	server.Pause(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			_, err := store.Spend(t.Context(), nil, charge)
			if !errors.Is(err, limitstore.ErrDown) {
				t.Errorf("Spend: %v", err)
			}
		})
	}
	group.Wait()
	// Waiting each time would take hours.
	for range 20_000 {
		_, err := store.Spend(t.Context(), nil, charge)
		if !errors.Is(err, limitstore.ErrDown) {
			t.Fatalf("Spend: %v", err)
		}
	}
	server.Resume(t)
	up(t, store)
	d := spend(t, store, charge)
	if d.Remaining > 98 || d.Remaining < 98-8 {
		t.Errorf("%d left, want 98 without those that the server got late", d.Remaining)
	}
	if book.levels() != "WARN INFO" {
		t.Errorf("the log has\n%s", book)
	}
}

func TestServerThatComesLater(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{TCP: true, Password: "right"})
	server.Kill(t)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("default", "wrong password")
	store, book := openURL(t, server, u.String())
	down(t, store, one("k", limit.Rule{Limit: 1, Per: time.Hour}))
	if book.levels() != "WARN" {
		t.Errorf("the log has\n%s", book)
	}
	server.Restart(t)
	// That the reason is another one now, is worth a line.
	eventually(t, "the password is refused", func() bool { return strings.Contains(store.Err().Error(), "WRONGPASS") })
	eventually(t, "that is logged", func() bool { return book.levels() == "WARN WARN" && strings.Contains(book.String(), "WRONGPASS") })
	must(t, admin(t, server)("CONFIG", "SET", "requirepass", "wrong password"))
	up(t, store)
	if text := fmt.Sprint(book, store); strings.Contains(book.String(), "wrong password") || strings.Contains(book.String(), u.Host+"@") {
		t.Errorf("the log tells the password: %s", text)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{TLS: true, Password: "p/?#@%: ü"})
	store := openUp(t, server)
	if !spend(t, store, one("k", limit.Rule{Limit: 1, Per: time.Hour})).Allowed {
		t.Error("refused")
	}
	server.Roots = nil // the machine's, which do not have it
	distrusting, _ := open(t, server)
	if err := distrusting.Err(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that is not trusted: %v", err)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{Cluster: true})
	store, _ := open(t, server)
	isRefused := func() bool {
		return store.Err() != nil && strings.Contains(store.Err().Error(), "a cluster, which is not supported")
	}
	if !isRefused() {
		t.Errorf("a cluster without slots: %v", store.Err())
	}
	must(t, admin(t, server)("CLUSTER", "ADDSLOTSRANGE", "0", "16383"))
	eventually(t, "a cluster with slots is refused, too", func() bool {
		return isRefused() && strings.Contains(store.Err().Error(), "CROSSSLOT")
	})
}

func TestFlushedScripts(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, ask := openUp(t, server), admin(t, server)
	for i := range 3 {
		must(t, ask("SCRIPT", "FLUSH"))
		if d := spend(t, store, one("k", limit.Rule{Limit: 10, Per: time.Hour})); d.Remaining != 9-i {
			t.Errorf("%+v, want %d left", d, 9-i)
		}
	}
}

// A server that answers and takes nothing is down until it does.
func TestFullServer(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, book := open(t, server)
	ask := admin(t, server)
	charge := one("k", limit.Rule{Limit: 1000, Per: time.Hour})
	must(t, ask("CONFIG", "SET", "maxmemory", "1"))
	down(t, store, charge)
	if !strings.Contains(store.Err().Error(), "OOM") {
		t.Errorf("the reason is %v", store.Err())
	}
	// Two times at which a look at it could take it for usable.
	for began := time.Now(); time.Since(began) < 2600*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		_, err := store.Spend(t.Context(), nil, charge)
		if !errors.Is(err, limitstore.ErrDown) {
			t.Fatal(err)
		}
	}
	must(t, ask("CONFIG", "SET", "maxmemory", "0"))
	up(t, store)
	if book.levels() != "WARN INFO" {
		t.Errorf("the log has\n%s", book)
	}
}

// The rights that the documentation names are enough, and all are needed.
func TestRights(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	ask := admin(t, server)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("node", "secret")
	rights := []string{"~authnzrv:*", "+ping", "+evalsha", "+eval", "+time", "+get", "+set", "+pttl", "+pexpire"}
	for without := range len(rights) + 1 {
		some := slices.Clone(rights)
		if without < len(rights) {
			some = slices.Delete(some, without, without+1)
		}
		must(t, ask(append([]string{"ACL", "SETUSER", "node", "reset", "on", ">secret"}, some...)...))
		must(t, ask("FLUSHALL"))
		must(t, ask("SCRIPT", "FLUSH"))
		store, _ := openURL(t, server, u.String())
		err := store.Err()
		if err == nil {
			_, err = store.Spend(t.Context(), nil, one("k", limit.Rule{Limit: 10, Per: time.Hour}))
		}
		if err == nil {
			_, err = store.FirstSight(t.Context(), [16]byte{1}, time.Hour)
		}
		if err == nil {
			err = store.Look(t.Context())
		}
		if err == nil {
			damaged := one("damaged", limit.Rule{Limit: 10, Per: time.Hour})
			must(t, ask("SET", name(damaged), "x"))
			_, err = store.Spend(t.Context(), nil, damaged)
			if errors.Is(err, limitstore.ErrDamaged) {
				err = nil
			}
		}
		// The first is what a command says, the second what a script says.
		missing := err != nil && (strings.Contains(err.Error(), "NOPERM") || strings.Contains(err.Error(), "can't run this command"))
		if without == len(rights) && err != nil || without < len(rights) && !missing {
			t.Errorf("with the rights %q: %v", some, err)
		}
		store.Close()
	}
}

func TestDamagedValues(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store, ask := openUp(t, server), admin(t, server)
	rule := limit.Rule{Limit: 10, Burst: 20, Per: time.Minute}
	good, bad := one("good", rule), one("bad", rule)
	for _, value := range []string{
		"", "x", "\xc1", "\x92\x01", "\x01", "\x90", "\x93\x01\x00\x00", "\x92\x01\x00\x92\x01\x00", "\x92\x01\xff",
		"\x92\x01\xa1\x31", "\x92\x01\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00", "\x92\x01\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01",
		"\x92\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "\x95\x01\x00\x01\x01\x00", "\x82\x01\x02\x02\x03x",
		"\x92\x01\xcb\x7e\x37\xe4\x3c\x88\x00\x75\x9c", "\xdd\x00\x00\xff\xfe" + strings.Repeat("\x01", 0xffff-1),
	} {
		must(t, ask("SET", name(bad), value))
		_, err := store.Spend(t.Context(), nil, good, bad)
		if !errors.Is(err, limitstore.ErrDamaged) || errors.Is(err, limitstore.ErrDown) || !strings.Contains(err.Error(), name(bad)) {
			t.Errorf("%.40q: %v", value, err)
			continue
		}
		kept, err := ask("GET", name(bad)).ToString()
		if err != nil || kept != value {
			t.Errorf("%.40q became %.40q, %v", value, kept, err)
		}
		// due(10 + 2*20) is five minutes.
		left, err := ask("PTTL", name(bad)).AsInt64()
		if err != nil || left > 5*60_000+1000 || left < 4*60_000 {
			t.Errorf("%.40q lives %d ms, %v", value, left, err)
		}
		must(t, ask("PEXPIRE", name(bad), "100000"))
		_, err = store.Spend(t.Context(), nil, bad)
		left, leftErr := ask("PTTL", name(bad)).AsInt64()
		if !errors.Is(err, limitstore.ErrDamaged) || leftErr != nil || left > 100_000 {
			t.Errorf("%.40q: %v; it lives %d ms, %v", value, err, left, leftErr)
		}
	}
	must(t, ask("DEL", name(bad)))
	must(t, ask("LPUSH", name(bad), "a list"))
	_, err := store.Spend(t.Context(), nil, bad)
	if !errors.Is(err, limitstore.ErrDamaged) {
		t.Errorf("a list: %v", err)
	}
	if n, err := ask("EXISTS", name(good)).AsInt64(); err != nil || n != 0 {
		t.Errorf("a call that failed was paid for: %d, %v", n, err)
	}
	if store.Err() != nil {
		t.Error(store.Err())
	}
}

// A clock that was wrong for a while keeps nobody out for as long, and lets
// nobody in.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	store := openUp(t, redis.Start(t, redis.Options{}))
	charge := one("k", limit.Rule{Limit: 2, Burst: 2, Per: time.Minute})
	right := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	call := func(now time.Time) limit.Decision {
		d, err := store.SpendAt(t.Context(), now, nil, charge)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	wrong := right.AddDate(1, 0, 0)
	for i := range 3 {
		if d := call(wrong); d.Allowed != (i < 2) {
			t.Fatalf("call %d: %+v", i+1, d)
		}
	}
	d := call(right)
	if d.Allowed || d.RetryAfter != time.Minute {
		t.Errorf("the clock was set right: %+v, want to wait for 1m", d)
	}
	d = call(right.Add(time.Minute - time.Microsecond))
	if d.Allowed || d.RetryAfter != time.Microsecond {
		t.Errorf("a minute later, nearly: %+v", d)
	}
	if d = call(right.Add(time.Minute)); !d.Allowed {
		t.Errorf("a minute later: %+v", d)
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	store := openUp(t, server)
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := store.Spend(ended, nil, one("k", limit.Rule{Limit: 1, Per: time.Hour}))
	if !errors.Is(err, context.Canceled) || errors.Is(err, limitstore.ErrDown) {
		t.Errorf("a context that had ended: %v", err)
	}
	// Clients that go away meanwhile leave the store as it is.
	leaving, leave := context.WithCancel(t.Context())
	server.Pause(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			_, err := store.Spend(leaving, nil, one("l", limit.Rule{Limit: 1000, Per: time.Hour}))
			if err != nil && (!errors.Is(err, context.Canceled) || errors.Is(err, limitstore.ErrDown)) {
				t.Errorf("a client that went away: %v", err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // for the calls to begin
	leave()
	time.Sleep(50 * time.Millisecond) // for them to notice
	server.Resume(t)
	group.Wait()
	if store.Err() != nil {
		t.Error(store.Err())
	}
	d, err := store.Spend(t.Context(), nil)
	if err != nil || !d.Allowed {
		t.Errorf("no charges: %+v, %v", d, err)
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, where := range []string{
		"", "localhost:6379", "http://localhost", "redis:", "redis://", "redis://:6379", "unix://", "unix:///", "unix://host/path",
		"redis://u:se#cret@host", "redis://u:12#cret@host", "redis://u:se/cret@host", "redis://u:12/cret@host", "redis://u:se cret@host",
		"redis://u:se%cret@host", "redis://u:12?cret=1@host", "redis://host/cret", "redis://host/-1", "redis://host/1/cret", "redis://host?db=cret",
		"redis://host:cret", "redis://host?skip_verify=1", "redis://host?addr=cret", "redis://host?master_set=cret", "redis://host?dial_timeout=9s",
		"redis://host?a=%zz", "redis://host#",
	} {
		store, err := limitstore.Open(t.Context(), limitstore.Options{URL: where})
		if err == nil {
			store.Close()
			t.Errorf("%q was taken", where)
			continue
		}
		if strings.Contains(err.Error(), "cret") {
			t.Errorf("%q: the error tells a part of it: %v", where, err)
		}
	}
}

func TestGoodURLs(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{TCP: true})
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ask := admin(t, server)
	for i, where := range []string{
		"redis://" + u.Host, "valkey://" + u.Host + "/", "redis://" + u.Host + "/2", "redis://" + u.Host + "?db=3&client_name=node&protocol=2",
	} {
		store, _ := openURL(t, server, where)
		if !spend(t, store, one(fmt.Sprint(i), limit.Rule{Limit: 1, Per: time.Hour})).Allowed {
			t.Errorf("%q: refused", where)
		}
	}
	keyspace, err := ask("INFO", "keyspace").ToString()
	if err != nil || !strings.Contains(keyspace, "db0:keys=") || !strings.Contains(keyspace, "db2:keys=") || !strings.Contains(keyspace, "db3:keys=") {
		t.Errorf("the databases are %q, %v", keyspace, err)
	}
}

// Nothing goes on after Close, whatever the server does; no other test runs
// beside this one.
func TestCloseEndsAll(t *testing.T) {
	server := redis.Start(t, redis.Options{})
	for _, what := range []string{"up", "paused", "killed"} {
		store, book := open(t, server)
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				_, err := store.Spend(t.Context(), nil, one("k", limit.Rule{Limit: 1, Per: time.Hour}))
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		switch what {
		case "paused":
			server.Pause(t)
		case "killed":
			server.Kill(t)
		}
		store.Close()
		if what == "paused" {
			server.Resume(t)
		}
		_, err := store.Spend(t.Context(), nil, one("k", limit.Rule{Limit: 1, Per: time.Hour}))
		if !errors.Is(err, limitstore.ErrDown) || !errors.Is(store.Err(), limitstore.ErrDown) {
			t.Errorf("%s: after Close: %v", what, err)
		}
		if book.String() != "" {
			t.Errorf("%s: Close logged %s", what, book)
		}
		eventually(t, "goroutines end", func() bool {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			return !bytes.Contains(stacks, []byte("valkey-go.")) && !bytes.Contains(stacks, []byte("limitstore.(*Store)"))
		})
	}
}

func BenchmarkSpend(b *testing.B) {
	store := openUp(b, redis.Start(b, redis.Options{}))
	for _, rule := range []limit.Rule{
		{Limit: 10, Burst: 10, Per: time.Minute},
		{Limit: 600, Burst: 150, Per: time.Minute},
		{Limit: limit.MaxCalls, Burst: limit.MaxCalls, Per: time.Second},
	} {
		b.Run(fmt.Sprint(rule.Limit), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := store.Spend(context.Background(), nil, one("session-exists 192.0.2.1", rule))
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authnzerver/internal/store"
	"authnzerver/test/databases"
)

// A cutter stands between a store and its server and cuts a connection in the
// moment of a commit.
type cutter struct {
	network, address string // of the server
	listener         net.Listener

	// next is what happens to the next commit.
	next atomic.Int32
	cuts atomic.Int32

	mu      sync.Mutex
	clients []*net.TCPConn
}

// What happens to a commit.
const (
	passes = iota
	isLost // before the server has it
	isMade // but the server's answer is lost
	isSent // and the server is at it when the connection ends
)

// cancelRequest is how a client of PostgreSQL that has lost its connection asks, on another
// one, that the server give up what it is doing (PostgreSQL, "Message Formats").
var cancelRequest = []byte{0, 0, 0, 16, 4, 210, 22, 46}

func newCutter(t *testing.T, network, address string) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{network: network, address: address, listener: listener}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // it is closed
			}
			c.mu.Lock()
			c.clients = append(c.clients, client.(*net.TCPConn))
			c.mu.Unlock()
			serving.Go(func() { c.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return c
}

func (c *cutter) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial(c.network, c.address)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	var answered sync.WaitGroup
	answered.Go(func() { // ends with the connections
		defer client.Close()
		part := make([]byte, 64<<10)
		for {
			n, err := server.Read(part)
			if err != nil || mute.Load() {
				return
			}
			_, err = client.Write(part[:n])
			if err != nil {
				return
			}
		}
	})
	part := make([]byte, 64<<10)
	for {
		n, err := client.Read(part)
		if err != nil {
			return
		}
		if bytes.HasPrefix(part[:n], cancelRequest) {
			return // as when the network is gone
		}
		sent := false
		if bytes.Contains(bytes.ToLower(part[:n]), []byte("commit")) {
			switch c.next.Swap(passes) {
			case isLost:
				c.cuts.Add(1)
				return
			case isMade:
				c.cuts.Add(1)
				mute.Store(true)
			case isSent:
				c.cuts.Add(1)
				sent = true
			}
		}
		_, err = io.Copy(server, bytes.NewReader(part[:n]))
		if err != nil {
			return
		}
		if sent {
			mute.Store(true)
			_ = client.Close()
			answered.Wait()
			return
		}
	}
}

// reset ends all connections, so that who writes next on one of them fails.
func (c *cutter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		_ = client.SetLinger(0) // of connections that have ended, too
		_ = client.Close()
	}
}

// TestCloseAfterReset closes a store whose connections have ended: nothing was lost, so
// there is nothing to report.
func TestCloseAfterReset(t *testing.T) {
	behindCutters(t, func(t *testing.T, c *cutter, f *fixture) {
		c.reset()
		wantErr(t, "Close", f.Close(), nil)
	})
}

// TestCutCommits cuts the connection in the moment of commits: each change is made
// exactly once, and said to be made.
func TestCutCommits(t *testing.T) {
	behindCutters(t, func(t *testing.T, c *cutter, f *fixture) {
		const n = 30
		for i := range n {
			c.next.Store(int32(i % 3)) // passes, isLost, isMade
			u := newUser(fmt.Sprint("user", i))
			err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
			wantErr(t, fmt.Sprintf("commit %d", i), err, nil)
		}
		equal(t, "cuts", c.cuts.Load(), n*2/3)
		f.view(func(ctx context.Context, tx *store.Tx) error {
			users, err := usersOf(ctx, tx, store.UserQuery{})
			equal(t, "users", len(users), n+3)
			return err
		})
		wantErr(t, "Ping", f.Ping(t.Context()), nil)
	})
}

// TestReadersDuringCommits has commits take long, and some connections end in them: who
// has read a change never reads what was before it, be it from memory or from the
// database, nor does anybody once the change was acknowledged.
func TestReadersDuringCommits(t *testing.T) {
	t.Parallel()
	c, where := cut(t, databases.PostgreSQL)
	f := openFixture(t, where)
	f.initialize()
	u := f.insertUser("u")
	var acknowledged atomic.Int64 // Unix nanoseconds
	login := func() {
		f.clock.advance(time.Second)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.RecordLogin(ctx, u.ID, false) })
		acknowledged.Store(f.clock.Now().UnixNano())
	}
	login()
	var rounds atomic.Int64
	database := f.raw()
	for _, statement := range []string{
		`CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END'`,
		`CREATE CONSTRAINT TRIGGER take_long AFTER UPDATE ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION take_long()`,
	} {
		_, err := database.ExecContext(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	const clients = 4
	for range clients {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				last := acknowledged.Load()
				remembered, err := f.User(t.Context(), u.ID)
				if err != nil || remembered.LastLoginTry.UnixNano() < last {
					t.Errorf("a change that was acknowledged is not seen: %v", err)
					return
				}
				// A transaction would end with a commit, which may be the one that is cut.
				var read time.Time
				err = database.QueryRowContext(t.Context(), "SELECT last_login_try FROM users WHERE user_id = $1", u.ID).Scan(&read)
				if err == nil {
					remembered, err = f.User(t.Context(), u.ID)
				}
				if err != nil || remembered.LastLoginTry.Before(read) {
					t.Errorf("a change was seen, and then not: %v", err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	const n = 40
	for i := range n {
		c.next.Store([]int32{passes, isSent}[i%2])
		login()
		// Before the clock goes on, and changes are looked for, the readers look.
		for seen := rounds.Load() + 2*clients; rounds.Load() < seen && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	close(done)
	readers.Wait()
	equal(t, "cuts", c.cuts.Load(), n/2)
}

// behindCutters runs a test on each kind of server, with a cutter before it.
func behindCutters(t *testing.T, test func(t *testing.T, c *cutter, f *fixture)) {
	t.Helper()
	t.Parallel()
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			c, where := cut(t, kind)
			f := openFixture(t, where)
			f.initialize()
			test(t, c, f)
		})
	}
}

// cut returns a cutter before a new database and the URL through it.
func cut(t *testing.T, kind databases.Kind) (*cutter, string) {
	t.Helper()
	where, err := url.Parse(servers.New(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(where.Path, "/")
	if kind == databases.PostgreSQL {
		server, err := servers.PostgreSQL()
		if err != nil {
			t.Fatal(err)
		}
		c := newCutter(t, "unix", filepath.Join(server.Dir, fmt.Sprint(".s.PGSQL.", server.Port)))
		return c, fmt.Sprintf("postgresql://authnz@%s/%s?sslmode=disable", c.listener.Addr(), name)
	}
	server, err := servers.MariaDB()
	if err != nil {
		t.Fatal(err)
	}
	c := newCutter(t, "tcp", fmt.Sprint("127.0.0.1:", server.Port))
	return c, fmt.Sprintf("mysql://root@%s/%s", c.listener.Addr(), name)
}

package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/api"
	"authnzerver/internal/wire"
)

// slow answers every request on a connection after a second, with a sealed reply.
func slow(t *testing.T, conn net.Conn, keys *wire.KeyRing, reply string) {
	defer conn.Close()
	requests := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(requests)
		if err != nil {
			return // the generator has gone
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = keys.Open(body)
		}
		if err != nil {
			t.Error(err)
			return
		}
		time.Sleep(time.Second)
		sealed := keys.AppendSeal(nil, []byte(reply), 0, time.Now())
		_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(sealed), sealed)
		if err != nil {
			t.Error(err)
			return
		}
	}
}

const success = `{"success": true, "response": {"success": true}, "messages": [], "reqid": 1}`

// generate lets a generator work on n connections to slow servers.
func generate(t *testing.T, n int, reply string, work func([]*Connection, *wire.KeyRing, *Magazine) (*Volley, error)) (volley *Volley, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		keys, parseErr := wire.ParseKeys(wire.NewKey())
		if parseErr != nil {
			t.Fatal(parseErr)
		}
		var connections []*Connection
		for range n {
			near, far := net.Pipe()
			go slow(t, far, keys, reply)
			connections = append(connections, &Connection{Conn: near, buffer: make([]byte, 4096)})
		}
		m, sealErr := NewMagazine(keys, 100, func(i int) any { return i })
		if sealErr != nil {
			t.Fatal(sealErr)
		}
		volley, err = work(connections, keys, m)
		for _, c := range connections {
			_ = c.Close()
		}
	})
	return volley, err
}

// TestOffer offers ten requests a second to a server that does one: the wait of each counts
// from when it was due.
func TestOffer(t *testing.T) {
	v, err := generate(t, 1, success, func(c []*Connection, keys *wire.KeyRing, m *Magazine) (*Volley, error) {
		return Offer(c, keys, m, 10, time.Second)
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []time.Duration
	for i := range 10 {
		want = append(want, time.Duration(i+1)*time.Second-time.Duration(i)*100*time.Millisecond)
	}
	if diff := cmp.Diff(want, v.Times); diff != "" {
		t.Error(diff)
	}
}

// TestFire sends one request after the other on each of two connections.
func TestFire(t *testing.T) {
	v, err := generate(t, 2, success, func(c []*Connection, keys *wire.KeyRing, m *Magazine) (*Volley, error) {
		return Fire(c, keys, m, 3*time.Second)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Times) != 6 || v.Elapsed != 3*time.Second || v.Rate() != 2 {
		t.Errorf("%d answers in %v, %g a second", len(v.Times), v.Elapsed, v.Rate())
	}
	for _, took := range v.Times {
		if took != time.Second {
			t.Errorf("one took %v", took)
		}
	}
}

// TestFailures finds replies that are no successes.
func TestFailures(t *testing.T) {
	const busy = `{"success": false, "response": {"success": false}, "messages": [], "failure_code": "server_busy", "failure_reason": "x", "reqid": 1}`
	_, err := generate(t, 1, busy, func(c []*Connection, keys *wire.KeyRing, m *Magazine) (*Volley, error) {
		return Fire(c, keys, m, time.Second)
	})
	if !errors.Is(err, api.Fail(api.CodeBusy)) {
		t.Errorf("%v", err)
	}
}

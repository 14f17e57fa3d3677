//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/internal/wire"
)

// A magazine holds HTTP requests that are ready to be sent, each with an
// envelope of its own, so that making them costs nothing while a server is
// measured. Both servers get the same ones.
type magazine struct {
	requests [][]byte
	next     atomic.Int64
}

// newMagazine seals n requests, whose texts are the JSON of what the function
// returns.
func newMagazine(keys *wire.KeyRing, n int, text func(i int) any) (*magazine, error) {
	m := &magazine{requests: make([][]byte, n)}
	now := time.Now()
	errs := make([]error, cpus)
	var sealing sync.WaitGroup
	for part := range cpus {
		sealing.Go(func() {
			for i := part; i < n && errs[part] == nil; i += cpus {
				var plain []byte
				plain, errs[part] = json.Marshal(text(i))
				m.requests[i] = requestOf(keys.AppendSeal(nil, plain, 0, now))
			}
		})
	}
	sealing.Wait()
	return m, errors.Join(errs...)
}

// requestOf returns the HTTP request with a body.
func requestOf(body []byte) []byte {
	const header = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: "
	request := make([]byte, 0, len(header)+16+len(body))
	request = strconv.AppendInt(append(request, header...), int64(len(body)), 10)
	return append(append(request, headerEnd...), body...)
}

// take returns the next request, or nil when there is none.
func (m *magazine) take() []byte {
	i := m.next.Add(1) - 1
	if i >= int64(len(m.requests)) {
		return nil
	}
	return m.requests[i]
}

// A connection sends requests, one after the other. It knows as much of
// HTTP/1.1 as the answers of these servers need, so that it takes little of
// the CPUs that it shares with them.
type connection struct {
	net.Conn
	buffer []byte
	times  []time.Duration
	// kept are some of the sealed replies, to be looked at later.
	kept [][]byte
}

// keepEvery is how many replies there are to one that is kept.
const keepEvery = 251

func connect(address string) (*connection, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn, buffer: make([]byte, 64<<10)}, nil
}

var (
	headerEnd     = []byte("\r\n\r\n")
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("\r\nContent-Length: ")
)

// exchange sends a request and returns the body of the answer, which is valid
// until the next call.
func (c *connection) exchange(request []byte) ([]byte, error) {
	_, err := c.Write(request)
	if err != nil {
		return nil, err
	}
	have, body, end := 0, 0, len(c.buffer)
	for have < end {
		n, err := c.Read(c.buffer[have:])
		if err != nil {
			return nil, err
		}
		have += n
		if body > 0 {
			continue
		}
		i := bytes.Index(c.buffer[:have], headerEnd)
		if i < 0 {
			continue
		}
		header := c.buffer[:i+2]
		body = i + len(headerEnd)
		_, rest, found := bytes.Cut(header, contentLength)
		digits, _, _ := bytes.Cut(rest, headerEnd[:2])
		length, err := strconv.Atoi(string(digits))
		if !bytes.HasPrefix(header, statusOK) || !found || err != nil || length > len(c.buffer)-body {
			return nil, fmt.Errorf("unexpected answer:\n%s", c.buffer[:have])
		}
		end = body + length
	}
	if body == 0 {
		return nil, errors.New("the header of an answer does not end")
	}
	return c.buffer[body:end], nil
}

// work sends requests until the moment has come or there are no more.
func (c *connection) work(m *magazine, until time.Time) error {
	c.times, c.kept = c.times[:0], nil
	before := time.Now()
	for before.Before(until) {
		request := m.take()
		if request == nil {
			return nil
		}
		body, err := c.exchange(request)
		if err != nil {
			return err
		}
		now := time.Now()
		c.times = append(c.times, now.Sub(before))
		before = now
		if len(c.times)%keepEvery == 1 {
			c.kept = append(c.kept, bytes.Clone(body))
		}
	}
	return nil
}

// A volley is what came of sending requests for a while.
type volley struct {
	elapsed time.Duration
	times   []time.Duration // one for each answer
}

func (v *volley) rate() float64 { return float64(len(v.times)) / v.elapsed.Seconds() }

// fire sends the magazine's requests from its beginning over all connections,
// for as long as the duration says and the requests last, and then checks some
// of the replies.
func fire(connections []*connection, keys *wire.KeyRing, m *magazine, duration time.Duration) (*volley, error) {
	m.next.Store(0)
	started := time.Now()
	errs := make([]error, len(connections))
	var working sync.WaitGroup
	for i, c := range connections {
		working.Go(func() { errs[i] = c.work(m, started.Add(duration)) })
	}
	working.Wait()
	v := &volley{elapsed: time.Since(started)}
	for i, c := range connections {
		v.times = append(v.times, c.times...)
		for _, body := range c.kept {
			errs[i] = errors.Join(errs[i], checkReply(keys, body))
		}
	}
	return v, errors.Join(errs...)
}

func checkReply(keys *wire.KeyRing, body []byte) error {
	message, err := keys.Open(body)
	if err != nil {
		return err
	}
	reply, err := api.ParseReply(message.Plaintext)
	if err != nil {
		return err
	}
	if !reply.Success {
		return fmt.Errorf("a request failed: %w", reply.Failure)
	}
	return nil
}

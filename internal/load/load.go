package load

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/internal/wire"
)

// A Magazine holds HTTP requests that are ready to be sent, each with an
// envelope of its own, so that making them costs nothing while a server is
// measured. Both servers get the same ones.
type Magazine struct {
	// Requests are ready to be sent.
	Requests [][]byte
	next     atomic.Int64
}

// NewMagazine seals n requests, whose texts are the JSON of what the function
// returns.
func NewMagazine(keys *wire.KeyRing, n int, text func(i int) any) (*Magazine, error) {
	m := &Magazine{Requests: make([][]byte, n)}
	now := time.Now()
	parts := runtime.GOMAXPROCS(0)
	errs := make([]error, parts)
	var sealing sync.WaitGroup
	for part := range parts {
		sealing.Go(func() {
			for i := part; i < n && errs[part] == nil; i += parts {
				var plain []byte
				plain, errs[part] = json.Marshal(text(i))
				m.Requests[i] = RequestOf(keys.AppendSeal(nil, plain, 0, now))
			}
		})
	}
	sealing.Wait()
	return m, errors.Join(errs...)
}

// RequestOf returns the HTTP request with a body.
func RequestOf(body []byte) []byte {
	const header = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: "
	request := make([]byte, 0, len(header)+16+len(body))
	request = strconv.AppendInt(append(request, header...), int64(len(body)), 10)
	return append(append(request, headerEnd...), body...)
}

// Take returns the next request, or nil when there is none.
func (m *Magazine) Take() []byte {
	i := m.next.Add(1) - 1
	if i >= int64(len(m.Requests)) {
		return nil
	}
	return m.Requests[i]
}

// Rewind makes Take begin with the first request again.
func (m *Magazine) Rewind() { m.next.Store(0) }

// A Question is the text of one request, as published clients send it.
type Question struct {
	Request    string `json:"request"`
	Body       any    `json:"body"`
	ReqID      int    `json:"reqid"`
	ClientAddr string `json:"client_ipaddr"`
}

// NewQuestion returns a request of a client at an address for documentation (RFC 5737).
func NewQuestion(request string, body any, id int) Question {
	return Question{request, body, id, "192.0.2.7"}
}

// A Connection sends requests, one after the other. It knows as much of
// HTTP/1.1 as the answers of these servers need, so that it takes little of
// the CPUs that it shares with them.
type Connection struct {
	net.Conn
	buffer []byte
	times  []time.Duration
	// kept are some of the sealed replies, to be looked at later.
	kept [][]byte
}

// keepEvery is how many replies there are to one that is kept.
const keepEvery = 251

// Connect connects to a server.
func Connect(address string) (*Connection, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &Connection{Conn: conn, buffer: make([]byte, 64<<10)}, nil
}

var (
	headerEnd     = []byte("\r\n\r\n")
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("\r\nContent-Length: ")
)

// Exchange sends a request and returns the body of the answer, which is valid
// until the next call.
func (c *Connection) Exchange(request []byte) ([]byte, error) {
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
func (c *Connection) work(m *Magazine, until time.Time) error {
	c.times, c.kept = c.times[:0], nil
	before := time.Now()
	for before.Before(until) {
		request := m.Take()
		if request == nil {
			return nil
		}
		body, err := c.Exchange(request)
		if err != nil {
			return err
		}
		now := time.Now()
		c.note(now.Sub(before), body)
		before = now
	}
	return nil
}

// A Volley is what came of sending requests for a while.
type Volley struct {
	Elapsed time.Duration
	Times   []time.Duration // one for each answer
}

// Rate is how many answers came in a second.
func (v *Volley) Rate() float64 { return float64(len(v.Times)) / v.Elapsed.Seconds() }

// Fire sends the magazine's requests from its beginning over all connections,
// for as long as the duration says and the requests last, and then checks some
// of the replies.
func Fire(connections []*Connection, keys *wire.KeyRing, m *Magazine, duration time.Duration) (*Volley, error) {
	m.Rewind()
	return together(connections, keys, func(c *Connection, started time.Time) error { return c.work(m, started.Add(duration)) })
}

// Offer sends the magazine's requests at a constant rate a second, whatever the answers,
// for as long as the duration says and the requests last. Times count from the moment at
// which a request should have been sent; one that finds all connections in use waits, and
// its wait counts.
func Offer(connections []*Connection, keys *wire.KeyRing, m *Magazine, rate float64, duration time.Duration) (*Volley, error) {
	m.Rewind()
	// More would wait for each other, and for the CPUs that the server needs.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var next atomic.Int64
	most := max(1, int64(rate*duration.Seconds()))
	return together(connections, keys, func(c *Connection, started time.Time) error {
		c.times, c.kept = c.times[:0], nil
		for {
			i := next.Add(1) - 1
			request := m.Take()
			if i >= most || request == nil {
				return nil
			}
			due := started.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			time.Sleep(time.Until(due))
			body, err := c.Exchange(request)
			if err != nil {
				return err
			}
			c.note(time.Since(due), body)
		}
	})
}

// together lets all connections work and then checks some of the replies.
func together(connections []*Connection, keys *wire.KeyRing, work func(c *Connection, started time.Time) error) (*Volley, error) {
	runtime.GC() // what made the requests; it is not to take the CPUs now
	started := time.Now()
	errs := make([]error, len(connections))
	var working sync.WaitGroup
	for i, c := range connections {
		working.Go(func() { errs[i] = work(c, started) })
	}
	working.Wait()
	v := &Volley{Elapsed: time.Since(started)}
	for i, c := range connections {
		v.Times = append(v.Times, c.times...)
		for _, body := range c.kept {
			errs[i] = cmp.Or(errs[i], checkReply(keys, body))
		}
	}
	return v, cmp.Or(errs...) // one is enough: many connections meet the same
}

// note keeps the time of an answer, and some of the answers.
func (c *Connection) note(took time.Duration, body []byte) {
	c.times = append(c.times, took)
	if len(c.times)%keepEvery == 1 {
		c.kept = append(c.kept, bytes.Clone(body))
	}
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

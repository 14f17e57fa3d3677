package test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// mostGrown is how much more resident memory a server may have after an attack
// than before it, in KiB. With the race detector, which keeps several
// bytes for each, memory says nothing about the server as it is built.
const mostGrown = 50 << 10

// resident returns the resident memory of a process in KiB, without the pages of files, of
// which the system keeps as many as it likes.
func resident(t testing.TB, pid int) int {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("process %d has no RssAnon", pid)
	return 0
}

// TestResident keeps the memory checks from reading a number that never grows.
func TestResident(t *testing.T) {
	before := resident(t, os.Getpid())
	memory, err := syscall.Mmap(-1, 0, 2*mostGrown<<10, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	grown := resident(t, os.Getpid()) - before
	err = syscall.Munmap(memory)
	if err != nil {
		t.Fatal(err)
	}
	if grown <= mostGrown {
		t.Errorf("this process grew by %d KiB when it took %d KiB", grown, 2*mostGrown)
	}
}

// A sheltered server is one that is attacked while somebody uses it.
type sheltered struct {
	*server
	user     *user
	baseline int
}

// shelter starts a server and notes how much memory it takes at most while it
// serves the well-behaved client alone, garbage of password hashes included.
func shelter(t *testing.T, options ...string) *sheltered {
	t.Helper()
	s := &sheltered{server: start(t, options...)}
	s.user = s.newUser()
	for range 40 {
		s.served("before")
		s.baseline = max(s.baseline, resident(t, s.cmd.Process.Pid))
	}
	return s
}

// served checks that a well-behaved client is served, over a connection that
// exists and over a new one.
func (s *sheltered) served(when string) {
	s.t.Helper()
	began := time.Now()
	r := s.login(s.user.email, s.user.password)
	if !r.Success {
		s.t.Errorf("%s: a login ended in %s", when, r.Code)
	}
	from, conn := s.dialog(rawPost("Host: localhost\r\n", seal(s.key, absent, time.Now())))
	if response, _ := answer(s.t, from, "POST"); response.StatusCode != 200 {
		s.t.Errorf("%s: status %d over a new connection", when, response.StatusCode)
	}
	_ = conn.Close()
	if took := time.Since(began); took > 20*time.Second {
		s.t.Errorf("%s: three requests took %v", when, took)
	}
}

// bounded checks that the server's memory has not grown much, once it has given
// back what it does not need any more.
func (s *sheltered) bounded(when string) {
	s.t.Helper()
	if raceDetector {
		return
	}
	s.wait("the server to give memory back "+when, func() bool {
		return resident(s.t, s.cmd.Process.Pid) <= s.baseline+mostGrown
	})
}

// descriptors makes sure that this process and its servers may have so many
// connections. The servers raise their own limit up to the hard one.
func descriptors(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	if err != nil {
		t.Fatal(err)
	}
	if limit.Max < n {
		t.Fatalf("the test needs %d file descriptors and the hard limit is %d; raise it with ulimit -Hn", n, limit.Max)
	}
	if limit.Cur < n {
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// crowd opens connections, half of which have had an answer.
func crowd(s *server, n int) []net.Conn {
	s.t.Helper()
	conns := make([]net.Conn, n)
	errs := make([]error, n)
	var opening sync.WaitGroup
	const at = 50
	for first := range at {
		opening.Go(func() {
			for i := first; i < n && errs[first] == nil; i += at {
				conns[i], errs[first] = net.Dial("tcp", s.addr)
				if errs[first] == nil && i%2 == 0 {
					errs[first] = greet(conns[i])
				}
			}
		})
	}
	opening.Wait()
	s.t.Cleanup(func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.Close() // the server may have been faster
			}
		}
	})
	for _, err := range errs {
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return conns
}

// greet has one request answered over a connection.
func greet(conn net.Conn) error {
	err := conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1<<10))
	}
	return err
}

// TestIdleConnections keeps 10,000 connections open that say nothing, or say
// nothing more.
func TestIdleConnections(t *testing.T) {
	const n = 10_000
	descriptors(t, n+500)
	s := shelter(t)
	conns := crowd(s.server, n)
	for range 20 {
		s.served("beside 10,000 idle connections")
	}
	// One that was served before is served again, after as many.
	err := greet(conns[0])
	if err != nil {
		t.Errorf("the first of the idle connections: %v", err)
	}
	if !raceDetector {
		const each = 32 // KiB: buffers and a goroutine
		if now := resident(t, s.cmd.Process.Pid); now > s.baseline+n*each {
			t.Errorf("the server has %d KiB with %d idle connections, and had %d", now, n, s.baseline)
		}
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	for range 20 {
		s.served("after 10,000 idle connections")
	}
	s.kill() // it would wait for the others
}

// drip sends a text byte by byte, one each second, until it is cut off, and
// returns how long that took.
func drip(conn net.Conn, text string) time.Duration {
	began := time.Now()
	for i := 0; ; i++ {
		_, err := conn.Write([]byte{text[i%len(text)]})
		if err != nil {
			return time.Since(began)
		}
		time.Sleep(time.Second)
	}
}

// TestSlowCrowd has 500 clients send a byte now and then, in the header and in
// the body. They are cut off in the end.
func TestSlowCrowd(t *testing.T) {
	t.Parallel()
	s := shelter(t)
	const n = 500
	ended := make(chan time.Duration, n)
	for i := range n {
		text := "POST / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
		if i%2 == 0 {
			text = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
		}
		_, conn := s.dialog(text)
		go func() { ended <- drip(conn, "A") }()
	}
	var cut []time.Duration
	for len(cut) < n {
		s.served("beside 500 slow clients")
		select {
		case took := <-ended:
			cut = append(cut, took)
		case <-time.After(patience):
			t.Fatalf("%d slow clients of %d were cut off", len(cut), n)
		}
		for len(ended) > 0 {
			cut = append(cut, <-ended)
		}
	}
	s.served("after 500 slow clients")
	s.bounded("after 500 slow clients")
}

// TestHalfOpen leaves connections behind in every state: without a word, in
// the middle of a request, and with answers that nobody reads.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	s := shelter(t)
	request := rawPost("Host: localhost\r\n", seal(s.key, absent, time.Now()))
	answers := strings.Repeat("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400)
	for i := range 300 {
		_, conn := s.dialog("")
		_ = conn.SetReadBuffer(1)
		switch i % 3 {
		case 0:
			_, _ = io.WriteString(conn, request[:len(request)/2])
		case 1: // the other side is told that nothing more comes
			_, _ = io.WriteString(conn, request[:len(request)/2])
			_ = conn.CloseWrite()
		case 2: // more answers than the buffers on the way hold
			_ = conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = io.WriteString(conn, answers)
		}
	}
	for range 20 {
		s.served("beside half-open connections")
	}
	s.bounded("beside half-open connections")
	s.kill() // it would wait for them
}

// pour sends parts of a body as long as they are taken, at most so many bytes,
// and returns how many were.
func pour(conn net.Conn, part string, most int) int {
	sent := 0
	for sent < most {
		n, err := io.WriteString(conn, part)
		sent += n
		if err != nil {
			break
		}
	}
	return sent
}

// TestGiants sends bodies that are, or would become, far larger than what is
// read, many at once.
func TestGiants(t *testing.T) {
	t.Parallel()
	s := shelter(t)
	var bomb bytes.Buffer
	packer, err := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 200 {
		_, err = packer.Write(zeros)
		if err != nil {
			t.Fatal(err)
		}
	}
	err = packer.Close()
	if err != nil {
		t.Fatal(err)
	}
	const (
		post  = "POST / HTTP/1.1\r\nHost: localhost\r\n"
		chunk = 64 << 10
		most  = 64 << 20
	)
	piece := strings.Repeat("A", chunk)
	deep := seal(s.key, envelope("session-exists", `{"session_token": `+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}", "1"), time.Now())
	for _, row := range []struct {
		name, header, part string
		status             int
		most               int // bytes that are sent behind the header
	}{
		{"1 GiB is declared and sent", post + "Content-Length: 1073741824\r\n\r\n", piece, 413, most},
		{"chunks without end", post + "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", chunk, piece), 413, most},
		{"small chunks without end", post + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("8\r\nAAAAAAAA\r\n", 5000), 413, most},
		{"a header without end", post, strings.Repeat("X-More: "+strings.Repeat("A", 1000)+"\r\n", 60), 431, most},
		{"200 MiB in gzip", post + fmt.Sprintf("Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", bomb.Len()), bomb.String(), 401, bomb.Len()},
		{"100,000 arrays in each other", post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(deep)), deep, 401, len(deep)},
	} {
		var sending sync.WaitGroup
		for range 3 {
			from, conn := s.dialog(row.header)
			sending.Go(func() {
				if n := pour(conn, row.part, row.most); row.most == most && n >= most {
					t.Errorf("%s: the server took %d bytes and more", row.name, n)
				}
			})
			sending.Go(func() { s.refusedWith(row.name, from, row.status) })
		}
		s.served("beside " + row.name)
		sending.Wait()
		s.served("after " + row.name)
	}
	s.bounded("after giants")
}

// refusedWith reads one answer. The connection may be reset before it comes
// when the server was still being sent to.
func (s *server) refusedWith(name string, from *bufio.Reader, status int) {
	line, err := from.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", status)) {
		s.t.Errorf("%s: %q, want status %d", name, line, status)
	}
}

// TestManyKeys sends objects with as many keys as an envelope has room for,
// where the server keeps them and where it drops them.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	s := shelter(t)
	var keys strings.Builder
	keys.WriteString(`{"session_token": "x"`)
	for i := 0; keys.Len() < huge-300; i++ {
		fmt.Fprintf(&keys, `,"%s":0`, strconv.FormatInt(int64(i), 36))
	}
	keys.WriteString("}")
	for _, row := range []struct{ name, text string }{
		{"parameters", envelope("session-exists", keys.String(), "1")},
		{"a parameter", envelope("session-new", `{"ip_address": "192.0.2.1", "user_agent": "", "user_id": null, "expires": "2099-01-01T00:00:00", "extra_info_json": `+keys.String()+"}", "1")},
		{"the reqid", envelope("session-exists", `{"session_token": "x"}`, keys.String())},
	} {
		var sending sync.WaitGroup
		for range 4 {
			sending.Go(func() {
				if status := s.status(row.text); status != 200 && status != 400 {
					t.Errorf("many keys as %s: status %d", row.name, status)
				}
			})
		}
		sending.Wait()
		s.served("after many keys as " + row.name)
	}
	s.bounded("after many keys")
}

// TestPipeline sends thousands of requests at once over a few connections.
func TestPipeline(t *testing.T) {
	t.Parallel()
	s := shelter(t)
	const n = 1000
	var asking sync.WaitGroup
	for range runtime.NumCPU() {
		from, conn := s.dialog("")
		asking.Go(func() {
			_, _ = io.WriteString(conn, strings.Repeat(rawPost("Host: localhost\r\n", "nonsense"), n)) // the answers tell
		})
		asking.Go(func() {
			for i := range n {
				response, _ := answer(t, from, "POST")
				if response.StatusCode != 401 {
					t.Errorf("number %d of a pipeline: status %d", i, response.StatusCode)
				}
			}
		})
	}
	s.served("beside a pipeline")
	asking.Wait()
	s.served("after a pipeline")
	s.bounded("after a pipeline")
}

package smtpd_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/test/smtpd"
)

const (
	sender  = "sender@one.example"
	message = "From: sender@one.example\r\nSubject: x\r\n\r\ntext\r\n"
)

// patience bounds every wait for an answer.
const patience = 10 * time.Second

func addr(s *smtpd.Server) string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// connect opens a TCP connection, which ends with the test.
func connect(t *testing.T, s *smtpd.Server) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr(s), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test may have closed it
	err = conn.SetDeadline(time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// client opens a connection and reads the greeting.
func client(t *testing.T, s *smtpd.Server) *smtp.Client {
	t.Helper()
	c, err := smtp.NewClient(connect(t, s), s.Host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// begin names the sender and the recipients of a message and opens its text.
func begin(c *smtp.Client, recipients ...string) (io.WriteCloser, error) {
	err := c.Mail(sender)
	if err != nil {
		return nil, err
	}
	for _, recipient := range recipients {
		err = c.Rcpt(recipient)
		if err != nil {
			return nil, err
		}
	}
	return c.Data()
}

// send sends one message on an open connection.
func send(c *smtp.Client, text string, recipients ...string) error {
	w, err := begin(c, recipients...)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	if err != nil {
		return err
	}
	return w.Close()
}

// code returns the SMTP reply code in the error, 250 for none.
func code(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 250
	}
	var reply *textproto.Error
	if !errors.As(err, &reply) {
		t.Fatalf("%v is no reply of the server", err)
	}
	return reply.Code
}

// TestDelivery sends messages over one and over several connections.
func TestDelivery(t *testing.T) {
	t.Parallel()
	s := smtpd.Start(t, smtpd.Options{})
	if got := s.Messages(t); len(got) != 0 {
		t.Errorf("%d messages before the first", len(got))
	}
	texts := []string{
		"Bcc: x@two.example\r\nReturn-path: <own@one.example>\r\nEnvelope-to: x\r\nDelivery-date: x\r\nSubject: dots\r\n\r\n.\r\n..\r\n.x\r\nend\r\n",
		"Subject: Gr\u00fc\u00dfe\r\n\r\n\u00fc, \x80\r\nFrom here\r\n\r\n\r\n",
	}
	for i := range 16 { // more than Exim delivers of one connection when not told to
		texts = append(texts, message+strconv.Itoa(i)+"\r\n")
	}
	for i, text := range texts[:4] {
		err := send(client(t, s), text, "a@two.example", "b@three.example")
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	c := client(t, s)
	for i, text := range texts[4:] {
		err := send(c, text, "a@two.example", "b@three.example")
		if err != nil {
			t.Fatalf("message %d: %v", 4+i, err)
		}
	}
	got := s.Wait(t, len(texts))
	if len(got) != len(texts) {
		t.Fatalf("%d messages, want %d", len(got), len(texts))
	}
	const envelope = "Return-path: <sender@one.example>\r\nEnvelope-to: a@two.example,\r\n b@three.example\r\nReceived: "
	for i, text := range texts {
		if !bytes.HasPrefix(got[i], []byte(envelope)) || !bytes.HasSuffix(got[i], []byte("\r\n"+text)) {
			t.Errorf("message %d is %q, want %q, other header fields, and %q", i, got[i], envelope, text)
		}
	}
}

// TestOrder begins a message before another and ends it after that.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := smtpd.Start(t, smtpd.Options{})
	w, err := begin(client(t, s), "a@two.example")
	if err != nil {
		t.Fatal(err)
	}
	const early, late = "Subject: early\r\n\r\n", "Subject: late\r\n\r\n"
	err = send(client(t, s), early, "a@two.example")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(w, late)
	if err != nil {
		t.Fatal(err)
	}
	err = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	got := s.Wait(t, 2)
	if !bytes.HasSuffix(got[0], []byte(early)) || !bytes.HasSuffix(got[1], []byte(late)) {
		t.Errorf("the messages are %q, want the early one and the late one", got)
	}
}

// TestTLS compares what is offered with and without TLS.
func TestTLS(t *testing.T) {
	t.Parallel()
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		s := smtpd.Start(t, smtpd.Options{})
		if ok, _ := client(t, s).Extension("STARTTLS"); ok {
			t.Error("STARTTLS is offered")
		}
	})
	t.Run("starttls", func(t *testing.T) {
		t.Parallel()
		s := smtpd.Start(t, smtpd.Options{TLS: "starttls"})
		c := client(t, s)
		err := c.StartTLS(&tls.Config{RootCAs: s.Roots, ServerName: s.Host})
		if err != nil {
			t.Fatal(err)
		}
		err = send(c, message, "a@two.example")
		if err != nil {
			t.Fatal(err)
		}
		s.Wait(t, 1)
	})
	t.Run("implicit", func(t *testing.T) {
		t.Parallel()
		s := smtpd.Start(t, smtpd.Options{TLS: "implicit"})
		c, err := smtp.NewClient(tls.Client(connect(t, s), &tls.Config{RootCAs: s.Roots, ServerName: s.Host}), s.Host)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := c.Extension("STARTTLS"); ok {
			t.Error("STARTTLS is offered within TLS")
		}
		err = send(c, message, "a@two.example")
		if err != nil {
			t.Fatal(err)
		}
		s.Wait(t, 1)

		conn := connect(t, s)
		_, err = io.WriteString(conn, "EHLO localhost\r\n")
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn) // an alert, or a reset
		if bytes.HasPrefix(answer, []byte("220")) {
			t.Errorf("without TLS it answers %q", answer)
		}
	})
}

// TestCertificate has each kind of certificate judged by a client.
func TestCertificate(t *testing.T) {
	t.Parallel()
	invalid := func(err error) bool {
		var e x509.CertificateInvalidError
		return errors.As(err, &e) && e.Reason == x509.Expired
	}
	misnamed := func(err error) bool {
		var e x509.HostnameError
		return errors.As(err, &e)
	}
	unknown := func(err error) bool {
		var e x509.UnknownAuthorityError
		return errors.As(err, &e)
	}
	fine := func(err error) bool { return err == nil }
	long := time.Now().Add(-2 * time.Hour)
	tests := []struct {
		certificate string
		name        string    // of the server, to the client
		now         time.Time // to the client; zero for now
		want        func(error) bool
	}{
		{"", "localhost", time.Time{}, fine},
		{"good", "localhost", time.Time{}, fine},
		{"good", "127.0.0.1", time.Time{}, fine},
		{"good", "::1", time.Time{}, fine},
		{"good", "mail.example", time.Time{}, misnamed},
		{"expired", "localhost", time.Time{}, invalid},
		{"expired", "localhost", long, fine}, // the time is the only fault
		{"wrong-name", "localhost", time.Time{}, misnamed},
		{"wrong-name", "127.0.0.1", time.Time{}, misnamed},
		{"wrong-name", "mail.example", time.Time{}, fine},
		{"self-signed", "localhost", time.Time{}, unknown},
	}
	for _, mode := range []string{"starttls", "implicit"} {
		servers := make(map[string]*smtpd.Server)
		for _, test := range tests {
			s := servers[test.certificate]
			if s == nil {
				s = smtpd.Start(t, smtpd.Options{TLS: mode, Certificate: test.certificate})
				servers[test.certificate] = s
			}
			config := &tls.Config{RootCAs: roots(t, s.CAFile), ServerName: test.name}
			if !test.now.IsZero() {
				config.Time = func() time.Time { return test.now }
			}
			var err error
			if mode == "implicit" {
				err = tls.Client(connect(t, s), config).Handshake()
			} else {
				err = client(t, s).StartTLS(config)
			}
			if !test.want(err) {
				t.Errorf("%s, %q, for %s at %v: %v", mode, test.certificate, test.name, test.now, err)
			}
		}
	}
}

// roots returns the certificates of the PEM file.
func roots(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("no certificates in %s", file)
	}
	return pool
}

// loginAuth is AUTH LOGIN, which net/smtp lacks.
type loginAuth struct{ user, password string }

func (a loginAuth) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (a loginAuth) Next(prompt []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case string(prompt) == "Username:":
		return []byte(a.user), nil
	case string(prompt) == "Password:":
		return []byte(a.password), nil
	}
	return nil, fmt.Errorf("prompt %q", prompt)
}

// TestAuth tries names and passwords, by both mechanisms.
func TestAuth(t *testing.T) {
	t.Parallel()
	const user, password = "us er:{}@one.example", `"p$a{s}s\ : ü` // with what means something to Exim
	tests := []struct {
		name    string
		options smtpd.Options
	}{
		{"starttls", smtpd.Options{TLS: "starttls"}},
		{"implicit", smtpd.Options{TLS: "implicit"}},
		{"plain", smtpd.Options{PlainAuth: true}},
		{"starttls not started", smtpd.Options{TLS: "starttls", PlainAuth: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := test.options
			o.User, o.Password = user, password
			s := smtpd.Start(t, o)
			// authenticated opens a connection of the kind tested.
			authenticated := func(auth smtp.Auth) (*smtp.Client, error) {
				config := &tls.Config{RootCAs: s.Roots, ServerName: s.Host}
				var c *smtp.Client
				var err error
				if o.TLS == "implicit" {
					c, err = smtp.NewClient(tls.Client(connect(t, s), config), s.Host)
				} else {
					c = client(t, s)
				}
				if err == nil && o.TLS == "starttls" && !o.PlainAuth {
					if ok, _ := c.Extension("AUTH"); ok {
						t.Error("AUTH is offered before TLS")
					}
					err = c.StartTLS(config)
				}
				if err != nil {
					t.Fatal(err)
				}
				_, mechanisms := c.Extension("AUTH")
				if mechanisms != "PLAIN LOGIN" {
					t.Errorf("AUTH offers %q, want PLAIN LOGIN", mechanisms)
				}
				if auth == nil {
					return c, nil
				}
				return c, c.Auth(auth)
			}
			c, _ := authenticated(nil)
			if got := code(t, send(c, message, "a@two.example")); got != 530 {
				t.Errorf("without authentication: %d, want 530", got)
			}
			for _, try := range []struct {
				user, password string
				want           int
			}{
				{user, password, 250},
				{user, password + "x", 535},
				{user, "", 535},
				{user + "x", password, 535},
				{"", password, 535},
			} {
				for name, auth := range map[string]smtp.Auth{
					"PLAIN": smtp.PlainAuth("", try.user, try.password, s.Host),
					"LOGIN": loginAuth{try.user, try.password},
				} {
					c, err := authenticated(auth)
					if got := code(t, err); got != try.want {
						t.Errorf("%s with %q, %q: %v, want %d", name, try.user, try.password, err, try.want)
					}
					if err == nil {
						err = send(c, message, "a@two.example")
						if err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
				}
			}
			if got := s.Wait(t, 2); len(got) != 2 {
				t.Errorf("%d messages, want 2", len(got))
			}
		})
	}
}

// TestAuthRefused sends a name and password that were not asked for.
func TestAuthRefused(t *testing.T) {
	t.Parallel()
	s := smtpd.Start(t, smtpd.Options{TLS: "starttls", User: "user", Password: "password"})
	c := textproto.NewConn(connect(t, s))
	_, _, err := c.ReadResponse(220)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		line string
		want int
	}{
		{"EHLO localhost", 250},
		{"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00user\x00password")), 503},
		{"MAIL FROM:<a@one.example>", 250},
		{"RCPT TO:<b@two.example>", 530},
	} {
		_, err = c.Cmd("%s", step.line)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = c.ReadResponse(step.want)
		if err != nil {
			t.Errorf("%.8s: %v, want %d", step.line, err, step.want)
		}
	}
}

// TestDelays measures the waits.
func TestDelays(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{time.Second, 2 * time.Second} {
		for _, mode := range []string{"", "implicit"} {
			t.Run(fmt.Sprint(delay, mode), func(t *testing.T) {
				t.Parallel()
				s := smtpd.Start(t, smtpd.Options{TLS: mode, GreetDelay: delay})
				began := time.Now()
				conn := connect(t, s)
				if mode == "implicit" {
					conn = tls.Client(conn, &tls.Config{RootCAs: s.Roots, ServerName: s.Host})
				}
				_, err := smtp.NewClient(conn, s.Host)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < delay {
					t.Errorf("the greeting took %v, want %v", took, delay)
				}
			})
		}
		t.Run(fmt.Sprint(delay, "data"), func(t *testing.T) {
			t.Parallel()
			s := smtpd.Start(t, smtpd.Options{DataDelay: delay})
			c := client(t, s)
			began := time.Now()
			err := send(c, message, "a@two.example")
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took < delay {
				t.Errorf("the answer took %v, want %v", took, delay)
			}
			s.Wait(t, 1)
		})
	}
}

// TestRefusals has recipients and messages refused.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, want := range []int{421, 451, 452, 550, 552, 554} {
		t.Run(strconv.Itoa(want), func(t *testing.T) {
			t.Parallel()
			s := smtpd.Start(t, smtpd.Options{RefuseRecipients: want})
			c := client(t, s)
			err := c.Mail(sender)
			if err != nil {
				t.Fatal(err)
			}
			for _, recipient := range []string{"a@two.example", "b@three.example"} {
				if got := code(t, c.Rcpt(recipient)); got != want {
					t.Errorf("RCPT: %d, want %d", got, want)
				}
			}

			s = smtpd.Start(t, smtpd.Options{RefuseData: want})
			w, err := begin(client(t, s), "a@two.example")
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(w, message)
			if err != nil {
				t.Fatal(err)
			}
			if got := code(t, w.Close()); got != want {
				t.Errorf("DATA: %d, want %d", got, want)
			}
			if got := s.Messages(t); len(got) != 0 {
				t.Errorf("%d messages were delivered", len(got))
			}
		})
	}
}

// TestMany holds 50 connections open at each of two servers, then sends.
func TestMany(t *testing.T) {
	t.Parallel()
	const n = 50
	var senders sync.WaitGroup
	servers := []*smtpd.Server{smtpd.Start(t, smtpd.Options{}), smtpd.Start(t, smtpd.Options{})}
	for i, s := range servers {
		var clients []*smtp.Client
		for range n {
			clients = append(clients, client(t, s))
		}
		for j, c := range clients {
			senders.Go(func() {
				err := send(c, fmt.Sprintf("Subject: %d, %d\r\n\r\n", i, j), "a@two.example")
				if err != nil {
					t.Errorf("server %d, connection %d: %v", i, j, err)
				}
			})
		}
	}
	senders.Wait()
	for i, s := range servers {
		got := s.Wait(t, n)
		for j := range n {
			subject := fmt.Appendf(nil, "\r\nSubject: %d, %d\r\n", i, j)
			var count int
			for _, m := range got {
				count += bytes.Count(m, subject)
			}
			if count != 1 {
				t.Errorf("server %d: %d messages with%q, want 1", i, count, subject)
			}
		}
	}
}

// processes returns the command lines of the processes that mention the text.
func processes(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(text)) { // it may have ended
			found = append(found, string(line))
		}
	}
	return found
}

// TestEnd ends a test whose server is busy.
func TestEnd(t *testing.T) {
	t.Parallel()
	var s *smtpd.Server
	var conn net.Conn
	var dir string
	passed := t.Run("test", func(t *testing.T) {
		s = smtpd.Start(t, smtpd.Options{DataDelay: time.Hour})
		dir = filepath.Dir(s.CAFile)
		var err error
		conn, err = net.Dial("tcp", addr(s))
		if err != nil {
			t.Fatal(err)
		}
		err = conn.SetDeadline(time.Now().Add(patience))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(conn, "EHLO localhost\r\nMAIL FROM:<a@one.example>\r\nRCPT TO:<b@two.example>\r\nDATA\r\n"+message+".\r\n")
		if err != nil {
			t.Fatal(err)
		}
		answers := textproto.NewReader(bufio.NewReader(conn))
		for _, want := range []int{220, 250, 250, 250, 354} {
			_, _, err = answers.ReadResponse(want)
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := processes(t, dir); len(got) < 3 {
			t.Errorf("processes %q, want the shell, the server and that of the connection", got)
		}
	})
	if !passed {
		return
	}
	defer conn.Close()
	_, err := os.Stat(dir)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	if got := processes(t, dir); len(got) != 0 {
		t.Errorf("processes %q are there", got)
	}
	_, err = io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is open")
	}
	late, err := net.Dial("tcp", addr(s))
	if err == nil {
		_ = late.Close()
		t.Error("the port is open")
	}
}

// abandon, in the environment, has TestKilled be the process that is killed.
const abandon = "SMTPD_TEST_ABANDON"

// TestKilled kills the process of a test, which then ends nothing itself.
func TestKilled(t *testing.T) {
	t.Parallel()
	if os.Getenv(abandon) != "" {
		fmt.Println(filepath.Dir(smtpd.Start(t, smtpd.Options{}).CAFile))
		time.Sleep(patience)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), abandon+"=1")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	dir := strings.TrimSpace(line)
	if err == nil && filepath.IsAbs(dir) && len(processes(t, dir)) < 2 {
		t.Error("the shell and the server are not there")
	}
	_ = cmd.Process.Kill() // the error is that of a process that has ended
	_ = cmd.Wait()         // killed
	if err != nil || !filepath.IsAbs(dir) {
		t.Fatalf("%q is no folder: %v", dir, err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, err = os.Stat(dir)
		got := processes(t, dir)
		if errors.Is(err, os.ErrNotExist) && len(got) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the folder is there (%v), or processes: %q", err, got)
		}
	}
}

// recorder is a test whose failure is no failure.
type recorder struct {
	testing.TB
	failed   bool
	text     strings.Builder
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return r.failed }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Logf(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n", args...) }

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Logf(format, args...)
	r.failed = true
	panic(r) // testing.T ends the goroutine; this is caught by record
}

// record runs f as a test and returns what it logged, and whether it failed.
func record(t *testing.T, f func(testing.TB)) (string, bool) {
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		f(r)
	}()
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return r.text.String(), r.failed
}

// TestLog has a test fail, which logs what the server logged.
func TestLog(t *testing.T) {
	t.Parallel()
	run := func(fail bool) string {
		text, failed := record(t, func(tb testing.TB) {
			s := smtpd.Start(tb, smtpd.Options{})
			err := smtp.SendMail(addr(s), nil, sender, []string{"a@two.example"}, []byte(message))
			if err != nil {
				t.Fatal(err)
			}
			s.Wait(tb, 1)
			if fail {
				tb.Fatal("no")
			}
		})
		if failed != fail {
			t.Fatalf("failed: %t, want %t: %s", failed, fail, text)
		}
		return text
	}
	if text := run(true); !strings.Contains(text, "<= "+sender) {
		t.Errorf("the log of a test that failed lacks the message's line: %q", text)
	}
	if text := run(false); text != "" {
		t.Errorf("a test that passed logged %q", text)
	}
}

// TestBadOptions starts servers that cannot be.
func TestBadOptions(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]smtpd.Options{
		"TLS is":              {TLS: "ssl"},
		"Certificate is":      {Certificate: "bad"},
		"GreetDelay is":       {GreetDelay: 1500 * time.Millisecond},
		"DataDelay is":        {DataDelay: -time.Second},
		"RefuseRecipients is": {RefuseRecipients: 250},
		"RefuseData is":       {RefuseData: 600},
	} {
		text, failed := record(t, func(tb testing.TB) { smtpd.Start(tb, o) })
		if !failed || !strings.Contains(text, want) {
			t.Errorf("%+v: failed: %t, %q, want %q", o, failed, text, want)
		}
	}
}

// TestNoExim starts a server where none is unpacked: an installed one serves root.
func TestNoExim(t *testing.T) {
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "go.mod"), nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	_, inSbin := os.Stat("/usr/sbin/exim4")
	_, inPath := exec.LookPath("exim4")
	installed := os.Getuid() == 0 && (inSbin == nil || inPath == nil)
	text, failed := record(t, func(tb testing.TB) { smtpd.Start(tb, smtpd.Options{}) })
	switch {
	case installed && failed:
		t.Errorf("with the Exim installed: %s", text)
	case !installed && !strings.Contains(text, "scripts/test-requirements"):
		t.Errorf("it does not say what to do: %q", text)
	}
}

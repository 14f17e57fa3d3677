// Package smtpd starts real SMTP servers (Exim) for tests: private ones, on a
// port of the loopback interface, that keep everything in a temporary folder
// and end with the test.
package smtpd

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds every wait for Exim, which answers within milliseconds
	// on an idle machine.
	patience = 10 * time.Second
	// watch is the shell script that starts the Exim $1 with the configuration
	// $2 in a process group of its own, on the listening socket 3. When pipe 4
	// is closed, as it is however the test's process ends, it kills that group
	// (or who has not yet made it) and removes the folder $3.
	//
	// Exim takes the socket as descriptor 0 and moves it to 3, whatever that
	// was. Having it there, too, keeps nss_wrapper from using 3 for its files.
	// The shell gives the socket up: when Exim ends, waiting clients shall
	// learn it. It complains to nobody, as the test may be gone, and removes
	// again what a dying process of Exim has made meanwhile.
	watch = `
setsid "$1" -bw -C "$2" <&3 4<&- &
exec 3<&-
read -r _ <&4
exec >/dev/null 2>&1
kill -s KILL -- "-$!" "$!"
wait
rm -rf "$3" || { sleep 1; rm -rf "$3"; }
`
	// probeIP is the client address of the harness itself, which GreetDelay
	// does not hold up.
	probeIP = "127.0.0.2"
)

// Options say how a server behaves. The zero value takes every message without
// TLS and authentication.
type Options struct {
	TLS         string // "" for none, "starttls", "implicit" for TLS from the first byte
	Certificate string // "" or "good", "expired", "wrong-name", "self-signed"; all but the last by the CA of Roots
	// User and Password, when User is set, are what AUTH PLAIN and AUTH LOGIN
	// take, offered under TLS only; without them no recipient is taken.
	User, Password string
	PlainAuth      bool // offers AUTH without TLS, too
	// GreetDelay and DataDelay, in whole seconds, pass before the greeting and
	// before the answer to the end of DATA. They end early when the client
	// goes away.
	GreetDelay, DataDelay time.Duration
	RefuseRecipients      int // the 4yz or 5yz answer to every RCPT; 0 takes every recipient
	RefuseData            int // the 4yz or 5yz answer to the end of DATA; 0 takes the message
}

// Server is a running SMTP server.
type Server struct {
	Host   string         // "localhost"; it listens on 127.0.0.1 only
	Port   int            // its TCP port
	Roots  *x509.CertPool // the CA of its certificate
	CAFile string         // the same in PEM form

	dir string // everything Exim reads and writes
}

// Start starts a server, which ends with the test. Its logs go to the test's
// when the test fails. It fails the test when Exim is not there.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	exim, err := findExim()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "smtpd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := os.RemoveAll(dir)
		if err != nil {
			t.Errorf("removing the mail server's folder: %v", err)
		}
	})
	s := &Server{Host: "localhost", CAFile: filepath.Join(dir, "ca.pem"), dir: dir}

	// Exim inherits the listening socket: the port cannot be lost to somebody
	// else between its choice and its use, and clients need not wait.
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s.Port = listener.Addr().(*net.TCPAddr).Port
	socket, err := listener.File()
	_ = listener.Close() // a copy remains
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	pki, err := newCertificates(cmp.Or(o.Certificate, "good"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.Roots = pki.roots
	config, err := configuration(o, dir, s.Port)
	if err != nil {
		t.Fatal(err)
	}
	err = exim.prepare(dir, map[string][]byte{
		"ca.pem": pki.ca, "certificate.pem": pki.certificate, "key.pem": pki.key, configFile: []byte(config),
	})
	if err != nil {
		t.Fatal(err)
	}

	ended, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close()
	var output bytes.Buffer
	cmd := exec.Command("/bin/sh", "-c", watch, "sh", exim.path, filepath.Join(dir, configFile), dir)
	cmd.Dir = "/" // not the folder, which the shell removes
	cmd.Env = exim.environment(dir)
	cmd.ExtraFiles = []*os.File{socket, ended}
	cmd.Stdout, cmd.Stderr = &output, &output
	// What a terminal sends to the test's process group, the shell must outlive.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	if err != nil {
		_ = end.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var logs []byte
		if t.Failed() {
			logs = s.logs()
		}
		_ = end.Close()
		_ = cmd.Wait() // what the shell did not remove is removed next
		if t.Failed() {
			t.Logf("%s of the mail server on port %d:\n%s%s", exim.path, s.Port, output.Bytes(), logs)
		}
	})
	err = s.probe(o.TLS == "implicit")
	if err != nil {
		t.Fatalf("the mail server does not greet: %v", err)
	}
	return s
}

// probe waits for the server's greeting.
func (s *Server) probe(implicitTLS bool) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(probeIP)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(patience))
	if err != nil {
		return err
	}
	if implicitTLS {
		// The certificate may be a bad one: judging it is the test's business.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "220 ") {
		return fmt.Errorf("it said %q", line)
	}
	_, err = conn.Write([]byte("QUIT\r\n"))
	return err
}

// logs returns what Exim wrote to its log files.
func (s *Server) logs() []byte {
	var logs []byte
	for _, name := range []string{"panic.log", "main.log", "reject.log"} {
		text, err := os.ReadFile(filepath.Join(s.dir, "log", name))
		if err == nil { // Exim makes a file when it has something to say
			logs = fmt.Appendf(logs, "%s:\n%s", name, text)
		}
	}
	return logs
}

// Messages returns the messages delivered so far in the order of their
// arrival, each once whatever the number of its recipients: as the client sent
// it with CR LF line ends, after header fields by Exim, among them Return-path
// and Envelope-to, which tell the SMTP envelope.
func (s *Server) Messages(t testing.TB) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "mail")) // sorted by name
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]byte
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "temp.") {
			continue // being written
		}
		message, err := os.ReadFile(filepath.Join(s.dir, "mail", entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, message)
	}
	return messages
}

// Wait returns the messages delivered so far once there are n of them, or
// fails the test. A message is delivered shortly after its client was told
// that it is taken.
func (s *Server) Wait(t testing.TB, n int) [][]byte {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		messages := s.Messages(t)
		if len(messages) >= n {
			return messages
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages were delivered within %v, want %d", len(messages), patience, n)
		}
	}
}

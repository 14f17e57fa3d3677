// Package redis starts real Redis servers for tests: private ones that keep
// everything in a temporary folder and end with the test.
package redis

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"authnzerver/test/parts"
)

const (
	// patience bounds every wait for Redis, which answers within milliseconds
	// on an idle machine.
	patience = 10 * time.Second
	// watch is the shell script that starts the Redis $2 and tells its process id.
	// When pipe 3 is closed, as it is however the test's process ends, it kills
	// the process and removes the folder $1 if that is wanted: not when "keep"
	// was said. It complains to nobody, as the test may be gone.
	//
	// When a process group with a paused process loses its parent, all in it get
	// SIGHUP, which the shell must outlive.
	watch = `
trap '' HUP
dir=$1
shift
"$@" 3<&- 4>&- >>"$dir/log" 2>&1 &
echo "$!" >&4
exec 4>&-
read -r word <&3
exec >/dev/null 2>&1
kill -s KILL "$!"
wait
[ "$word" = keep ] || rm -rf "$dir"
`
)

// Options say how a server is. The zero value listens on a socket in the file
// system only, takes everybody, and forgets everything when it ends.
type Options struct {
	Password   string
	TCP        bool // listens on a port of 127.0.0.1 instead
	TLS        bool // the same with TLS
	AppendOnly bool // keeps its data when it is killed, at the cost of being slow
	Cluster    bool // is one node of a cluster that has no others
}

// Server is a Redis server.
type Server struct {
	// URL is where to reach it, with the password if there is one.
	URL string
	// Roots has the authority of its certificate.
	Roots *x509.CertPool

	network, address string // of its socket
	dir              string // everything Redis reads and writes
	command          []string
	environment      []string

	shell   *exec.Cmd
	end     *os.File    // closed, it ends the process
	process *os.Process // nil while the server is killed
}

// Start starts a server, which ends with the test. Its log goes to the test's
// when the test fails. It fails the test when Redis is not there.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	program, lib, err := find()
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's own folder: the path of a socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := os.RemoveAll(dir)
		if err != nil {
			t.Errorf("removing the Redis server's folder: %v", err)
		}
	})
	s := &Server{dir: dir, network: "unix", address: filepath.Join(dir, "socket")}
	if lib != "" {
		s.environment = append(os.Environ(), "LD_LIBRARY_PATH="+lib)
	}
	s.command = []string{program, "--dir", dir, "--save", "", "--appendonly", "no", "--enable-debug-command", "local"}
	set := func(args ...string) { s.command = append(s.command, args...) }
	where := url.URL{Scheme: "unix", Path: s.address}
	if o.TCP || o.TLS {
		s.network, s.address, where = "tcp", freePort(t), url.URL{Scheme: "redis"}
		where.Host = s.address
		_, port, _ := strings.Cut(s.address, ":")
		set("--bind", "127.0.0.1")
		if o.TLS {
			where.Scheme = "rediss"
			s.certify(t)
			set("--port", "0", "--tls-port", port, "--tls-auth-clients", "no",
				"--tls-cert-file", filepath.Join(dir, "certificate.pem"), "--tls-key-file", filepath.Join(dir, "key.pem"))
		} else {
			set("--port", port)
		}
	} else {
		set("--port", "0", "--unixsocket", s.address)
	}
	if o.Password != "" {
		where.User = url.UserPassword("default", o.Password)
		set("--requirepass", o.Password)
	}
	if o.AppendOnly {
		set("--appendonly", "yes", "--appendfsync", "always")
	}
	if o.Cluster {
		set("--cluster-enabled", "yes", "--cluster-port", "0")
	}
	s.URL = where.String()
	t.Cleanup(func() {
		s.finish("")
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log")) // there is none if nothing was said
			t.Logf("%s at %s:\n%s", program, s.address, log)
		}
	})
	s.Restart(t)
	return s
}

// certify makes the server's certificate: that of package httptest, which is
// for 127.0.0.1.
func (s *Server) certify(t testing.TB) {
	t.Helper()
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	certificate := https.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AddCert(https.Certificate())
	for name, block := range map[string]*pem.Block{
		"certificate.pem": {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]},
		"key.pem":         {Type: "PRIVATE KEY", Bytes: key},
	} {
		err = os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(block), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// freePort returns an address whose port nobody uses now.
func freePort(t testing.TB) string {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// find returns the Redis unpacked by scripts/test-requirements with the folder of
// its libraries, or else one that is installed.
func find() (program, lib string, err error) {
	program, lib, err = parts.Find("redis", "usr/bin/redis-server")
	if err == nil {
		return program, lib, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		program, err = exec.LookPath(name)
		if err == nil {
			return program, "", nil
		}
	}
	return "", "", errors.New("there is no redis-server; run make test, or scripts/test-requirements")
}

// Restart starts the server again after Kill, at the same place. It returns when
// the server takes commands.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	ended, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		_ = end.Close()
		t.Fatal(err)
	}
	defer told.Close()
	s.end = end
	s.shell = exec.Command("/bin/sh", append([]string{"-c", watch, "sh", s.dir}, s.command...)...)
	s.shell.Dir = "/" // not the folder, which the shell removes
	s.shell.Env = s.environment
	s.shell.ExtraFiles = []*os.File{ended, tell}
	// What a terminal sends to the test's process group, the shell must outlive.
	s.shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = s.shell.Start()
	_ = tell.Close() // the shell has a copy
	if err != nil {
		_ = end.Close()
		t.Fatal(err)
	}
	line, err := bufio.NewReader(told).ReadString('\n')
	if err != nil {
		t.Fatalf("the shell of the Redis server: %v", err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	s.process, err = os.FindProcess(id)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err = s.probe()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("the Redis server does not answer: %v\n%s", err, log)
		}
	}
}

// probe asks for an answer.
func (s *Server) probe() error {
	conn, err := net.DialTimeout(s.network, s.address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if s.Roots != nil {
		return nil // it listens last; whether TLS works is the test's business
	}
	err = conn.SetDeadline(time.Now().Add(patience))
	if err != nil {
		return err
	}
	_, err = io.WriteString(conn, "PING\r\n")
	if err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte("+PONG")) && !bytes.HasPrefix(line, []byte("-NOAUTH")) {
		return fmt.Errorf("it said %q", line)
	}
	return nil
}

// finish kills the server, if it is there, and waits for its end. The word says
// whether its folder stays.
func (s *Server) finish(word string) {
	if s.end == nil {
		return
	}
	_, _ = io.WriteString(s.end, word) // the shell may be gone
	_ = s.end.Close()
	_ = s.shell.Wait() // its status is that of what it killed
	s.end, s.process = nil, nil
}

// Kill ends the server at once, as a power cut does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.process == nil {
		t.Fatal("the Redis server is not there")
	}
	s.finish("keep\n")
}

// Pause stops the server: connections stay, new ones are made by the kernel,
// and nothing is answered until Resume.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Resume ends what Pause began.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *Server) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if s.process == nil {
		t.Fatal("the Redis server is not there")
	}
	err := s.process.Signal(signal)
	if err != nil {
		t.Fatal(err)
	}
}

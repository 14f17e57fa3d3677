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
	"testing"
	"time"

	"authnzerver/test/daemon"
	"authnzerver/test/parts"
)

// patience bounds every wait for Redis, which answers within milliseconds on an
// idle machine.
const patience = 10 * time.Second

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
	daemon           daemon.Daemon
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
	s := &Server{dir: dir, network: "unix", address: filepath.Join(dir, "socket")}
	s.daemon = daemon.Daemon{Dir: dir, Lib: lib, Probe: s.probe}
	s.daemon.Command = []string{program, "--dir", dir, "--save", "", "--appendonly", "no", "--enable-debug-command", "local"}
	set := func(args ...string) { s.daemon.Command = append(s.daemon.Command, args...) }
	where := url.URL{Scheme: "unix", Path: s.address}
	if o.TCP || o.TLS {
		free, err := daemon.FreePort()
		check(t, err)
		port := strconv.Itoa(free)
		s.network, s.address, where = "tcp", net.JoinHostPort("127.0.0.1", port), url.URL{Scheme: "redis"}
		where.Host = s.address
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
		log := s.daemon.Log()
		err := s.daemon.Close()
		if err != nil {
			t.Errorf("end the Redis server: %v", err)
		}
		if t.Failed() {
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
	check(t, s.daemon.Start())
}

// Kill ends the server at once, as a power cut does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	check(t, s.daemon.Kill())
}

// Pause stops the server: connections stay, new ones are made by the kernel,
// and nothing is answered until Resume.
func (s *Server) Pause(t testing.TB) {
	t.Helper()
	check(t, s.daemon.Pause())
}

// Resume ends what Pause began.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	check(t, s.daemon.Resume())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
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

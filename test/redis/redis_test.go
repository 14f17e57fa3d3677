package redis_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authnzerver/test/redis"
)

// patience bounds every wait for an answer.
const patience = 10 * time.Second

// dial opens a connection to a server.
func dial(s *redis.Server) (net.Conn, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	switch u.Scheme {
	case "unix":
		conn, err = net.Dial("unix", u.Path)
	case "rediss":
		conn, err = tls.Dial("tcp", u.Host, &tls.Config{RootCAs: s.Roots})
	default:
		conn, err = net.Dial("tcp", u.Host)
	}
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// ask sends commands, one a line, and returns the first line of each answer.
func ask(t *testing.T, s *redis.Server, commands ...string) []string {
	t.Helper()
	conn, err := dial(s)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var answers []string
	for _, command := range commands {
		_, err = io.WriteString(conn, command+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, strings.TrimSpace(line))
	}
	return answers
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options        redis.Options
		commands, want []string
	}{
		"none":     {redis.Options{}, []string{"PING", "SET a 1", "CLUSTER INFO"}, []string{"+PONG", "+OK", "-ERR This instance has cluster support disabled"}},
		"tcp":      {redis.Options{TCP: true}, []string{"PING"}, []string{"+PONG"}},
		"tls":      {redis.Options{TLS: true}, []string{"PING"}, []string{"+PONG"}},
		"password": {redis.Options{Password: "p q"}, []string{"PING", `AUTH "p"`, `AUTH "p q"`, "PING"}, []string{"-NOAUTH Authentication required.", "-WRONGPASS invalid username-password pair or user is disabled.", "+OK", "+PONG"}},
		"cluster":  {redis.Options{Cluster: true}, []string{"CLUSTER KEYSLOT a"}, []string{":15495"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, redis.Start(t, test.options), test.commands...)
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", test.want) {
				t.Errorf("it said %q, want %q", got, test.want)
			}
		})
	}
}

func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	for keeps, want := range map[bool]string{true: "$1", false: "$-1"} {
		s := redis.Start(t, redis.Options{AppendOnly: keeps})
		ask(t, s, "SET a 1")
		s.Kill(t)
		conn, err := dial(s)
		if err == nil {
			_ = conn.Close()
			t.Error("a server that was killed is there")
		}
		s.Restart(t)
		if got := ask(t, s, "GET a"); got[0] != want {
			t.Errorf("append-only %t: after the restart it said %q, want %q", keeps, got, want)
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := redis.Start(t, redis.Options{})
	s.Pause(t)
	conn, err := dial(s)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "PING\r\n")
	if err != nil {
		t.Fatal(err)
	}
	err = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a paused server's answer: %v", err)
	}
	s.Resume(t)
	err = conn.SetReadDeadline(time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "+PONG\r\n" {
		t.Errorf("after the pause: %q, %v", line, err)
	}
}

// folder returns the folder of a server that listens on a socket.
func folder(t *testing.T, s *redis.Server) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(u.Path)
}

// A server ends with its test, paused or not.
func TestEnd(t *testing.T) {
	t.Parallel()
	for _, paused := range []bool{false, true} {
		var s *redis.Server
		if !t.Run("test", func(t *testing.T) {
			s = redis.Start(t, redis.Options{})
			if paused {
				s.Pause(t)
			}
		}) {
			return
		}
		_, err := os.Stat(folder(t, s))
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	}
}

// abandon, in the environment, has TestKilled be the process that is killed.
const abandon = "REDIS_TEST_ABANDON"

// TestKilled kills the process of a test, which then ends nothing itself.
func TestKilled(t *testing.T) {
	t.Parallel()
	if what := os.Getenv(abandon); what != "" {
		s := redis.Start(t, redis.Options{})
		if what == "paused" {
			s.Pause(t)
		}
		fmt.Println(folder(t, s))
		time.Sleep(patience)
		return
	}
	for _, what := range []string{"running", "paused"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			testKilled(t, what)
		})
	}
}

func testKilled(t *testing.T, what string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), abandon+"="+what)
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
	conn, dialed := net.Dial("unix", filepath.Join(dir, "socket"))
	_ = cmd.Process.Kill() // the error is that of a process that has ended
	_ = cmd.Wait()         // killed
	if err != nil || dialed != nil {
		t.Fatalf("%q is no folder of a server: %v, %v", dir, err, dialed)
	}
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server is there: %v", err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, err = os.Stat(dir)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the folder is there: %v", err)
		}
	}
}

package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// refuses tells whether the server takes no more connections.
func (s *server) refuses() bool {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return true
	}
	_ = conn.Close() // it was only a question
	return false
}

// TestDrain stops the server while a login is under way, which is answered.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := start(t, "shutdowntimeout=60")
			u := s.newUser()
			login := envelope("user-login", fmt.Sprintf(`{"session_token": %q, "email": %q, "password": %q}`, s.session(nil), u.email, u.password), "1")
			body := seal(s.key, login, time.Now())
			// The half that is missing makes the login take as long as the
			// test likes.
			from, conn := s.dialog(rawPost("Host: localhost\r\n", body)[:len(body)/2])
			s.call("user-list", params{"user_id": 1}).ok() // by now the server has read the half
			s.signal(sig)
			s.wait("the server to take no more connections", s.refuses)
			_, err := io.WriteString(conn, rawPost("Host: localhost\r\n", body)[len(body)/2:])
			if err != nil {
				t.Fatal(err)
			}
			response, sealed := answer(t, from, "POST")
			if response.StatusCode != http.StatusOK {
				t.Fatalf("the login under way: status %d", response.StatusCode)
			}
			text, _, err := unseal(s.key, sealed)
			if err != nil {
				t.Fatal(err)
			}
			has(t, s.parse("user-login", text).ok().Response, map[string]any{"user_id": u.id})
			s.await()
			if code := s.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("the server ended with %v, want exit status 0", s.cmd.ProcessState)
			}
		})
	}
}

// TestDrainBounded stops the server while a client hangs: it is not waited for
// longer than configured.
func TestDrainBounded(t *testing.T) {
	t.Parallel()
	s := start(t, "shutdowntimeout=1")
	s.dialog("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
	s.call("user-list", params{"user_id": 1}).ok()
	began := time.Now()
	s.stop()
	if took := time.Since(began); took < 900*time.Millisecond || took > 10*time.Second {
		t.Errorf("the server took %v to stop, want about a second", took)
	}
	if s.record("some requests did not end in time and were cut off") == nil {
		t.Error("the log does not say that a request was cut off")
	}
}

// TestSecondSignal ends a server that is draining at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s := start(t, "shutdowntimeout=600")
	s.dialog("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf")
	s.call("user-list", params{"user_id": 1}).ok()
	s.signal(syscall.SIGTERM)
	s.wait("the server to stop", func() bool { return s.record("stopping") != nil })
	s.wait("the server to end", func() bool {
		if s.ended() {
			return true
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
		time.Sleep(50 * time.Millisecond)
		return s.ended()
	})
	status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("the server ended with %v, want by the signal", s.cmd.ProcessState)
	}
}

package test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestIdleServerDoesNothing leaves a server alone: it neither asks its database nor reads
// or writes anything else, but for what its threads wake each other with, eight bytes a time.
func TestIdleServerDoesNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call("session-exists", params{"session_token": s.session(nil)}).ok()
	time.Sleep(3 * time.Second) // what it does after the start
	const wakeUps = 256         // bytes, less than a query and its answer
	before := moved(t, s)
	time.Sleep(4 * time.Second)
	idle := moved(t, s)
	if idle-before > wakeUps {
		t.Errorf("an idle server has read and written %d bytes", idle-before)
	}
	s.call("session-exists", params{"session_token": "none"})
	if busy := moved(t, s); busy-idle <= wakeUps {
		t.Errorf("a request took only %d bytes", busy-idle)
	}
}

// moved is how many bytes a server has read and written (proc_pid_io(5)).
func moved(t *testing.T, s *server) (sum int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		for _, name := range []string{"rchar: ", "wchar: "} {
			if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
				n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}

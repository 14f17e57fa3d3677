package test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"authnzerver/test/databases"
)

var failedCalls = flag.Int("failedcalls", 5, "how many of the calls of each kind TestFailingSystemCalls has fail, one at a time")

// systemCalls are those by which SQLite changes files.
var systemCalls = []struct{ name, errno string }{
	{"fdatasync", "EIO"}, {"fsync", "EIO"}, {"pwrite64", "EIO"}, {"pwrite64", "ENOSPC"}, {"ftruncate", "EIO"}, {"openat", "EIO"},
}

// startTraced starts a server under strace with more options. It returns nil when the server
// does not start.
func startTraced(t *testing.T, dir, key string, options ...string) *server {
	t.Helper()
	cmd, _ := serve(t, dir, slices.Concat([]string{"strace", "-f", "-qq"}, options, []string{"authnzrv"}), "secret="+key)
	s := newServer(t, cmd, dir, key)
	try(t, "start strace", cmd.Start())
	go func() {
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(s.exited)
	}()
	t.Cleanup(s.killTraced)
	var ready map[string]any
	s.wait("the server to be ready, or to end", func() bool {
		ready = s.record("ready")
		return ready != nil || s.ended()
	})
	if ready == nil {
		if text := s.log.String(); !strings.Contains(text, "authnzrv: ") || strings.Contains(text, "goroutine ") {
			t.Errorf("the server ended without saying why:\n%s", text)
		}
		return nil
	}
	s.at(ready)
	return s
}

// killTraced kills the server, which strace runs.
func (s *server) killTraced() {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.cmd.Process.Pid, s.cmd.Process.Pid))
	if err != nil {
		return // it has ended
	}
	for pid := range strings.FieldsSeq(string(children)) {
		n, err := strconv.Atoi(pid)
		if err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL) // it may have ended just now
		}
	}
	s.await()
}

// TestFailingSystemCalls has the calls by which SQLite writes fail, one at a time. The server
// does not start, and says why, or it answers every request; what it acknowledged is there
// after the next start, and the file is sound.
func TestFailingSystemCalls(t *testing.T) {
	t.Parallel()
	if kind != databases.SQLite {
		return // the others' files are their own
	}
	answered, refused, notStarted := 0, 0, 0
	for _, c := range systemCalls {
		for i := range *failedCalls {
			n := 1 + i
			if *failedCalls <= 10 {
				n = 1 + 3*i // spread over what happens
			}
			name := fmt.Sprintf("%s %d: %s", c.name, n, c.errno)
			dir, key := t.TempDir(), newKey()
			first := startIn(t, dir, "secret="+key)
			u := first.newUser()
			first.stop()
			s := startTraced(t, dir, key, "-o", os.DevNull, "-e", "trace="+c.name, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", c.name, c.errno, n))
			want := u.name
			if s == nil {
				notStarted++
			} else {
				for j := range 8 {
					next := fmt.Sprintf("Name %d", j)
					r := s.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": next}})
					switch {
					case r.Success:
						want = next
						answered++
					case slices.Contains(mayFailWith, r.Code):
						refused++
					default:
						t.Errorf("%s: a change ended in %s", name, r.Code)
					}
				}
				s.killTraced()
			}
			again := startIn(t, dir, "secret="+key)
			row := again.call("user-list", params{"user_id": u.id}).ok().Response["user_info"].([]any)[0].(map[string]any)
			if row["full_name"] != want {
				t.Errorf("%s: the user is called %v, want %s, which was acknowledged last", name, row["full_name"], want)
			}
			again.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": "Afterwards"}}).ok()
			again.stop()
			got := authnzrv(t, dir, "", []string{"AUTHNZERVER_AUTHDB=" + databaseOf(t, dir)}, "db", "check")
			if got.status != 0 {
				t.Errorf("%s: the database is not sound:\n%s%s", name, got.stdout, got.stderr)
			}
		}
	}
	t.Logf("%d changes were acknowledged, %d refused; %d times the server did not start", answered, refused, notStarted)
	if answered == 0 || refused == 0 || notStarted == 0 {
		t.Errorf("%d changes were acknowledged, %d refused; %d times the server did not start: this shows nothing", answered, refused, notStarted)
	}
}

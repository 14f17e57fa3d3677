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
	"authnzerver/test/figures"
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
			want := []string{u.name}
			if s == nil {
				notStarted++
			} else {
				for j := range 8 {
					next := fmt.Sprintf("Name %d", j)
					r := s.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": next}})
					switch {
					case r.Success:
						want = []string{next}
						answered++
					case r.Code == "unknown_outcome":
						want = append(want, next)
						refused++
					case slices.Contains(mayFailWith, r.Code):
						refused++
					default:
						t.Errorf("%s: a change ended in %s", name, r.Code)
					}
					if !r.Success && i%2 == 0 {
						break // what was undone in memory may still be in the file
					}
				}
				s.killTraced()
			}
			again := startIn(t, dir, "secret="+key)
			row := again.call("user-list", params{"user_id": u.id}).ok().Response["user_info"].([]any)[0].(map[string]any)
			if !slices.Contains(want, row["full_name"].(string)) {
				t.Errorf("%s: the user is called %v, want one of %q, of which the first was acknowledged last", name, row["full_name"], want)
			}
			again.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": "Afterwards"}}).ok()
			again.stop()
			got := authnzrv(t, dir, "", []string{"AUTHNZERVER_AUTHDB=" + databaseOf(t, dir)}, "db", "check")
			if got.status != 0 {
				t.Errorf("%s: the database is not sound:\n%s%s", name, got.stdout, got.stderr)
			}
		}
	}
	if answered == 0 || refused == 0 || notStarted == 0 {
		t.Errorf("%d changes were acknowledged, %d refused; %d times the server did not start: this shows nothing", answered, refused, notStarted)
	}
	found(t, figures.Figure{
		Name: "failing system calls", Unit: "false successes", Target: "0", Control: float64(refused + notStarted),
		Note: fmt.Sprintf("%d calls of each of %d kinds failed; %d changes were acknowledged, %d refused, %d times the server did not start",
			*failedCalls, len(systemCalls), answered, refused, notStarted),
	})
}

// TestDiskDoesNotSync has a commit fail after all of it was written, and the server end right
// after: the change may be there afterwards or not, so neither success nor failure is told.
func TestDiskDoesNotSync(t *testing.T) {
	t.Parallel()
	if kind != databases.SQLite {
		return // the others' files are their own
	}
	dir, key := t.TempDir(), newKey()
	first := startIn(t, dir, "secret="+key)
	u := first.newUser()
	first.stop()
	for n := 1; n < 20; n++ {
		s := startTraced(t, dir, key, "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d+", n))
		if s == nil {
			continue // it syncs at the start, too
		}
		want := []string{}
		for j := 0; len(want) < 2 && j < 50; j++ {
			next := fmt.Sprintf("Name %d", j)
			r := s.call("internal-user-edit", params{"target_userid": u.id, "update_dict": params{"full_name": next}})
			if r.Success {
				want = []string{next}
				continue
			}
			r.failed("unknown_outcome")
			want = append(want, next)
			break
		}
		s.killTraced()
		if len(want) < 2 {
			continue
		}
		again := startIn(t, dir, "secret="+key)
		row := again.call("user-list", params{"user_id": u.id}).ok().Response["user_info"].([]any)[0].(map[string]any)
		if !slices.Contains(want, row["full_name"].(string)) {
			t.Errorf("the user is called %v, want one of %q", row["full_name"], want)
		}
		return
	}
	t.Error("no commit failed that came after one that did not: this shows nothing")
}

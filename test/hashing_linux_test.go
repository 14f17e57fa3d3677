package test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// children returns the processes that the server has started.
func (s *server) children() []int {
	s.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, thread := range threads {
		for field := range strings.FieldsSeq(read(s.t, thread)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				s.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestHashingProcess has the process that computes password hashes be stopped
// with the server, crash, and be left behind by it.
func TestHashingProcess(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := s.newUser()
	check := func() { s.call("user-passcheck-nosession", params{"email": u.email, "password": u.password}).ok() }
	first := s.children()
	if len(first) != 1 {
		t.Fatalf("the server has started the processes %v, want one", first)
	}
	check()
	if name := strings.TrimSpace(read(t, fmt.Sprintf("/proc/%d/comm", first[0]))); name != "authnzrv-hashes" {
		t.Errorf("the process is called %q", name)
	}
	if args := read(t, fmt.Sprintf("/proc/%d/cmdline", first[0])); !strings.HasSuffix(args, "authnzrv\x00hash-worker\x00") {
		t.Errorf("the process has the arguments %q", args)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		err := syscall.Kill(first[0], sig)
		if err != nil {
			t.Fatal(err)
		}
	}
	check()
	if now := s.children(); !slices.Equal(now, first) {
		t.Errorf("after signals to stop: %v, want %v", now, first)
	}
	err := syscall.Kill(first[0], syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	check()
	second := s.children()
	if len(second) != 1 || slices.Equal(second, first) {
		t.Fatalf("after a crash: %v, want another than %v", second, first)
	}
	s.kill()
	s.wait("the process to end", func() bool { return errors.Is(syscall.Kill(second[0], 0), syscall.ESRCH) })

	s = startIn(t, s.dir, "secret="+s.key)
	check()
	last := s.children()
	s.stop()
	if err := syscall.Kill(last[0], 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process %d is still there after the server: %v", last[0], err)
	}
}

package hashproc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPriority looks at all threads of a process that has computed, and at
// what it got to know.
func TestPriority(t *testing.T) {
	p := newProcess(t)
	_, err := p.Compute(newJob("argon2id", 1))
	if err != nil {
		t.Fatal(err)
	}
	pid := p.child.command.Process.Pid
	own, err := unix.SchedGetAttr(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			t.Fatal(err)
		}
		its, err := unix.SchedGetAttr(id, 0)
		if err != nil {
			t.Fatal(err)
		}
		if want := min(own.Nice+nicer, mostNice); its.Nice != want || its.Policy != own.Policy {
			t.Errorf("thread %d: nice %d and policy %d, want %d and %d", id, its.Nice, its.Policy, want, own.Policy)
		}
	}
	after, err := unix.SchedGetAttr(os.Getpid(), 0)
	if err != nil || after.Nice != own.Nice {
		t.Errorf("nice of this process: %d, before %d, %v", after.Nice, own.Nice, err)
	}
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || len(environment) > 0 {
		t.Errorf("the process got the environment %q, %v", environment, err)
	}
}

package hashproc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// What the process gets of the CPUs; docs/performance.md has what other values
// did.
const (
	// nicer is how much nicer the process is than the server: when both want
	// all of a CPU, it gets a tenth (sched(7), "The nice value").
	nicer = 10
	// mostNice is the lowest priority that there is.
	mostNice = 19
	// slice is how long the process computes at a stretch when it has a CPU
	// for itself. From Linux 6.12 on, whoever wakes up with a shorter one, as
	// the default is, need not wait for its end. It is the longest that Linux
	// grants.
	slice = 100 * time.Millisecond
)

// LowerPriority lowers the priority of the process. On Linux every thread has
// one: those to come inherit it.
func LowerPriority() error {
	lowered := map[int]bool{}
	for more := true; more; {
		more = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil {
				return fmt.Errorf("list the threads: %w", err)
			}
			if lowered[id] {
				continue
			}
			more, lowered[id] = true, true
			err = lower(id)
			if err != nil && !errors.Is(err, unix.ESRCH) { // it ended meanwhile
				return err
			}
		}
	}
	return nil
}

// lower lowers the priority of a thread that has the server's, or the new one
// already: the server's is that of the process which it is a child of.
func lower(id int) error {
	server, err := unix.SchedGetAttr(os.Getppid(), 0)
	if err != nil {
		return fmt.Errorf("read the priority of the server: %w", err)
	}
	if server.Policy != unix.SCHED_NORMAL && server.Policy != unix.SCHED_BATCH {
		return nil // the operator has chosen another kind of scheduling
	}
	err = unix.SchedSetAttr(id, &unix.SchedAttr{
		Policy: server.Policy, Nice: min(server.Nice+nicer, mostNice), Runtime: uint64(slice.Nanoseconds()),
	}, 0)
	if err != nil {
		return fmt.Errorf("lower the priority: %w", err)
	}
	return nil
}

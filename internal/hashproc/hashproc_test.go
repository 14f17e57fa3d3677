package hashproc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"authnzerver/internal/passwd"
)

// argument makes the program of the tests the process that computes.
const argument = "hash-worker"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == argument {
		err := errors.Join(LowerPriority(), Serve(os.Stdin, os.Stdout))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newProcess starts a process and sees to it that it says nothing and ends.
func newProcess(t testing.TB) *Process {
	t.Helper()
	var stderr bytes.Buffer
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(&stderr, path, argument)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if stderr.Len() > 0 {
			t.Errorf("the process says:\n%s", &stderr)
		}
	})
	return p
}

func newJob(variant string, i int) passwd.Job {
	return passwd.Job{
		Variant: variant, Params: passwd.Params{MemoryKiB: 1 << 10, Passes: 2, Lanes: 2},
		Salt: []byte("a salt of the hash"), Password: fmt.Sprint("bytes \xff\x00 and number ", i), Size: 24,
	}
}

// TestSameHashes computes hashes at once, in both ways.
func TestSameHashes(t *testing.T) {
	p := newProcess(t)
	var running sync.WaitGroup
	for i, variant := range []string{"argon2id", "argon2i", "argon2d"} {
		for j := range 20 {
			running.Go(func() {
				job := newJob(variant, 100*i+j)
				key, err := p.Compute(job)
				if err != nil || !bytes.Equal(key, job.Compute()) {
					t.Errorf("%s: %v, or another hash than the function's", variant, err)
				}
			})
		}
	}
	running.Wait()
}

// TestStartedAnew kills the process before and while it computes.
func TestStartedAnew(t *testing.T) {
	p := newProcess(t)
	job := newJob("argon2id", 1)
	job.Params.MemoryKiB = 64 << 10
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 60 * time.Millisecond} {
		first, err := p.current()
		if err != nil {
			t.Fatal(err)
		}
		killed := make(chan error, 1)
		go func() {
			time.Sleep(after)
			killed <- first.command.Process.Kill()
		}()
		key, err := p.Compute(job)
		if err != nil || !bytes.Equal(key, job.Compute()) {
			t.Errorf("killed after %v: %v, or another hash than the function's", after, err)
		}
		err = <-killed
		if err != nil {
			t.Error(err)
		}
	}
}

// TestLost has processes that cannot compute.
func TestLost(t *testing.T) {
	_, err := Start(t.Output(), filepath.Join(t.TempDir(), "nothing"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	ends, err := Start(t.Output(), "/bin/false")
	if err != nil {
		t.Fatal(err)
	}
	defer ends.Close()
	_, err = ends.Compute(newJob("argon2id", 1))
	if !errors.Is(err, ErrLost) {
		t.Errorf("a program that ends: %v", err)
	}
	p := newProcess(t)
	running := make(chan error, 1)
	long := newJob("argon2id", 1)
	long.Params = passwd.Params{MemoryKiB: 1 << 20, Passes: 16, Lanes: 1}
	go func() {
		_, err := p.Compute(long)
		running <- err
	}()
	_, err = p.Compute(newJob("argon2id", 1))
	if err != nil {
		t.Error(err)
	}
	p.Close()
	_, err = p.Compute(newJob("argon2id", 1))
	if !errors.Is(err, ErrLost) {
		t.Errorf("closed: %v", err)
	}
	err = <-running
	if !errors.Is(err, ErrLost) {
		t.Errorf("closed while it computes: %v", err)
	}
	p.Close()
}

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// The child of the crash tests runs writers until it is killed. Writer w
// makes transactions 1, 2, 3 …; transaction i inserts rowsPerWrite sessions
// and sets the counter of the writer, which is a session too, to i.
const (
	crashWriters = 8
	rowsPerWrite = 3
	// cyclesVariable is the number of kills, for runs that are longer than
	// the default.
	cyclesVariable = "AUTHNZERVER_CRASH_CYCLES"
	defaultCycles  = 20
	// earlyVariable makes the child acknowledge before it commits.
	earlyVariable = "AUTHNZERVER_STORE_TEST_EARLY"
)

func counterName(writer int) string { return fmt.Sprintf("counter %d", writer) }

func rowName(writer, write, row int) string { return fmt.Sprintf("row %d %d %d", writer, write, row) }

// runWriter is the child. It prints "writer write" for each write once Update
// has returned nil.
func runWriter() int {
	s, err := store.Open(context.Background(), store.Options{URL: os.Getenv(childURL), NormalizeEmail: strings.ToLower})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var writers sync.WaitGroup
	for w := range crashWriters {
		writers.Go(func() {
			err := write(s, w, os.Getenv(earlyVariable) != "")
			fmt.Fprintln(os.Stderr, err)
		})
	}
	writers.Wait()
	return 1
}

// write makes the writes of one writer until one fails.
func write(s *store.Store, writer int, early bool) error {
	i, err := readCounter(s, writer)
	if err != nil {
		return err
	}
	for {
		i++
		err := s.Update(context.Background(), func(ctx context.Context, tx *store.Tx) error {
			err := writeRows(ctx, tx, writer, i)
			if err == nil && early {
				fmt.Println(writer, i)
				time.Sleep(2 * time.Millisecond) // so that a kill falls in between
			}
			return err
		})
		if err != nil {
			return err
		}
		if !early {
			fmt.Println(writer, i)
		}
	}
}

func writeRows(ctx context.Context, tx *store.Tx, writer, i int) error {
	counter := newSession(counterName(writer), store.AnonymousID, tx.Now())
	if i == 1 {
		err := tx.InsertSession(ctx, counter)
		if err != nil {
			return err
		}
	}
	for row := range rowsPerWrite {
		err := tx.InsertSession(ctx, newSession(rowName(writer, i, row), store.AnonymousID, tx.Now()))
		if err != nil {
			return err
		}
	}
	return tx.SetSessionInfo(ctx, counter.Digest, fmt.Appendf(nil, `{"n": %d}`, i))
}

// readCounter returns the number of the last write of a writer.
func readCounter(s *store.Store, writer int) (int, error) {
	session, _, err := s.Session(context.Background(), token.Sum(counterName(writer)))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	_, err = fmt.Sscanf(string(session.ExtraInfo), `{"n": %d}`, &n)
	return n, err
}

// A child is a process of the test binary.
type child struct {
	cmd    *exec.Cmd
	stdout *lines
	stderr bytes.Buffer
}

// lines collects what a child prints; first is closed with the first line.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	first chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() == 0 {
		close(l.first)
	}
	return l.text.Write(b)
}

func startChild(t *testing.T, name, url string, environment ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0]), stdout: &lines{first: make(chan struct{})}}
	c.cmd.Env = append(os.Environ(), append(environment, childVariable+"="+name, childURL+"="+url)...)
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, &c.stderr
	err := c.cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// waitForLine waits until the child has printed something.
func (c *child) waitForLine(t *testing.T) {
	t.Helper()
	select {
	case <-c.stdout.first:
	case <-time.After(time.Minute):
		c.kill(t)
		t.Fatalf("the child printed nothing; its errors: %s", c.stderr.String())
	}
}

// kill kills the child, which must be running, and returns what it printed.
func (c *child) kill(t *testing.T) string {
	t.Helper()
	err := c.cmd.Process.Kill()
	if err != nil {
		t.Fatal(err)
	}
	err = c.cmd.Wait() // reports the kill
	if err == nil || c.cmd.ProcessState.Exited() || c.stderr.Len() > 0 {
		t.Fatalf("the child ended by itself: %v: %s", err, c.stderr.String())
	}
	return c.stdout.text.String()
}

// acknowledged adds the acknowledgements in what a child printed to last, by
// writer. A line that the kill has cut off counts for nothing.
func acknowledged(t *testing.T, printed string, last map[int]int) {
	t.Helper()
	for line := range strings.SplitAfterSeq(printed, "\n") {
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		var writer, i int
		_, err := fmt.Sscan(line, &writer, &i)
		if err != nil {
			t.Fatalf("the child printed %q", line)
		}
		last[writer] = max(last[writer], i)
	}
}

// crash lets writers run on the file for a random time after the first write
// and kills them. It reopens the file and returns how many acknowledged writes are lost.
func crash(t *testing.T, path string, last map[int]int, environment ...string) (lost int) {
	t.Helper()
	c := startChild(t, childWriter, sqliteURL(path), environment...)
	c.waitForLine(t)
	time.Sleep(rand.N(100 * time.Millisecond))
	acknowledged(t, c.kill(t), last)

	s, err := store.Open(t.Context(), store.Options{URL: sqliteURL(path), NormalizeEmail: strings.ToLower})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		err := s.Close()
		if err != nil {
			t.Error(err)
		}
	}()
	raw := rawSQLite(t, path)
	defer raw.Close()
	sound(t, raw)
	rows := 0
	for writer := range crashWriters {
		n, err := readCounter(s, writer)
		if err != nil {
			t.Fatal(err)
		}
		lost += max(0, last[writer]-n)
		if n > 0 {
			rows += n*rowsPerWrite + 1
		}
		// Every row of every write up to the counter, and none of the next.
		for i := 1; i <= n+1; i++ {
			for row := range rowsPerWrite {
				_, _, err := s.Session(t.Context(), token.Sum(rowName(writer, i, row)))
				if i <= n && err != nil {
					t.Fatalf("writer %d, write %d, row %d: %v", writer, i, row, err)
				}
				if i > n && !errors.Is(err, store.ErrNotFound) {
					t.Fatalf("writer %d, write %d is half done", writer, i)
				}
			}
		}
	}
	equal(t, "rows", one[int](t, raw, "SELECT count(*) FROM sessions"), rows)
	return lost
}

// newCrashFile returns an initialised file that is closed.
func newCrashFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.sqlite")
	f := &fixture{t: t, clock: newClock()}
	var err error
	f.Store, err = store.Open(t.Context(), store.Options{URL: sqliteURL(path), NormalizeEmail: strings.ToLower})
	if err != nil {
		t.Fatal(err)
	}
	f.initialize()
	err = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKilledWritersLoseNothing(t *testing.T) {
	t.Parallel()
	cycles := defaultCycles
	if text := os.Getenv(cyclesVariable); text != "" {
		var err error
		cycles, err = strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", cyclesVariable, err)
		}
	}
	var path string
	var last map[int]int
	writes := 0
	for cycle := range cycles {
		if cycle%10 == 0 { // a new file now and then, so that checking stays quick
			path, last = newCrashFile(t), map[int]int{}
		}
		if lost := crash(t, path, last); lost != 0 {
			t.Fatalf("cycle %d: %d acknowledged writes are lost", cycle, lost)
		}
		if cycle%10 == 9 || cycle == cycles-1 {
			for _, n := range last {
				writes += n
			}
		}
	}
	if writes < cycles {
		t.Errorf("%d writes in %d cycles: too few to see a loss", writes, cycles)
	}
	t.Logf("%d kills, %d acknowledged writes", cycles, writes)
}

// The negative control: writers that acknowledge before they commit are
// caught.
func TestEarlyAcknowledgementIsSeen(t *testing.T) {
	t.Parallel()
	for kill := range 100 {
		lost := crash(t, newCrashFile(t), map[int]int{}, earlyVariable+"=1")
		if lost > 0 {
			t.Logf("seen at kill %d", kill+1)
			return
		}
	}
	t.Error("100 kills have shown no loss")
}

// Package hashproc computes password hashes in a process of its own, at a lower
// priority than the server's.
//
// A hash keeps several CPUs busy for a good part of a second. In the server's
// own threads it would compete with all other requests for them, and Linux has
// priorities for threads, to which neither goroutines nor the lanes of an
// Argon2 library can be kept. In another process, all other requests come
// first, and a machine whose memory runs out loses hashes and not the server.
// See docs/performance.md for the figures.
//
// The process is the same program, started with the arguments that [Start] is
// given, which calls [LowerPriority] and [Serve]. It has no environment, no open files but its
// standard streams, and ends when its input does, also when the server is killed.
package hashproc

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"authnzerver/internal/passwd"
)

// ErrLost: the process ended while it computed, and so did the next one.
var ErrLost = errors.New("the process that computes password hashes has ended")

// A question asks for a hash, an answer has it. Both go through a pipe of their
// own as package gob writes them.
type question struct {
	ID  uint64
	Job passwd.Job
}

type answer struct {
	ID  uint64
	Key []byte
}

// A Process computes hashes in another process. It is safe for concurrent use.
type Process struct {
	path   string
	args   []string
	stderr io.Writer

	mu     sync.Mutex
	child  *child // nil when the last one ended
	closed bool
}

// Start starts a program that calls [Serve] when it is given these arguments.
// What it has to complain about goes to stderr. The caller calls Close.
func Start(stderr io.Writer, path string, args ...string) (*Process, error) {
	p := &Process{path: path, args: args, stderr: stderr}
	_, err := p.current()
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Compute returns what job.Compute returns. When the process ends meanwhile, it
// is started anew, once. It fails with ErrLost.
func (p *Process) Compute(job passwd.Job) ([]byte, error) {
	var ended error
	for range 2 {
		c, err := p.current()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLost, err)
		}
		key, err := c.compute(job)
		if err == nil {
			return key, nil
		}
		ended = err
		p.discard(c)
	}
	return nil, fmt.Errorf("%w: %w", ErrLost, ended)
}

// current returns the child, a new one if there is none.
func (p *Process) current() (*child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, os.ErrClosed
	}
	if p.child == nil {
		next, err := start(p.stderr, p.path, p.args)
		if err != nil {
			return nil, fmt.Errorf("start a process for password hashes: %w", err)
		}
		p.child = next
	}
	return p.child, nil
}

// discard ends a child that failed; the next call starts another.
func (p *Process) discard(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.end()
	if p.child == c {
		p.child = nil
	}
}

// Close ends the process. What it computes still fails with ErrLost.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.child != nil {
		p.child.end()
		p.child = nil
	}
}

// A child is one run of the program.
type child struct {
	command *exec.Cmd
	in      io.WriteCloser
	// ended is closed when there are no more answers, and err says why.
	ended chan struct{}
	err   error
	wait  sync.Once

	mu      sync.Mutex
	encoder *gob.Encoder
	last    uint64
	waiting map[uint64]chan<- []byte
}

func start(stderr io.Writer, path string, args []string) (*child, error) {
	c := &child{command: exec.Command(path, args...), ended: make(chan struct{}), waiting: map[uint64]chan<- []byte{}}
	c.command.Args[0] = os.Args[0]
	c.command.Env = []string{} // what is secret in the server's stays there
	c.command.Stderr = stderr
	var err error
	c.in, err = c.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	err = c.command.Start()
	if err != nil {
		return nil, err
	}
	c.encoder = gob.NewEncoder(c.in)
	go c.read(out)
	return c, nil
}

// compute asks the child and waits for its answer.
func (c *child) compute(job passwd.Job) ([]byte, error) {
	key := make(chan []byte, 1)
	id, err := c.ask(job, key)
	if err != nil {
		return nil, err
	}
	select {
	case k := <-key:
		return k, nil
	case <-c.ended:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, id)
		return nil, c.err
	}
}

func (c *child) ask(job passwd.Job, key chan<- []byte) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.waiting[c.last] = key
	err := c.encoder.Encode(question{c.last, job})
	if err != nil {
		delete(c.waiting, c.last)
		return 0, fmt.Errorf("ask for a hash: %w", err)
	}
	return c.last, nil
}

// read hands out the answers until there are no more.
func (c *child) read(out io.Reader) {
	defer close(c.ended)
	decoder := gob.NewDecoder(out)
	for {
		var a answer
		err := decoder.Decode(&a)
		if err != nil {
			c.err = fmt.Errorf("read a hash: %w", err)
			return
		}
		c.mu.Lock()
		key, ok := c.waiting[a.ID]
		delete(c.waiting, a.ID)
		c.mu.Unlock()
		if ok {
			key <- a.Key
		}
	}
}

// end ends the child, whatever it does, and waits for that.
func (c *child) end() {
	c.wait.Do(func() {
		_ = c.in.Close()             // it may have ended by itself
		_ = c.command.Process.Kill() // the same
		<-c.ended
		_ = c.command.Wait() // says that it was killed
	})
}

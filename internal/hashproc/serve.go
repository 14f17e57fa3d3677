package hashproc

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"sync"
)

// Serve computes what is asked for on in until that ends, as many hashes at
// once as there are CPUs: more would only push each other out of the caches, and
// take more memory. The answers go to out.
func Serve(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(-1) // see answer
	c := &computer{turns: make(chan struct{}, runtime.GOMAXPROCS(0)), encoder: gob.NewEncoder(out)}
	decoder := gob.NewDecoder(in)
	for {
		var q question
		err := decoder.Decode(&q)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what to hash: %w", err)
		}
		go c.answer(&q)
	}
}

// A computer computes hashes.
type computer struct {
	turns chan struct{}

	mu      sync.Mutex
	encoder *gob.Encoder
}

func (c *computer) answer(q *question) {
	c.turns <- struct{}{}
	key := q.Job.Compute()
	// The memory of this hash is that of the next one. Left to itself, the
	// runtime would take several times as much, or give it back to the system
	// and take it again for every hash, which costs more than collecting it.
	runtime.GC()
	<-c.turns
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.encoder.Encode(answer{q.ID, key}) // who does not read it has ended
}

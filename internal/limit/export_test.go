package limit

import (
	"crypto/sha256"
	"slices"
)

// Keys is how many accounts there are.
func (l *Limiter) Keys() int {
	n := 0
	for i := range l.shards {
		n += len(l.shards[i].keys) + len(l.shards[i].shared)
	}
	return n
}

// Sum makes what a fuzz target found a file with the right checksum.
func Sum(text []byte) []byte {
	sum := sha256.Sum256(text)
	return append(slices.Clip(text), sum[:]...)
}

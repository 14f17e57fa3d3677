package limit

import (
	"crypto/sha256"
	"slices"
)

// Sum makes what a fuzz target found a file with the right checksum.
func Sum(text []byte) []byte {
	sum := sha256.Sum256(text)
	return append(slices.Clip(text), sum[:]...)
}

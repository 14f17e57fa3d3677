// Package pii keeps personal data out of logs: what must be told apart there
// is shown as a keyed hash.
package pii

import (
	"encoding/hex"
	"fmt"

	"github.com/minio/blake2b-simd"
	xblake2b "golang.org/x/crypto/blake2b"
)

// A Hasher turns personal data into short keyed hashes. It is safe for
// concurrent use.
type Hasher struct{ config *blake2b.Config }

const (
	// digestSize is the length of a hash in bytes, as the Python server
	// writes it.
	digestSize = 12
	// maxKey is the longest key that BLAKE2b takes (RFC 7693 §2.1).
	maxKey = 64
)

// person separates these hashes from every other use of the same key.
var person = []byte("authnzrv-pii\x00\x00\x00\x00")

// NewHasher returns a Hasher that is keyed with the salt. The hashes equal the
// Python server's, except that a salt of more than 64 bytes is hashed first
// instead of failing, and that the word "none" does not turn hashing off.
func NewHasher(salt string) (*Hasher, error) {
	var key []byte // nil, which is not the same as empty, for an unkeyed hash
	switch {
	case len(salt) > maxKey:
		sum := xblake2b.Sum512([]byte(salt))
		key = sum[:]
	case salt != "":
		key = []byte(salt)
	}
	h := &Hasher{&blake2b.Config{Size: digestSize, Key: key, Person: person}}
	if _, err := blake2b.New(h.config); err != nil {
		return nil, fmt.Errorf("piisalt: %w", err)
	}
	return h, nil
}

// Hash returns the hash of an item's text: 24 lower-case hexadecimal digits.
func (h *Hasher) Hash(item string) string {
	mac, err := blake2b.New(h.config)
	if err != nil {
		panic("pii: " + err.Error()) // unreachable: NewHasher tried the same configuration
	}
	_, _ = mac.Write([]byte(item)) // hash.Hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

// Package token makes the secrets that clients hold and the digests under
// which they are stored.
//
// A token is stored only as its SHA-256 digest: it has 256 random bits, so a
// plain hash is enough (OWASP ASVS 5.0, 6.5.2), and who reads the database
// holds nothing that could be presented.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

// size is the number of random bytes in a token.
const size = 32

// New returns a new token: 43 characters of unpadded URL-safe base64 that
// hold 256 random bits.
func New() string {
	var b [size]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// A Digest is the SHA-256 digest of a token.
type Digest [sha256.Size]byte

// Sum returns the digest of a token as a client sent it.
func Sum(token string) Digest { return sha256.Sum256([]byte(token)) }

// String returns the digest in the form in which databases hold it: 64
// lower-case hexadecimal digits. No token has that form.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads the form that String returns.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	if len(text) != hex.EncodedLen(len(d)) {
		return Digest{}, errors.New("a token digest has 64 hexadecimal digits")
	}
	if _, err := hex.Decode(d[:], []byte(text)); err != nil {
		return Digest{}, errors.New("a token digest has 64 hexadecimal digits")
	}
	return d, nil
}

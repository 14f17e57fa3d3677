package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"
)

const (
	// keySize is the size of a key in bytes: the first half signs, the second
	// encrypts.
	keySize = 32
	// maxKeys bounds the MACs that are computed for a message that no key
	// made. A rotation needs two keys.
	maxKeys = 16

	// howToMake ends the error about a bad key. The command is at hand
	// wherever TLS is.
	howToMake = "a key is 32 random bytes in base64, 44 characters; one can be made with: authnzrv keygen"
)

// A KeyRing holds the secrets that the server shares with its frontends. It
// is safe for concurrent use.
type KeyRing struct {
	keys []*key
}

type key struct {
	block cipher.Block
	// macs holds keyed HMACs between messages: keying one takes two blocks of
	// SHA-256.
	macs sync.Pool
}

// NewKey returns a new random key as [ParseKeys] reads it: 44 characters of
// URL-safe base64.
func NewKey() string {
	var b [keySize]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails since Go 1.24
	return base64.URLEncoding.EncodeToString(b[:])
}

// ParseKeys reads one to 16 keys, separated by commas or line breaks. The
// first is the one to seal with, all open. Blanks around a key are dropped,
// and so is one pair of quotes, around each key or around all; empty places
// don't count.
//
// A key is base64 of 32 bytes with padding in the standard or the URL-safe
// alphabet, or in a mixture as the Python server accepts it. Errors name a key
// by its position, counted from 1, and contain nothing of it.
func ParseKeys(text string) (*KeyRing, error) {
	text, unquoted := unquote(text)
	r := new(KeyRing)
	positions := make(map[[keySize / 2]byte]int)
	for item := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == ',' || c == '\n' }) {
		if !unquoted {
			item, _ = unquote(item)
		}
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		position := len(r.keys) + 1
		if position > maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
		secret, err := decodeKey(item)
		if err != nil {
			return nil, fmt.Errorf("key %d %w; %s", position, err, howToMake)
		}
		// The MAC tells which key made a message, so the signing halves must
		// differ.
		signing := [keySize / 2]byte(secret[:])
		if first, ok := positions[signing]; ok {
			return nil, fmt.Errorf("key %d is the same as key %d or begins with the same 16 bytes", position, first)
		}
		positions[signing] = position
		r.keys = append(r.keys, newKey(secret))
	}
	if len(r.keys) == 0 {
		return nil, fmt.Errorf("no key; %s", howToMake)
	}
	return r, nil
}

// unquote drops blanks and then a pair of quotes around s, unless there are
// more of the same inside.
func unquote(s string) (inner string, ok bool) {
	s = strings.TrimSpace(s)
	for _, quote := range []string{`"`, `'`} {
		if strings.HasPrefix(s, quote) && strings.HasSuffix(s, quote) && strings.Count(s, quote) == 2 {
			return s[1 : len(s)-1], true
		}
	}
	return s, false
}

var toStandard = strings.NewReplacer("-", "+", "_", "/")

// decodeKey reads one key. Bits behind the last byte are ignored: keys that
// people made up have them, and other implementations take these keys.
func decodeKey(text string) ([keySize]byte, error) {
	b, err := base64.StdEncoding.DecodeString(toStandard.Replace(text))
	if err != nil || len(b) != keySize {
		return [keySize]byte{}, errors.New("is not base64 of 32 bytes")
	}
	return [keySize]byte(b), nil
}

func newKey(secret [keySize]byte) *key {
	signing, encryption := secret[:keySize/2], secret[keySize/2:]
	block, err := aes.NewCipher(encryption)
	if err != nil {
		panic(err) // unreachable: the size is right
	}
	k := &key{block: block}
	k.macs.New = func() any { return hmac.New(sha256.New, signing) }
	return k
}

// sign appends the MAC of data to dst.
func (k *key) sign(dst, data []byte) []byte {
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	mac.Write(data)
	return mac.Sum(dst)
}

// Len returns the number of keys, at least 1.
func (r *KeyRing) Len() int { return len(r.keys) }

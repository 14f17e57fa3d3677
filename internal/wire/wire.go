// Package wire seals and opens the messages between a frontend and the server.
//
// A message is the standard base64 (RFC 4648, section 4) of a Fernet token,
// which is itself the URL-safe base64 (section 5) of
//
//	0x80 ‖ seconds since 1970, 8 bytes, big-endian ‖ IV, 16 bytes ‖
//	AES-128-CBC of the PKCS #7 padded plaintext ‖
//	HMAC-SHA256 of all that, 32 bytes
//
// (https://github.com/fernet/spec). Requests and replies have the same form.
//
// Nothing of a message is interpreted before its MAC has been found right.
// One message has one text only, but for blanks and quotes around and between
// the outer characters, so that a repeated message can't be made to look new;
// still a [Replay] goes by the bytes and not by the text.
package wire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Sizes of the parts of a token in bytes.
const (
	version    = 0x80
	headerSize = 1 + 8 + aes.BlockSize
	macSize    = sha256.Size
	minSize    = headerSize + aes.BlockSize + macSize
)

// maxTime is the last second of the year 9999. Later times have no text form
// (RFC 3339) and no sender means them.
const maxTime = 253402300799

var (
	// ErrMalformed says that a body is not a message at all, or that an
	// authentic one was put together wrongly.
	ErrMalformed = errors.New("malformed message")
	// ErrNotAuthentic says that no key of the ring made the message.
	ErrNotAuthentic = errors.New("message is not authentic")

	errOuter   = fmt.Errorf("%w: the body is not standard base64", ErrMalformed)
	errInner   = fmt.Errorf("%w: the token is not URL-safe base64", ErrMalformed)
	errSize    = fmt.Errorf("%w: the token is too short or has half a block", ErrMalformed)
	errVersion = fmt.Errorf("%w: the token has an unknown version", ErrMalformed)
	errTime    = fmt.Errorf("%w: the time stamp lies after the year 9999", ErrMalformed)
	errPadding = fmt.Errorf("%w: authentic, but the padding is wrong", ErrMalformed)
	errNoKey   = fmt.Errorf("%w: the secret of the sender is not one of ours, or the message was changed", ErrNotAuthentic)
)

// A Message is an opened message.
type Message struct {
	Plaintext []byte
	// Time is when the sender made the message, in whole seconds, UTC.
	Time time.Time
	// ID is the first half of the MAC. It is the same for every text of the
	// same token.
	ID [16]byte
	// Key is the place of the key that opened the message in its ring,
	// counted from 0. The reply is sealed with the same.
	Key int
}

// Open checks and decrypts the body of an HTTP request or reply. Blanks in
// and around the body and one pair of double quotes around it are dropped;
// apart from that the two base64 layers must be exactly as AppendSeal makes
// them.
//
// Open leaves the body alone, and the plaintext is no part of it.
// The error is ErrMalformed or ErrNotAuthentic with a detail that says
// nothing about the content. The time of the message is not checked; that is
// up to a [Replay].
func (r *KeyRing) Open(body []byte) (Message, error) {
	token, err := unwrap(body)
	if err != nil {
		return Message{}, err
	}
	if len(token) < minSize || (len(token)-minSize)%aes.BlockSize != 0 {
		return Message{}, errSize
	}
	if token[0] != version {
		return Message{}, errVersion
	}
	for i, k := range r.keys {
		if !k.verify(token) {
			continue
		}
		seconds := binary.BigEndian.Uint64(token[1:])
		if seconds > maxTime {
			return Message{}, errTime
		}
		m := Message{Time: time.Unix(int64(seconds), 0).UTC(), Key: i}
		copy(m.ID[:], token[len(token)-macSize:])
		m.Plaintext, err = k.decrypt(token)
		if err != nil {
			return Message{}, err
		}
		return m, nil
	}
	return Message{}, errNoKey
}

// Both layers of base64, with padding and without set bits behind the last
// byte, so that bytes have one text only.
var (
	standard = base64.StdEncoding.Strict()
	urlSafe  = base64.URLEncoding.Strict()
)

// unwrap decodes both layers of base64.
func unwrap(body []byte) ([]byte, error) {
	text := bytes.Trim(body, blanks)
	if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
		text = text[1 : n-1]
	}
	if hasAny(text, blanks) {
		text = slices.DeleteFunc(bytes.Clone(text), func(c byte) bool { return strings.IndexByte(blanks, c) >= 0 })
	}
	text, err := standard.AppendDecode(nil, text)
	if err != nil {
		return nil, errOuter
	}
	// The decoder passes over line breaks even when it is strict.
	if hasAny(text, "\r\n") {
		return nil, errInner
	}
	token, err := urlSafe.AppendDecode(nil, text)
	if err != nil {
		return nil, errInner
	}
	return token, nil
}

// hasAny is bytes.ContainsAny for few characters: it looks for one after the other, with
// the CPU's vector instructions.
func hasAny(text []byte, few string) bool {
	for i := range len(few) {
		if bytes.IndexByte(text, few[i]) >= 0 {
			return true
		}
	}
	return false
}

// blanks are ASCII's white space.
const blanks = " \t\n\v\f\r"

// verify tells whether the key made the token's MAC.
func (k *key) verify(token []byte) bool {
	signed := len(token) - macSize
	var mac [macSize]byte
	return subtle.ConstantTimeCompare(k.sign(mac[:0], token[:signed]), token[signed:]) == 1
}

// decrypt decrypts an authentic token in place.
func (k *key) decrypt(token []byte) ([]byte, error) {
	iv := token[headerSize-aes.BlockSize : headerSize]
	text := token[headerSize : len(token)-macSize]
	cipher.NewCBCDecrypter(k.block, iv).CryptBlocks(text, text)

	// What is authentic was padded by a holder of the key, so this need not
	// take constant time.
	pad := int(text[len(text)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errPadding
	}
	n := len(text) - pad
	for _, b := range text[n:] {
		if int(b) != pad {
			return nil, errPadding
		}
	}
	return text[:n:n], nil
}

// AppendSeal appends to dst the body of a message that is made now with one
// key of the ring, counted from 0, and returns the extended buffer. It panics
// if the ring has no such key.
func (r *KeyRing) AppendSeal(dst, plaintext []byte, key int, now time.Time) []byte {
	var iv [aes.BlockSize]byte
	_, _ = rand.Read(iv[:]) // crypto/rand never fails since Go 1.24
	return r.appendSeal(dst, plaintext, key, now, iv)
}

func (r *KeyRing) appendSeal(dst, plaintext []byte, key int, now time.Time, iv [aes.BlockSize]byte) []byte {
	k := r.keys[key]
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	token := make([]byte, headerSize, headerSize+len(plaintext)+pad+macSize)
	token[0] = version
	binary.BigEndian.PutUint64(token[1:], uint64(now.Unix()))
	copy(token[headerSize-aes.BlockSize:], iv[:])
	token = append(token, plaintext...)
	for range pad {
		token = append(token, byte(pad))
	}
	text := token[headerSize:]
	cipher.NewCBCEncrypter(k.block, iv[:]).CryptBlocks(text, text)
	token = k.sign(token, token)
	return standard.AppendEncode(dst, urlSafe.AppendEncode(nil, token))
}

package token

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// A Kind tells what a token of the recognisable form is for. The kinds do not
// stand in for each other.
type Kind string

// The kinds.
const (
	APIKey       Kind = ""
	Refresh      Kind = "r"
	Verification Kind = "v" // of an e-mail address
)

// DefaultPrefix begins the tokens of a server that was given no other prefix.
const DefaultPrefix = "authnz"

const (
	secretDigits   = 43 // base 62 digits that hold 256 bits
	checksumDigits = 6  // base 62 digits of the checksum, 35 bits
	hintDigits     = 8  // digits of the secret that a hint shows; 208 bits stay secret
	prefixPattern  = "[a-z][a-z0-9]{1,15}"
)

var prefixForm = regexp.MustCompile("^" + prefixPattern + "$")

// A Minter makes and checks tokens of the recognisable form:
//
//	authnz_<43 digits><6 digits>      an API key
//	authnz_r_<43 digits><6 digits>    a refresh token
//	authnz_v_<43 digits><6 digits>    a token that verifies an e-mail address
//
// The digits are 0-9, A-Z and a-z. The first 43 are the secret, 256 random
// bits; the last 6 are a checksum of all before them under a key that only the
// server's database holds. A secret scanner finds such tokens with
// authnz_([rv]_)?[0-9A-Za-z]{49}, a double click selects one whole, and a token
// that this server did not make is known as such without a look into the
// database. A Minter is safe for concurrent use.
type Minter struct {
	prefix string
	key    []byte
}

// NewMinter returns a Minter. A prefix has 2 to 16 lower-case letters and
// digits, the first a letter. Tokens with another prefix that were made with
// the same key go on being valid.
func NewMinter(prefix string, key []byte) (*Minter, error) {
	if !prefixForm.MatchString(prefix) {
		return nil, fmt.Errorf("a token prefix has 2 to 16 lower-case letters and digits and begins with a letter")
	}
	return &Minter{prefix, key}, nil
}

// New returns a new token.
func (m *Minter) New(kind Kind) string {
	var secret [sha256.Size]byte
	_, _ = rand.Read(secret[:]) // crypto/rand never fails since Go 1.24
	return m.form(kind, secret)
}

// Derive returns the token that follows from a parent token and a random
// salt. Whoever has only one of the two learns nothing about the result.
func (m *Minter) Derive(kind Kind, parent string, salt []byte) string {
	mac := hmac.New(sha256.New, []byte(parent))
	mac.Write([]byte("authnzerver successor\x00" + string(kind) + "\x00"))
	mac.Write(salt)
	return m.form(kind, [sha256.Size]byte(mac.Sum(nil)))
}

func (m *Minter) form(kind Kind, secret [sha256.Size]byte) string {
	text := m.prefix + "_"
	if kind != APIKey {
		text += string(kind) + "_"
	}
	text += base62(secret[:], secretDigits)
	return text + m.checksum(text)
}

// Made reports whether text is a token of this kind that was made with the
// Minter's key. It may have been revoked since.
func (m *Minter) Made(kind Kind, text string) bool {
	prefix, digits, ok := strings.Cut(text, "_")
	if !ok || !prefixForm.MatchString(prefix) {
		return false
	}
	if kind != APIKey {
		digits, ok = strings.CutPrefix(digits, string(kind)+"_")
		if !ok {
			return false
		}
	}
	if len(digits) != secretDigits+checksumDigits {
		return false
	}
	at := len(text) - checksumDigits
	return hmac.Equal([]byte(m.checksum(text[:at])), []byte(text[at:]))
}

func (m *Minter) checksum(text string) string {
	mac := hmac.New(sha256.New, m.key)
	mac.Write([]byte(text))
	var space uint64 = 1
	for range checksumDigits {
		space *= 62
	}
	// 64 bits reduced to 35 are even to one part in 2^28.
	var sum [8]byte
	binary.BigEndian.PutUint64(sum[:], binary.BigEndian.Uint64(mac.Sum(nil))%space)
	return base62(sum[:], checksumDigits)
}

// base62 returns a number in base 62, filled up to n digits.
func base62(number []byte, n int) string {
	text := new(big.Int).SetBytes(number).Text(62)
	return strings.Repeat("0", n-len(text)) + text
}

// Hint returns the beginning of a token, by which its owner may know it again
// in a list: of "authnz_Ab3dEf9h…" it is "authnz_Ab3dEf9h".
func Hint(text string) string {
	at := strings.LastIndexByte(text, '_') + 1
	return text[:min(len(text), at+hintDigits)]
}

var oldForm = regexp.MustCompile("^[A-Za-z0-9_-]{43}$")

// Old reports whether text has the form of the Python server's tokens, which
// is that of session tokens: 43 characters of URL-safe base64.
func Old(text string) bool { return oldForm.MatchString(text) }

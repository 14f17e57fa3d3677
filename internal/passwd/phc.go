package passwd

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	argon2d "github.com/go-crypt/x/argon2"
	"golang.org/x/crypto/argon2"
)

// ErrMalformed: a stored hash is not an Argon2 hash in PHC form, or asks for
// more work than any hash of ours or of the Python server does.
var ErrMalformed = errors.New("malformed password hash")

// Params are the cost of a hash.
type Params struct {
	// MemoryKiB is the memory in KiB that one hash takes.
	MemoryKiB uint32
	// Passes is the number of passes over the memory.
	Passes uint32
	// Lanes is the number of threads that one hash uses.
	Lanes uint8
}

// DefaultParams are those of RFC 9106 §4 for servers without gigabytes to
// spare, and of argon2-cffi since 21.2: 64 MiB, three passes, four lanes.
var DefaultParams = Params{MemoryKiB: 64 << 10, Passes: 3, Lanes: 4}

// Bounds of stored and of configured parameters. A stored hash is checked
// against them before any work is done for it, so that a planted one cannot
// exhaust the machine. The largest memory is that of the first choice of
// RFC 9106 §4.
const (
	maxMemoryKiB = 2 << 20
	maxPasses    = 16
	maxLanes     = 16
	minSalt      = 8 // RFC 9106 §3.1
	maxSalt      = 64
	minKey       = 12
	maxKey       = 128
)

// Sizes of new hashes in bytes (RFC 9106 §4).
const (
	newSalt = 16
	newKey  = 32
)

// minConfiguredKiB is the least memory that may be configured, the smallest
// that the OWASP password storage cheat sheet lists.
const minConfiguredKiB = 7 << 10

// ParseParams reads parameters of the form "m=65536,t=3,p=4": memory in KiB
// from 7168 to 2097152, passes from 1 to 16 and lanes from 1 to 16.
func ParseParams(text string) (Params, error) {
	p, err := parseCost(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		return Params{}, fmt.Errorf("%q is not of the form m=65536,t=3,p=4: %w", text, err)
	}
	if p.MemoryKiB < minConfiguredKiB {
		return Params{}, fmt.Errorf("m=%d is too little memory; use at least %d (KiB)", p.MemoryKiB, minConfiguredKiB)
	}
	return p, nil
}

// String returns the form that ParseParams reads.
func (p Params) String() string {
	return fmt.Sprintf("m=%d,t=%d,p=%d", p.MemoryKiB, p.Passes, p.Lanes)
}

func parseCost(text string) (Params, error) {
	fields := strings.Split(text, ",")
	if len(fields) != 3 {
		return Params{}, errors.New("there must be three parameters")
	}
	var values [3]uint32
	for i, bound := range []struct {
		name string
		max  uint32
	}{{"m", maxMemoryKiB}, {"t", maxPasses}, {"p", maxLanes}} {
		digits, ok := strings.CutPrefix(fields[i], bound.name+"=")
		if !ok {
			return Params{}, fmt.Errorf("parameter %d must be %s", i+1, bound.name)
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n < 1 || n > uint64(bound.max) || digits != strconv.FormatUint(n, 10) {
			return Params{}, fmt.Errorf("%s must be a number from 1 to %d", bound.name, bound.max)
		}
		values[i] = uint32(n)
	}
	p := Params{MemoryKiB: values[0], Passes: values[1], Lanes: uint8(values[2])}
	if p.MemoryKiB < 8*uint32(p.Lanes) { // RFC 9106 §3.1
		return Params{}, errors.New("m must be at least 8 times p")
	}
	return p, nil
}

// A hash is a parsed PHC string.
type hash struct {
	variant string // argon2id, argon2i or argon2d
	params  Params
	salt    []byte
	key     []byte
}

// parse reads a PHC string as argon2-cffi writes it:
// $argon2id$v=19$m=65536,t=3,p=4$<salt>$<key>, both in unpadded base64.
func parse(text string) (*hash, error) {
	if len(text) > 512 {
		return nil, fmt.Errorf("%w: %d characters", ErrMalformed, len(text))
	}
	fields := strings.Split(text, "$")
	if len(fields) != 6 || fields[0] != "" {
		return nil, fmt.Errorf("%w: it has not five fields", ErrMalformed)
	}
	h := &hash{variant: fields[1]}
	switch h.variant {
	case "argon2id", "argon2i", "argon2d":
	default:
		return nil, fmt.Errorf("%w: not argon2", ErrMalformed)
	}
	if fields[2] != "v=19" {
		return nil, fmt.Errorf("%w: version is not 19", ErrMalformed)
	}
	var err error
	h.params, err = parseCost(fields[3])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, part := range []struct {
		name     string
		text     string
		dst      *[]byte
		min, max int
	}{{"salt", fields[4], &h.salt, minSalt, maxSalt}, {"key", fields[5], &h.key, minKey, maxKey}} {
		*part.dst, err = base64.RawStdEncoding.Strict().DecodeString(part.text)
		if err != nil || strings.ContainsAny(part.text, "\r\n") || len(*part.dst) < part.min || len(*part.dst) > part.max {
			return nil, fmt.Errorf("%w: the %s is not %d to %d bytes in unpadded base64", ErrMalformed, part.name, part.min, part.max)
		}
	}
	return h, nil
}

func (h *hash) String() string {
	b64 := base64.RawStdEncoding
	return "$" + h.variant + "$v=19$" + h.params.String() + "$" + b64.EncodeToString(h.salt) + "$" + b64.EncodeToString(h.key)
}

// job returns what is to be computed to get the hash of a password.
func (h *hash) job(password string) Job {
	return Job{Variant: h.variant, Params: h.params, Salt: h.salt, Password: password, Size: uint32(len(h.key))}
}

// is compares the hash with another's key in constant time.
func (h *hash) is(key []byte) bool { return subtle.ConstantTimeCompare(key, h.key) == 1 }

// A Job is an Argon2 hash to compute (RFC 9106 §3.1).
type Job struct {
	// Variant is argon2id, argon2i or argon2d.
	Variant string
	Params  Params
	Salt    []byte
	// Password must not be logged.
	Password string
	// Size is that of the hash, in bytes.
	Size uint32
}

// Compute computes the hash at once, in the caller's process.
func (j Job) Compute() []byte {
	p := j.Params
	switch j.Variant {
	case "argon2i":
		return argon2.Key([]byte(j.Password), j.Salt, p.Passes, p.MemoryKiB, p.Lanes, j.Size)
	case "argon2d":
		return argon2d.DKey([]byte(j.Password), j.Salt, p.Passes, p.MemoryKiB, uint32(p.Lanes), j.Size)
	default:
		return argon2.IDKey([]byte(j.Password), j.Salt, p.Passes, p.MemoryKiB, p.Lanes, j.Size)
	}
}

// current reports whether a new hash would be made with the same parameters.
func (h *hash) current(p Params) bool {
	return h.variant == "argon2id" && h.params == p && len(h.salt) == newSalt && len(h.key) == newKey
}

// random returns a hash with random salt and key, which no password matches.
func random(p Params) *hash {
	h := &hash{variant: "argon2id", params: p, salt: make([]byte, newSalt), key: make([]byte, newKey)}
	_, _ = rand.Read(h.salt) // crypto/rand never fails since Go 1.24
	_, _ = rand.Read(h.key)
	return h
}

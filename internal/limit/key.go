package limit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"sync"
)

// A Key names an account. It is a keyed hash, so that it neither tells whom it
// is about nor can be aimed at.
type Key [16]byte

// A Keyer makes keys. It is safe for concurrent use.
type Keyer struct{ macs sync.Pool }

// NewKeyer returns a Keyer with a secret, which all nodes share that are to
// count together.
func NewKeyer(secret []byte) *Keyer {
	return &Keyer{macs: sync.Pool{New: func() any { return &mac{Hash: hmac.New(sha256.New, secret)} }}}
}

type mac struct {
	hash.Hash

	text []byte
	sum  [sha256.Size]byte
}

// Key returns the first half of the HMAC-SHA256 of the parts.
func (k *Keyer) Key(parts ...string) Key {
	m := k.macs.Get().(*mac)
	defer k.macs.Put(m)
	m.text = m.text[:0]
	for _, part := range parts {
		m.text = binary.AppendUvarint(m.text, uint64(len(part))) // so that they cannot run into each other
		m.text = append(m.text, part...)
	}
	m.Reset()
	_, _ = m.Write(m.text) // hash.Hash never fails
	return Key(m.Sum(m.sum[:0]))
}

// Network returns the network that a client counts as: an IPv4 address itself,
// and the first 64 bits of an IPv6 address, which is the least that its user
// can choose from (RFC 6177). What is no address is the empty text.
func Network(client string) string {
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return ""
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return "" // unreachable: the address is an IPv6 one
	}
	return prefix.String()
}

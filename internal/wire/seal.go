package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"time"
)

// sealAtOnce is how many bytes of a long message are encrypted at once.
const sealAtOnce = 32 << 10

// A Sealer is a writer that seals what is written to it, for messages that are too
// long to have in memory. What it has sent on opens for nobody before Close.
type Sealer struct {
	key   *key
	mode  cipher.BlockMode
	mac   hash.Hash
	text  []byte // not encrypted yet
	inner io.WriteCloser
	outer io.WriteCloser
}

// NewSealer returns what seals a message with one key of the ring, as AppendSeal
// does, and writes it to w. Close must be called at the end.
func (r *KeyRing) NewSealer(w io.Writer, key int, now time.Time) (*Sealer, error) {
	var iv [aes.BlockSize]byte
	_, _ = rand.Read(iv[:]) // crypto/rand never fails since Go 1.24
	return r.newSealer(w, key, now, iv)
}

func (r *KeyRing) newSealer(w io.Writer, key int, now time.Time, iv [aes.BlockSize]byte) (*Sealer, error) {
	k := r.keys[key]
	s := &Sealer{key: k, mode: cipher.NewCBCEncrypter(k.block, iv[:]), mac: k.macs.Get().(hash.Hash), text: make([]byte, 0, sealAtOnce)}
	s.mac.Reset()
	s.outer = base64.NewEncoder(base64.StdEncoding, w)
	s.inner = base64.NewEncoder(base64.URLEncoding, s.outer)
	header := append(binary.BigEndian.AppendUint64([]byte{version}, uint64(now.Unix())), iv[:]...)
	return s, s.send(header)
}

// send sends signed bytes on.
func (s *Sealer) send(data []byte) error {
	s.mac.Write(data)
	_, err := s.inner.Write(data)
	return err
}

// Write implements io.Writer.
func (s *Sealer) Write(data []byte) (n int, err error) {
	for len(data) > 0 {
		part := data[:min(len(data), sealAtOnce-len(s.text))]
		s.text = append(s.text, part...)
		if len(s.text) == sealAtOnce {
			err = s.encrypt()
			if err != nil {
				return n, err
			}
		}
		n += len(part)
		data = data[len(part):]
	}
	return n, nil
}

// encrypt encrypts whole blocks and sends them on.
func (s *Sealer) encrypt() error {
	s.mode.CryptBlocks(s.text, s.text)
	err := s.send(s.text)
	s.text = s.text[:0]
	return err
}

// Close ends the message. It does not close the writer below. The Sealer must not be
// used again.
func (s *Sealer) Close() error {
	pad := aes.BlockSize - len(s.text)%aes.BlockSize
	for range pad {
		s.text = append(s.text, byte(pad))
	}
	err := s.encrypt()
	if err == nil {
		_, err = s.inner.Write(s.mac.Sum(nil))
	}
	s.key.macs.Put(s.mac)
	return errors.Join(err, s.inner.Close(), s.outer.Close())
}

package test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"testing"
	"time"
)

// This is a second implementation of the envelope, as plain as the text of the
// Fernet specification (https://github.com/fernet/spec), so that a mistake in
// the server's own cannot hide in the tests.

// seal returns the HTTP body for a text: standard base64 of a Fernet token.
func seal(key, text string, at time.Time) string {
	iv := make([]byte, aes.BlockSize)
	_, _ = rand.Read(iv)
	return outer(token(key, iv, pad(text), at))
}

// outer is the second layer of base64.
func outer(token string) string { return base64.StdEncoding.EncodeToString([]byte(token)) }

// pad appends n bytes of the value n, 1 to 16 of them (RFC 5652, §6.3).
func pad(text string) []byte {
	n := aes.BlockSize - len(text)%aes.BlockSize
	return append([]byte(text), bytes.Repeat([]byte{byte(n)}, n)...)
}

// token returns a Fernet token of text that has been padded.
func token(key string, iv, padded []byte, at time.Time) string {
	secret := secretOf(key)
	block, err := aes.NewCipher(secret[16:])
	if err != nil {
		panic(err)
	}
	encrypted := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(encrypted, padded)
	raw := []byte{0x80}
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.Unix()))
	raw = append(raw, iv...)
	raw = append(raw, encrypted...)
	return base64.URLEncoding.EncodeToString(sign(secret[:16], raw))
}

// sign appends the MAC of raw to it.
func sign(secret, raw []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write(raw)
	return mac.Sum(raw)
}

func secretOf(key string) []byte {
	secret, err := base64.URLEncoding.DecodeString(key)
	if err != nil || len(secret) != 32 {
		panic("test: not a key: " + key)
	}
	return secret
}

// unseal opens an HTTP body and returns its text and when it was made.
func unseal(key, body string) (text string, at time.Time, err error) {
	token, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil {
		return "", at, err
	}
	raw, err := base64.URLEncoding.Strict().DecodeString(string(token))
	if err != nil {
		return "", at, err
	}
	if len(raw) < 1+8+16+16+32 || (len(raw)-(1+8+16+32))%aes.BlockSize != 0 || raw[0] != 0x80 {
		return "", at, errors.New("not a Fernet token")
	}
	secret := secretOf(key)
	signed := raw[:len(raw)-32]
	if !hmac.Equal(raw, sign(secret[:16], bytes.Clone(signed))) {
		return "", at, errors.New("made with another key")
	}
	block, err := aes.NewCipher(secret[16:])
	if err != nil {
		return "", at, err
	}
	padded := make([]byte, len(signed)-25)
	cipher.NewCBCDecrypter(block, signed[9:25]).CryptBlocks(padded, signed[25:])
	n := int(padded[len(padded)-1])
	if n < 1 || n > aes.BlockSize || !bytes.Equal(pad(string(padded[:len(padded)-n])), padded) {
		return "", at, errors.New("wrong padding")
	}
	return string(padded[:len(padded)-n]), time.Unix(int64(binary.BigEndian.Uint64(signed[1:9])), 0), nil
}

// newKey returns a random key in Fernet's form.
func newKey() string {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return base64.URLEncoding.EncodeToString(secret)
}

// TestFernetVector keeps the tests' own implementation to an envelope that
// the Python server was seen to take.
func TestFernetVector(t *testing.T) {
	const (
		key  = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
		text = `{"request": "session-exists", "body": {"session_token": "x"}, "reqid": 7, "client_ipaddr": "1.2.3.4"}`
		body = "Z0FBQUFBQmZYaEFBQUFFQ0F3UUZCZ2NJQ1FvTERBME9EXzRRLU1Qd2pJdlI2RHN0RXFmN2otblQzS3E1ZnhScVROaDlrY3BycDlXUT" +
			"JNQlplSkJCYVRkVDMzaURuUVlTaU1XbHQzWjN6dWg4UXBySUNITGF4SWRaNFBoMExSZ0RoOHNyejVKRjdXenRDMGF5aTB6cEZnZm1na295LX" +
			"R6RkJkZjBfeGkya0M3V204YTB5ZEltaHFnd21QOWRvem9GQktJdTRiZnNNTUFWQU11MWp5QTNlNmI0NHY0THVPTWgyQT09"
	)
	iv := []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	at := time.Unix(1_600_000_000, 0)
	if got := outer(token(key, iv, pad(text), at)); got != body {
		t.Errorf("sealed:\n got %s\nwant %s", got, body)
	}
	opened, made, err := unseal(key, body)
	if err != nil || opened != text || !made.Equal(at) {
		t.Errorf("unsealed %q of %v, %v; want %q of %v", opened, made, err, text, at)
	}
}

package wire_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"pgregory.net/rapid"

	"authnzerver/internal/wire"
)

const (
	plainKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	otherKey = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
)

// countingIV is 00 01 … 0f.
var countingIV = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func ring(t testing.TB, keys ...string) *wire.KeyRing {
	t.Helper()
	r, err := wire.ParseKeys(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// open opens a copy of the body.
func open(r *wire.KeyRing, body string) (wire.Message, error) { return r.Open([]byte(body)) }

// A forgery is a token put together by hand with a key that is known, so that
// what a sealer would never do can be done.
type forgery struct {
	version byte
	time    uint64
	iv      [16]byte
	padded  []byte
}

func (f forgery) token(key []byte) []byte {
	token := append([]byte{f.version}, binary.BigEndian.AppendUint64(nil, f.time)...)
	token = append(token, f.iv[:]...)
	block, err := aes.NewCipher(key[16:])
	if err != nil {
		panic(err)
	}
	text := make([]byte, len(f.padded))
	cipher.NewCBCEncrypter(block, f.iv[:]).CryptBlocks(text, f.padded)
	token = append(token, text...)
	mac := hmac.New(sha256.New, key[:16])
	mac.Write(token)
	return mac.Sum(token)
}

func pad(plain []byte) []byte {
	n := 16 - len(plain)%16
	return append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
}

func wrap(token []byte) string {
	return base64.StdEncoding.EncodeToString([]byte(base64.URLEncoding.EncodeToString(token)))
}

// keyBytes returns 00 01 … 1f, the bytes of plainKey.
func keyBytes() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// The bodies were made by the Python server's own code with a fixed IV.
func TestBodiesEqualThePythonServers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, plaintext, body string
		time                  int64
	}{
		{
			"session-exists", `{"request": "session-exists", "body": {"session_token": "x"}, "reqid": 7, "client_ipaddr": "1.2.3.4"}`,
			"Z0FBQUFBQmZYaEFBQUFFQ0F3UUZCZ2NJQ1FvTERBME9EXzRRLU1Qd2pJdlI2RHN0RXFmN2otblQzS3E1ZnhScVROaDlrY3BycDlXUTJNQlplSkJCYVRkVDMzaURuUVlTaU1XbHQzWjN6dWg4UXBySUNITGF4SWRaNFBoMExSZ0RoOHNyejVKRjdXenRDMGF5aTB6cEZnZm1na295LXR6RkJkZjBfeGkya0M3V204YTB5ZEltaHFnd21QOWRvem9GQktJdTRiZnNNTUFWQU11MWp5QTNlNmI0NHY0THVPTWgyQT09",
			1600000000,
		},
		{
			"user-list", `{"request": "user-list", "body": {"user_id": null, "n": "\u00e9\u2603\ud83d\ude00", "f": 1.0, "t": true}, "reqid": 7}`,
			"Z0FBQUFBQmxVX0VBQUFFQ0F3UUZCZ2NJQ1FvTERBME9ENTF1MGtKSzRFT2wtNFpoLU0yWXNmVVFoN1p5NE5CZTdWNm5CbTJ2dUUzUURNT3UxTGc0WUY5MGgxcy1nM1ZIeU1ZbXVid2FjU2NvZnlCOVlzY2dhallmNkFHMFMxckRhWF9lR0paWk01clNBMkY4U2xOOHpLYlF3YmpuYmR3M1pwN2hyS2hldzU2RE1DTEZVUEZBdTJkWENMbG1saE83VWdMc3V3bmE1MDNfUE5pLXlQZGdRVkFkZEt4ZGxjQktvYW05Y3BHQzcyZ3RUY2hVQnMtblBXRT0=",
			1700000000,
		},
	} {
		r := ring(t, plainKey)
		now := time.Unix(tt.time, 999_999_999)
		if got := wire.SealWithIV(r, nil, []byte(tt.plaintext), 0, now, countingIV); string(got) != tt.body {
			t.Errorf("%s: sealed as %s", tt.name, got)
		}
		m, err := open(r, tt.body)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if string(m.Plaintext) != tt.plaintext || !m.Time.Equal(time.Unix(tt.time, 0)) || m.Key != 0 {
			t.Errorf("%s: opened as %q, %v, key %d", tt.name, m.Plaintext, m.Time, m.Key)
		}
	}
}

func readJSON(t *testing.T, v any, path ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}

func TestOpensWhatPythonSealed(t *testing.T) {
	t.Parallel()
	var golden []struct {
		Key, Body string
		Time      int64
		Plaintext []byte
	}
	readJSON(t, &golden, "python.json")
	if len(golden) != 6 {
		t.Errorf("%d bodies, want 6", len(golden))
	}
	for i, g := range golden {
		r := ring(t, g.Key)
		m, err := open(r, g.Body)
		if err != nil || !bytes.Equal(m.Plaintext, g.Plaintext) || m.Time.Unix() != g.Time {
			t.Errorf("body %d: %q, %v, %v", i, m.Plaintext, m.Time, err)
		}
		token, err := base64.StdEncoding.DecodeString(g.Body)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := base64.URLEncoding.DecodeString(string(token))
		if err != nil {
			t.Fatal(err)
		}
		again := wire.SealWithIV(r, nil, g.Plaintext, 0, time.Unix(g.Time, 0), [16]byte(bare[9:]))
		if string(again) != g.Body {
			t.Errorf("body %d: sealed as %s", i, again)
		}
	}
}

// A vector is one of the Fernet specification.
type vector struct {
	Desc, Token, Src, Secret string
	Now                      time.Time
	TTL                      time.Duration `json:"ttl_sec"`
	IV                       [16]byte
}

func (v *vector) body() string { return base64.StdEncoding.EncodeToString([]byte(v.Token)) }

func TestFernetGenerate(t *testing.T) {
	t.Parallel()
	var vectors []vector
	readJSON(t, &vectors, "fernet", "generate.json")
	if len(vectors) != 1 {
		t.Errorf("%d vectors, want 1", len(vectors))
	}
	for _, v := range vectors {
		got := wire.SealWithIV(ring(t, v.Secret), nil, []byte(v.Src), 0, v.Now, v.IV)
		if string(got) != v.body() {
			t.Errorf("sealed as %s", got)
		}
	}
}

func TestFernetVerify(t *testing.T) {
	t.Parallel()
	var vectors []vector
	readJSON(t, &vectors, "fernet", "verify.json")
	if len(vectors) != 1 {
		t.Errorf("%d vectors, want 1", len(vectors))
	}
	for _, v := range vectors {
		m, err := open(ring(t, v.Secret), v.body())
		if err != nil || string(m.Plaintext) != v.Src {
			t.Errorf("%q, %v", m.Plaintext, err)
		}
		if err := newReplay(v.TTL*time.Second, 1).Accept(&m, v.Now); err != nil {
			t.Error(err)
		}
	}
}

func TestFernetInvalid(t *testing.T) {
	t.Parallel()
	want := map[string]error{
		"incorrect mac":  wire.ErrNotAuthentic,
		"too short":      wire.ErrMalformed,
		"invalid base64": wire.ErrMalformed,
		"payload size not multiple of block size": wire.ErrMalformed,
		"payload padding error":                   wire.ErrMalformed,
		"far-future TS (unacceptable clock skew)": wire.ErrFuture,
		"expired TTL":                             wire.ErrStale,
		"incorrect IV (causes padding error)":     wire.ErrMalformed,
	}
	var vectors []vector
	readJSON(t, &vectors, "fernet", "invalid.json")
	if len(vectors) != len(want) {
		t.Errorf("%d vectors, want %d", len(vectors), len(want))
	}
	for _, v := range vectors {
		m, err := open(ring(t, v.Secret), v.body())
		if err == nil {
			err = newReplay(v.TTL*time.Second, 1).Accept(&m, v.Now)
		}
		if want[v.Desc] == nil || !errors.Is(err, want[v.Desc]) {
			t.Errorf("%s: %v, want %v", v.Desc, err, want[v.Desc])
		}
	}
}

// refused checks that a body is refused for the reason given, and that the
// error says nothing of the body.
func refused(t *testing.T, r *wire.KeyRing, name, body string, want error) {
	t.Helper()
	m, err := open(r, body)
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
	if m.Plaintext != nil || m.ID != [16]byte{} {
		t.Errorf("%s: refused, but returned something", name)
	}
	if err != nil && len(body) > 20 && strings.Contains(err.Error(), body[:20]) {
		t.Errorf("%s: the error shows the body", name)
	}
}

func TestEveryChangedBitIsRefused(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	for _, size := range []int{0, 5, 16, 40} {
		token := forgery{0x80, 1600000000, countingIV, pad(bytes.Repeat([]byte("p"), size))}.token(keyBytes())
		if _, err := open(r, wrap(token)); err != nil {
			t.Fatal(err)
		}
		for i := range len(token) * 8 {
			changed := bytes.Clone(token)
			changed[i/8] ^= 1 << (i % 8)
			want := wire.ErrNotAuthentic
			if i/8 == 0 {
				want = wire.ErrMalformed
			}
			refused(t, r, "token", wrap(changed), want)
		}
		body := wrap(token)
		for i := range len(body) * 8 {
			changed := []byte(body)
			changed[i/8] ^= 1 << (i % 8)
			if m, err := r.Open(changed); err == nil {
				t.Errorf("body with bit %d changed opened as %q", i, m.Plaintext)
			}
		}
	}
}

func TestEveryCutIsRefused(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	token := forgery{0x80, 1600000000, countingIV, pad(bytes.Repeat([]byte("p"), 90))}.token(keyBytes())
	body := wrap(token)
	for i := range body {
		if _, err := open(r, body[:i]); err == nil {
			t.Errorf("opened the first %d characters", i)
		}
		if _, err := open(r, body[i+1:]); err == nil {
			t.Errorf("opened without the first %d characters", i+1)
		}
	}
	inner := base64.URLEncoding.EncodeToString(token)
	for i := range inner {
		if _, err := open(r, base64.StdEncoding.EncodeToString([]byte(inner[:i]))); err == nil {
			t.Errorf("opened the first %d characters of the token", i)
		}
	}
	for i := range token {
		if _, err := open(r, wrap(token[:i])); err == nil {
			t.Errorf("opened the first %d bytes of the token", i)
		}
		if _, err := open(r, wrap(token[i+1:])); err == nil {
			t.Errorf("opened without the first %d bytes of the token", i+1)
		}
	}
	for i := 1; i <= 64; i++ {
		if _, err := open(r, wrap(append(bytes.Clone(token), make([]byte, i)...))); err == nil {
			t.Errorf("opened with %d more bytes", i)
		}
	}
}

// lines breaks a text as MIME does.
func lines(s string) string {
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return b.String() + s + "\r\n"
}

// reencodings returns the bodies that hold the same token as body does and
// are accepted.
func reencodings(body string) map[string]string {
	return map[string]string{
		"as it is":           body,
		"line break after":   body + "\n",
		"blanks around":      " \t\r\n\v\f" + body + " \t\r\n\v\f",
		"lines":              lines(body),
		"blank everywhere":   strings.Join(strings.Split(body, ""), " "),
		"blank in padding":   body[:len(body)-1] + " " + body[len(body)-1:],
		"quotes":             `"` + body + `"`,
		"quotes and blanks":  " \"\n" + lines(body) + "\t\" \n",
		"blank at the front": body[:1] + "\n" + body[1:],
	}
}

func TestReencodedBodyIsTheSameMessage(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	for size := range 50 {
		plain := bytes.Repeat([]byte("p"), size)
		body := string(r.AppendSeal(nil, plain, 0, time.Unix(1600000000, 0)))
		first, err := open(r, body)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range reencodings(body) {
			m, err := open(r, text)
			if err != nil || m.ID != first.ID || !bytes.Equal(m.Plaintext, plain) {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
		}
	}
}

func TestMalformedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	token := forgery{0x80, 1600000000, countingIV, pad(bytes.Repeat([]byte("p"), 20))}.token(keyBytes()) // 89 bytes: the token ends in "="
	inner := base64.URLEncoding.EncodeToString(token)                                                    // 120 characters: no padding outside
	outer := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	if !strings.HasSuffix(inner, "=") || strings.HasSuffix(inner, "==") {
		t.Fatalf("the token ends unexpectedly: %s", inner)
	}
	// The next character of the alphabet sets a bit behind the last byte.
	innerBits := inner[:len(inner)-2] + string(inner[len(inner)-2]+1) + "="
	if same, err := base64.URLEncoding.DecodeString(innerBits); err != nil || !bytes.Equal(same, token) {
		t.Fatalf("%s is not the same token", innerBits)
	}
	// A token of 73 bytes is 100 characters, whose text ends in "==".
	short := wrap(forgery{0x80, 1600000000, countingIV, pad(nil)}.token(keyBytes()))
	if !strings.HasSuffix(short, "==") {
		t.Fatalf("the body ends unexpectedly: %s", short)
	}
	outerBits := short[:len(short)-3] + string(short[len(short)-3]+1) + "=="
	if _, err := base64.StdEncoding.DecodeString(outerBits); err != nil {
		t.Fatalf("%s is no base64 at all", outerBits)
	}
	for name, body := range map[string]string{
		"empty":                          "",
		"blanks":                         " \n",
		"one quote":                      `"`,
		"two quotes":                     `""`,
		"bare token":                     inner,
		"three layers":                   outer(outer(inner)),
		"two pairs of quotes":            `""` + outer(inner) + `""`,
		"single quotes":                  "'" + outer(inner) + "'",
		"quote only before":              `"` + outer(inner),
		"quote only after":               outer(inner) + `"`,
		"quote inside":                   outer(inner)[:8] + `"` + outer(inner)[8:],
		"junk inside":                    outer(inner)[:8] + "!" + outer(inner)[8:],
		"junk after":                     outer(inner) + "!",
		"junk after padding":             short + "AAAA",
		"more padding":                   outer(inner) + "=",
		"padding alone":                  outer(inner) + "====",
		"padding inside":                 outer(inner[:10]) + outer(inner[10:]),
		"NUL":                            outer(inner) + "\x00",
		"no-break space":                 outer(inner) + "\u00a0",
		"byte order mark":                "\ufeff" + outer(inner),
		"no outer padding":               strings.TrimRight(short, "="),
		"half the outer padding":         short[:len(short)-1],
		"set bits behind the outer":      outerBits,
		"no inner padding":               outer(strings.TrimRight(inner, "=")),
		"more inner padding":             outer(inner + "="),
		"set bits behind the inner":      outer(innerBits),
		"line break after the token":     outer(inner + "\n"),
		"line break inside the token":    outer(inner[:8] + "\n" + inner[8:]),
		"quotes around the token":        outer(`"` + inner + `"`),
		"standard alphabet of the token": outer(base64.StdEncoding.EncodeToString(token)),
		"half a block":                   wrap(append(bytes.Clone(token), make([]byte, 8)...)),
		"no block":                       wrap(token[:57]),
	} {
		refused(t, r, name, body, wire.ErrMalformed)
	}
}

func TestAuthenticButWrongIsRefused(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	block := bytes.Repeat([]byte{7}, 16)
	padded := func(end ...byte) []byte { return append(bytes.Clone(block[:16-len(end)]), end...) }
	for name, f := range map[string]forgery{
		"version 0x81":         {0x81, 1600000000, countingIV, pad(nil)},
		"padding of 0":         {0x80, 1600000000, countingIV, padded(0)},
		"padding of 17":        {0x80, 1600000000, countingIV, bytes.Repeat([]byte{17}, 32)},
		"padding of 255":       {0x80, 1600000000, countingIV, padded(255)},
		"padding not uniform":  {0x80, 1600000000, countingIV, padded(3, 2, 3)},
		"padding starts wrong": {0x80, 1600000000, countingIV, append([]byte{1}, bytes.Repeat([]byte{16}, 15)...)},
		"year 10000":           {0x80, 253402300800, countingIV, pad(nil)},
		"2^63 seconds":         {0x80, 1 << 63, countingIV, pad(nil)},
		"2^64-1 seconds":       {0x80, 1<<64 - 1, countingIV, pad(nil)},
	} {
		refused(t, r, name, wrap(f.token(keyBytes())), wire.ErrMalformed)
	}
}

func TestTheKeyThatOpenedIsNamed(t *testing.T) {
	t.Parallel()
	keys := make([]string, 16)
	for i := range keys {
		keys[i] = wire.NewKey()
	}
	all := ring(t, keys...)
	for i, k := range keys {
		body := ring(t, k).AppendSeal(nil, []byte("x"), 0, time.Now())
		m, err := all.Open(body)
		if err != nil || m.Key != i {
			t.Errorf("key %d: opened by %d, %v", i, m.Key, err)
		}
		reply := string(all.AppendSeal(nil, []byte("y"), m.Key, time.Now()))
		if m, err := open(ring(t, k), reply); err != nil || string(m.Plaintext) != "y" {
			t.Errorf("key %d: the reply does not open: %v", i, err)
		}
		refused(t, ring(t, keys[(i+1)%16]), "other key", reply, wire.ErrNotAuthentic)
	}
	refused(t, all, "foreign", string(ring(t, plainKey).AppendSeal(nil, nil, 0, time.Now())), wire.ErrNotAuthentic)
}

// TestIVsAreFresh stops a constant or reused IV.
func TestIVsAreFresh(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey)
	now := time.Now()
	seen := map[[16]byte]bool{}
	for range 1000 {
		m, err := r.Open(r.AppendSeal(nil, []byte("same"), 0, now))
		if err != nil {
			t.Fatal(err)
		}
		if seen[m.ID] {
			t.Fatal("the same message was made twice")
		}
		seen[m.ID] = true
	}
}

// TestIVsComeFromCryptoRand can't be parallel: it replaces the random source.
func TestIVsComeFromCryptoRand(t *testing.T) {
	r := ring(t, plainKey)
	seal := func() string { return string(r.AppendSeal(nil, []byte("same"), 0, time.Unix(1600000000, 0))) }
	cryptotest.SetGlobalRandom(t, 1)
	a := seal()
	cryptotest.SetGlobalRandom(t, 1)
	if b := seal(); a != b {
		t.Error("the IV does not come from crypto/rand")
	}
	if b := seal(); a == b {
		t.Error("the IV is constant")
	}
}

func TestAnythingSealedOpens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		iv := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "iv"))
		prefix := rapid.SliceOf(rapid.Byte()).Draw(t, "prefix")
		spare := rapid.IntRange(0, 500).Draw(t, "spare room")
		seconds := rapid.Int64Range(0, 253402300799).Draw(t, "time")

		r, err := wire.ParseKeys(base64.URLEncoding.EncodeToString(secret))
		if err != nil {
			t.Fatal(err)
		}
		dst := append(make([]byte, 0, len(prefix)+spare), prefix...)
		kept := bytes.Clone(plain)
		dst = wire.SealWithIV(r, dst, plain, 0, time.Unix(seconds, 0), iv)
		if !bytes.Equal(plain, kept) {
			t.Fatal("the plaintext was changed")
		}
		body, ok := bytes.CutPrefix(dst, prefix)
		if !ok {
			t.Fatal("the prefix was changed")
		}
		token := forgery{0x80, uint64(seconds), iv, pad(plain)}.token(secret)
		if string(body) != wrap(token) {
			t.Fatalf("sealed as %s, want %s", body, wrap(token))
		}
		m, err := r.Open(body)
		if err != nil || !bytes.Equal(m.Plaintext, plain) || m.Time != time.Unix(seconds, 0).UTC() ||
			!bytes.Equal(m.ID[:], token[len(token)-32:len(token)-16]) {
			t.Fatalf("opened as %+v, %v", m, err)
		}
		// Appending to the plaintext must not reach the rest of the buffer.
		if cap(m.Plaintext) != len(plain) {
			t.Fatalf("%d bytes with room for %d", len(plain), cap(m.Plaintext))
		}
	})
}

func TestOneRingServesManyGoroutines(t *testing.T) {
	t.Parallel()
	r := ring(t, plainKey, otherKey)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				plain := bytes.Repeat([]byte{byte(g)}, i)
				m, err := r.Open(r.AppendSeal(nil, plain, i%2, time.Unix(int64(i), 0)))
				if err != nil || m.Key != i%2 || !bytes.Equal(m.Plaintext, plain) {
					t.Errorf("goroutine %d, message %d: %v", g, i, err)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzOpen compares with the library's base64 and with a token made by hand
// from what was opened.
func FuzzOpen(f *testing.F) {
	body := wrap(forgery{0x80, 1600000000, countingIV, pad([]byte("hello"))}.token(keyBytes()))
	for _, text := range reencodings(body) {
		f.Add([]byte(text))
	}
	f.Add([]byte(wrap(forgery{0x80, 1 << 63, countingIV, pad(nil)}.token(keyBytes()))))
	f.Add([]byte(body[:len(body)-4]))
	f.Add([]byte(`""`))
	r := ring(f, otherKey, plainKey)
	f.Fuzz(func(t *testing.T, body []byte) {
		text := strings.Trim(string(body), " \t\r\n\v\f")
		if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
			text = text[1 : len(text)-1]
		}
		for _, blank := range " \t\r\n\v\f" {
			text = strings.ReplaceAll(text, string(blank), "")
		}
		m, err := r.Open(body)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrNotAuthentic) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		inner, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			t.Fatalf("opened, but the outer layer is wrong: %v", err)
		}
		token, err := base64.URLEncoding.Strict().DecodeString(string(inner))
		if err != nil || bytes.ContainsAny(inner, "\r\n") {
			t.Fatalf("opened, but the inner layer is wrong: %v", err)
		}
		again := forgery{0x80, uint64(m.Time.Unix()), [16]byte(token[9:]), pad(m.Plaintext)}.token(keyBytes())
		if m.Key != 1 || !bytes.Equal(token, again) {
			t.Error("opened what no sender made")
		}
	})
}

// FuzzFernet makes tokens that are signed with the right key whatever they hold, so that
// what comes after the signature is reached. Only what a sender makes is opened.
func FuzzFernet(f *testing.F) {
	good := forgery{0x80, 1600000000, countingIV, pad([]byte("hello"))}.token(keyBytes())
	f.Add(good[:len(good)-sha256.Size])
	f.Add(good[:25])
	f.Add([]byte{})
	r := ring(f, otherKey, plainKey)
	f.Fuzz(func(t *testing.T, unsigned []byte) {
		mac := hmac.New(sha256.New, keyBytes()[:16])
		mac.Write(unsigned)
		token := mac.Sum(bytes.Clone(unsigned))
		m, err := open(r, wrap(token))
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrNotAuthentic) {
				t.Errorf("another error: %v", err)
			}
			return
		}
		again := forgery{0x80, binary.BigEndian.Uint64(unsigned[1:]), [16]byte(unsigned[9:]), pad(m.Plaintext)}.token(keyBytes())
		if m.Key != 1 || !bytes.Equal(token, again) {
			t.Error("opened what no sender made")
		}
	})
}

func benchmarkSizes(b *testing.B, f func(b *testing.B, plain []byte)) {
	for _, size := range []struct {
		name  string
		bytes int
	}{{"500B", 500}, {"2kB", 2000}} {
		b.Run(size.name, func(b *testing.B) {
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			f(b, bytes.Repeat([]byte("p"), size.bytes))
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	r := ring(b, plainKey)
	benchmarkSizes(b, func(b *testing.B, plain []byte) {
		sealed := r.AppendSeal(nil, plain, 0, time.Now())
		body := make([]byte, len(sealed))
		for b.Loop() {
			copy(body, sealed)
			if _, err := r.Open(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpenSecondKey is what a message costs during a rotation.
func BenchmarkOpenSecondKey(b *testing.B) {
	both, second := ring(b, plainKey, otherKey), ring(b, otherKey)
	benchmarkSizes(b, func(b *testing.B, plain []byte) {
		sealed := second.AppendSeal(nil, plain, 0, time.Now())
		body := make([]byte, len(sealed))
		for b.Loop() {
			copy(body, sealed)
			if _, err := both.Open(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendSeal(b *testing.B) {
	r := ring(b, plainKey)
	now := time.Now()
	benchmarkSizes(b, func(b *testing.B, plain []byte) {
		for b.Loop() {
			r.AppendSeal(nil, plain, 0, now)
		}
	})
}

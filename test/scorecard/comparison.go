//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"authnzerver/internal/wire"
	"authnzerver/test/figures"
)

// mostT is the largest Welch's t of the dudect paper (Reparaz, Balasch, Verbauwhede 2017)
// that speaks for no leak.
const mostT = 4.5

// comparison measures whether the time of refusing an envelope tells how much of its
// signature was right: between signatures that are wrong in the first byte and in the
// last one.
func comparison(_ context.Context, c *card) error {
	key := bytes.Repeat([]byte{7}, 32)
	ring, err := wire.ParseKeys(base64.URLEncoding.EncodeToString(key))
	if err != nil {
		return err
	}
	token := append([]byte{0x80}, binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()))...)
	token = append(token, make([]byte, 16+64)...)
	mac := hmac.New(sha256.New, key[:16])
	mac.Write(token)
	token = mac.Sum(token)
	wrongAt := func(i int) []byte {
		other := bytes.Clone(token)
		other[len(other)-sha256.Size+i] ^= 1
		return []byte(base64.StdEncoding.EncodeToString([]byte(base64.URLEncoding.EncodeToString(other))))
	}
	bodies := [2][]byte{wrongAt(0), wrongAt(sha256.Size - 1)}
	scratch := make([]byte, 0, len(bodies[0]))
	random := rand.New(rand.NewPCG(c.seed, 0))
	t := leak(100*c.size, random, func(class int) {
		scratch = append(scratch[:0], bodies[class]...) // opening writes into its argument
		_, _ = ring.Open(scratch)
	})
	// The control compares byte by byte and stops at the first difference.
	secret := bytes.Repeat([]byte{9}, 64)
	guesses := [2][]byte{append([]byte{8}, secret[1:]...), append(bytes.Clone(secret[:63]), 8)}
	control := leak(100*c.size, random, func(class int) {
		for i := range secret {
			if secret[i] != guesses[class][i] {
				break
			}
		}
	})
	return c.report(figures.Figure{
		Name: "comparison of signatures", Value: math.Abs(t), Unit: "|t| of Welch's test", Target: "< 4.5",
		Pass: math.Abs(t) < mostT && math.Abs(control) >= mostT, Control: math.Abs(control),
	})
}

// leak measures two classes of inputs in an order drawn by lot and returns Welch's t of their
// times. The slowest twentieth, which is what the machine did beside, is left out.
func leak(n int, random *rand.Rand, do func(class int)) float64 {
	const batch = 16 // calls that are measured together: one takes less than a clock tells
	var times [2][]float64
	for range n {
		class := random.IntN(2)
		began := time.Now()
		for range batch {
			do(class)
		}
		times[class] = append(times[class], float64(time.Since(began)))
	}
	all := slices.Sorted(slices.Values(slices.Concat(times[0], times[1])))
	limit := all[len(all)*95/100]
	for class := range times {
		times[class] = slices.DeleteFunc(times[class], func(t float64) bool { return t > limit })
	}
	return welch(times[0], times[1])
}

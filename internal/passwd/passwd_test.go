package passwd_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"

	"authnzerver/internal/passwd"
)

// cheap makes hashing fast enough for tests.
var cheap = passwd.Params{MemoryKiB: 64, Passes: 1, Lanes: 1}

// TestVerifyArgon2CFFI verifies hashes that argon2-cffi 21.1 with the C
// reference library made.
func TestVerifyArgon2CFFI(t *testing.T) {
	const phrase = "correct horse battery staple"
	pool := passwd.NewPool(passwd.Options{Workers: 1})
	for _, test := range []struct {
		name, hash, password string
		outdated             bool
	}{
		{"default since 21.2", "$argon2id$v=19$m=65536,t=3,p=4$8yYJn4r2nl8jqH4PdqFAnQ$PAO2Seig4z+7YzVXEkXaKANOouTNfFODrBW6OHbZwRw", phrase, false},
		{"default before 21.2", "$argon2id$v=19$m=102400,t=2,p=8$YzImPWMDeQk0WFZo4kjZ1g$/zqbXYNjIuGpwWe35niQbA", phrase, true},
		{"argon2i", "$argon2i$v=19$m=1024,t=2,p=2$AiabhrpLH7m0yl8w7bLLlA$wCo0XYE93YC67p9RDGo9BQ+DHET1NTFwgjcTTzVyTj4", phrase, true},
		{"argon2d", "$argon2d$v=19$m=1024,t=2,p=2$HsBkJcCwnfcggX+3FY1oqg$Om02+iK9uipE50Ypd0fz1QPccyFAHIrcgA6xIBISAAM", phrase, true},
		{"memory not divisible by lanes", "$argon2id$v=19$m=1031,t=1,p=3$7dHNCXfv/vg$vHozUM6dwQaKGK4uB7vm6uFAW0gnUtuc", phrase, true},
		{"not ASCII", "$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds", "пароль ☃ 😀", true},
		{"cut at 256 characters", "$argon2id$v=19$m=512,t=1,p=1$cuu03h/EiIBkBrgEphFjwg$ClAhF2OlJnr31146YTcmukksUMKQSa5QxbRS3L5sVLs", strings.Repeat("é", 300), true},
		{"of 256 characters", "$argon2id$v=19$m=512,t=1,p=1$cuu03h/EiIBkBrgEphFjwg$ClAhF2OlJnr31146YTcmukksUMKQSa5QxbRS3L5sVLs", strings.Repeat("é", 256), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := pool.Verify(t.Context(), test.hash, test.password, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := (passwd.Result{Match: true, Outdated: test.outdated}); got != want {
				t.Errorf("right password: %+v, want %+v", got, want)
			}
			got, err = pool.Verify(t.Context(), test.hash, "x"+test.password, nil)
			if err != nil || got != (passwd.Result{}) {
				t.Errorf("wrong password: %+v, %v", got, err)
			}
		})
	}
}

func TestHashVerifies(t *testing.T) {
	pool := passwd.NewPool(passwd.Options{Params: cheap, Workers: 2})
	for _, password := range []string{"", "x", strings.Repeat("é", 257), strings.Repeat("p", 1024), "nul\x00byte"} {
		stored, err := pool.Hash(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pool.Verify(t.Context(), stored, password, nil)
		if err != nil || got != (passwd.Result{Match: true}) {
			t.Errorf("%d characters: %+v, %v", len(password), got, err)
		}
		if len(password) > 256 {
			got, err = pool.Verify(t.Context(), stored, password[:len(password)-2], nil)
			if err != nil || got.Match {
				t.Errorf("%d characters: a shorter one matched (%v): the password was cut", len(password), err)
			}
		}
		again, err := pool.Hash(t.Context(), password)
		if err != nil || again == stored {
			t.Errorf("two hashes of one password are equal (%v)", err)
		}
	}
}

// TestNormalize compares passwords as keyboards of different systems send them, and as
// the Python server hashed them.
func TestNormalize(t *testing.T) {
	const composed, decomposed = "pässwörd\u1e69", "pa\u0308sswo\u0308rds\u0307\u0323"
	pool := passwd.NewPool(passwd.Options{Params: cheap, Workers: 1})
	for _, password := range []string{composed, decomposed, "pa\u0308sswo\u0308rds\u0323\u0307"} {
		stored, err := pool.Hash(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range []string{composed, decomposed} {
			got, err := pool.Verify(t.Context(), stored, typed, nil)
			if err != nil || got != (passwd.Result{Match: true}) {
				t.Errorf("%+q, hashed as %+q: %+v, %v", typed, password, got, err)
			}
		}
		got, err := pool.Verify(t.Context(), stored, "passwords", nil)
		if err != nil || got.Match {
			t.Errorf("a password without its accents matches (%v)", err)
		}
	}
	const salt = "sixteen bytes it" // the Python server hashed what it was sent
	adopted := "$argon2id$v=19$m=64,t=1,p=1$" + base64.RawStdEncoding.EncodeToString([]byte(salt)) + "$" +
		base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(decomposed), []byte(salt), 1, 64, 1, 32))
	got, err := pool.Verify(t.Context(), adopted, decomposed, nil)
	if err != nil || got != (passwd.Result{Match: true, Outdated: true}) {
		t.Errorf("an adopted hash: %+v, %v", got, err)
	}
	replaced, err := pool.Replace(t.Context(), adopted, decomposed)
	if err != nil {
		t.Fatal(err)
	}
	got, err = pool.Verify(t.Context(), replaced, composed, nil)
	if err != nil || got != (passwd.Result{Match: true}) {
		t.Errorf("a hash that replaced an adopted one: %+v, %v", got, err)
	}
}

// TestCost checks that no outcome for passwords of up to 256 characters costs
// more or fewer hashes than another, whether or not there is a user.
func TestCost(t *testing.T) {
	pool := passwd.NewPool(passwd.Options{Params: cheap, Workers: 1})
	stored, err := pool.Hash(t.Context(), "right")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, hash, password string
		cost                 uint64
	}{
		{"right", stored, "right", 1},
		{"wrong", stored, "wrong", 1},
		{"nobody", pool.Dummy(), "wrong", 1},
		{"long and wrong", stored, strings.Repeat("w", 300), 2},
		{"long, nobody", pool.Dummy(), strings.Repeat("w", 300), 2},
		{"not normalized and wrong", stored, "re\u0301sume\u0301", 2},
		{"not normalized, nobody", pool.Dummy(), "re\u0301sume\u0301", 2},
		{"both and wrong", stored, strings.Repeat("e\u0301", 300), 3},
		{"both, nobody", pool.Dummy(), strings.Repeat("e\u0301", 300), 3},
	} {
		before := pool.Computed()
		_, err := pool.Verify(t.Context(), test.hash, test.password, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cost := pool.Computed() - before; cost != test.cost {
			t.Errorf("%s: %d hashes, want %d", test.name, cost, test.cost)
		}
	}
	dummy, real := strings.Split(pool.Dummy(), "$"), strings.Split(stored, "$")
	if dummy[3] != real[3] || len(pool.Dummy()) != len(stored) {
		t.Errorf("the dummy's parameters are %s, a real hash's %s", dummy[3], real[3])
	}
}

func TestVerifyMalformed(t *testing.T) {
	pool := passwd.NewPool(passwd.Options{Workers: 1})
	for _, stored := range []string{
		"", "plain", "$2b$12$abcdefghijklmnopqrstuu",
		"$argon2id$v=16$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2x$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=4194304,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=512,t=17,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=512,t=1,p=65$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=512,t=0,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=7,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=512,t=1,p=1$$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
		"$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$",
		"$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds$",
		"$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw==$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds",
	} {
		_, err := pool.Verify(t.Context(), stored, "password", nil)
		if !errors.Is(err, passwd.ErrMalformed) {
			t.Errorf("%.60q: %v, want ErrMalformed", stored, err)
		}
	}
	if pool.Computed() != 0 {
		t.Errorf("%d hashes were computed for malformed input", pool.Computed())
	}
}

func TestParseParams(t *testing.T) {
	for text, want := range map[string]passwd.Params{
		"m=65536,t=3,p=4":   passwd.DefaultParams,
		"m=19456, t=2, p=1": {MemoryKiB: 19456, Passes: 2, Lanes: 1},
		// The least and the most.
		"m=7168,t=1,p=1":      {MemoryKiB: 7168, Passes: 1, Lanes: 1},
		"m=2097152,t=16,p=16": {MemoryKiB: 2 << 20, Passes: 16, Lanes: 16},
	} {
		got, err := passwd.ParseParams(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"m=7167,t=1,p=1", "m=2097153,t=1,p=1", "m=65536,t=17,p=1", "m=65536,t=1,p=17", "m=65536,t=0,p=1", "m=65536,t=1,p=0",
		"m=4294967297,t=1,p=1", "m=x,t=1,p=1", "",
		"m=1,t=1,p=1", "m=65536,t=3", "t=3,m=65536,p=4", "m=65536,t=03,p=4", "m=65536,t=-3,p=4", "m=65536,t=3,p=4,x=1",
	} {
		_, err := passwd.ParseParams(text)
		if err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// TestErrorsNameTheParameter: who reads a mistake knows which parameter it is about.
func TestErrorsNameTheParameter(t *testing.T) {
	for text, want := range map[string]string{
		"t=3,m=65536,p=4": "parameter 1 must be m", "m=65536,x=3,p=4": "parameter 2 must be t", "m=65536,t=3,q=4": "parameter 3 must be p",
		"m=65536,t=17,p=4": "t must be a number from 1 to 16", "m=7167,t=1,p=1": "at least 7168",
	} {
		_, err := passwd.ParseParams(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestStoredBounds verifies hashes of the least and the most that a stored one may have, and
// refuses those beyond.
func TestStoredBounds(t *testing.T) {
	pool := passwd.NewPool(passwd.Options{Workers: 1})
	part := func(n int) string { return base64.RawStdEncoding.EncodeToString(make([]byte, n)) }
	for stored, ok := range map[string]bool{
		"$argon2id$v=19$m=8,t=1,p=1$" + part(8) + "$" + part(12):              true,
		"$argon2i$v=19$m=16,t=1,p=2$" + part(64) + "$" + part(128):            true,
		"$argon2id$v=19$m=8,t=1,p=1$" + part(7) + "$" + part(12):              false,
		"$argon2id$v=19$m=8,t=1,p=1$" + part(65) + "$" + part(12):             false,
		"$argon2id$v=19$m=8,t=1,p=1$" + part(8) + "$" + part(11):              false,
		"$argon2id$v=19$m=8,t=1,p=1$" + part(8) + "$" + part(129):             false,
		"$argon2id$v=19$m=15,t=1,p=2$" + part(8) + "$" + part(12):             false,
		"$argon2id$v=19$m=8,t=1,p=1$" + part(8) + "$" + part(12)[:15] + "\n":  false,
		"$argon2id$v=19$m=8,t=1,p=1$" + part(8) + "$" + part(12) + " $argon2": false,
	} {
		result, err := pool.Verify(t.Context(), stored, "password", nil)
		if ok && (err != nil || result.Match) || !ok && !errors.Is(err, passwd.ErrMalformed) {
			t.Errorf("%q: %+v, %v", stored, result, err)
		}
	}
}

// FuzzParseParams reads costs, which come out as they went in or not at all.
func FuzzParseParams(f *testing.F) {
	f.Add("m=65536,t=3,p=4")
	f.Add("m=7168, t=1, p=1")
	f.Add("m=65536,t=3,p=4,x=1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := passwd.ParseParams(text)
		if err == nil && p.String() != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q is read as %v", text, p)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add("$argon2id$v=19$m=512,t=1,p=1$UmWdnK5P06cRjTFzguEGzw$r5RYX/47ge7jPOWTq7XyGvxUcs8GtTPnyylvnrTi4ds", "p")
	f.Add("$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAA", "")
	pool := passwd.NewPool(passwd.Options{Params: cheap, Workers: 1})
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	f.Fuzz(func(t *testing.T, stored, password string) {
		// Cancelled, so that only the parser runs and not what it asks for.
		result, err := pool.Verify(cancelled, stored, password, nil)
		if err == nil || result != (passwd.Result{}) {
			t.Errorf("%+v, %v", result, err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	pool := passwd.NewPool(passwd.Options{Workers: 1})
	for b.Loop() {
		_, err := pool.Hash(b.Context(), "correct horse battery staple")
		if err != nil {
			b.Fatal(err)
		}
	}
}

// TestElsewhere has hashes be computed by somebody else, who may fail.
func TestElsewhere(t *testing.T) {
	var asked []passwd.Job
	var broken error
	pool := passwd.NewPool(passwd.Options{Params: cheap, Workers: 1, Compute: func(job passwd.Job) ([]byte, error) {
		asked = append(asked, job)
		return job.Compute(), broken
	}})
	hash, err := pool.Hash(t.Context(), "secret words")
	if err != nil {
		t.Fatal(err)
	}
	result, err := pool.Verify(t.Context(), hash, "secret words", nil)
	if err != nil || !result.Match || result.Outdated {
		t.Errorf("%+v, %v", result, err)
	}
	if len(asked) != 2 || asked[1].Password != "secret words" || asked[1].Params != cheap || pool.Computed() != 2 {
		t.Errorf("asked for %+v, computed %d", asked, pool.Computed())
	}
	broken = errors.New("gone")
	_, err = pool.Hash(t.Context(), "secret words")
	if !errors.Is(err, passwd.ErrFailed) || !errors.Is(err, broken) {
		t.Errorf("hash: %v", err)
	}
	result, err = pool.Verify(t.Context(), hash, "secret words", nil)
	if !errors.Is(err, passwd.ErrFailed) || result.Match {
		t.Errorf("verify: %+v, %v", result, err)
	}
	broken = nil
	_, err = pool.Hash(t.Context(), "secret words")
	if err != nil {
		t.Errorf("after failures: %v", err)
	}
}

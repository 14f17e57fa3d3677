package pii_test

import (
	"strings"
	"testing"

	"authnzerver/internal/pii"
)

// The vectors were made by the Python server's hash.
func TestHashEqualsThePythonServers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ salt, item, want string }{
		{"saltysalt", "user@example.org", "ccb24bfb218beaac273787b9"},
		{"saltysalt", "1", "c479cc04223633f7f74f968a"},
		{"saltysalt", "None", "18e9676b86053dfed774c219"},
		{"saltysalt", "x", "10e7c315ded0af0dfd840e5c"},
		{"saltysalt", "", "1eca7be389fc84dcc7d065c4"},
		{"saltysalt", "é", "30be456ee524951b5d5a905c"},
		{"saltysalt", "True", "e57ba7f3af32346fbdb405ed"},
		{"", "x", "06cad7eb7f40c33aa178f3fd"},
		{strings.Repeat("k", 64), "x", "a5ec9b6e25e8c8078b4688d1"},
	} {
		h, err := pii.NewHasher(tt.salt)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.Hash(tt.item); got != tt.want {
			t.Errorf("salt %q: Hash(%q) = %s, want %s", tt.salt, tt.item, got, tt.want)
		}
	}
}

func TestLongSaltsAreKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for n := 60; n < 200; n++ {
		h, err := pii.NewHasher(strings.Repeat("k", n))
		if err != nil {
			t.Fatalf("salt of %d bytes: %v", n, err)
		}
		hash := h.Hash("x")
		if other, ok := seen[hash]; ok {
			t.Errorf("salts of %d and %d bytes give the same hash", other, n)
		}
		seen[hash] = n
	}
}

package config_test

import (
	"fmt"
	"strings"
	"testing"

	"authnzerver/internal/config"
	"github.com/google/go-cmp/cmp"
)

func TestParseRateLimits(t *testing.T) {
	t.Parallel()
	defaults := func(change func(*config.RateLimits)) config.RateLimits {
		limits := config.RateLimits{IPAddr: 720, User: 480, Session: 600, APIKey: 720, Burst: 150}
		change(&limits)
		return limits
	}
	for text, want := range map[string]config.RateLimits{
		"":                      defaults(func(*config.RateLimits) {}),
		" ; ":                   defaults(func(*config.RateLimits) {}),
		" None ":                {Off: true},
		"session:120; burst:50": defaults(func(l *config.RateLimits) { l.Session, l.Burst = 120, 50 }),
		"user : 1 ;":            defaults(func(l *config.RateLimits) { l.User = 1 }),
		"ipaddr:1;user:2;session:3;apikey:4;burst:5": {IPAddr: 1, User: 2, Session: 3, APIKey: 4, Burst: 5},
		"user-login:20;apikey-new-nosession:1000000": defaults(func(l *config.RateLimits) {
			l.Requests = map[string]int{"user-login": 20, "apikey-new-nosession": 1_000_000}
		}),
	} {
		got, err := config.ParseRateLimits(text)
		if err != nil {
			t.Errorf("ParseRateLimits(%q): %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseRateLimits(%q) (-want +got):\n%s", text, diff)
		}
	}
}

func TestParseRateLimitsRefusesNonsense(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		"user":             "not a pair",
		"user:1;;burst:2":  "not a pair",
		"none;":            "not a pair",
		";;":               "not a pair",
		"user:1; none":     "not a pair",
		"user:0":           "from 1 to 1000000",
		"user:-1":          "from 1 to 1000000",
		"user:1000001":     "from 1 to 1000000",
		"user:1.5":         "from 1 to 1000000",
		"user:":            "from 1 to 1000000",
		"user:1:2":         "from 1 to 1000000",
		"user:4 8":         "from 1 to 1000000",
		"User:1":           "neither a group",
		"users:1":          "neither a group",
		"user-:1":          "neither a group",
		"-login:1":         "neither a group",
		"us er:1":          "neither a group",
		":1":               "neither a group",
		"user_login:1":     "neither a group",
		"user:1; user:1":   "user is given twice",
		"a-b:1;user:2;a-b": "not a pair",
	} {
		_, err := config.ParseRateLimits(text)
		if err == nil {
			t.Errorf("ParseRateLimits(%q) succeeds", text)
		} else if !strings.Contains(err.Error(), part) {
			t.Errorf("ParseRateLimits(%q): %v, want %q", text, err, part)
		}
	}
}

// FuzzParseRateLimits checks that what is accepted is in range and means the
// same when it is written out.
func FuzzParseRateLimits(f *testing.F) {
	for _, seed := range []string{"", "none", "ipaddr:720; user:480; session:600; apikey:720; burst:150", "user-login:20;", "user:1;;", "x:9223372036854775808"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		limits, err := config.ParseRateLimits(text)
		if err != nil || limits.Off {
			if limits.User != 0 || limits.Requests != nil {
				t.Fatalf("limits beside an error or none: %+v", limits)
			}
			return
		}
		var b strings.Builder
		write := func(name string, n int) {
			if n < 1 || n > 1_000_000 {
				t.Fatalf("%s has the limit %d", name, n)
			}
			fmt.Fprintf(&b, "%s:%d;", name, n)
		}
		write("ipaddr", limits.IPAddr)
		write("user", limits.User)
		write("session", limits.Session)
		write("apikey", limits.APIKey)
		write("burst", limits.Burst)
		for name, n := range limits.Requests {
			write(name, n)
		}
		again, err := config.ParseRateLimits(b.String())
		if err != nil {
			t.Fatalf("%q, written as %q: %v", text, b.String(), err)
		}
		if diff := cmp.Diff(limits, again); diff != "" {
			t.Fatalf("%q, written as %q (-first +second):\n%s", text, b.String(), diff)
		}
	})
}

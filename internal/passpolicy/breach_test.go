package passpolicy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"authnzerver/internal/passpolicy"
)

const (
	stolen = "Zx81-qwVt77-mmKLo0Pe"
	prefix = "7454b"
	suffix = "2F8BC533915AE4ED86793FA6B219FB7C78A"
	other  = "00000000000000000000000000000000000"
)

// breachServer answers every request with the handler.
func breachServer(t *testing.T, h http.HandlerFunc) *passpolicy.BreachClient {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := passpolicy.NewBreachClient(server.URL + "/list/")
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func TestBreachQuery(t *testing.T) {
	t.Parallel()
	requests := make(chan *http.Request, 1)
	client := breachServer(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		_, _ = io.WriteString(w, other+":0\r\n"+suffix+":25\r\n")
	})
	n, err := client.Count(t.Context(), stolen)
	if n != 25 || err != nil {
		t.Errorf("Count = %d, %v, want 25", n, err)
	}
	r := <-requests
	if r.Method != http.MethodGet || r.RequestURI != "/list/range/"+prefix {
		t.Errorf("the request is %s %s", r.Method, r.RequestURI)
	}
	if got := r.Header.Get("Add-Padding"); got != "true" {
		t.Errorf("Add-Padding is %q, want true", got)
	}
}

func TestBreachCount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       int
	}{
		{"present", other + ":7\r\n" + suffix + ":24", 24},
		{"present in lower case", strings.ToLower(suffix) + ":3\n", 3},
		{"absent", other + ":7\r\n", 0},
		{"padding", suffix + ":0", 0},
		{"twice", suffix + ":9\n" + suffix + ":2", 9},
	} {
		n, err := breachServer(t, answer(tt.body)).Count(t.Context(), stolen)
		if n != tt.want || err != nil {
			t.Errorf("%s: Count = %d, %v, want %d", tt.name, n, err, tt.want)
		}
	}
}

func TestBreachErrorsHoldNothingOfThePassword(t *testing.T) {
	t.Parallel()
	found := suffix + ":1000\r\n"
	for name, h := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"unavailable": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, found)
		},
		"no content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"/x", http.StatusFound) },
		"bad redirect": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", ":"+r.URL.Path)
			w.WriteHeader(http.StatusFound)
		},
		"empty":             answer(""),
		"only line ends":    answer("\r\n\r\n"),
		"garbage":           answer("<html>" + suffix + "</html>"),
		"no colon":          answer(found + "x"),
		"empty line":        answer(found + "\r\n" + found),
		"no count":          answer(found + other + ":"),
		"negative count":    answer(suffix + ":-5"),
		"fraction":          answer(suffix + ":25.0"),
		"overflow":          answer(suffix + ":99999999999999999999"),
		"two colons":        answer(suffix + ":25:25"),
		"short suffix":      answer(found + suffix[1:] + ":25"),
		"not hexadecimal":   answer(found + "G" + suffix[1:] + ":25"),
		"too long":          answer(strings.Repeat(found, 1<<20/len(found)+1)),
		"connection closed": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"answer cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, found)
		},
		"not HTTP, with an echo": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 what %s\r\n\r\n", r.RequestURI)
		},
	} {
		n, err := breachServer(t, h).Count(t.Context(), stolen)
		if n != 0 || err == nil {
			t.Errorf("%s: Count = %d, %v, want an error", name, n, err)
			continue
		}
		message := strings.ToLower(err.Error())
		for _, secret := range []string{prefix, strings.ToLower(suffix), strings.ToLower(stolen)} {
			if strings.Contains(message, secret) {
				t.Errorf("%s: the error %q holds %q", name, err, secret)
			}
		}
	}
}

func TestBreachQueryTakesTwoSecondsAtMost(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, other+":1\r\n")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := breachServer(t, h)
			start := time.Now()
			n, err := client.Count(t.Context(), stolen)
			if n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Count = %d, %v, want deadline exceeded", n, err)
			}
			if took := time.Since(start); took < time.Second || took > 4*time.Second {
				t.Errorf("Count took %v, want 2 s", took)
			}
		})
	}
}

func TestBreachQueryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	client := breachServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Count(ctx, stolen); !errors.Is(err, context.Canceled) {
		t.Errorf("Count = %v, want canceled", err)
	}
}

func TestNewBreachClientRefusesBadURLs(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "none", "api.pwnedpasswords.com", "ftp://example.org", "https://", "https:///range",
		"https://example.org?a=b", "https://example.org#a", "https://user:hunter2@exa mple.org", "://",
	} {
		_, err := passpolicy.NewBreachClient(text)
		if err == nil {
			t.Errorf("NewBreachClient(%q) succeeds", text)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error %q shows a password", err)
		}
	}
}

func TestCheckRefusesBreachedPasswords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		o    passpolicy.Overrides
		want []string
		fail bool
	}{
		{"at the limit", answer(suffix + ":25"), passpolicy.Overrides{}, []string{breached}, false},
		{"below the limit", answer(suffix + ":24"), passpolicy.Overrides{}, nil, false},
		{"below the limit, at a stricter one", answer(suffix + ":24"), passpolicy.Overrides{MinPwnedMatches: new(24)}, []string{breached}, false},
		{"at the limit, below a looser one", answer(suffix + ":25"), passpolicy.Overrides{MinPwnedMatches: new(99)}, []string{breached}, false},
		{"padding with a limit of zero", answer(suffix + ":0"), passpolicy.Overrides{MinPwnedMatches: new(0)}, nil, false},
		{"absent", answer(other + ":9999"), passpolicy.Overrides{}, nil, false},
		{"no answer", http.NotFound, passpolicy.Overrides{}, nil, true},
		{"malformed", answer(suffix + ":25\nx"), passpolicy.Overrides{}, nil, true},
	} {
		var failures []error
		c := passpolicy.New(passpolicy.Options{
			Rules:         passpolicy.DefaultRules(),
			Breaches:      breachServer(t, tt.h),
			OnBreachError: func(err error) { failures = append(failures, err) },
		})
		messages := c.CheckStricter(t.Context(), stolen, passpolicy.Subject{Email: "e@x.y"}, tt.o)
		if got := verdict(t, messages); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the messages are about %q, want %q", tt.name, got, tt.want)
		}
		if (len(failures) == 1) != tt.fail || len(failures) > 1 {
			t.Errorf("%s: reported errors: %v", tt.name, failures)
		}
	}
}

// A failing list must not stop a server that nobody told where to report it.
func TestBreachErrorsNeedNoListener(t *testing.T) {
	t.Parallel()
	c := passpolicy.New(passpolicy.Options{Rules: passpolicy.DefaultRules(), Breaches: breachServer(t, http.NotFound)})
	if got := c.Check(t.Context(), stolen, passpolicy.Subject{}); got != nil {
		t.Errorf("Check = %q, want nil", got)
	}
}

func TestOnlyOtherwiseGoodPasswordsAreLookedUp(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	c := passpolicy.New(passpolicy.Options{
		Rules: passpolicy.DefaultRules(),
		Breaches: breachServer(t, func(http.ResponseWriter, *http.Request) {
			asked <- struct{}{}
		}),
	})
	if got := verdict(t, c.Check(t.Context(), "kq7-Zmv2", passpolicy.Subject{})); !slices.Equal(got, []string{short}) {
		t.Errorf("the messages are about %q, want %q", got, short)
	}
	if len(asked) != 0 {
		t.Error("the breach list was asked about a password that is refused anyway")
	}
}

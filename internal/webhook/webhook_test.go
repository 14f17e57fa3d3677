package webhook_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"authnzerver/internal/webhook"
)

func secretOf(size int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", size)))
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{
		"https://example.org": true, "https://user:pass@example.org:8443/hook?a=b": true,
		"http://localhost:8080/hook": true, "http://127.0.0.1/": true, "http://[::1]:1/": true,
		"http://example.org/": false, "http://localhost.example.org/": false, "http://127.0.0.1.example.org/": false,
		"ftp://localhost/": false, "https://": false, "https:///path": false, "/hook": false, "": false, "https://example.org/#a": false,
		"https://example.org/#": false, "https://exa mple.org/": false,
	} {
		err := webhook.CheckURL(url)
		if good != (err == nil) || err != nil && !errors.Is(err, webhook.ErrURL) {
			t.Errorf("CheckURL(%q) = %v", url, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		secretOf(24): 1, secretOf(64): 1, secretOf(24) + "," + secretOf(32): 2, " " + secretOf(24) + " ,\n" + secretOf(32) + "\n": 2,
		secretOf(23): 0, secretOf(65): 0, "": 0, "whsec_": 0, secretOf(24) + ",": 0, strings.TrimPrefix(secretOf(24), "whsec_"): 0, "whsec_!": 0,
	} {
		secrets, err := webhook.ParseSecrets(text)
		if len(secrets) != want || (want == 0) != errors.Is(err, webhook.ErrSecret) {
			t.Errorf("ParseSecrets(%q) = %d secrets, %v; want %d", text, len(secrets), err, want)
		}
	}
}

// FuzzOptions reads URLs and secrets: a URL that is taken can be asked, and a secret that
// is taken is as long as one must be.
func FuzzOptions(f *testing.F) {
	f.Add("https://example.org/hook?a=b", secretOf(24)+","+secretOf(64))
	f.Add("http://[::1]:8080/", "whsec_")
	f.Fuzz(func(t *testing.T, url, secret string) {
		if webhook.CheckURL(url) == nil {
			_, err := http.NewRequest(http.MethodPost, url, nil)
			if err != nil {
				t.Errorf("%q is taken, and cannot be asked: %v", url, err)
			}
		}
		secrets, err := webhook.ParseSecrets(secret)
		for _, secret := range secrets {
			if len(secret) < 24 || len(secret) > 64 {
				t.Errorf("a secret has %d bytes", len(secret))
			}
		}
		if err == nil && len(secrets) == 0 {
			t.Errorf("%q has no secret", secret)
		}
	})
}

// A service is what messages are sent to.
type service struct {
	status int
	got    []*http.Request
	bodies []string
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	s.got, s.bodies = append(s.got, r), append(s.bodies, string(body))
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(s.status)
}

func TestSend(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 204, 299, 302, 400, 410, 500} {
		s := &service{status: status}
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		secrets, err := webhook.ParseSecrets(secretOf(24) + "," + secretOf(32))
		if err != nil {
			t.Fatal(err)
		}
		sender, err := webhook.New(server.URL+"/hook?key=secret", secrets)
		if err != nil {
			t.Fatal(err)
		}
		err = sender.Send(t.Context(), "evt_7", []byte(`{"type":"x"}`))
		var refused *webhook.StatusError
		switch {
		case status < 300 && err != nil:
			t.Errorf("status %d: %v", status, err)
		case status >= 300 && (!errors.As(err, &refused) || refused.Status != status):
			t.Errorf("status %d: %v", status, err)
		}
		if len(s.got) != 1 {
			t.Fatalf("status %d: %d requests", status, len(s.got))
		}
		r := s.got[0]
		if r.Method != http.MethodPost || r.URL.String() != "/hook?key=secret" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("webhook-id") != "evt_7" {
			t.Errorf("the request is %s %s with %v", r.Method, r.URL, r.Header)
		}
		for _, secret := range []string{secretOf(24), secretOf(32), secretOf(40)} {
			verifier, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			good := verifier.Verify([]byte(s.bodies[0]), r.Header) == nil
			if good != (secret != secretOf(40)) {
				t.Errorf("the signature is good for the secret of %d characters: %v", len(secret), good)
			}
			if verifier.Verify([]byte(s.bodies[0]+" "), r.Header) == nil {
				t.Error("the signature is good for another body")
			}
		}
	}
}

func TestErrorsDoNotShowTheURL(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	address := server.URL
	server.Close()
	sender, err := webhook.New(address+"/canary-path?key=canary-key", [][]byte{[]byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	err = sender.Send(t.Context(), "evt_1", nil)
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("the error is %v", err)
	}
}

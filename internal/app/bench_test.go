package app_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/app"
	"authnzerver/internal/config"
	"authnzerver/internal/token"
	"authnzerver/internal/wire"
)

// newHandler returns the handler of a server with a new database. Repeated
// messages are accepted, so that a benchmark can send the same one.
func newHandler(b *testing.B, secret string) http.Handler {
	b.Helper()
	dir := b.TempDir()
	server, err := app.Open(b.Context(), &config.Config{
		AllowedHosts: []string{"127.0.0.1"},
		AuthDB:       "sqlite:///" + filepath.Join(dir, "auth.sqlite"),
		BaseDir:      dir,
		Secret:       secret,
		PIISalt:      "salt",
		Workers:      1,
		Argon2:       "m=7168,t=1,p=1",
		APIKeyPrefix: token.DefaultPrefix,
		RateLimits:   config.RateLimits{Off: true},
		PassPolicy:   "min_pass_length:12; max_unsafe_similarity:50; max_char_frequency:0.3; min_pwned_matches:25",
	}, app.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Close(); err != nil {
			b.Error(err)
		}
	})
	return server.Handler()
}

// BenchmarkRequest measures the way of one request from net/http's handler
// call to the sealed reply, without a network.
func BenchmarkRequest(b *testing.B) {
	secret := wire.NewKey()
	handler := newHandler(b, secret)
	server := httptest.NewServer(handler)
	defer server.Close()
	asker, err := client.New(client.Options{URL: server.URL, Secret: secret})
	if err != nil {
		b.Fatal(err)
	}
	session, err := client.Do(b.Context(), asker, api.SessionNew, api.SessionNewParams{
		IPAddress: "192.0.2.7", UserAgent: "Mozilla/5.0", UserID: api.Of[api.UserRef](1),
		Expires: time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000"),
	})
	if err != nil {
		b.Fatal(err)
	}
	keys, err := wire.ParseKeys(secret)
	if err != nil {
		b.Fatal(err)
	}
	issued, err := client.Do(b.Context(), asker, api.APIKeyNewNoSession, api.APIKeyNewNoSessionParams{
		Issuer: "bench", Audience: "bench", Subject: api.ListOf("bench"), APIVersion: api.TextOf("1"),
		UserID: 1, UserRole: "superuser", IPAddress: "192.0.2.7", ExpiresSeconds: 86400, RefreshExpires: 86400,
	})
	if err != nil {
		b.Fatal(err)
	}
	const question = `["view", "dataset", 1, "private"]`
	for _, request := range []struct{ name, body string }{
		{api.SessionExists.Spec().Name, fmt.Sprintf(`{"session_token": %q}`, string(*session.SessionToken))},
		{
			api.UserCheckAccess.Spec().Name,
			`{"user_id": 1, "user_role": "superuser", "action": "view", "target_name": "dataset",
				"target_owner": 2, "target_visibility": "shared", "target_sharedwith": "1"}`,
		},
		{api.APIKeyVerifyNoSession.Spec().Name, `{"user_id": 1, "user_role": "superuser", "apikey_dict": ` + string(*issued.APIKey) + `}`},
		{api.Check.Spec().Name, `{"user_id": 1, "access": [` + question + `]}`},
		{api.Check.Spec().Name, `{"user_id": 1, "access": [` + strings.Repeat(question+", ", 99) + question + `]}`},
	} {
		b.Run(request.name, func(b *testing.B) {
			text := fmt.Sprintf(`{"request": %q, "body": %s, "reqid": 1, "client_ipaddr": "192.0.2.7"}`, request.name, request.body)
			sealed := keys.AppendSeal(nil, []byte(text), 0, time.Now())
			var body bytes.Reader
			r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", nil)
			r.ContentLength = int64(len(sealed))
			w := &discarder{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(sealed)
				r.Body = io.NopCloser(&body)
				clear(w.header)
				handler.ServeHTTP(w, r)
				if w.status != http.StatusOK {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}

// A discarder is a ResponseWriter that keeps the status only.
type discarder struct {
	header http.Header
	status int
}

func (w *discarder) Header() http.Header         { return w.header }
func (w *discarder) WriteHeader(status int)      { w.status = status }
func (w *discarder) Write(p []byte) (int, error) { return len(p), nil }

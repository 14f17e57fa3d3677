package client_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authnzerver/api"
	"authnzerver/client"
	"authnzerver/internal/app"
	"authnzerver/internal/config"
)

const (
	secret      = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	otherSecret = "HxwdHhsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
)

// serve runs a server on an empty database and returns its URL and the number
// of connections it has accepted.
func serve(t *testing.T) (url string, connections *atomic.Int64) {
	t.Helper()
	dir := t.TempDir()
	cfg, _, err := config.Load(config.Source{Dir: dir, Flags: map[string]string{
		"authdb": "sqlite:///" + filepath.Join(dir, "a.sqlite"), "secret": secret, "piisalt": "salt",
		"pwnedurl": "none", "argon2": "m=7168,t=1,p=1",
	}})
	if err != nil {
		t.Fatal(err)
	}
	server, err := app.Open(t.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	listener := httptest.NewUnstartedServer(server.Handler())
	listener.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	listener.Start()
	t.Cleanup(func() {
		listener.Close()
		err := server.Close()
		if err != nil {
			t.Error(err)
		}
	})
	return listener.URL, connections
}

func newClient(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	if o.Secret == "" {
		o.Secret = secret
	}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newSession(ctx context.Context, c *client.Client) (api.SessionNewResult, error) {
	return client.Do(ctx, c, api.SessionNew, api.SessionNewParams{
		IPAddress: "192.0.2.7", UserAgent: "test", Expires: "2100-01-01T00:00:00Z",
	})
}

func TestDo(t *testing.T) {
	url, connections := serve(t)
	c := newClient(t, client.Options{URL: url})
	ctx := client.WithClientAddr(t.Context(), "192.0.2.7")
	session, err := newSession(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC); !time.Time(session.Expires).Equal(want) {
		t.Errorf("expires %v, want %v", time.Time(session.Expires), want)
	}
	info, err := client.Do(ctx, c, api.SessionExists, api.SessionTokenParams{SessionToken: *session.SessionToken})
	if err != nil || info.SessionInfo.UserID != 2 || info.SessionInfo.UserRole != "anonymous" {
		t.Errorf("%+v, %v", info.SessionInfo, err)
	}
	user, err := client.Do(ctx, c, api.UserNew, api.UserNewParams{
		FullName: "Ann", Email: "ann@example.org", Password: "seven wet stones sing",
		ExtraInfo: api.Some(api.Of(api.Object(`{"a": [1, "é"]}`))),
	})
	if err != nil || *user.UserID != 4 || !user.SendVerification {
		t.Errorf("%+v, %v", user, err)
	}
	list, err := client.Do(ctx, c, api.UserList, api.UserListParams{UserID: api.Of(api.UserRef(4))})
	if err != nil || len(list.UserInfo) != 1 || !strings.Contains(string(list.UserInfo[0].ExtraInfo), "é") {
		t.Errorf("%+v, %v", list, err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for four requests", n)
	}
}

func TestFailures(t *testing.T) {
	url, _ := serve(t)
	c := newClient(t, client.Options{URL: url})
	_, err := client.Do(t.Context(), c, api.SessionExists, api.SessionTokenParams{SessionToken: "unknown"})
	if !errors.Is(err, api.Fail(api.CodeSessionNotFound)) || errors.Is(err, api.Fail(api.CodeUserLocked)) {
		t.Errorf("%v, want session_not_found", err)
	}
	var failure *api.Failure
	_, err = client.Do(t.Context(), c, api.SessionNew, api.SessionNewParams{Expires: strings.Repeat("x", 41)})
	if !errors.As(err, &failure) || len(failure.Problems) != 1 || failure.Problems[0].Param != "expires" ||
		failure.Problems[0].Problem != api.ProblemTooLong || failure.Problems[0].RequiredType[0] != "str" {
		t.Errorf("%+v", failure)
	}
}

func TestStatus(t *testing.T) {
	url, _ := serve(t)
	var status *client.StatusError
	_, err := newSession(t.Context(), newClient(t, client.Options{URL: url, Secret: otherSecret}))
	if !errors.As(err, &status) || status.Status != http.StatusUnauthorized {
		t.Errorf("other secret: %v, want 401", err)
	}
	_, err = newSession(t.Context(), newClient(t, client.Options{URL: url, Now: func() time.Time { return time.Now().Add(-time.Hour) }}))
	if !errors.As(err, &status) || status.Status != http.StatusUnauthorized {
		t.Errorf("slow clock: %v, want 401", err)
	}
	_, err = newClient(t, client.Options{URL: url}).Call(t.Context(), "no-such-request", []byte("{}"))
	if !errors.As(err, &status) || status.Status != http.StatusBadRequest {
		t.Errorf("unknown request: %v, want 400", err)
	}
	limited := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "slower", http.StatusTooManyRequests)
	}))
	defer limited.Close()
	_, err = newSession(t.Context(), newClient(t, client.Options{URL: limited.URL}))
	if !errors.As(err, &status) || status.Status != http.StatusTooManyRequests || status.RetryAfter != 7*time.Second || status.Text != "slower" {
		t.Errorf("limited: %+v", status)
	}
}

// TestReplayedReply answers every request with the recorded reply to the
// first one.
func TestReplayedReply(t *testing.T) {
	url, _ := serve(t)
	var once sync.Once
	var recorded []byte
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once.Do(func() {
			response, err := http.Post(url, "text/plain", r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			defer response.Body.Close()
			recorded, err = io.ReadAll(response.Body)
			if err != nil {
				t.Error(err)
			}
		})
		_, _ = w.Write(recorded)
	}))
	defer proxy.Close()
	c := newClient(t, client.Options{URL: proxy.URL})
	_, err := newSession(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = newSession(t.Context(), c)
	if !errors.Is(err, client.ErrReply) {
		t.Errorf("%v, want ErrReply", err)
	}
}

func TestNoAnswer(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	_, err := newSession(t.Context(), newClient(t, client.Options{URL: closed.URL}))
	if !errors.Is(err, client.ErrConnection) {
		t.Errorf("refused: %v, want ErrConnection", err)
	}
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	_, err = newSession(t.Context(), newClient(t, client.Options{URL: silent.URL, Timeout: 50 * time.Millisecond}))
	if !errors.Is(err, client.ErrConnection) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v, want ErrConnection and DeadlineExceeded", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newSession(ctx, newClient(t, client.Options{URL: silent.URL}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, want Canceled", err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the redirect was followed")
	}))
	defer target.Close()
	redirecting := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer redirecting.Close()
	var status *client.StatusError
	_, err := newSession(t.Context(), newClient(t, client.Options{URL: redirecting.URL}))
	if !errors.As(err, &status) || status.Status != http.StatusTemporaryRedirect {
		t.Errorf("%v, want 307", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []client.Options{
		{URL: "127.0.0.1:13431", Secret: secret},
		{URL: "ftp://127.0.0.1/", Secret: secret},
		{URL: "http://127.0.0.1/", Secret: "short"},
		{URL: "http://127.0.0.1/"},
	} {
		_, err := client.New(o)
		if err == nil {
			t.Errorf("%q was accepted", o.URL)
		}
		if err != nil && o.Secret != "" && strings.Contains(err.Error(), o.Secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

// TestKeys goes through a key's life with typed calls.
func TestKeys(t *testing.T) {
	url, _ := serve(t)
	c := newClient(t, client.Options{URL: url})
	issued, err := client.Do(t.Context(), c, api.APIKeyNewNoSession, api.APIKeyNewNoSessionParams{
		Issuer: "me", Audience: "you", Subject: api.ListOf("a", "b"), APIVersion: api.TextOf("1"), UserID: 1, UserRole: "superuser",
		IPAddress: "192.0.2.7", ExpiresSeconds: 60, RefreshExpires: 60,
		Name: api.Given(api.Of("robot")), Scopes: api.Given(api.Of(api.Scopes{"view:dataset"})),
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := api.ParseRefreshableKey(*issued.APIKey)
	if err != nil {
		t.Fatal(err)
	}
	next, err := client.Do(t.Context(), c, api.APIKeyRefreshNoSession, api.APIKeyRefreshNoSessionParams{
		APIKeyDict: key, UserID: 1, UserRole: "superuser", RefreshToken: *issued.RefreshToken, IPAddress: "192.0.2.7",
		ExpiresSeconds: 60, RefreshExpires: 60,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text  api.Secret
		scope string
		want  error
	}{
		{*next.APIKey, "view:dataset", nil},
		{*next.APIKey, "edit:dataset", api.Fail(api.CodeInsufficientScope)},
		{*issued.APIKey, "view:dataset", api.Fail(api.CodeKeyNotValid)},
	} {
		key, err := api.ParseAPIKey(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		result, err := client.Do(t.Context(), c, api.APIKeyVerifyNoSession, api.APIKeyVerifyNoSessionParams{
			APIKeyDict: key, UserID: 1, UserRole: "superuser", Scope: api.Given(api.Of(tt.scope)),
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("verifying ended in %v, want %v", err, tt.want)
		}
		if err == nil && (result.KeyID != *issued.KeyID || len(result.Scopes) != 1 || *result.Name != "robot") {
			t.Errorf("result %+v", result)
		}
	}
	list, err := client.Do(t.Context(), c, api.APIKeyList, api.APIKeyListParams{UserID: 1, UserRole: "superuser"})
	if err != nil || len(list.APIKeys) != 1 || list.APIKeys[0].KeyID != *issued.KeyID {
		t.Fatalf("list %+v, %v", list, err)
	}
	_, err = client.Do(t.Context(), c, api.APIKeyRevoke, api.APIKeyRevokeParams{
		KeyID: api.Given(*issued.KeyID), UserID: 1, UserRole: "superuser",
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Do(t.Context(), c, api.APIKeyRevoke, api.APIKeyRevokeParams{UserID: 1, UserRole: "superuser"})
	var failure *api.Failure
	if !errors.As(err, &failure) || failure.Code != api.CodeInvalidParams || len(failure.Problems) != 1 || failure.Problems[0].Param != "apikey_dict" {
		t.Errorf("revoking no key ended in %v", err)
	}
}

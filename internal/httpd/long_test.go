package httpd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"authnzerver/internal/dispatch"
	"authnzerver/internal/httpd"
	"authnzerver/internal/pii"
	"authnzerver/internal/wire"
)

// A syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *syncBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(data)
}

// String returns all of it.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestLongReply sends replies that are not kept in memory: whole ones, ones that fail
// on the way, and to clients that go.
func TestLongReply(t *testing.T) {
	t.Parallel()
	ring, err := wire.ParseKeys(wire.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	hasher, err := pii.NewHasher("salt")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a long text, ", 50_000)
	for _, test := range []struct {
		name   string
		fail   error
		gone   bool // the client goes after the beginning
		logged string
	}{
		{"whole", nil, false, "level=INFO msg=request status=200"},
		{"fails", errors.New("disk on fire"), false, `level=ERROR msg=request status=200`},
		{"client goes", nil, true, `cut="the client has gone`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var log syncBuffer
			h := httpd.New(httpd.Options{
				AllowedHosts: []string{"127.0.0.1"}, Keys: ring, Hasher: hasher, Now: time.Now,
				Log:    slog.New(slog.NewTextHandler(&log, nil)),
				Accept: func(context.Context, *wire.Message, time.Time) error { return nil },
				Do: func(ctx context.Context, dst []byte, in *dispatch.Incoming) ([]byte, dispatch.Outcome, error) {
					w, err := in.Long.Begin()
					for rest := long; err == nil && rest != ""; {
						n := min(len(rest), 1000)
						_, err = io.WriteString(w, rest[:n])
						rest = rest[n:]
						if test.gone && rest == "" {
							rest = long // until the client has gone
						}
						if test.fail != nil && len(rest) < len(long)/2 {
							err = test.fail
						}
					}
					return nil, dispatch.Outcome{Sent: true}, err
				},
			})
			server := httptest.NewServer(h)
			defer server.Close()
			request := ring.AppendSeal(nil, []byte(`{"request": "x", "reqid": 1, "body": {}}`), 0, time.Now())
			response, err := http.Post(server.URL, "text/plain", bytes.NewReader(request))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK || response.ContentLength != -1 || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("status %d, %d bytes, header %v", response.StatusCode, response.ContentLength, response.Header)
			}
			if test.gone {
				_, err = io.ReadFull(response.Body, make([]byte, 1000))
				if err == nil {
					err = response.Body.Close()
				}
				if err != nil {
					t.Fatal(err)
				}
			} else {
				body, err := io.ReadAll(response.Body)
				message, openErr := ring.Open(body)
				if test.fail == nil && (err != nil || openErr != nil || string(message.Plaintext) != long) {
					t.Errorf("reading: %v, opening: %v, %d bytes", err, openErr, len(message.Plaintext))
				}
				if test.fail != nil && (!errors.Is(err, io.ErrUnexpectedEOF) || openErr == nil) {
					t.Errorf("a reply that was cut off: reading: %v, opening: %v", err, openErr)
				}
			}
			server.Close() // waits for the handler
			if !strings.Contains(log.String(), test.logged) {
				t.Errorf("the log lacks %q: %s", test.logged, log.String())
			}
			if test.fail != nil && !strings.Contains(log.String(), test.fail.Error()) {
				t.Errorf("the log does not say why: %s", log.String())
			}
		})
	}
}

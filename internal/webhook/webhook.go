// Package webhook sends signed messages to an HTTP service, in the form of the
// specification of Standard Webhooks 1.0 (https://www.standardwebhooks.com).
package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	// budget is the time that sending one message may take in all, the largest that the
	// specification recommends.
	budget = 20 * time.Second
	// maxAnswer is how much of an answer is read, in bytes, so that its connection can be
	// used again. It is of no interest.
	maxAnswer = 64 << 10
	// secretPrefix begins a secret, and minSecret and maxSecret are its sizes in bytes,
	// all as the specification has them.
	secretPrefix = "whsec_"
	minSecret    = 24
	maxSecret    = 64
)

// Errors of options. They hold nothing of the values, which are secret.
var (
	ErrURL    = errors.New("must be an https URL without a fragment, or an http URL of this machine")
	ErrSecret = errors.New("must be whsec_ and 24 to 64 bytes in base64; there may be several, separated by commas")
)

// A StatusError is an answer with which a service has not taken a message.
type StatusError struct {
	// Status is the HTTP status of the answer.
	Status int
}

// Error returns the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the webhook answered with status %d", e.Status)
}

// A Sender sends messages to one service. It is safe for concurrent use.
type Sender struct {
	url     string
	signers []*standardwebhooks.Webhook
	http    *http.Client
	now     func() time.Time
}

// CheckURL fails with ErrURL unless messages can be sent to a URL.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Fragment != "" || strings.Contains(text, "#") {
		return ErrURL
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		addr, err := netip.ParseAddr(u.Hostname())
		if u.Hostname() == "localhost" || err == nil && addr.IsLoopback() {
			return nil
		}
	}
	return ErrURL
}

// ParseSecrets reads secrets, separated by commas. It fails with ErrSecret.
func ParseSecrets(text string) ([][]byte, error) {
	var secrets [][]byte
	for part := range strings.SplitSeq(text, ",") {
		encoded, ok := strings.CutPrefix(strings.TrimSpace(part), secretPrefix)
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return nil, ErrSecret
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// New returns a Sender of messages to a URL that carry a signature for each secret. The
// proxy variables of the environment are honoured. Redirects are not followed.
func New(url string, secrets [][]byte) (*Sender, error) {
	err := CheckURL(url)
	if err != nil {
		return nil, err
	}
	s := &Sender{url: url, now: time.Now, http: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, secret := range secrets {
		signer, err := standardwebhooks.NewWebhookRaw(secret)
		if err != nil {
			return nil, err
		}
		s.signers = append(s.signers, signer)
	}
	return s, nil
}

// Send sends a message and returns nil when the service has taken it, which it tells by
// a status from 200 to 299. It takes 20 seconds at most. The id is the same each time
// a message is sent. An error holds nothing of the URL.
func (s *Sender) Send(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return ErrURL // unreachable: New has parsed it
	}
	now := s.now()
	signatures := make([]string, len(s.signers))
	for i, signer := range s.signers {
		signatures[i], err = signer.Sign(id, now, body)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "authnzerver")
	// As the specification writes them.
	request.Header[standardwebhooks.HeaderWebhookID] = []string{id}
	request.Header[standardwebhooks.HeaderWebhookTimestamp] = []string{strconv.FormatInt(now.Unix(), 10)}
	request.Header[standardwebhooks.HeaderWebhookSignature] = []string{strings.Join(signatures, " ")}
	response, err := s.http.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer response.Body.Close()
	// Whatever it says, the status has told already.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return &StatusError{response.StatusCode}
	}
	return nil
}

// withoutURL returns what an error of an HTTP client wraps: its own text shows the URL,
// which may hold a password.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

package passpolicy

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"authnzerver/internal/tracing"
)

const (
	// breachBudget is the time that one look-up may take in all: a client
	// waits for its answer meanwhile.
	breachBudget = 2 * time.Second
	// maxBreachBody bounds an answer, in bytes. Real ones have less than
	// 100 KiB.
	maxBreachBody = 1 << 20
	// prefixLength is how many hexadecimal digits of a hash are sent, as the
	// range query of Pwned Passwords has it.
	prefixLength = 5
)

// A BreachClient asks a breach list how often a password was stolen. It is
// safe for concurrent use.
//
// It speaks the range query of the Pwned Passwords API: the server learns the
// first 20 bits of the password's SHA-1 digest, never the password. Answers
// are padded, so that their size doesn't give the query away to an
// eavesdropper.
type BreachClient struct {
	base *url.URL
	http *http.Client
}

// NewBreachClient returns a client of the API at an http or https URL, such as
// https://api.pwnedpasswords.com. The proxy variables of the environment are
// honoured. Redirects are not followed.
func NewBreachClient(baseURL string) (*BreachClient, error) {
	base, err := url.Parse(baseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" ||
		base.RawQuery != "" || base.Fragment != "" {
		// The URL may hold a proxy's password: it isn't shown.
		return nil, errors.New("breach list: want an http or https URL without query and fragment")
	}
	return &BreachClient{
		base: base,
		http: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Count returns how often a password is in the breach list, 0 when it isn't.
// It takes 2 seconds at most. After an error the count is unknown; the error
// may be logged, since it holds no part of the password or its hash.
func (c *BreachClient) Count(ctx context.Context, password string) (int, error) {
	sum := sha1.Sum([]byte(password))
	hash := hex.EncodeToString(sum[:])
	prefix, suffix := hash[:prefixLength], hash[prefixLength:]
	ctx, cancel := context.WithTimeout(ctx, breachBudget)
	defer cancel()
	ctx, span := tracing.Start(ctx, "breached passwords")
	body, err := c.ask(ctx, prefix)
	span.End(err)
	if err != nil {
		return 0, redact(err, prefix)
	}
	return count(body, suffix)
}

// ask returns the answer to a range query.
func (c *BreachClient) ask(ctx context.Context, prefix string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("range", prefix).String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Add-Padding", "true")
	request.Header.Set("User-Agent", "authnzerver")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBreachBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBreachBody {
		return nil, fmt.Errorf("answer of more than %d bytes", maxBreachBody)
	}
	return body, nil
}

// redact returns an error for the log. The one of an HTTP client shows the
// URL, and one about a malformed answer shows what the server chose to send,
// so either may hold the prefix.
func redact(err error, prefix string) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	if strings.Contains(strings.ToLower(err.Error()), prefix) {
		return errMalformedAnswer
	}
	return fmt.Errorf("ask the breach list: %w", err)
}

var errMalformedAnswer = errors.New("ask the breach list: malformed answer")

// count returns the count of a suffix in an answer, 0 when it isn't there. Each
// line is a suffix of 35 hexadecimal digits, a colon and a count; padding has
// the count 0. An answer with any other line is refused as a whole.
func count(body []byte, suffix string) (int, error) {
	body = bytes.TrimRight(body, "\r\n")
	if len(body) == 0 {
		return 0, errMalformedAnswer
	}
	result := 0
	for line := range bytes.Lines(body) {
		digits, number, found := strings.Cut(strings.TrimSpace(string(line)), ":")
		n, err := strconv.Atoi(number)
		if !found || err != nil || n < 0 || !isSuffix(digits) {
			return 0, errMalformedAnswer
		}
		if strings.EqualFold(digits, suffix) {
			result = max(result, n)
		}
	}
	return result, nil
}

// isSuffix reports whether text is the rest of a hash after its prefix.
func isSuffix(text string) bool {
	var b [sha1.Size]byte
	if len(text) != hex.EncodedLen(sha1.Size)-prefixLength {
		return false
	}
	_, err := hex.Decode(b[:], []byte("0"+text))
	return err == nil
}

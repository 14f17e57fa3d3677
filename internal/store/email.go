package store

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"authnzerver/internal/token"
)

// A TokenPurpose is what an e-mail token proves the ownership of an address
// for.
type TokenPurpose string

// The purposes.
const (
	PurposeSignUp     TokenPurpose = "signup"
	PurposeForgotPass TokenPurpose = "forgotpass"
)

// PutEmailToken stores a user's token for a purpose, bound to the address that
// the user has now, in the place of older ones.
func (t *Tx) PutEmailToken(ctx context.Context, u *User, purpose TokenPurpose, digest token.Digest, expires time.Time) error {
	err := t.put(ctx, "email_tokens", row{{"user_id", u.ID}, {"purpose", string(purpose)}}, row{
		{"token_digest", digest.String()}, {"email_normalized", t.normalize(u.Email)}, {"created", t.now}, {"expires", expires},
	})
	if err != nil {
		return fmt.Errorf("store e-mail token: %w", err)
	}
	return nil
}

// EmailToken reports whether a token is the user's newest for the purpose, has
// not expired, and was made for the address that the user has now.
func (t *Tx) EmailToken(ctx context.Context, u *User, purpose TokenPurpose, digest token.Digest) (bool, error) {
	var stored string
	err := classify(t.row(ctx, `SELECT token_digest FROM email_tokens
		WHERE user_id = ? AND purpose = ? AND email_normalized = ? AND expires > ?`,
		u.ID, string(purpose), t.normalize(u.Email), t.now).Scan(&stored))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read e-mail token: %w", err)
	}
	return subtle.ConstantTimeCompare([]byte(stored), []byte(digest.String())) == 1, nil
}

// DeleteEmailToken makes a user's token for a purpose invalid.
func (t *Tx) DeleteEmailToken(ctx context.Context, userID int64, purpose TokenPurpose) error {
	_, err := t.exec(ctx, "DELETE FROM email_tokens WHERE user_id = ? AND purpose = ?", userID, string(purpose))
	if err != nil {
		return fmt.Errorf("delete e-mail token: %w", err)
	}
	return nil
}

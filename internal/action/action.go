// Package action holds the rules: what every request means, who may ask for
// it, and what it changes. It is the only layer that decides.
//
// A function here has the name of its request and takes parsed parameters. It
// reads, hashes outside of any transaction, and then changes the store in at
// most one. What the caller may know about a failure is an [api.Failure];
// every other error is the server's own affair.
package action

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/limit"
	"authnzerver/internal/mail"
	"authnzerver/internal/passpolicy"
	"authnzerver/internal/passwd"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// A Server answers the requests. Its methods are safe for concurrent use.
type Server struct {
	// Store keeps users and sessions.
	Store *store.Store
	// Passwords hashes under a budget.
	Passwords *passwd.Pool
	// PasswordRules judges new passwords.
	PasswordRules *passpolicy.Checker
	// Tokens makes and checks API keys and the like.
	Tokens *token.Minter
	// RefreshGrace is how long a used refresh token gets the same successor
	// again.
	RefreshGrace time.Duration
	// SendMail sends a message and returns nil when the mail server has taken
	// it; nil for a server that sends no mail.
	SendMail func(context.Context, *mail.Message) error
	// Templates makes the messages.
	Templates *mail.Templates
	// MailPace is what the time of answers about forgotten passwords is a
	// multiple of, so that it tells nothing; 0 for none.
	MailPace time.Duration
	// Policy returns the permission policy in force.
	Policy func() *policy.Policy
	// Lockout says how wrong passwords are answered.
	Lockout Lockout
	// Keys makes the keyed hashes that failures and limits are counted for.
	Keys *limit.Keyer
	// Spend counts a call against limits; see [limit.Limiter.Spend].
	Spend func(ctx context.Context, each []limit.Decision, charges ...limit.Charge) limit.Decision
	// SiteName is what messages that the server sends on its own call it.
	SiteName string
	// SendEvent sends an event to the webhook and returns nil when that has taken it;
	// nil for a server without one.
	SendEvent func(ctx context.Context, id string, body []byte) error
	// EventRetention is how long events are kept; 0: for ever.
	EventRetention time.Duration
	// Now is the clock.
	Now func() time.Time

	mailing mailing
}

// Classify returns what the caller may know about an error of this package,
// and whether the error is one that an operator should see.
func Classify(err error) (f *api.Failure, operator bool) {
	switch {
	case errors.As(err, &f):
		return f, false
	case errors.Is(err, passwd.ErrBusy):
		return api.Fail(api.CodeBusy), false
	case errors.Is(err, passwd.ErrFailed):
		return api.Fail(api.CodeBusy), true
	case errors.Is(err, store.ErrUnknown):
		return api.Fail(api.CodeUnknownOutcome), true
	case errors.Is(err, store.ErrUnavailable):
		return api.Fail(api.CodeDatabase), true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return api.Fail(api.CodeTimeout), false
	default:
		return api.Fail(api.CodeInternal), true
	}
}

// failWhen returns the failure with code c when err is target, else err.
func failWhen(err, target error, c api.Code) error {
	if errors.Is(err, target) {
		return api.Fail(c)
	}
	return err
}

// session returns an unexpired session and its user.
func (s *Server) session(ctx context.Context, t api.SessionToken) (*store.Session, *store.User, error) {
	session, user, err := s.Store.Session(ctx, token.Sum(string(t)))
	if err != nil {
		return nil, nil, failWhen(err, store.ErrNotFound, api.CodeSessionNotFound)
	}
	event.From(ctx).SetUser(user.ID)
	return session, user, nil
}

// use is session for a request after which the session goes on: it counts as used now.
func (s *Server) use(ctx context.Context, t api.SessionToken) (*store.Session, *store.User, error) {
	session, user, err := s.session(ctx, t)
	if err == nil {
		s.Store.NoteSeen(session)
	}
	return session, user, err
}

// userByEmail returns the user with an address, or nil when there is none.
func (s *Server) userByEmail(ctx context.Context, email api.Email) (*store.User, error) {
	event.From(ctx).SetEmail(string(email))
	var user *store.User
	err := s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		user, err = tx.UserByEmail(ctx, string(email))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return user, err
}

// userByID returns the user with an id, or nil when there is none.
func (s *Server) userByID(ctx context.Context, id int64) (*store.User, error) {
	return userIn(ctx, s.Store, id)
}

// userIn is userByID among rows that may belong together.
func userIn(ctx context.Context, rows store.Rows, id int64) (*store.User, error) {
	user, err := rows.User(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return user, err
}

func userInfo(u *store.User) *api.UserInfo {
	return &api.UserInfo{
		UserID: u.ID, SystemID: u.SystemID, FullName: u.FullName, Email: api.Email(u.Email),
		EmailVerified: u.EmailVerified, IsActive: u.IsActive,
		LastLoginTry: api.Time(u.LastLoginTry), LastLoginSuccess: api.Time(u.LastLoginOK),
		FailedLoginTries: u.FailedLogins, CreatedOn: api.Time(u.CreatedOn), LastUpdated: api.Time(u.LastUpdated),
		UserRole: u.Role, ExtraInfo: shown(u.ExtraInfo),
		EmailVerifySentOn: api.Time(u.EmailVerifySent), EmailForgotPassSentOn: api.Time(u.EmailForgotSent),
		EmailChangePassSentOn: api.Time(u.EmailChangeSent),
	}
}

// shown returns stored JSON as replies show it: null when it is not JSON. An
// adopted database may hold such text, since Python writes NaN and halves of
// surrogate pairs, and one row of it must not spoil the list of all users.
func shown(stored []byte) api.Object {
	if !jsontext.Value(stored).IsValid() {
		return nil
	}
	return stored
}

// object returns the text of a nullable object, nil for none.
func object(o api.Null[api.Object]) []byte {
	if !o.Set {
		return nil
	}
	return bytes.TrimSpace(o.Value)
}

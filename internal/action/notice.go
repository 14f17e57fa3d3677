package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"authnzerver/internal/mail"
	"authnzerver/internal/store"
)

const (
	// noticePause is the time between two messages about the same kind of tries to a user.
	noticePause = 24 * time.Hour
	// noticeLife is how long sending a message is tried.
	noticeLife = 24 * time.Hour
	// noticeRetry and noticeMaxRetry are the first and the longest time
	// between two tries; each is twice as long as the one before.
	noticeRetry    = time.Minute
	noticeMaxRetry = time.Hour
	// noticeKept is how long it is kept that a message was sent.
	noticeKept = 7 * 24 * time.Hour
)

// notify stores a message about what somebody did to a user's account, to be sent after the
// transaction, unless there was one of its kind within the pause.
func (s *Server) notify(ctx context.Context, tx *store.Tx, user *store.User, kind mail.Kind, by actor, pause time.Duration) error {
	if s.SendMail == nil || !user.IsActive || !user.EmailVerified || store.Protected(user.ID) {
		return nil
	}
	n := &store.Notice{UserID: user.ID, Kind: string(kind), IPAddress: by.address, UserAgent: familiarDevice(by.agent)}
	if kind == mail.PasswordChanged || kind == mail.EmailChanged {
		n.Address = user.Email // who has changed this may give the account another one next
	}
	_, err := tx.AddNotice(ctx, n, tx.Now().Add(-pause))
	return err
}

// SendNotice sends the message whose turn it is. It returns when the next one
// has its turn: the zero time when there is none. A message that could not be
// sent is an error, and its turn comes again.
func (s *Server) SendNotice(ctx context.Context) (next time.Time, err error) {
	var n *store.Notice
	var user *store.User
	err = s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		n, err = tx.NextNotice(ctx)
		if err != nil {
			return err
		}
		user, err = tx.User(ctx, n.UserID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	case n.NextTry.After(s.Now()):
		return n.NextTry, nil
	}
	wait := min(noticeRetry<<min(n.Attempts, 10), noticeMaxRetry)
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.ClaimNotice(ctx, n, tx.Now().Add(wait)) })
	if errors.Is(err, store.ErrConflict) { // another node sends it
		return s.Now(), nil
	}
	if err != nil {
		return time.Time{}, err
	}
	sendErr := s.sendNotice(ctx, n, user)
	if sendErr != nil && s.Now().Sub(n.Created) < noticeLife {
		return s.Now(), fmt.Errorf("send a message of the kind %s, attempt %d: %w", n.Kind, n.Attempts+1, sendErr)
	}
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.EndNotice(ctx, n.ID) })
	return s.Now(), errors.Join(err, sendErr)
}

func (s *Server) sendNotice(ctx context.Context, n *store.Notice, user *store.User) error {
	if s.SendMail == nil || n.Address == "" && (!user.IsActive || !user.EmailVerified) {
		return nil // changed since
	}
	to := cmp.Or(n.Address, user.Email)
	subject, text, html, err := s.Templates.Render(mail.Kind(n.Kind), mail.Data{
		ServerName: s.SiteName, Email: to, UserAgent: n.UserAgent, IPAddress: cmp.Or(n.IPAddress, "unknown"), When: n.Created,
	})
	if err != nil {
		return err
	}
	return s.SendMail(ctx, &mail.Message{To: to, Subject: subject, Text: text, HTML: html})
}

package action

import (
	"context"
	"errors"
	"sync"
	"time"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/mail"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

const (
	// forgotPassWait is how long a user who was sent a message about a
	// forgotten password gets no other.
	forgotPassWait = 24 * time.Hour
	// defaultEmailToken is the lifetime of a token when none is asked for.
	defaultEmailToken = time.Hour
	// maxEmailToken is the longest lifetime of a token that the server makes.
	maxEmailToken = 30 * 24 * time.Hour
)

// UserSendEmailSignUp answers [api.UserSendEmailSignUp].
func (s *Server) UserSendEmailSignUp(ctx context.Context, p *api.UserSendEmailSignUpParams) (api.UserSendEmailSignUpResult, error) {
	var none api.UserSendEmailSignUpResult
	link := p.AccountVerifyURL
	if !link.Set {
		link = p.ServerVerifyURL
	}
	switch {
	case !link.Set:
		return none, api.UserSendEmailSignUp.Spec().Invalid("account_verify_url", api.ProblemMissing)
	case s.SendMail == nil:
		return none, api.Fail(api.CodeMailSettingsMissing)
	case !p.CreatedInfo.SendVerification:
		return none, api.Fail(api.CodeVerificationNotWanted)
	}
	user, err := s.userByEmail(ctx, p.Email)
	if err != nil {
		return none, err
	}
	switch {
	case user == nil || user.ID != p.CreatedInfo.UserID:
		return none, api.Fail(api.CodeUserNotFound)
	case !isSignUp(user):
		return none, api.Fail(api.CodeUserAlreadyActive)
	}
	event.From(ctx).SetTarget(user.ID)
	session, err := s.anySession(ctx, p.SessionToken)
	if err != nil {
		return none, err
	}
	sent, err := s.sendCode(ctx, user, &codeMail{
		kind: mail.SignUp, purpose: store.PurposeSignUp, session: session,
		serverName: p.ServerName, baseURL: p.ServerBaseURL, link: link.Value,
		token: p.VerificationToken, lifetime: p.VerificationExpiry,
	}, func(u *store.User, now time.Time) error {
		if !isSignUp(u) {
			return api.Fail(api.CodeUserAlreadyActive)
		}
		u.EmailVerifySent = now
		return nil
	})
	if err != nil {
		return none, err
	}
	email := api.Email(sent.Email)
	return api.UserSendEmailSignUpResult{
		UserID: &sent.ID, EmailAddress: &email,
		EmailVerifySentOn: api.Time(sent.EmailVerifySent), VerifyEmailSentOn: api.Time(sent.EmailVerifySent),
	}, nil
}

// isSignUp reports whether a user was never verified. Somebody else's lock
// does not make one of a user who was.
func isSignUp(u *store.User) bool {
	return u.FirstVerified.IsZero() && !u.IsActive && u.Role == roleLocked && !store.Protected(u.ID)
}

// mayForget reports whether a user may be sent a message about a forgotten
// password.
func mayForget(u *store.User) bool {
	return u.IsActive && u.Role != roleLocked && u.Role != roleAnonymous && !store.Protected(u.ID)
}

// UserSendEmailForgotPass answers [api.UserSendEmailForgotPass].
func (s *Server) UserSendEmailForgotPass(ctx context.Context, p *api.UserSendEmailForgotPassParams) (api.UserSendEmailForgotPassResult, error) {
	if s.SendMail == nil {
		return api.UserSendEmailForgotPassResult{}, api.Fail(api.CodeMailSettingsMissing)
	}
	started := time.Now()
	result, err := s.sendForgotPass(ctx, p)
	// Neither the time nor what the end user is told may tell whether there
	// is such a user.
	s.pace(ctx, started)
	var failure *api.Failure
	if errors.As(err, &failure) {
		switch failure.Code {
		case api.CodeUserNotFound, api.CodeMailSentRecently, api.CodeMailNotSent:
			err = api.Fail(failure.Code, api.UserSendEmailForgotPass.Spec().Done)
		}
	}
	return result, err
}

// pace waits until a whole number of MailPace has passed since a moment. What
// takes longer than sending a message may is not held up any longer.
func (s *Server) pace(ctx context.Context, started time.Time) {
	const longest = 3 * time.Second
	elapsed := time.Since(started)
	if s.MailPace <= 0 || elapsed >= longest {
		return
	}
	select {
	case <-time.After(s.MailPace - elapsed%s.MailPace):
	case <-ctx.Done():
	}
}

func (s *Server) sendForgotPass(ctx context.Context, p *api.UserSendEmailForgotPassParams) (api.UserSendEmailForgotPassResult, error) {
	var none api.UserSendEmailForgotPassResult
	// Before the user, so that a wrong session does not tell who there is.
	session, err := s.anySession(ctx, p.SessionToken)
	if err != nil {
		return none, err
	}
	user, err := s.userByEmail(ctx, p.Email)
	if err != nil {
		return none, err
	}
	if user == nil || !mayForget(user) {
		return none, api.Fail(api.CodeUserNotFound)
	}
	event.From(ctx).SetTarget(user.ID)
	release, alone := s.mailing.take(user.ID)
	defer release()
	if !alone || sentRecently(user, s.Now()) {
		return none, api.Fail(api.CodeMailSentRecently)
	}
	sent, err := s.sendCode(ctx, user, &codeMail{
		kind: mail.ForgotPass, purpose: store.PurposeForgotPass, session: session,
		serverName: p.ServerName, baseURL: p.ServerBaseURL, link: p.PasswordForgotURL,
		token: p.VerificationToken, lifetime: p.VerificationExpiry,
	}, func(u *store.User, now time.Time) error {
		if !mayForget(u) {
			return api.Fail(api.CodeUserNotFound)
		}
		u.EmailForgotSent = now
		return nil
	})
	if err != nil {
		return none, err
	}
	email := api.Email(sent.Email)
	return api.UserSendEmailForgotPassResult{
		UserID: &sent.ID, EmailAddress: &email,
		EmailForgotPassSentOn: api.Time(sent.EmailForgotSent), ForgotEmailSentOn: api.Time(sent.EmailForgotSent),
	}, nil
}

func sentRecently(u *store.User, now time.Time) bool {
	return !u.EmailForgotSent.IsZero() && now.Sub(u.EmailForgotSent) <= forgotPassWait
}

// mailing are the users to whom a message is under way.
type mailing struct {
	mu    sync.Mutex
	users map[int64]bool
}

// take reports whether nothing is under way to the user. release must be
// called in any case.
func (m *mailing) take(id int64) (release func(), alone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users[id] {
		return func() {}, false
	}
	if m.users == nil {
		m.users = map[int64]bool{}
	}
	m.users[id] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.users, id)
	}, true
}

// anySession returns a session that has not expired, whoever's it is.
func (s *Server) anySession(ctx context.Context, t api.SessionToken) (*store.Session, error) {
	session, _, err := s.Store.Session(ctx, token.Sum(string(t)))
	if err != nil {
		return nil, failWhen(err, store.ErrNotFound, api.CodeSessionNotFound)
	}
	s.Store.NoteSeen(session)
	return session, nil
}

// A codeMail is a message with a code to enter.
type codeMail struct {
	kind                      mail.Kind
	purpose                   store.TokenPurpose
	session                   *store.Session
	serverName, baseURL, link string
	token                     api.Null[api.Secret]
	lifetime                  int64 // seconds
}

// sendCode sends a message to a user's stored address. When the mail server
// has taken it, the user is changed and the token stored if the server made
// it; a message that is not sent changes nothing.
func (s *Server) sendCode(ctx context.Context, user *store.User, m *codeMail, change func(*store.User, time.Time) error) (*store.User, error) {
	lifetime := time.Duration(m.lifetime) * time.Second
	code := string(m.token.Value)
	if !m.token.Set {
		code = s.Tokens.New(token.Verification)
		lifetime = min(lifetime, maxEmailToken)
	}
	expires := s.now().Add(lifetime)
	subject, text, html, err := s.Templates.Render(m.kind, mail.Data{
		ServerName: m.serverName, ServerBaseURL: m.baseURL, Link: m.baseURL + m.link, Email: user.Email,
		UserAgent: m.session.UserAgent, IPAddress: m.session.IPAddress, Code: code, Expires: expires,
	})
	if err != nil {
		return nil, err
	}
	err = s.SendMail(ctx, &mail.Message{To: user.Email, Subject: subject, Text: text, HTML: html})
	if err != nil {
		event.From(ctx).Fault(err)
		return nil, api.Fail(api.CodeMailNotSent)
	}
	var sent *store.User
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		sent, err = tx.User(ctx, user.ID)
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeUserNotFound)
		}
		err = change(sent, tx.Now())
		if err != nil {
			return err
		}
		if !m.token.Set {
			// The address may have changed meanwhile, but the message went to
			// the one that user has.
			err = tx.PutEmailToken(ctx, user, m.purpose, token.Sum(code), expires)
			if err != nil {
				return err
			}
		}
		if m.purpose == store.PurposeForgotPass {
			err = s.log(ctx, tx, actorOf(ctx, 0, m.session), api.EventResetRequested, user.ID, nil)
			if err != nil {
				return err
			}
		}
		return tx.UpdateUser(ctx, sent)
	})
	return sent, err
}

func purposeOf(text string) (store.TokenPurpose, error) {
	switch purpose := store.TokenPurpose(text); purpose {
	case store.PurposeSignUp, store.PurposeForgotPass:
		return purpose, nil
	default:
		return "", api.Fail(api.CodeInvalidPurpose)
	}
}

// UserNewEmailToken answers [api.UserNewEmailToken].
func (s *Server) UserNewEmailToken(ctx context.Context, p *api.UserNewEmailTokenParams) (api.UserNewEmailTokenResult, error) {
	purpose, err := purposeOf(p.Purpose)
	if err != nil {
		return api.UserNewEmailTokenResult{}, err
	}
	lifetime := defaultEmailToken
	if p.ExpiresSeconds.Set {
		lifetime = time.Duration(p.ExpiresSeconds.Value) * time.Second
	}
	secret := api.Secret(s.Tokens.New(token.Verification))
	expires := s.now().Add(lifetime)
	var user *store.User
	err = s.updateByEmail(ctx, p.Email, func(ctx context.Context, tx *store.Tx, u *store.User) error {
		user = u
		switch {
		case purpose == store.PurposeSignUp && !isSignUp(u):
			return api.Fail(api.CodeUserAlreadyActive)
		case purpose == store.PurposeForgotPass && !mayForget(u):
			return api.Fail(api.CodeUserNotFound)
		}
		if purpose == store.PurposeForgotPass {
			err := s.log(ctx, tx, actorOf(ctx, 0, nil), api.EventResetRequested, u.ID, nil)
			if err != nil {
				return err
			}
		}
		return tx.PutEmailToken(ctx, u, purpose, token.Sum(string(secret)), expires)
	})
	if err != nil {
		return api.UserNewEmailTokenResult{}, err
	}
	return api.UserNewEmailTokenResult{UserID: &user.ID, VerificationToken: &secret, Expires: api.Time(expires)}, nil
}

// UserCheckEmailToken answers [api.UserCheckEmailToken].
func (s *Server) UserCheckEmailToken(ctx context.Context, p *api.UserCheckEmailTokenParams) (api.UserCheckEmailTokenResult, error) {
	purpose, err := purposeOf(p.Purpose)
	if err != nil {
		return api.UserCheckEmailTokenResult{}, err
	}
	if !s.Tokens.Made(token.Verification, string(p.VerificationToken)) {
		return api.UserCheckEmailTokenResult{}, api.Fail(api.CodeEmailTokenInvalid)
	}
	run, check := s.Store.Update, s.spendEmailToken
	if p.Peek.Value {
		run, check = s.Store.View, s.checkEmailToken
	}
	var user *store.User
	err = byEmail(ctx, run, p.Email, func(ctx context.Context, tx *store.Tx, u *store.User) error {
		user = u
		return check(ctx, tx, u, purpose, p.VerificationToken)
	})
	if err != nil {
		return api.UserCheckEmailTokenResult{}, failWhen(err, api.Fail(api.CodeUserNotFound), api.CodeEmailTokenInvalid)
	}
	return api.UserCheckEmailTokenResult{UserID: &user.ID}, nil
}

// checkEmailToken fails unless the token is the user's for the purpose.
func (s *Server) checkEmailToken(ctx context.Context, tx *store.Tx, u *store.User, purpose store.TokenPurpose, sent api.Secret) error {
	if !s.Tokens.Made(token.Verification, string(sent)) {
		return api.Fail(api.CodeEmailTokenInvalid)
	}
	valid, err := tx.EmailToken(ctx, u, purpose, token.Sum(string(sent)))
	if err == nil && !valid {
		err = api.Fail(api.CodeEmailTokenInvalid)
	}
	return err
}

// spendEmailToken uses a token up.
func (s *Server) spendEmailToken(ctx context.Context, tx *store.Tx, u *store.User, purpose store.TokenPurpose, sent api.Secret) error {
	err := s.checkEmailToken(ctx, tx, u, purpose, sent)
	if err != nil {
		return err
	}
	return tx.DeleteEmailToken(ctx, u.ID, purpose)
}

// UserSetEmailVerified answers [api.UserSetEmailVerified].
func (s *Server) UserSetEmailVerified(ctx context.Context, p *api.UserSetEmailVerifiedParams) (api.UserSetEmailVerifiedResult, error) {
	failed := api.UserSetEmailVerifiedResult{UserRole: roleLocked}
	var user *store.User
	err := s.updateByEmail(ctx, p.Email, func(ctx context.Context, tx *store.Tx, u *store.User) error {
		user = u
		if store.Protected(u.ID) {
			return api.Fail(api.CodeProtectedUser)
		}
		if p.VerificationToken.Value.Set {
			err := s.spendEmailToken(ctx, tx, u, store.PurposeSignUp, p.VerificationToken.Value.Value)
			if err != nil {
				return err
			}
		}
		first := u.FirstVerified.IsZero()
		switch {
		case first: // a sign-up
			u.IsActive, u.EmailVerified = true, true
			if u.Role == roleLocked {
				u.Role = roleAuthenticated
			}
		case u.IsActive && !u.EmailVerified:
			u.EmailVerified = true
		default: // verified before, or locked or made inactive by somebody who alone may undo that
			return nil
		}
		err := tx.DeleteEmailToken(ctx, u.ID, store.PurposeSignUp)
		if err != nil {
			return err
		}
		err = s.log(ctx, tx, actorOf(ctx, 0, nil), api.EventVerified, u.ID, details{"first": first})
		if err != nil {
			return err
		}
		return tx.UpdateUser(ctx, u)
	})
	if err != nil {
		return failed, err
	}
	return api.UserSetEmailVerifiedResult{UserID: &user.ID, IsActive: user.IsActive, UserRole: user.Role}, nil
}

// UserSetEmailSent answers [api.UserSetEmailSent].
func (s *Server) UserSetEmailSent(ctx context.Context, p *api.UserSetEmailSentParams) (api.UserSetEmailSentResult, error) {
	switch p.EmailType {
	case "signup", "forgotpass":
	default:
		return api.UserSetEmailSentResult{}, api.Fail(api.CodeInvalidEmailType)
	}
	var user *store.User
	err := s.updateByEmail(ctx, p.Email, func(ctx context.Context, tx *store.Tx, u *store.User) error {
		user = u
		if store.Protected(u.ID) {
			return api.Fail(api.CodeProtectedUser)
		}
		if p.EmailType == "signup" {
			u.EmailVerifySent = tx.Now()
		} else {
			u.EmailForgotSent = tx.Now()
		}
		return tx.UpdateUser(ctx, u)
	})
	if err != nil {
		return api.UserSetEmailSentResult{}, err
	}
	return api.UserSetEmailSentResult{
		Email: api.Email(user.Email), EmailVerifySentOn: api.Time(user.EmailVerifySent),
		EmailForgotPassSentOn: api.Time(user.EmailForgotSent),
		UserID:                user.ID, IsActive: user.IsActive, UserRole: user.Role,
	}, nil
}

// updateByEmail runs a change of the user with an address in one transaction.
func (s *Server) updateByEmail(ctx context.Context, email api.Email, change func(context.Context, *store.Tx, *store.User) error) error {
	return byEmail(ctx, s.Store.Update, email, change)
}

// byEmail does something with the user with an address in a transaction that
// run makes.
func byEmail(ctx context.Context, run func(context.Context, func(context.Context, *store.Tx) error) error, email api.Email, do func(context.Context, *store.Tx, *store.User) error) error {
	event.From(ctx).SetEmail(string(email))
	return run(ctx, func(ctx context.Context, tx *store.Tx) error {
		user, err := tx.UserByEmail(ctx, string(email))
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeUserNotFound)
		}
		event.From(ctx).SetTarget(user.ID)
		return do(ctx, tx, user)
	})
}

package action

import (
	"context"
	"errors"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/mail"
	"authnzerver/internal/passpolicy"
	"authnzerver/internal/passwd"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// UserValidatePass answers [api.UserValidatePass].
func (s *Server) UserValidatePass(ctx context.Context, p *api.UserValidatePassParams) (api.UserValidatePassResult, error) {
	event.From(ctx).SetEmail(string(p.Email))
	var stricter passpolicy.Overrides
	if p.MinPassLength.Set {
		n := int(p.MinPassLength.Value)
		stricter.MinLength = &n
	}
	if p.MaxUnsafeSimilarity.Set {
		n := int(p.MaxUnsafeSimilarity.Value)
		stricter.MaxSimilarity = &n
	}
	if p.MaxCharacterFrequency.Set {
		f := float64(p.MaxCharacterFrequency.Value)
		stricter.MaxCharFrequency = &f
	}
	if p.MinPwnedMatches.Set {
		n := int(p.MinPwnedMatches.Value)
		stricter.MinPwnedMatches = &n
	}
	subject := passpolicy.Subject{Email: string(p.Email), FullNames: []string{p.FullName}}
	violations := s.PasswordRules.CheckStricter(ctx, string(p.Password), subject, stricter)
	if violations != nil {
		return api.UserValidatePassResult{}, api.Fail(api.CodePasswordInsecure, violations...)
	}
	return api.UserValidatePassResult{}, nil
}

// Messages for the end user after a password was changed or refused.
const (
	messageChanged         = "Your password was changed."
	messageLoggedOutOthers = "You were logged out everywhere else."
	messageLoggedOut       = "You were logged out everywhere."
	messageNotChanged      = "The password was not changed."
)

// UserChangePass answers [api.UserChangePass].
func (s *Server) UserChangePass(ctx context.Context, p *api.UserChangePassParams) (api.UserChangePassResult, error) {
	result := api.UserChangePassResult{UserID: p.UserID, Email: p.Email}
	session, user, err := s.use(ctx, p.SessionToken)
	if err != nil {
		return result, err
	}
	if user.ID != p.UserID {
		return result, api.Fail(api.CodeSessionNotFound)
	}
	err = s.changePassword(ctx, &api.UserChangePassNoSessionParams{
		UserID: p.UserID, FullName: p.FullName, Email: p.Email,
		CurrentPassword: p.CurrentPassword, NewPassword: p.NewPassword,
	}, session)
	result.Messages = []string{messageChanged, messageLoggedOutOthers}
	return result, err
}

// UserChangePassNoSession answers [api.UserChangePassNoSession].
func (s *Server) UserChangePassNoSession(ctx context.Context, p *api.UserChangePassNoSessionParams) (api.UserChangePassResult, error) {
	err := s.changePassword(ctx, p, nil)
	return api.UserChangePassResult{
		UserID: p.UserID, Email: p.Email, Notes: api.Notes{Messages: []string{messageChanged, messageLoggedOut}},
	}, err
}

// changePassword sets a new password for a user who knows the current one and
// ends all of the user's sessions but the one given, if any.
func (s *Server) changePassword(ctx context.Context, p *api.UserChangePassNoSessionParams, session *store.Session) error {
	if store.Protected(p.UserID) {
		return api.Fail(api.CodeProtectedUser)
	}
	user, err := s.userWith(ctx, p.UserID, p.Email)
	if err != nil {
		return err
	}
	g := s.guess(ctx, user, p.Email, session)
	current, err := s.verify(ctx, user, p.CurrentPassword, g)
	switch {
	case err != nil:
		return err
	case user == nil, !user.IsActive:
		return s.wrong(ctx, g, likeWrong(api.CodeUserNotFound))
	case !current.Match:
		return s.wrong(ctx, g, api.Fail(api.CodePasswordWrong))
	}
	err = s.right(ctx, g, "")
	if err != nil {
		return err
	}
	if passwd.Normalize(string(p.NewPassword)) == passwd.Normalize(string(p.CurrentPassword)) {
		return api.Fail(api.CodePasswordUnchanged)
	}
	hash, err := s.Passwords.Hash(ctx, string(p.NewPassword))
	if err != nil {
		return err
	}
	violations := s.PasswordRules.Check(ctx, string(p.NewPassword), subjectOf(user, p.FullName))
	if violations != nil {
		return api.Fail(api.CodeNewPasswordInsecure, append(violations, messageNotChanged)...)
	}
	var spare token.Digest
	if session != nil {
		spare = session.Digest
	}
	return s.setPassword(ctx, user, g.by, hash, func(ctx context.Context, tx *store.Tx, _ *store.User) error {
		err := revokeAccess(ctx, tx, user.ID, spare)
		if err != nil {
			return err
		}
		return s.log(ctx, tx, g.proven(), api.EventPasswordChanged, user.ID, nil)
	})
}

// subjectOf returns what a user's new password must not be similar to.
func subjectOf(user *store.User, names ...string) passpolicy.Subject {
	if user.FullName != nil {
		names = append(names, *user.FullName)
	}
	return passpolicy.Subject{Email: user.Email, FullNames: names}
}

// setPassword replaces the hash that user was read with, and does in the same
// transaction what goes with it, for the user as it is then. The user is told.
func (s *Server) setPassword(ctx context.Context, user *store.User, by actor, hash string, do func(context.Context, *store.Tx, *store.User) error) error {
	return s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		now, err := tx.User(ctx, user.ID)
		if errors.Is(err, store.ErrNotFound) || err == nil && now.IsActive != user.IsActive {
			return api.Fail(api.CodePasswordNotChanged)
		}
		if err != nil {
			return err
		}
		err = do(ctx, tx, now)
		if err != nil {
			return err
		}
		err = tx.SetPassword(ctx, user.ID, user.PasswordHash, hash)
		if err != nil {
			return failWhen(err, store.ErrConflict, api.CodePasswordNotChanged)
		}
		err = tx.DeleteEmailToken(ctx, user.ID, store.PurposeForgotPass)
		if err != nil {
			return err
		}
		return s.notify(ctx, tx, user, mail.PasswordChanged, by, 0)
	})
}

// revokeAccess ends all sessions of a user but the spared one and revokes the
// keys that are not tied to a session.
func revokeAccess(ctx context.Context, tx *store.Tx, id int64, spare token.Digest) error {
	_, err := tx.DeleteSessionsOf(ctx, id, spare)
	if err != nil {
		return err
	}
	_, err = tx.DeleteSessionlessKeysOf(ctx, id)
	return err
}

// likeWrong returns a failure of which end users are told what they are told of a wrong
// password, so that strangers do not learn who has an account.
func likeWrong(code api.Code) *api.Failure {
	wrong, _ := api.CodeInvalidCredentials.Info()
	return api.Fail(code, wrong.Message)
}

// UserResetPass answers [api.UserResetPass].
func (s *Server) UserResetPass(ctx context.Context, p *api.UserResetPassParams) (api.UserResetPassResult, error) {
	session, _, err := s.session(ctx, p.SessionToken)
	if err != nil {
		return api.UserResetPassResult{}, err
	}
	return api.UserResetPassResult{}, s.resetPassword(ctx, &reset{
		email: p.Email, password: p.NewPassword, proof: p.VerificationToken.Value, session: session,
		active: true, missing: api.CodeUserNotFound,
	})
}

// UserResetPassNoSession answers [api.UserResetPassNoSession].
func (s *Server) UserResetPassNoSession(ctx context.Context, p *api.UserResetPassNoSessionParams) (api.UserResetPassResult, error) {
	return api.UserResetPassResult{}, s.resetPassword(ctx, &reset{
		email: p.Email, password: p.NewPassword, proof: p.VerificationToken.Value,
		active: p.RequiredActive, missing: api.CodeUserStateWrong,
	})
}

// A reset is a new password for who has proved to own an address.
type reset struct {
	email    api.Email
	password api.Password
	// proof, when it is set, must be the user's token for this.
	proof api.Null[api.Secret]
	// session is the one that the owner has, if any. Its device becomes known:
	// a lock against strangers must not keep the owner out.
	session *store.Session
	// active is whether the user has to be active. Nobody like that is the
	// failure with the code missing.
	active  bool
	missing api.Code
}

// resetPassword sets a new password.
func (s *Server) resetPassword(ctx context.Context, r *reset) error {
	user, err := s.userByEmail(ctx, r.email)
	if err != nil {
		return err
	}
	// Hashed and judged whether or not there is a user, so that the time
	// tells nothing.
	hash, err := s.Passwords.Hash(ctx, string(r.password))
	if err != nil {
		return err
	}
	subject := passpolicy.Subject{Email: string(r.email)}
	if user != nil {
		subject = subjectOf(user)
	}
	violations := s.PasswordRules.Check(ctx, string(r.password), subject)
	switch {
	case (user == nil || user.IsActive != r.active) && r.proof.Set:
		wrong, _ := api.CodeEmailTokenInvalid.Info()
		return api.Fail(r.missing, wrong.Message)
	case user == nil, user.IsActive != r.active:
		return api.Fail(r.missing)
	case store.Protected(user.ID):
		return api.Fail(api.CodeProtectedUser)
	}
	event.From(ctx).SetTarget(user.ID)
	if r.proof.Set {
		err := s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
			return s.checkEmailToken(ctx, tx, user, store.PurposeForgotPass, r.proof.Value)
		})
		if err != nil {
			return err
		}
	}
	if violations != nil {
		return api.Fail(api.CodeNewPasswordInsecure, append([]string{messageNotChanged}, violations...)...)
	}
	g := s.guess(ctx, user, r.email, r.session)
	return s.setPassword(ctx, user, g.by, hash, func(ctx context.Context, tx *store.Tx, now *store.User) error {
		if r.proof.Set {
			err := s.checkEmailToken(ctx, tx, now, store.PurposeForgotPass, r.proof.Value)
			if err != nil {
				return err
			}
		}
		if r.session != nil && !g.free {
			err := tx.PutDevice(ctx, user.ID, g.device)
			if err != nil {
				return err
			}
		}
		err := revokeAccess(ctx, tx, user.ID, token.Digest{})
		if err != nil {
			return err
		}
		return s.log(ctx, tx, g.by, api.EventPasswordReset, user.ID, nil)
	})
}

package action

import (
	"context"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/store"
)

// UserSetEmailVerified answers [api.UserSetEmailVerified].
func (s *Server) UserSetEmailVerified(ctx context.Context, p *api.UserSetEmailVerifiedParams) (api.UserSetEmailVerifiedResult, error) {
	failed := api.UserSetEmailVerifiedResult{UserRole: roleLocked}
	var user *store.User
	err := s.updateByEmail(ctx, p.Email, func(ctx context.Context, tx *store.Tx, u *store.User) error {
		user = u
		if store.Protected(u.ID) {
			return api.Fail(api.CodeProtectedUser)
		}
		switch {
		case u.FirstVerified.IsZero(): // a sign-up
			u.IsActive, u.EmailVerified = true, true
			if u.Role == roleLocked {
				u.Role = roleAuthenticated
			}
		case u.IsActive && !u.EmailVerified:
			u.EmailVerified = true
		default: // verified before, or locked or made inactive by somebody who alone may undo that
			return nil
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
	event.From(ctx).SetEmail(string(email))
	return s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		user, err := tx.UserByEmail(ctx, string(email))
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeUserNotFound)
		}
		event.From(ctx).SetTarget(user.ID)
		return change(ctx, tx, user)
	})
}

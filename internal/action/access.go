package action

import (
	"context"
	"slices"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
)

// UserCheckAccess answers [api.UserCheckAccess].
func (s *Server) UserCheckAccess(ctx context.Context, p *api.UserCheckAccessParams) (api.UserCheckAccessResult, error) {
	event.From(ctx).SetUser(p.UserID)
	var result api.UserCheckAccessResult
	sharedWith, err := policy.ParseSharedWith(p.TargetSharedWith.Value)
	if err != nil {
		return result, api.Fail(api.CodeAccessCheckFailed)
	}
	granted, err := s.Policy().Allows(&policy.Question{
		UserID: p.UserID, Role: p.UserRole, Action: p.Action, Item: p.TargetName,
		Owner: p.TargetOwner, Visibility: p.TargetVisibility, SharedWith: sharedWith,
	})
	if err != nil {
		return result, failWhen(err, policy.ErrUnknownRole, api.CodeAccessCheckFailed)
	}
	err = s.activeInRole(ctx, p.UserID, p.UserRole)
	if err != nil {
		return result, err
	}
	err = s.allActive(ctx, append(sharedWith, p.TargetOwner))
	if err != nil {
		return result, err
	}
	if !granted {
		return result, api.Fail(api.CodeActionNotPermitted)
	}
	return result, s.keyGrants(ctx, p)
}

// keyGrants fails when a key was presented that does not let its user do what
// is asked for.
func (s *Server) keyGrants(ctx context.Context, p *api.UserCheckAccessParams) error {
	if !p.APIKeyDict.Value.Set {
		return nil
	}
	if !s.mayBeKey(p.APIKeyDict.Value.Value.Token) {
		return api.Fail(api.CodeKeyNotValid)
	}
	key, err := s.keyFrom(ctx, &p.APIKeyDict.Value.Value, store.KeyOfSession, store.KeySessionless)
	if err != nil {
		return err
	}
	if key.UserID != p.UserID {
		return api.Fail(api.CodeKeyNotValid)
	}
	if !covers(key, p.Action+":"+p.TargetName) {
		return api.Fail(api.CodeInsufficientScope)
	}
	s.Store.NoteUse(key)
	return nil
}

// activeInRole fails unless there is an active user with this id and role.
func (s *Server) activeInRole(ctx context.Context, id int64, role string) error {
	user, err := s.userByID(ctx, id)
	if err != nil {
		return err
	}
	if user == nil || user.Role != role || !user.IsActive {
		return api.Fail(api.CodeUserNotValid)
	}
	return nil
}

// allActive fails unless every id is that of an active user.
func (s *Server) allActive(ctx context.Context, ids []int64) error {
	if len(ids) > 1 {
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	for _, id := range ids {
		user, err := s.userByID(ctx, id)
		if err != nil {
			return err
		}
		if user == nil || !user.IsActive {
			return api.Fail(api.CodeRelatedNotFound)
		}
	}
	return nil
}

// UserCheckLimit answers [api.UserCheckLimit].
func (s *Server) UserCheckLimit(ctx context.Context, p *api.UserCheckLimitParams) (api.UserCheckLimitResult, error) {
	event.From(ctx).SetUser(p.UserID)
	var result api.UserCheckLimitResult
	within, err := s.Policy().WithinLimit(p.UserRole, p.LimitName, p.ValueToCheck)
	if err != nil {
		return result, failWhen(err, policy.ErrUnknownRole, api.CodeLimitCheckFailed)
	}
	err = s.activeInRole(ctx, p.UserID, p.UserRole)
	if err != nil {
		return result, err
	}
	if !within {
		return result, api.Fail(api.CodeOverLimit)
	}
	return result, nil
}

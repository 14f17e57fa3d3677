package action

import (
	"context"
	"slices"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/limit"
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
	rows, err := s.Store.Fresh(ctx)
	if err != nil {
		return result, err
	}
	err = activeInRole(ctx, rows, p.UserID, p.UserRole)
	if err != nil {
		return result, err
	}
	err = allActive(ctx, rows, append(sharedWith, p.TargetOwner))
	if err != nil {
		return result, err
	}
	if !granted {
		return result, api.Fail(api.CodeActionNotPermitted)
	}
	return result, s.keyGrants(ctx, rows, p)
}

// keyGrants fails when a key was presented that does not let its user do what
// is asked for.
func (s *Server) keyGrants(ctx context.Context, rows store.Rows, p *api.UserCheckAccessParams) error {
	if !p.APIKeyDict.Value.Set {
		return nil
	}
	key, err := s.presentedKey(ctx, rows, p.UserID, &p.APIKeyDict.Value.Value)
	if err != nil {
		return err
	}
	if !covers(key, p.Action+":"+p.TargetName) {
		return api.Fail(api.CodeInsufficientScope)
	}
	s.Store.NoteUse(key)
	return nil
}

// presentedKey returns the valid key that a user presented.
func (s *Server) presentedKey(ctx context.Context, rows store.Rows, userID int64, presented *api.APIKey) (*store.APIKey, error) {
	digest, ok := s.mayBeKey(presented.Token)
	if !ok {
		return nil, api.Fail(api.CodeKeyNotValid)
	}
	key, err := s.keyFrom(ctx, rows, digest, presented, store.KeyOfSession, store.KeySessionless)
	if err == nil && key.UserID != userID {
		err = api.Fail(api.CodeKeyNotValid)
	}
	return key, err
}

// activeInRole fails unless there is an active user with this id and role.
func activeInRole(ctx context.Context, rows store.Rows, id int64, role string) error {
	user, err := userIn(ctx, rows, id)
	if err != nil {
		return err
	}
	if user == nil || user.Role != role || !user.IsActive {
		return api.Fail(api.CodeUserNotValid)
	}
	return nil
}

// allActive fails unless every id is that of an active user.
func allActive(ctx context.Context, rows store.Rows, ids []int64) error {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		user, err := userIn(ctx, rows, id)
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
	err = activeInRole(ctx, s.Store, p.UserID, p.UserRole)
	if err != nil {
		return result, err
	}
	if !within {
		return result, api.Fail(api.CodeOverLimit)
	}
	return result, nil
}

// UserCountLimit answers [api.UserCountLimit].
func (s *Server) UserCountLimit(ctx context.Context, p *api.UserCountLimitParams) (api.UserCountLimitResult, error) {
	event.From(ctx).SetUser(p.UserID)
	var result api.UserCountLimitResult
	quota, err := s.Policy().Quota(p.UserRole, p.LimitName)
	if err != nil {
		err = failWhen(err, policy.ErrUnknownRole, api.CodeLimitCheckFailed)
		return result, failWhen(err, policy.ErrNotCountable, api.CodeLimitNotCountable)
	}
	rows, err := s.Store.Fresh(ctx)
	if err != nil {
		return result, err
	}
	err = activeInRole(ctx, rows, p.UserID, p.UserRole)
	if err != nil {
		return result, err
	}
	var key *store.APIKey
	if p.APIKeyDict.Value.Set {
		key, err = s.presentedKey(ctx, rows, p.UserID, &p.APIKeyDict.Value.Value)
		if err != nil {
			return result, err
		}
		s.Store.NoteUse(key)
	}
	if !quota.Limited {
		return result, nil
	}
	cost := int64(1)
	if p.Cost.Set {
		cost = p.Cost.Value
	}
	d := limit.Decision{Allowed: cost == 0, RetryAfter: limit.Never}
	if quota.Most > 0 {
		d = s.Spend(ctx, nil, quotaCharge(s.countKey(p.UserID, key, p.LimitName), quota, cost))
	}
	answer := limitDecision(quota.Most, d)
	result = api.UserCountLimitResult{Max: answer.Limit, Remaining: answer.Remaining, Reset: answer.Reset}
	if !d.Allowed {
		f := api.Fail(api.CodeOverLimit)
		if d.RetryAfter != limit.Never {
			f.RetryAfter = d.RetryAfter
		}
		return result, f
	}
	return result, nil
}

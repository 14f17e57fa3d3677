package action

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/limit"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// The names of credentials in results.
const (
	credentialSession = "session"
	credentialKey     = "apikey"
	credentialUserID  = "user_id"
)

// Check answers [api.Check].
func (s *Server) Check(ctx context.Context, p *api.CheckParams) (api.CheckResult, error) {
	err := checkParams(p)
	if err != nil {
		return api.CheckResult{}, err
	}
	engine := s.Policy()
	var who principal
	var access []api.AccessDecision
	err = s.Store.Consistently(ctx, func(ctx context.Context, rows store.Rows) error {
		var err error
		who, err = s.identify(ctx, rows, p)
		if err != nil {
			return err
		}
		access, err = who.mayAccess(ctx, rows, engine, p.Access.Value)
		return err
	})
	if err != nil {
		return api.CheckResult{}, err
	}
	event.From(ctx).SetUser(who.user.ID)
	if who.session != nil {
		s.Store.NoteSeen(who.session)
	}
	if who.key != nil {
		s.Store.NoteUse(who.key)
	}
	result := api.CheckResult{
		Granted:  !slices.ContainsFunc(access, func(d api.AccessDecision) bool { return !d.Granted }),
		Identity: who.identity(), Access: access,
	}
	result.Limits = s.countLimits(ctx, engine, &who, p.Limits.Value, result.Granted)
	result.Granted = result.Granted && !slices.ContainsFunc(result.Limits, func(d api.LimitDecision) bool { return !d.Granted })
	return result, nil
}

// checkParams finds what the types of the parameters cannot tell.
func checkParams(p *api.CheckParams) error {
	spec := api.Check.Spec()
	given := ""
	for _, credential := range []struct {
		name string
		set  bool
	}{{"session_token", p.SessionToken.Value.Set}, {"apikey_dict", p.APIKeyDict.Value.Set}, {"user_id", p.UserID.Value.Set}} {
		switch {
		case credential.set && given != "":
			return spec.Invalid(credential.name, api.ProblemNotBeside+" "+given)
		case credential.set:
			given = credential.name
		}
	}
	if given == "" {
		return spec.Invalid("session_token", api.ProblemMissing)
	}
	for i, one := range p.Limits.Value {
		same := func(other api.LimitCost) bool { return other.LimitName == one.LimitName }
		if slices.ContainsFunc(p.Limits.Value[:i], same) {
			return spec.Invalid("limits", api.ProblemDuplicate+" ["+strconv.Itoa(i)+"].limit_name")
		}
	}
	return nil
}

// A principal is an active user with the credential that names it.
type principal struct {
	user    *store.User
	session *store.Session
	key     *store.APIKey
}

func (s *Server) identify(ctx context.Context, rows store.Rows, p *api.CheckParams) (who principal, err error) {
	invalid := api.CodeUserNotValid
	switch {
	case p.SessionToken.Value.Set:
		who.session, who.user, err = rows.Session(ctx, token.Sum(string(p.SessionToken.Value.Value)))
		err = failWhen(err, store.ErrNotFound, api.CodeSessionNotFound)
	case p.APIKeyDict.Value.Set:
		invalid = api.CodeKeyNotValid
		presented := &p.APIKeyDict.Value.Value
		digest, ok := s.mayBeKey(presented.Token)
		if !ok {
			return who, api.Fail(invalid)
		}
		who.key, err = s.keyFrom(ctx, rows, digest, presented, store.KeyOfSession, store.KeySessionless)
		if err == nil {
			who.user, err = rows.User(ctx, presented.UserID)
		}
		err = failWhen(err, store.ErrNotFound, invalid)
	default:
		who.user, err = rows.User(ctx, p.UserID.Value.Value)
		err = failWhen(err, store.ErrNotFound, invalid)
	}
	if err == nil && (!who.user.IsActive || who.key != nil && who.user.Role != who.key.Role) {
		err = api.Fail(invalid)
	}
	return who, err
}

func (who *principal) identity() api.Identity {
	u := who.user
	identity := api.Identity{
		Credential: credentialUserID, UserID: u.ID, UserRole: u.Role, SystemID: u.SystemID,
		FullName: u.FullName, Email: api.Email(u.Email), EmailVerified: u.EmailVerified,
	}
	switch {
	case who.session != nil:
		identity.Credential, identity.SessionID, identity.Expires = credentialSession, &who.session.ID, api.Time(who.session.Expires)
	case who.key != nil:
		identity.Credential, identity.KeyID, identity.Expires = credentialKey, &who.key.ID, api.Time(who.key.Expires)
		identity.Scopes = who.key.Scopes
	}
	return identity
}

// mayAccess answers questions of access. Whether a related user is active is looked up
// once.
func (who *principal) mayAccess(ctx context.Context, rows store.Rows, engine *policy.Policy, questions api.List[api.AccessQuestion]) ([]api.AccessDecision, error) {
	decisions := make([]api.AccessDecision, len(questions))
	active := map[int64]bool{who.user.ID: true}
	isInactive := func(id int64) (bool, error) {
		known, ok := active[id]
		if !ok {
			user, err := rows.User(ctx, id)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return false, err
			}
			known = err == nil && user.IsActive
			active[id] = known
		}
		return !known, nil
	}
	for i := range questions {
		code, err := who.refusal(engine, &questions[i], isInactive)
		if err != nil {
			return nil, err
		}
		decisions[i] = api.AccessDecision{Granted: code == "", Code: code}
	}
	return decisions, nil
}

// refusal returns why a question of access is answered with no, or nothing. The order is
// that of user-check-access.
func (who *principal) refusal(engine *policy.Policy, q *api.AccessQuestion, isInactive func(int64) (bool, error)) (api.Code, error) {
	sharedWith, err := policy.ParseSharedWith(q.TargetSharedWith.Value)
	if err != nil {
		return api.CodeAccessCheckFailed, nil
	}
	granted, err := engine.Allows(&policy.Question{
		UserID: who.user.ID, Role: who.user.Role, Action: q.Action, Item: q.TargetName,
		Owner: q.TargetOwner, Visibility: q.TargetVisibility, SharedWith: sharedWith,
	})
	if err != nil {
		return api.CodeAccessCheckFailed, nil // the only error is an unknown role
	}
	for _, id := range append(sharedWith, q.TargetOwner) {
		inactive, err := isInactive(id)
		if err != nil {
			return "", err
		}
		if inactive {
			return api.CodeRelatedNotFound, nil
		}
	}
	switch {
	case !granted:
		return api.CodeActionNotPermitted, nil
	case who.key != nil && !covers(who.key, q.Action+":"+q.TargetName):
		return api.CodeInsufficientScope, nil
	default:
		return "", nil
	}
}

// countLimits answers about limits, and counts the costs if all of them pass and all else
// is granted.
func (s *Server) countLimits(ctx context.Context, engine *policy.Policy, who *principal, costs api.List[api.LimitCost], granted bool) []api.LimitDecision {
	decisions := make([]api.LimitDecision, len(costs))
	var charges []limit.Charge
	var charged []*api.LimitDecision
	for i := range costs {
		cost, d := costs[i].Cost.Value, &decisions[i]
		if !costs[i].Cost.Set {
			cost = 1
		}
		quota, err := engine.Quota(who.user.Role, costs[i].LimitName)
		switch {
		case errors.Is(err, policy.ErrNotCountable):
			d.Code = api.CodeLimitNotCountable
		case err != nil: // the only other error is an unknown role
			d.Code = api.CodeLimitCheckFailed
		case !quota.Limited:
			d.Granted = true
		case quota.Most <= 0:
			*d = limitDecision(quota.Most, limit.Decision{Allowed: cost == 0, RetryAfter: limit.Never})
		default:
			d.Limit = &quota.Most
			charges = append(charges, quotaCharge(s.countKey(who.user.ID, who.key, costs[i].LimitName), quota, cost))
			charged = append(charged, d)
			continue
		}
		granted = granted && d.Granted
	}
	if charges == nil {
		return decisions
	}
	wanted := make([]int, len(charges))
	if !granted {
		for i := range charges {
			wanted[i], charges[i].Cost = charges[i].Cost, 0 // only look
		}
	}
	each := make([]limit.Decision, len(charges))
	s.Spend(ctx, each, charges...)
	for i, d := range charged {
		if each[i].Remaining < wanted[i] {
			each[i].Allowed = false
		}
		*d = limitDecision(*d.Limit, each[i])
	}
	return decisions
}

// limitDecision returns the answer about a limit of so many.
func limitDecision(most int64, d limit.Decision) api.LimitDecision {
	remaining, reset := int64(d.Remaining), seconds(d.Reset)
	decision := api.LimitDecision{Granted: d.Allowed, Limit: &most, Remaining: &remaining, Reset: &reset}
	if !d.Allowed {
		decision.Code = api.CodeOverLimit
		if d.RetryAfter != limit.Never {
			decision.RetryAfter = seconds(d.RetryAfter)
		}
	}
	return decision
}

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// countKey returns the key of what is counted against a limit: of the API key that a user
// acts with, or else of the user.
func (s *Server) countKey(userID int64, key *store.APIKey, limitName string) limit.Key {
	if key != nil {
		return s.Keys.Key("count", limitName, "key", key.ID)
	}
	return s.Keys.Key("count", limitName, "user", strconv.FormatInt(userID, 10))
}

// quotaCharge charges a cost to a quota that is not zero.
func quotaCharge(key limit.Key, quota policy.Quota, cost int64) limit.Charge {
	return limit.Charge{Key: key, Cost: int(cost), Rule: limit.Rule{Limit: int(min(quota.Most, limit.MaxCalls)), Per: quota.Per}}
}

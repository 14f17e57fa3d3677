package action

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/identity"
	"authnzerver/internal/mail"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// Fields that update_dict may name, by who sends it.
var (
	selfEditable     = []string{"full_name", "email"}
	superEditable    = []string{"full_name", "email", "is_active", "user_role", "email_verified"}
	internalEditable = []string{"full_name", "email", "is_active", "user_role", "email_verified", "extra_info"}
)

// UserEdit answers [api.UserEdit].
func (s *Server) UserEdit(ctx context.Context, p *api.UserEditParams) (api.UserInfoResult, error) {
	event.From(ctx).SetUser(p.UserID)
	event.From(ctx).SetTarget(p.TargetUserID)
	if store.Protected(p.TargetUserID) {
		return api.UserInfoResult{}, api.Fail(api.CodeProtectedUser)
	}
	editable := superEditable
	if p.TargetUserID == p.UserID && (p.UserRole == roleAuthenticated || p.UserRole == roleStaff) {
		editable = selfEditable
	} else if p.UserRole != roleSuperuser {
		return api.UserInfoResult{}, api.Fail(api.CodeNotPermitted)
	}
	update, err := membersOf(p.UpdateDict)
	if err != nil {
		return api.UserInfoResult{}, err
	}
	return s.changeUser(ctx, func(ctx context.Context, tx *store.Tx) (*store.User, error) {
		session, err := s.callerIs(ctx, tx, p.SessionToken, p.UserID, p.UserRole)
		if err != nil {
			return nil, err
		}
		err = onlyFields(update, editable)
		if err != nil {
			return nil, err
		}
		err = s.knownRole(update)
		if err != nil {
			return nil, err
		}
		user, err := tx.User(ctx, p.TargetUserID)
		if err != nil {
			return nil, failWhen(err, store.ErrNotFound, api.CodeUpdateFailed)
		}
		return s.edit(ctx, tx, actorOf(ctx, p.UserID, session), user, update, identity.ParseEmail)
	})
}

// callerIs returns the session, or fails unless it is one of an active user in this role.
func (s *Server) callerIs(ctx context.Context, tx *store.Tx, t api.SessionToken, id int64, role string) (*store.Session, error) {
	session, err := tx.Session(ctx, token.Sum(string(t)))
	if err != nil {
		return nil, failWhen(err, store.ErrNotFound, api.CodeSessionInvalid)
	}
	user, err := tx.User(ctx, session.UserID)
	if err != nil {
		return nil, err
	}
	if user.ID != id || user.Role != role || !user.IsActive {
		return nil, api.Fail(api.CodeSessionInvalid)
	}
	s.Store.NoteSeen(session)
	return session, nil
}

func onlyFields(update []jsonMember, editable []string) error {
	var wrong []string
	for _, m := range update {
		if !slices.Contains(editable, m.name) {
			wrong = append(wrong, m.name)
		}
	}
	if wrong != nil {
		return api.FailFields(api.CodeFieldsNotEditable, wrong)
	}
	return nil
}

// knownRole fails when the update has a role that the policy does not have.
func (s *Server) knownRole(update []jsonMember) error {
	role, err := jsontext.AppendUnquote(nil, valueOf(update, "user_role"))
	if err == nil && !s.Policy().HasRole(string(role)) {
		return api.Fail(api.CodeUnknownRole)
	}
	return nil // absent, or not a text, which setField finds
}

// InternalUserEdit answers [api.InternalUserEdit].
func (s *Server) InternalUserEdit(ctx context.Context, p *api.InternalUserEditParams) (api.UserInfoResult, error) {
	event.From(ctx).SetTarget(p.TargetUserID)
	update, err := membersOf(p.UpdateDict)
	if err != nil {
		return api.UserInfoResult{}, err
	}
	if len(update) == 0 {
		return api.UserInfoResult{}, api.Fail(api.CodeEmptyUpdate)
	}
	err = onlyFields(update, internalEditable)
	if err != nil {
		return api.UserInfoResult{}, err
	}
	if store.Protected(p.TargetUserID) {
		return api.UserInfoResult{}, api.Fail(api.CodeProtectedUser)
	}
	return s.changeUser(ctx, func(ctx context.Context, tx *store.Tx) (*store.User, error) {
		user, err := tx.User(ctx, p.TargetUserID)
		if err != nil {
			return nil, failWhen(err, store.ErrNotFound, api.CodeUserNotFound)
		}
		err = s.knownRole(update)
		if err != nil {
			return nil, err
		}
		return s.edit(ctx, tx, actorOf(ctx, 0, nil), user, update, normalizedEmail)
	})
}

// normalizedEmail accepts every well-formed address, also those that nobody
// may sign up with.
func normalizedEmail(email string) (string, error) {
	err := identity.CheckEmailSyntax(email)
	return identity.NormalizeEmail(email), err
}

// changeUser runs a change of one user and returns its new state.
func (s *Server) changeUser(ctx context.Context, change func(context.Context, *store.Tx) (*store.User, error)) (api.UserInfoResult, error) {
	var user *store.User
	err := s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		user, err = change(ctx, tx)
		return err
	})
	if err != nil {
		return api.UserInfoResult{}, err
	}
	return api.UserInfoResult{UserInfo: userInfo(user)}, nil
}

// edit sets the fields of a user and writes it.
func (s *Server) edit(ctx context.Context, tx *store.Tx, by actor, user *store.User, update []jsonMember, parseEmail func(string) (string, error)) (*store.User, error) {
	before := *user
	for _, m := range update {
		err := setField(user, m, parseEmail)
		if err != nil {
			return nil, err
		}
	}
	if user.Email != before.Email {
		taken, err := tx.EmailTaken(ctx, user.Email, user.ID)
		if err != nil {
			return nil, err
		}
		if taken {
			return nil, api.Fail(api.CodeUserExists)
		}
	}
	if administers(&before) && !administers(user) {
		err := keepSuperuser(ctx, tx, &before)
		if err != nil {
			return nil, err
		}
	}
	if before.IsActive && !user.IsActive {
		_, err := tx.DeleteSessionsOf(ctx, user.ID, token.Digest{})
		if err != nil {
			return nil, err
		}
	}
	err := tx.UpdateUser(ctx, user)
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil, api.Fail(api.CodeUserExists)
	case errors.Is(err, store.ErrReference):
		return nil, api.Fail(api.CodeUnknownRole)
	case err != nil:
		return nil, err
	}
	if user.Email != before.Email {
		err = s.notify(ctx, tx, &before, mail.EmailChanged, by, 0)
		if err != nil {
			return nil, err
		}
	}
	return user, s.logEdit(ctx, tx, by, &before, user)
}

// logEdit writes events about what an edit has changed.
func (s *Server) logEdit(ctx context.Context, tx *store.Tx, by actor, before, after *store.User) error {
	var fields []string
	for _, field := range []struct {
		name    string
		changed bool
	}{
		{"full_name", !equalText(before.FullName, after.FullName)},
		{"is_active", before.IsActive != after.IsActive},
		{"email_verified", before.EmailVerified != after.EmailVerified},
		{"extra_info", !bytes.Equal(before.ExtraInfo, after.ExtraInfo)},
	} {
		if field.changed {
			fields = append(fields, field.name)
		}
	}
	var err error
	if fields != nil {
		err = s.log(ctx, tx, by, api.EventEdited, after.ID, details{"fields": fields})
	}
	if err == nil && before.Email != after.Email {
		err = s.log(ctx, tx, by, api.EventEmailChanged, after.ID, nil)
	}
	if err == nil && before.Role != after.Role {
		err = s.log(ctx, tx, by, api.EventRoleChanged, after.ID, details{"from": before.Role, "to": after.Role})
	}
	return err
}

func equalText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// setField sets one field from the JSON value that was sent for it. Roles have
// been looked up by knownRole.
func setField(user *store.User, m jsonMember, parseEmail func(string) (string, error)) error {
	var text string
	var isTrue bool
	switch m.name {
	case "full_name", "email", "user_role":
		if m.name == "full_name" && m.value.Kind() == 'n' {
			user.FullName = nil
			return nil
		}
		if json.Unmarshal(m.value, &text) != nil || m.value.Kind() != '"' {
			return api.FailFields(api.CodeUpdateFailed, []string{m.name})
		}
	case "is_active", "email_verified":
		if json.Unmarshal(m.value, &isTrue) != nil || m.value.Kind() == 'n' {
			return api.FailFields(api.CodeUpdateFailed, []string{m.name})
		}
	}
	switch m.name {
	case "full_name":
		name, err := identity.ParseFullName(text)
		if err != nil {
			return api.Fail(api.CodeInvalidFullName)
		}
		user.FullName = &name
	case "email":
		if text == user.Email {
			return nil // an adopted address may be one that is not accepted now
		}
		email, err := parseEmail(text)
		if err != nil {
			return api.Fail(api.CodeInvalidEmail)
		}
		user.Email = email
	case "user_role":
		user.Role = text
	case "is_active":
		user.IsActive = isTrue
	case "email_verified":
		user.EmailVerified = isTrue
	case "extra_info":
		return setInfo(user, m.value)
	}
	return nil
}

// setInfo merges an object into the user's extra_info.
func setInfo(user *store.User, value jsontext.Value) error {
	if value.Kind() == 'n' {
		return nil
	}
	if value.Kind() != '{' || !isObject(user.ExtraInfo) {
		return api.FailFields(api.CodeUpdateFailed, []string{"extra_info"})
	}
	members, err := membersOf(value)
	if err != nil {
		return err
	}
	if valueOf(members, infoOldRoles) != nil {
		return api.FailFields(api.CodeFieldsNotEditable, []string{infoOldRoles})
	}
	info, err := merge(user.ExtraInfo, members)
	if err != nil {
		return err
	}
	if len(info) > maxStoredObject {
		return api.FailFields(api.CodeUpdateFailed, []string{"extra_info"})
	}
	user.ExtraInfo = info
	return nil
}

// isObject reports whether stored JSON is an object or nothing.
func isObject(info []byte) bool {
	value := jsontext.Value(info)
	return info == nil || value.Kind() == '{' && value.IsValid()
}

// UserLock answers [api.UserLock].
func (s *Server) UserLock(ctx context.Context, p *api.UserLockParams) (api.UserInfoResult, error) {
	event.From(ctx).SetUser(p.UserID)
	event.From(ctx).SetTarget(p.TargetUserID)
	if p.UserRole != roleSuperuser {
		return api.UserInfoResult{}, api.Fail(api.CodeNotPermitted)
	}
	if p.TargetUserID == p.UserID {
		return api.UserInfoResult{}, api.Fail(api.CodeCannotLockSelf)
	}
	return s.lock(ctx, p.TargetUserID, p.Action, func(ctx context.Context, tx *store.Tx) (actor, error) {
		session, err := s.callerIs(ctx, tx, p.SessionToken, p.UserID, p.UserRole)
		return actorOf(ctx, p.UserID, session), err
	})
}

// InternalUserLock answers [api.InternalUserLock].
func (s *Server) InternalUserLock(ctx context.Context, p *api.InternalUserLockParams) (api.UserInfoResult, error) {
	event.From(ctx).SetTarget(p.TargetUserID)
	return s.lock(ctx, p.TargetUserID, p.Action, func(ctx context.Context, _ *store.Tx) (actor, error) { return actorOf(ctx, 0, nil), nil })
}

func (s *Server) lock(ctx context.Context, target int64, action string, permit func(context.Context, *store.Tx) (actor, error)) (api.UserInfoResult, error) {
	change, kind := lockUser, api.EventLocked
	switch action {
	case "lock":
	case "unlock":
		change, kind = s.unlockUser, api.EventUnlocked
	default:
		return api.UserInfoResult{}, api.Fail(api.CodeInvalidAction)
	}
	if store.Protected(target) {
		return api.UserInfoResult{}, api.Fail(api.CodeProtectedUser)
	}
	return s.changeUser(ctx, func(ctx context.Context, tx *store.Tx) (*store.User, error) {
		by, err := permit(ctx, tx)
		if err != nil {
			return nil, err
		}
		user, err := tx.User(ctx, target)
		if err != nil {
			return nil, failWhen(err, store.ErrNotFound, api.CodeLockFailed)
		}
		from := user.Role
		err = change(ctx, tx, user)
		if err != nil || user.Role == from {
			return user, err
		}
		return user, s.log(ctx, tx, by, kind, target, details{"from": from, "to": user.Role})
	})
}

// maxHistory is how many former roles are kept, so that locking a user over
// and over does not fill the database.
const maxHistory = 32

// lockUser takes the user's role and sessions away.
func lockUser(ctx context.Context, tx *store.Tx, user *store.User) error {
	if user.Role == roleLocked {
		return nil
	}
	err := keepSuperuser(ctx, tx, user)
	if err != nil {
		return err
	}
	if !isObject(user.ExtraInfo) {
		return api.Fail(api.CodeLockFailed)
	}
	members, err := membersOf(user.ExtraInfo)
	if err != nil {
		return err
	}
	history := append(roleHistory(members), user.Role)
	if len(history) > maxHistory {
		history = history[len(history)-maxHistory:]
	}
	text, err := json.Marshal(history)
	if err != nil {
		return err
	}
	user.ExtraInfo = objectOf(set(members, infoOldRoles, text))
	user.IsActive, user.Role = false, roleLocked
	err = tx.UpdateUser(ctx, user)
	if err != nil {
		return err
	}
	_, err = tx.DeleteSessionsOf(ctx, user.ID, token.Digest{})
	return err
}

// roleHistory returns the roles that a user had before each lock, the latest
// last.
func roleHistory(members []jsonMember) []string {
	var history []string
	err := json.Unmarshal(valueOf(members, infoOldRoles), &history)
	if err != nil || len(history) == 0 {
		return []string{roleLocked} // what the list starts with
	}
	return history
}

// unlockUser gives a locked user the last role back. Someone who signed up
// and was never verified has none, and is not made active by it.
func (s *Server) unlockUser(ctx context.Context, tx *store.Tx, user *store.User) error {
	if user.Role != roleLocked || user.FirstVerified.IsZero() {
		return nil
	}
	members, err := membersOf(user.ExtraInfo)
	if err != nil {
		members = nil // there is no history in what cannot be read
	}
	history := roleHistory(members)
	role := history[len(history)-1]
	if role == roleLocked || !s.Policy().HasRole(role) {
		role = roleAuthenticated
	}
	user.IsActive, user.Role = true, role
	return tx.UpdateUser(ctx, user)
}

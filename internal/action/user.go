package action

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/identity"
	"authnzerver/internal/passpolicy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// Roles that the rules themselves know. What they may do is the policy's.
const (
	roleSuperuser     = "superuser"
	roleStaff         = "staff"
	roleAuthenticated = "authenticated"
	roleAnonymous     = "anonymous"
	roleLocked        = "locked"
)

// UserLogin answers [api.UserLogin].
func (s *Server) UserLogin(ctx context.Context, p *api.UserLoginParams) (api.UserCheckResult, error) {
	session, _, sessionErr := s.session(ctx, p.SessionToken)
	if sessionErr != nil && !errors.Is(sessionErr, api.Fail(api.CodeSessionNotFound)) {
		return api.UserCheckResult{}, sessionErr
	}
	user, err := s.userByEmail(ctx, p.Email)
	if err != nil {
		return api.UserCheckResult{}, err
	}
	var g *guess // whoever has no session learns nothing about the password
	if sessionErr == nil {
		g = s.guess(ctx, user, p.Email, session)
	}
	password, err := s.verify(ctx, user, p.Password, g)
	if err != nil {
		return api.UserCheckResult{}, err
	}
	if sessionErr != nil {
		return api.UserCheckResult{}, sessionErr
	}
	right := password.Match && user.IsActive && user.EmailVerified
	rehashed := ""
	if right && password.Outdated {
		rehashed, err = s.Passwords.Replace(ctx, user.PasswordHash, string(p.Password))
		if err != nil {
			rehashed = "" // at the next login; this one is right all the same
		}
	}
	good := false
	// Whoever hangs up now has made the guess all the same.
	err = s.Store.Update(context.WithoutCancel(ctx), func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.DeleteSession(ctx, token.Sum(string(p.SessionToken)))
		if err != nil {
			return err
		}
		var now *store.User
		if right {
			now, err = unchanged(ctx, tx, user, rehashed)
			if err != nil {
				return err
			}
		}
		good = now != nil
		if good {
			err = s.settle(ctx, tx, g, api.EventLoggedIn)
		} else {
			err = s.logWrong(ctx, tx, g, api.CodeInvalidCredentials)
		}
		if err != nil {
			return err
		}
		if good && rehashed != "" && now.PasswordHash != rehashed {
			err = tx.SetPassword(ctx, user.ID, user.PasswordHash, rehashed)
			if err != nil {
				return err
			}
		}
		id := int64(0) // nobody's: the statement runs all the same, so that a missing user costs no less
		if user != nil {
			id = user.ID
		}
		return tx.RecordLogin(ctx, id, good && user.Role != roleLocked)
	})
	if err != nil {
		return api.UserCheckResult{}, err
	}
	if !good {
		return api.UserCheckResult{}, s.penalty(g, api.Fail(api.CodeInvalidCredentials))
	}
	return checked(ctx, user)
}

// unchanged returns the user as it is inside a transaction, nil when it was changed
// since the password was verified: a password that was replaced or an account that
// was locked meanwhile must not let anybody in. Another login may have replaced the
// hash by one of the same password, rehashed.
func unchanged(ctx context.Context, tx *store.Tx, user *store.User, rehashed string) (*store.User, error) {
	now, err := tx.User(ctx, user.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same := now.PasswordHash == user.PasswordHash || rehashed != "" && now.PasswordHash == rehashed
	if !same || now.Role != user.Role || now.IsActive != user.IsActive || now.EmailVerified != user.EmailVerified {
		return nil, nil
	}
	return now, nil
}

// checked returns the result for a user whose password was right.
func checked(ctx context.Context, user *store.User) (api.UserCheckResult, error) {
	event.From(ctx).SetUser(user.ID)
	if !user.IsActive || user.Role == roleLocked {
		return api.UserCheckResult{UserID: &user.ID}, api.Fail(api.CodeUserLocked)
	}
	return api.UserCheckResult{UserID: &user.ID, UserRole: user.Role}, nil
}

// UserLogout answers [api.UserLogout].
func (s *Server) UserLogout(ctx context.Context, p *api.UserLogoutParams) (api.UserLogoutResult, error) {
	result := api.UserLogoutResult{UserID: p.UserID}
	session, user, err := s.session(ctx, p.SessionToken)
	if err != nil {
		return result, err
	}
	if user.ID != p.UserID {
		return result, api.Fail(api.CodeSessionUserMismatch)
	}
	return result, s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		err := wasSession(tx.DeleteSession(ctx, session.Digest))
		if err != nil || user.ID == store.AnonymousID {
			return err
		}
		return s.log(ctx, tx, actorOf(ctx, user.ID, session), api.EventLoggedOut, user.ID, nil)
	})
}

// UserPasscheck answers [api.UserPasscheck].
func (s *Server) UserPasscheck(ctx context.Context, p *api.UserPasscheckParams) (api.UserCheckResult, error) {
	session, user, sessionErr := s.use(ctx, p.SessionToken)
	if sessionErr != nil && !errors.Is(sessionErr, api.Fail(api.CodeSessionNotFound)) {
		return api.UserCheckResult{}, sessionErr
	}
	var g *guess
	if sessionErr == nil {
		g = s.guess(ctx, user, "", session)
	}
	password, err := s.verify(ctx, user, p.Password, g)
	switch {
	case err != nil:
		return api.UserCheckResult{}, err
	case sessionErr != nil:
		return api.UserCheckResult{}, sessionErr
	case !password.Match:
		return api.UserCheckResult{}, s.wrong(ctx, g, api.Fail(api.CodeInvalidCredentials))
	}
	err = s.right(ctx, g, api.EventConfirmed)
	if err != nil {
		return api.UserCheckResult{}, err
	}
	return checked(ctx, user)
}

// UserPasscheckNoSession answers [api.UserPasscheckNoSession].
func (s *Server) UserPasscheckNoSession(ctx context.Context, p *api.UserPasscheckNoSessionParams) (api.UserCheckResult, error) {
	user, err := s.userByEmail(ctx, p.Email)
	if err != nil {
		return api.UserCheckResult{}, err
	}
	g := s.guess(ctx, user, p.Email, nil)
	password, err := s.verify(ctx, user, p.Password, g)
	if err != nil {
		return api.UserCheckResult{}, err
	}
	if !password.Match {
		return api.UserCheckResult{}, s.wrong(ctx, g, api.Fail(api.CodeInvalidCredentials))
	}
	err = s.right(ctx, g, api.EventConfirmed)
	if err != nil {
		return api.UserCheckResult{}, err
	}
	return checked(ctx, user)
}

// Members of extra_info that the server keeps.
const (
	infoProvenance = "provenance"
	infoType       = "type"
	infoRetryWait  = "verify_retry_wait"
	infoOldRoles   = "previous_user_roles"
)

// defaultRetryWait is how many hours must pass before a repeated sign-up
// replaces one that was not verified; maxRetryWait bounds what may be asked for.
const (
	defaultRetryWait = 6
	maxRetryWait     = 87_600 // ten years, as declared in package api
)

// UserNew answers [api.UserNew].
func (s *Server) UserNew(ctx context.Context, p *api.UserNewParams) (api.UserNewResult, error) {
	event.From(ctx).SetEmail(string(p.Email))
	email, err := identity.ParseEmail(string(p.Email))
	if err != nil {
		return api.UserNewResult{}, api.Fail(api.CodeInvalidEmail)
	}
	name, err := identity.ParseFullName(p.FullName)
	if err != nil {
		return api.UserNewResult{}, api.Fail(api.CodeInvalidFullName)
	}
	wait := int64(defaultRetryWait)
	if p.VerifyRetryWait.Value.Set {
		wait = max(1, p.VerifyRetryWait.Value.Value)
	}
	info, err := newUserInfo(object(p.ExtraInfo.Value), wait)
	if err != nil {
		return api.UserNewResult{}, err
	}
	// Hashed before it is judged and before the address is looked up, so that
	// every outcome takes the same time.
	hash, err := s.Passwords.Hash(ctx, string(p.Password))
	if err != nil {
		return api.UserNewResult{}, err
	}
	subject := passpolicy.Subject{Email: email, FullNames: []string{name, p.FullName}}
	violations := s.PasswordRules.Check(ctx, string(p.Password), subject)
	if violations != nil {
		return api.UserNewResult{UserEmail: emailOf(email)}, api.Fail(api.CodeInvalidPassword, violations...)
	}
	user := &store.User{
		SystemID: p.SystemID.Value.Value, FullName: &name, PasswordHash: hash, Email: email,
		Role: roleLocked, ExtraInfo: info,
	}
	var result api.UserNewResult
	var failure error
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		result, err = s.signUp(ctx, tx, user, time.Duration(wait)*time.Hour)
		// A repeated sign-up is a failure that changes something.
		if errors.Is(err, api.Fail(api.CodeUserExists)) {
			failure, err = err, nil
		}
		return err
	})
	if err != nil {
		return api.UserNewResult{}, err
	}
	return result, failure
}

func emailOf(email string) *api.Email {
	e := api.Email(email)
	return &e
}

// newUserInfo returns the extra_info of a new user: the frontend's, without
// the role history, which would decide about a role later on.
func newUserInfo(sent []byte, wait int64) ([]byte, error) {
	members, err := membersOf(sent)
	if err != nil {
		return nil, err
	}
	members = remove(members, infoOldRoles)
	members = set(members, infoProvenance, jsontext.Value(`"request-created"`))
	members = set(members, infoType, jsontext.Value(`"normal-user"`))
	members = set(members, infoRetryWait, strconv.AppendInt(nil, wait, 10))
	return objectOf(members), nil
}

// signUp adds the user, or replaces a sign-up with the same address that was
// never verified and that is older than wait.
func (s *Server) signUp(ctx context.Context, tx *store.Tx, user *store.User, wait time.Duration) (api.UserNewResult, error) {
	old, err := tx.UserByEmail(ctx, user.Email)
	if err == nil {
		return s.signUpAgain(ctx, tx, old, user, wait)
	}
	if !errors.Is(err, store.ErrNotFound) {
		return api.UserNewResult{}, err
	}
	if user.SystemID == "" {
		user.SystemID = store.NewUUID()
	}
	err = insertSignUp(ctx, tx, user, true)
	if err != nil {
		var result api.UserNewResult
		if errors.Is(err, api.Fail(api.CodeUserExists)) { // several users of an adopted database, who differ in letter case
			result.UserEmail = emailOf(user.Email)
		}
		return result, err
	}
	event.From(ctx).SetUser(user.ID)
	err = s.log(ctx, tx, actorOf(ctx, 0, nil), api.EventSignedUp, user.ID, nil)
	if err != nil {
		return api.UserNewResult{}, err
	}
	return api.UserNewResult{
		UserEmail: emailOf(user.Email), UserID: &user.ID, SystemID: &user.SystemID, SendVerification: true,
	}, nil
}

// insertSignUp adds a user, and undoes that unless keep is set: who signs up with somebody
// else's address must not learn that it is somebody's by how soon the answer comes.
func insertSignUp(ctx context.Context, tx *store.Tx, user *store.User, keep bool) error {
	return tx.Nested(ctx, keep, func(ctx context.Context) error {
		taken, err := tx.EmailTaken(ctx, user.Email, 0)
		if err != nil {
			return err
		}
		if taken {
			return api.Fail(api.CodeUserExists)
		}
		taken, err = tx.SystemIDTaken(ctx, user.SystemID)
		if err != nil {
			return err
		}
		if taken {
			return api.Fail(api.CodeSystemIDExists)
		}
		user.EmailVerifySent = tx.Now()
		return failWhen(tx.InsertUser(ctx, user), store.ErrReference, api.CodeUserCreateFailed)
	})
}

func (s *Server) signUpAgain(ctx context.Context, tx *store.Tx, old, user *store.User, wait time.Duration) (api.UserNewResult, error) {
	event.From(ctx).SetTarget(old.ID)
	result := api.UserNewResult{UserEmail: emailOf(old.Email), UserID: &old.ID, SystemID: &old.SystemID}
	// The longer of the two waits counts: who repeats a sign-up must not be
	// able to shorten what the first one was promised.
	wait = max(wait, storedWait(old.ExtraInfo))
	replace := old.FirstVerified.IsZero() && !old.IsActive && !old.EmailVerified &&
		!old.EmailVerifySent.IsZero() && tx.Now().Sub(old.EmailVerifySent) > wait
	if !replace {
		decoy := *user
		decoy.SystemID = store.NewUUID()
		decoy.Email = decoy.SystemID + user.Email[strings.LastIndexByte(user.Email, '@'):]
		err := insertSignUp(ctx, tx, &decoy, false)
		if err != nil {
			return api.UserNewResult{}, err
		}
		err = s.log(ctx, tx, actorOf(ctx, 0, nil), api.EventSignUpRepeated, old.ID, nil)
		if err != nil {
			return api.UserNewResult{}, err
		}
		return result, api.Fail(api.CodeUserExists)
	}
	old.FullName, old.Email, old.Role, old.ExtraInfo = user.FullName, user.Email, roleLocked, user.ExtraInfo
	old.EmailVerifySent = tx.Now()
	err := tx.UpdateUser(ctx, old)
	if err != nil {
		return api.UserNewResult{}, err
	}
	err = tx.SetPassword(ctx, old.ID, old.PasswordHash, user.PasswordHash)
	if err != nil {
		return api.UserNewResult{}, err
	}
	err = revokeAccess(ctx, tx, old.ID, token.Digest{})
	if err != nil {
		return api.UserNewResult{}, err
	}
	// The message about the first sign-up must not verify this one.
	err = tx.DeleteEmailToken(ctx, old.ID, store.PurposeSignUp)
	if err != nil {
		return api.UserNewResult{}, err
	}
	err = s.log(ctx, tx, actorOf(ctx, 0, nil), api.EventSignedUp, old.ID, details{"replaced": true})
	if err != nil {
		return api.UserNewResult{}, err
	}
	result.UserEmail, result.SendVerification = emailOf(user.Email), true
	return result, api.Fail(api.CodeUserExists)
}

// storedWait returns the wait that a sign-up asked for, at most maxRetryWait:
// an adopted one may be too long for a Duration.
func storedWait(info []byte) time.Duration {
	members, err := membersOf(info)
	if err != nil {
		return 0
	}
	hours, err := strconv.ParseInt(string(valueOf(members, infoRetryWait)), 10, 64)
	if err != nil {
		return 0 // an adopted user without it
	}
	return time.Duration(min(max(0, hours), maxRetryWait)) * time.Hour
}

// UserDelete answers [api.UserDelete].
func (s *Server) UserDelete(ctx context.Context, p *api.UserDeleteParams) (api.UserDeleteResult, error) {
	result := api.UserDeleteResult{UserID: p.UserID, Email: p.Email}
	user, err := s.userWith(ctx, p.UserID, p.Email)
	if err != nil {
		return result, err
	}
	g := s.guess(ctx, user, p.Email, nil)
	password, err := s.verify(ctx, user, p.Password, g)
	switch {
	case err != nil:
		return result, err
	case user == nil:
		return result, s.wrong(ctx, g, likeWrong(api.CodeUserNotFound))
	case !password.Match:
		return result, s.wrong(ctx, g, likeWrong(api.CodeInvalidPassword))
	}
	err = s.right(ctx, g, "")
	if err != nil {
		return result, err
	}
	if store.Protected(user.ID) {
		return result, api.Fail(api.CodeProtectedUser)
	}
	return result, s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		now, err := tx.User(ctx, user.ID)
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeUserNotFound)
		}
		if now.PasswordHash != user.PasswordHash {
			return api.Fail(api.CodeInvalidPassword)
		}
		if now.Role == roleSuperuser {
			return api.Fail(api.CodeSuperuserKept)
		}
		return s.deleteUser(ctx, tx, g.proven(), user.ID)
	})
}

// userWith returns the user with this id if it has this address, or nil.
func (s *Server) userWith(ctx context.Context, id int64, email api.Email) (*store.User, error) {
	event.From(ctx).SetUser(id)
	user, err := s.userByID(ctx, id)
	if err != nil || user == nil {
		return nil, err
	}
	if user.Email != string(email) && identity.NormalizeEmail(user.Email) != identity.NormalizeEmail(string(email)) {
		return nil, nil
	}
	return user, nil
}

func (s *Server) deleteUser(ctx context.Context, tx *store.Tx, by actor, id int64) error {
	_, err := tx.DeleteUser(ctx, id)
	if err != nil {
		return failWhen(err, store.ErrReference, api.CodeUserDeleteFailed)
	}
	return s.log(ctx, tx, by, api.EventDeleted, id, nil)
}

// InternalUserDelete answers [api.InternalUserDelete].
func (s *Server) InternalUserDelete(ctx context.Context, p *api.InternalUserDeleteParams) (api.InternalUserDeleteResult, error) {
	event.From(ctx).SetTarget(p.TargetUserID)
	result := api.InternalUserDeleteResult{UserID: p.TargetUserID}
	if store.Protected(p.TargetUserID) {
		return result, api.Fail(api.CodeProtectedUser)
	}
	return result, s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		user, err := tx.User(ctx, p.TargetUserID)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		err = keepSuperuser(ctx, tx, user)
		if err != nil {
			return err
		}
		return s.deleteUser(ctx, tx, actorOf(ctx, 0, nil), user.ID)
	})
}

// keepSuperuser fails when nobody could administer the server without user.
func keepSuperuser(ctx context.Context, tx *store.Tx, user *store.User) error {
	if !administers(user) {
		return nil
	}
	others, err := tx.OtherSuperusers(ctx, user.ID)
	if err == nil && others == 0 {
		err = api.Fail(api.CodeLastSuperuser)
	}
	return err
}

func administers(u *store.User) bool {
	return u.Role == roleSuperuser && u.IsActive && u.EmailVerified
}

// UserList answers [api.UserList].
func (s *Server) UserList(ctx context.Context, p *api.UserListParams, result *api.UserListResult, yield func(*api.UserInfo) error) error {
	var q store.UserQuery
	if p.UserID.Set {
		q.Field, q.Value = store.FieldUserID, int64(p.UserID.Value)
	}
	return s.listUsers(ctx, q, page{p.Limit, p.After}, nil, result, yield)
}

// A page is which part of a list is wanted.
type page struct{ limit, after api.Strict[int64] }

// listUsers yields the users of a query, or a page of them; where wanted is not nil,
// those for whom it is true.
func (s *Server) listUsers(ctx context.Context, q store.UserQuery, page page, wanted func(*store.User) bool,
	result *api.UserListResult, yield func(*api.UserInfo) error,
) error {
	q.After = page.after.Value
	view := s.Store.ViewLong
	switch {
	case wanted != nil: // all users are read
	case q.Field == store.FieldUserID || q.Field == store.FieldSystemID: // one at most
		view = s.Store.View
	case page.limit.Set:
		view = s.Store.View
		q.Limit = page.limit.Value + 1 // to know whether there are more
	}
	var listed, last int64
	return view(ctx, func(ctx context.Context, tx *store.Tx) error {
		err := tx.EachUser(ctx, q, func(user *store.User) error {
			if wanted != nil && !wanted(user) {
				return nil
			}
			if page.limit.Set && listed == page.limit.Value {
				result.Next = &last
				return errEnough
			}
			listed, last = listed+1, user.ID
			return yield(userInfo(user))
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
}

// errEnough ends a list.
var errEnough = errors.New("enough")

// UserLookupEmail answers [api.UserLookupEmail].
func (s *Server) UserLookupEmail(ctx context.Context, p *api.UserLookupEmailParams) (api.UserInfoResult, error) {
	user, err := s.userByEmail(ctx, p.Email)
	if err != nil {
		return api.UserInfoResult{}, err
	}
	if user == nil {
		return api.UserInfoResult{}, api.Fail(api.CodeUserNotFound)
	}
	event.From(ctx).SetTarget(user.ID)
	return api.UserInfoResult{UserInfo: userInfo(user)}, nil
}

// UserLookupMatch answers [api.UserLookupMatch].
func (s *Server) UserLookupMatch(ctx context.Context, p *api.UserLookupMatchParams, result *api.UserListResult, yield func(*api.UserInfo) error) error {
	match := jsontext.Value(bytes.TrimSpace(p.Match))
	switch p.By {
	case "extra_info":
		wanted, err := wantedInfo(match)
		if err != nil {
			return err
		}
		matches := func(u *store.User) bool { return hasMembers(u.ExtraInfo, wanted) }
		return s.listUsers(ctx, store.UserQuery{}, page{p.Limit, p.After}, matches, result, yield)
	case "email":
		var email string
		if json.Unmarshal(match, &email) != nil || !storable(email) {
			return api.Fail(api.CodeInvalidMatch)
		}
		user, err := s.userByEmail(ctx, api.Email(email))
		if err != nil || user == nil || user.ID <= p.After.Value {
			return err
		}
		return yield(userInfo(user))
	}
	field := store.UserField(p.By)
	value, ok := matchValue(field, match)
	if !ok {
		return api.Fail(api.CodeInvalidMatch)
	}
	return s.listUsers(ctx, store.UserQuery{Field: field, Value: value}, page{p.Limit, p.After}, nil, result, yield)
}

// storable reports whether every database can have a text.
func storable(text string) bool { return !strings.ContainsRune(text, 0) }

// matchValue returns the value to look up in a field, or false when there is
// no such field or it cannot have the value.
func matchValue(field store.UserField, match jsontext.Value) (any, bool) {
	var text string
	isText := json.Unmarshal(match, &text) == nil
	if !storable(text) {
		return nil, false
	}
	switch field {
	case store.FieldUserID, store.FieldFailedLogins:
		if !isText {
			text = string(match)
		}
		n, err := strconv.ParseInt(text, 10, 64)
		return n, err == nil
	case store.FieldEmailVerified, store.FieldIsActive:
		var b bool
		err := json.Unmarshal(match, &b)
		return b, err == nil
	case store.FieldSystemID, store.FieldFullName, store.FieldRole:
		return text, isText
	case store.FieldCreatedOn, store.FieldLastUpdated, store.FieldLastLoginOK, store.FieldLastLoginTry,
		store.FieldEmailVerifySent, store.FieldEmailForgotSent, store.FieldEmailChangeSent:
		t, err := api.ParseTime(text)
		return t, isText && err == nil
	}
	return nil, false
}

// wantedInfo returns the members that extra_info must have to match, in canonical form.
func wantedInfo(match jsontext.Value) ([]jsonMember, error) {
	if match.Kind() != '{' {
		return nil, api.Fail(api.CodeInvalidMatch)
	}
	wanted, err := membersOf(match)
	if err != nil {
		return nil, err
	}
	if len(wanted) == 0 {
		return nil, api.Fail(api.CodeInvalidMatch)
	}
	for i := range wanted {
		err := wanted[i].value.Canonicalize()
		if err != nil {
			return nil, api.Fail(api.CodeInvalidMatch)
		}
	}
	return wanted, nil
}

func hasMembers(info []byte, wanted []jsonMember) bool {
	members, err := membersOf(info)
	if err != nil {
		return false
	}
	for _, w := range wanted {
		value := valueOf(members, w.name)
		if value == nil || value.Canonicalize() != nil || !bytes.Equal(value, w.value) {
			return false
		}
	}
	return true
}

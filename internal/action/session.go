package action

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mileusna/useragent"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// maxUserAgent is how many characters of a user agent are kept, the size of
// its column.
const maxUserAgent = 280

// SessionNew answers [api.SessionNew].
func (s *Server) SessionNew(ctx context.Context, p *api.SessionNewParams) (api.SessionNewResult, error) {
	addr, err := netip.ParseAddr(p.IPAddress)
	if err != nil {
		return api.SessionNewResult{}, api.Fail(api.CodeInvalidIPAddress)
	}
	expires, err := api.ParseTime(p.Expires)
	if err != nil {
		return api.SessionNewResult{}, api.Fail(api.CodeInvalidExpires)
	}
	userID := int64(p.UserID.Value)
	if userID == 0 {
		userID = store.AnonymousID
	}
	event.From(ctx).SetUser(userID)
	secret := token.New()
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		session := &store.Session{
			Digest: token.Sum(secret), IPAddress: addr.String(), UserAgent: truncate(p.UserAgent, maxUserAgent),
			UserID: userID, Created: tx.Now(), Expires: expires, ExtraInfo: object(p.ExtraInfo),
		}
		err := tx.InsertSession(ctx, session)
		if err != nil {
			return err
		}
		return s.logSession(ctx, tx, actorOf(ctx, 0, session), api.EventSessionCreated, userID, session.ID)
	})
	if err != nil {
		return api.SessionNewResult{}, failWhen(err, store.ErrReference, api.CodeSessionCreateFailed)
	}
	sessionToken := api.SessionToken(secret)
	return api.SessionNewResult{SessionToken: &sessionToken, Expires: api.Expiry(expires)}, nil
}

// logSession writes an event about a session, unless it is nobody's.
func (s *Server) logSession(ctx context.Context, tx *store.Tx, by actor, kind api.EventKind, userID int64, sessionID string) error {
	if userID == store.AnonymousID {
		return nil
	}
	return s.log(ctx, tx, by, kind, userID, details{"session_id": sessionID})
}

// truncate cuts a text to at most n characters.
func truncate(s string, n int) string {
	if len(s) <= n || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n])
}

// SessionExists answers [api.SessionExists].
func (s *Server) SessionExists(ctx context.Context, p *api.SessionTokenParams) (api.SessionExistsResult, error) {
	session, user, err := s.use(ctx, p.SessionToken)
	if err != nil {
		return api.SessionExistsResult{}, err
	}
	prepared, _ := session.Memo().(*sessionReply)
	if prepared == nil || prepared.user != user {
		prepared, err = prepareSession(session, user)
		if err != nil {
			return api.SessionExistsResult{}, err
		}
		session.SetMemo(prepared)
	}
	return api.SessionExistsResult{Encoded: prepared.reply.With(string(p.SessionToken))}, nil
}

// A sessionReply is the reply that a session exists, which is the same until the session
// or its user changes. The token is not in it.
type sessionReply struct {
	user  *store.User
	reply *api.Prepared
}

func prepareSession(session *store.Session, user *store.User) (*sessionReply, error) {
	stand := api.SessionToken(token.New())
	reply, err := api.SessionExists.Prepare(&api.SessionExistsResult{SessionInfo: &api.SessionUserInfo{
		UserID: user.ID, SystemID: user.SystemID, FullName: user.FullName, Email: api.Email(user.Email),
		ExtraInfo: shown(user.ExtraInfo), EmailVerified: user.EmailVerified, EmailVerifySentOn: api.Time(user.EmailVerifySent),
		IsActive: user.IsActive, LastLoginTry: api.Time(user.LastLoginTry), LastLoginSuccess: api.Time(user.LastLoginOK),
		CreatedOn: api.Time(user.CreatedOn), UserRole: user.Role,
		SessionToken: stand, IPAddress: session.IPAddress, UserAgent: session.UserAgent,
		Created: api.Time(session.Created), Expires: api.Expiry(session.Expires), ExtraInfoJSON: shown(session.ExtraInfo),
	}}, string(stand))
	return &sessionReply{user, reply}, err
}

// itemSession is the policy's name for sessions.
const itemSession = "session"

// maxSessions is how many sessions are listed at once, more than anybody looks through.
const maxSessions = 1000

// pageOf returns the part of a list that is wanted, without a limit if there is none.
func pageOf(limit api.Strict[int64], after api.Strict[api.Position]) store.Page {
	return store.Page{After: after.Value.Created, AfterID: after.Value.ID, Limit: limit.Value}
}

// SessionList answers [api.SessionList].
func (s *Server) SessionList(ctx context.Context, p *api.SessionListParams) (api.SessionListResult, error) {
	current, caller, err := s.use(ctx, p.SessionToken)
	if err != nil {
		return api.SessionListResult{}, err
	}
	owner := caller.ID
	if p.UserID.Set {
		owner = p.UserID.Value
	}
	event.From(ctx).SetTarget(owner)
	if owner != caller.ID && !s.mayViewPrivate(caller, itemSession, owner) {
		return api.SessionListResult{}, api.Fail(api.CodeNotPermitted)
	}
	page := pageOf(p.Limit, p.After)
	limit := cmp.Or(page.Limit, maxSessions)
	page.Limit = limit + 1 // to know whether there are more
	var sessions []*store.Session
	err = s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		if owner == caller.ID && owner == store.AnonymousID {
			// The others are other people's.
			session, err := tx.Session(ctx, current.Digest)
			sessions = []*store.Session{session}
			return failWhen(err, store.ErrNotFound, api.CodeSessionNotFound)
		}
		_, err := tx.User(ctx, owner)
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeUserNotFound)
		}
		sessions, err = tx.SessionsOf(ctx, owner, page)
		return err
	})
	if err != nil {
		return api.SessionListResult{}, err
	}
	var result api.SessionListResult
	if int64(len(sessions)) > limit {
		sessions = sessions[:limit]
		last := sessions[limit-1]
		result.Next = &api.Position{Created: last.Created, ID: last.ID}
	}
	result.Sessions = make([]api.SessionListInfo, len(sessions))
	for i, session := range sessions {
		result.Sessions[i] = api.SessionListInfo{
			SessionID: session.ID, Current: session.Digest == current.Digest, Device: deviceOf(session.UserAgent),
			IPAddress: session.IPAddress, UserAgent: session.UserAgent,
			Created: api.Time(session.Created), LastSeen: api.Time(session.LastSeen), Expires: api.Expiry(session.Expires),
		}
	}
	return result, nil
}

// mayViewPrivate reports whether the policy lets an active user view private items of
// another.
func (s *Server) mayViewPrivate(caller *store.User, item string, owner int64) bool {
	granted, err := s.Policy().Allows(&policy.Question{
		UserID: caller.ID, Role: caller.Role, Action: actionView, Item: item, Owner: owner, Visibility: "private",
	})
	return caller.IsActive && granted && err == nil // the only error is an unknown role, which may do nothing
}

// deviceOf returns what a user agent says that it is, for people to read.
func deviceOf(userAgent string) string {
	const longest = 60 // characters
	parsed := useragent.Parse(userAgent)
	name := strings.TrimSpace(parsed.Name)
	if parsed.OS != "" && parsed.Name == userAgent {
		name = "" // what has no known form is its own name
	}
	name = truncate(name, longest)
	switch {
	case name == "" && parsed.OS == "":
		return "unknown device"
	case name == "":
		return parsed.OS
	case parsed.OS == "":
		return name
	default:
		return name + " on " + parsed.OS
	}
}

// familiarDevice is deviceOf for messages to people who have not sent the user
// agent themselves: it names nothing but common browsers and systems, so that
// nobody can write to them by it.
func familiarDevice(userAgent string) string {
	parsed := useragent.Parse(userAgent)
	browsers := []string{useragent.Chrome, useragent.Firefox, useragent.Safari, useragent.Edge, useragent.Opera, useragent.HeadlessChrome}
	systems := []string{useragent.Windows, useragent.MacOS, useragent.Linux, useragent.Android, useragent.IOS, useragent.ChromeOS, useragent.FreeBSD}
	var known []string
	if slices.Contains(browsers, parsed.Name) {
		known = append(known, parsed.Name)
	}
	if slices.Contains(systems, parsed.OS) {
		known = append(known, parsed.OS)
	}
	if known == nil {
		return "unknown device"
	}
	return strings.Join(known, " on ")
}

// SessionDelete answers [api.SessionDelete].
func (s *Server) SessionDelete(ctx context.Context, p *api.SessionDeleteParams) (api.SessionDeleteResult, error) {
	err := s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		digest := token.Sum(string(p.SessionToken))
		current, err := tx.Session(ctx, digest)
		if errors.Is(err, store.ErrNotFound) && !p.SessionID.Set { // expired, perhaps
			return wasSession(tx.DeleteSession(ctx, digest))
		}
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeSessionNotFound)
		}
		event.From(ctx).SetUser(current.UserID)
		id, found := current.ID, false
		if p.SessionID.Set {
			id = p.SessionID.Value
		}
		switch {
		case id == current.ID:
			found, err = tx.DeleteSession(ctx, digest)
		case current.UserID != store.AnonymousID: // the others of which are other people's
			s.Store.NoteSeen(current)
			found, err = tx.DeleteSessionByID(ctx, current.UserID, id)
		}
		err = wasSession(found, err)
		if err != nil {
			return err
		}
		return s.logSession(ctx, tx, actorOf(ctx, current.UserID, current), api.EventSessionEnded, current.UserID, id)
	})
	return api.SessionDeleteResult{}, err
}

// wasSession returns an error unless a session was deleted.
func wasSession(found bool, err error) error {
	if err == nil && !found {
		return api.Fail(api.CodeSessionNotFound)
	}
	return err
}

// SessionDeleteUserID answers [api.SessionDeleteUserID].
func (s *Server) SessionDeleteUserID(ctx context.Context, p *api.SessionDeleteUserIDParams) (api.SessionDeleteUserIDResult, error) {
	event.From(ctx).SetTarget(p.UserID)
	var spare token.Digest
	if p.KeepCurrentSession && p.SessionToken != "" {
		spare = token.Sum(string(p.SessionToken))
	}
	deleted := 0
	err := s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		deleted, err = tx.DeleteSessionsOf(ctx, p.UserID, spare)
		if err != nil || deleted == 0 || p.UserID == store.AnonymousID {
			return err
		}
		return s.log(ctx, tx, actorOf(ctx, 0, nil), api.EventSessionsEnded, p.UserID, details{"count": deleted})
	})
	if err == nil && deleted == 0 {
		err = api.Fail(api.CodeNoSessionsDeleted)
	}
	return api.SessionDeleteUserIDResult{}, err
}

// InternalSessionEdit answers [api.InternalSessionEdit].
func (s *Server) InternalSessionEdit(ctx context.Context, p *api.InternalSessionEditParams) (api.SessionEditResult, error) {
	update, err := membersOf(p.UpdateDict)
	if err != nil {
		return api.SessionEditResult{}, err
	}
	if len(update) == 0 {
		return api.SessionEditResult{}, api.Fail(api.CodeEmptyUpdate)
	}
	return s.editSession(ctx, p.TargetSessionToken, func(info []byte) ([]byte, error) {
		switch string(info) {
		case "[]", `""`, "0", "false": // nothing, as the Python server saw it
			info = nil
		}
		if !isObject(info) {
			return nil, api.Fail(api.CodeUpdateFailed)
		}
		info, err := merge(info, update)
		if err == nil && len(info) > maxStoredObject {
			err = api.Fail(api.CodeUpdateFailed)
		}
		return info, err
	})
}

// SessionSetInfo answers [api.SessionSetInfo].
func (s *Server) SessionSetInfo(ctx context.Context, p *api.SessionSetInfoParams) (api.SessionEditResult, error) {
	info := p.ExtraInfo
	if !info.Set {
		info = p.ExtraInfoJSON
	}
	if !info.Set {
		return api.SessionEditResult{}, api.Fail(api.CodeEmptyUpdate)
	}
	return s.editSession(ctx, p.SessionToken, func([]byte) ([]byte, error) { return object(info.Value), nil })
}

// maxStoredObject is the size in bytes up to which merging lets an object grow.
const maxStoredObject = 64 << 10

func (s *Server) editSession(ctx context.Context, t api.SessionToken, edit func([]byte) ([]byte, error)) (api.SessionEditResult, error) {
	var session *store.Session
	err := s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		session, err = tx.Session(ctx, token.Sum(string(t)))
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeSessionNotFound)
		}
		session.ExtraInfo, err = edit(session.ExtraInfo)
		if err != nil {
			return err
		}
		return tx.SetSessionInfo(ctx, session.Digest, session.ExtraInfo)
	})
	if err != nil {
		return api.SessionEditResult{}, err
	}
	event.From(ctx).SetUser(session.UserID)
	return api.SessionEditResult{SessionInfo: &api.SessionInfo{
		UserID: session.UserID, SessionToken: t, IPAddress: session.IPAddress, UserAgent: session.UserAgent,
		Created: api.Time(session.Created), Expires: api.Expiry(session.Expires), ExtraInfoJSON: session.ExtraInfo,
	}}, nil
}

// PurgeExpired deletes sessions, keys and other tokens that expired more than
// grace ago, a few hundred in a transaction so that nobody waits for it, and
// returns how many sessions and keys there were.
func (s *Server) PurgeExpired(ctx context.Context, grace time.Duration) (sessions, keys int64, err error) {
	const batch, pause = 500, 20 * time.Millisecond
	before := s.Now().Add(-grace)
	for {
		var n int
		var m int64
		var more bool
		err := s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
			var err error
			n, err = tx.DeleteExpiredSessions(ctx, before, batch)
			if err != nil {
				return err
			}
			m, more, err = tx.DeleteExpiredKeys(ctx, before, batch)
			if err != nil {
				return err
			}
			gone, err := s.purgeOld(ctx, tx, batch)
			more = more || gone == batch
			return err
		})
		if err != nil {
			return sessions, keys, err
		}
		sessions += int64(n)
		keys += m
		if n < batch && !more {
			return sessions, keys, nil
		}
		select {
		case <-ctx.Done():
			return sessions, keys, ctx.Err()
		case <-time.After(pause):
		}
	}
}

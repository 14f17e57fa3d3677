package action

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/passwd"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// The policy's names for what is done with API keys.
const (
	itemAPIKey   = "apikey"
	actionCreate = "create"
	actionView   = "view"
	actionDelete = "delete"
)

// A keyCaller is who does something with API keys.
type keyCaller struct {
	userID int64
	role   string
}

// policyAllows reports whether the policy lets the caller do an action with
// the keys of an owner.
func (s *Server) policyAllows(c keyCaller, action string, owner int64) bool {
	granted, err := s.Policy().Allows(&policy.Question{
		UserID: c.userID, Role: c.role, Action: action, Item: itemAPIKey, Owner: owner, Visibility: "private",
	})
	return granted && err == nil // the only error is an unknown role, which may do nothing
}

// mayUseKeys fails with the code denied unless the policy lets the caller do
// an action with the keys of an owner, and both are active users.
func (s *Server) mayUseKeys(ctx context.Context, c keyCaller, action string, owner int64, denied api.Code) error {
	if !s.policyAllows(c, action, owner) {
		return api.Fail(denied)
	}
	return bothActive(ctx, s.Store, c, owner, denied)
}

// bothActive fails with the code denied unless the caller and the owner of
// keys are active users.
func bothActive(ctx context.Context, rows store.Rows, c keyCaller, owner int64, denied api.Code) error {
	err := activeInRole(ctx, rows, c.userID, c.role)
	if err == nil && owner != c.userID {
		err = allActive(ctx, rows, []int64{owner})
	}
	var failure *api.Failure
	if errors.As(err, &failure) {
		return api.Fail(denied)
	}
	return err
}

// stillInRole confirms inside a transaction that the caller may still act.
func stillInRole(ctx context.Context, tx *store.Tx, c keyCaller, denied api.Code) error {
	user, err := tx.User(ctx, c.userID)
	if errors.Is(err, store.ErrNotFound) || err == nil && (user.Role != c.role || !user.IsActive) {
		return api.Fail(denied)
	}
	return err
}

// keyFrom returns the key of one of these kinds that was presented, unless it
// is unknown, of another user or role, or outside its lifetime. The digest is what
// mayBeKey returned.
func (s *Server) keyFrom(ctx context.Context, rows store.Rows, digest token.Digest, presented *api.APIKey, kinds ...store.KeyKind) (*store.APIKey, error) {
	key, err := rows.APIKey(ctx, digest)
	if err != nil {
		return nil, failWhen(err, store.ErrNotFound, api.CodeKeyNotValid)
	}
	now := s.Now()
	valid := belongs(key, presented, kinds...) && key.Expires.After(now) && begun(key.Issued, key.NotBefore, now)
	if !valid {
		return nil, api.Fail(api.CodeKeyNotValid)
	}
	if key.Kind == store.KeyOfSession {
		_, _, err := rows.Session(ctx, key.Session)
		if err != nil {
			return nil, failWhen(err, store.ErrNotFound, api.CodeKeyNotValid)
		}
	}
	return key, nil
}

// begun reports whether the validity of what was issued has begun. Without a delay it
// begins when it is issued, also on another node whose clock is behind.
func begun(issued, notBefore, now time.Time) bool {
	return !notBefore.After(issued) || !notBefore.After(now)
}

// mayBeKey returns the digest of a key's token, and whether it is worth looking for it
// in the database.
func (s *Server) mayBeKey(t api.Secret) (token.Digest, bool) {
	digest := token.Sum(string(t))
	return digest, s.Store.Remembers(digest) || s.Tokens.Made(token.APIKey, string(t)) || s.Store.HasOldKeys() && token.Old(string(t))
}

// belongs reports whether a stored key is the presented one and of one of
// these kinds.
func belongs(key *store.APIKey, presented *api.APIKey, kinds ...store.KeyKind) bool {
	return slices.Contains(kinds, key.Kind) && key.UserID == presented.UserID && key.Role == presented.Role
}

// covers reports whether a key's scopes allow an action on an item.
func covers(key *store.APIKey, scope string) bool {
	return key.Scopes == nil || slices.Contains(key.Scopes, scope)
}

// verifyKey is what apikey-verify and apikey-verify-nosession have in common.
func (s *Server) verifyKey(ctx context.Context, presented *api.APIKey, kind store.KeyKind, c keyCaller) (*store.APIKey, error) {
	event.From(ctx).SetUser(c.userID)
	event.From(ctx).SetTarget(presented.UserID)
	if !s.policyAllows(c, actionView, presented.UserID) {
		return nil, api.Fail(api.CodeNotAllowedOnKey)
	}
	// Before the users are looked up: what cannot be a key costs no query.
	digest, ok := s.mayBeKey(presented.Token)
	if !ok {
		return nil, api.Fail(api.CodeKeyNotValid)
	}
	rows, err := s.Store.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	err = bothActive(ctx, rows, c, presented.UserID, api.CodeNotAllowedOnKey)
	if err != nil {
		return nil, err
	}
	return s.keyFrom(ctx, rows, digest, presented, kind)
}

func (s *Server) verified(key *store.APIKey, scope api.Strict[api.Null[string]]) (api.APIKeyVerifyResult, error) {
	if scope.Value.Set && !covers(key, scope.Value.Value) {
		return api.APIKeyVerifyResult{}, api.Fail(api.CodeInsufficientScope)
	}
	s.Store.NoteUse(key)
	prepared, _ := key.Memo().(*api.Prepared)
	if prepared == nil {
		var err error
		prepared, err = prepareKey(key)
		if err != nil {
			return api.APIKeyVerifyResult{}, err
		}
		key.SetMemo(prepared)
	}
	return api.APIKeyVerifyResult{Encoded: prepared.With("")}, nil
}

// prepareKey returns the reply that a key is valid, which is the same until the key
// changes.
func prepareKey(key *store.APIKey) (*api.Prepared, error) {
	result := api.APIKeyVerifyResult{KeyID: key.ID, Name: key.Name, Scopes: key.Scopes, Expires: api.Time(key.Expires)}
	if key.Kind == store.KeyOfSession {
		result.Notes = note("The %s is valid until %s.", aKey, key.Expires)
		return api.APIKeyVerify.Prepare(&result, "")
	}
	result.Notes = note("The %s is valid until %s.", aSessionlessKey, key.Expires)
	return api.APIKeyVerifyNoSession.Prepare(&result, "")
}

// note returns the one message of a reply that tells when something ends.
func note(format, what string, ends time.Time) api.Notes {
	return api.Notes{Messages: []string{fmt.Sprintf(format, what, ends.UTC().Format("2006-01-02 15:04:05 UTC"))}}
}

// What keys are called in messages.
const (
	aKey            = "API key"
	aSessionKey     = "API key of this session"
	aSessionlessKey = "session-less API key"
)

// APIKeyVerify answers [api.APIKeyVerify].
func (s *Server) APIKeyVerify(ctx context.Context, p *api.APIKeyVerifyParams) (api.APIKeyVerifyResult, error) {
	c := keyCaller{p.UserID.Value, p.UserRole.Value}
	switch {
	case !p.UserID.Set && !p.UserRole.Set:
		if _, ok := s.mayBeKey(p.APIKeyDict.Token); !ok {
			return api.APIKeyVerifyResult{}, api.Fail(api.CodeKeyNotValid)
		}
		owner, err := s.userByID(ctx, p.APIKeyDict.UserID)
		if err != nil {
			return api.APIKeyVerifyResult{}, err
		}
		if owner == nil {
			return api.APIKeyVerifyResult{}, api.Fail(api.CodeNotAllowedOnKey)
		}
		c = keyCaller{owner.ID, owner.Role}
	case !p.UserID.Set:
		return api.APIKeyVerifyResult{}, api.APIKeyVerify.Spec().Invalid("user_id", api.ProblemMissing)
	case !p.UserRole.Set:
		return api.APIKeyVerifyResult{}, api.APIKeyVerify.Spec().Invalid("user_role", api.ProblemMissing)
	}
	key, err := s.verifyKey(ctx, &p.APIKeyDict, store.KeyOfSession, c)
	if err != nil {
		return api.APIKeyVerifyResult{}, err
	}
	return s.verified(key, p.Scope)
}

// APIKeyVerifyNoSession answers [api.APIKeyVerifyNoSession].
func (s *Server) APIKeyVerifyNoSession(ctx context.Context, p *api.APIKeyVerifyNoSessionParams) (api.APIKeyVerifyResult, error) {
	key, err := s.verifyKey(ctx, &p.APIKeyDict, store.KeySessionless, keyCaller{p.UserID, p.UserRole})
	if err != nil {
		return api.APIKeyVerifyResult{}, err
	}
	return s.verified(key, p.Scope)
}

// checkScopes returns the scopes of a new key, nil for no restriction.
func (s *Server) checkScopes(sent api.Strict[api.Null[api.Scopes]]) ([]string, error) {
	if !sent.Value.Set {
		return nil, nil
	}
	for _, scope := range sent.Value.Value {
		action, item, ok := strings.Cut(scope, ":")
		if !ok || !s.Policy().Knows(action, item) {
			return nil, api.FailFields(api.CodeInvalidScope, []string{scope})
		}
	}
	return sent.Value.Value, nil
}

func nameOf(sent api.Strict[api.Null[string]]) *string {
	if sent.Value.Value == "" {
		return nil
	}
	return &sent.Value.Value
}

// claims are the members of an API key object, in the order of the wire.
type claims struct {
	Issuer    *string        `json:"iss,omitzero"`
	Version   api.TextOrInt  `json:"ver"`
	UserID    int64          `json:"uid"`
	Role      string         `json:"rol"`
	UserAgent *string        `json:"usa,omitzero"`
	Client    *string        `json:"clt,omitzero"` // of the first generation of clients, for usa
	Audience  string         `json:"aud"`
	Subject   api.TextOrList `json:"sub"`
	IPAddress string         `json:"ipa"`
	Token     api.Secret     `json:"tkn"`
	Issued    api.Time       `json:"iat"`
	NotBefore api.Time       `json:"nbf"`
	Expires   api.Time       `json:"exp"`
}

// text returns the object as the Python server writes JSON.
func (c *claims) text() (*api.Secret, error) {
	text, err := json.Marshal(c, jsontext.SpaceAfterColon(true), jsontext.SpaceAfterComma(true))
	if err != nil {
		return nil, fmt.Errorf("encode API key: %w", err)
	}
	secret := api.Secret(text)
	return &secret, nil
}

// after returns a moment that many seconds after another, to the microsecond.
func after(t time.Time, seconds float64) time.Time {
	whole, fraction := math.Modf(seconds)
	return t.Add(time.Duration(whole) * time.Second).Add(time.Duration(math.RoundToEven(fraction*1e6)) * time.Microsecond)
}

// keyOf returns a new key with a new token.
func (s *Server) keyOf(kind store.KeyKind, c keyCaller, secret string, issued time.Time) *store.APIKey {
	prefix := token.Hint(secret)
	return &store.APIKey{
		Kind: kind, Digest: token.Sum(secret), ID: store.NewUUID(), Prefix: &prefix, UserID: c.userID, Role: c.role,
		Created: issued, Issued: issued,
	}
}

// APIKeyNew answers [api.APIKeyNew].
func (s *Server) APIKeyNew(ctx context.Context, p *api.APIKeyNewParams) (api.APIKeyNewResult, error) {
	event.From(ctx).SetUser(p.UserID)
	c := keyCaller{p.UserID, p.UserRole}
	err := s.mayUseKeys(ctx, c, actionCreate, p.UserID, api.CodeNotAllowedToIssue)
	if err != nil {
		return api.APIKeyNewResult{}, err
	}
	scopes, err := s.checkScopes(p.Scopes)
	if err != nil {
		return api.APIKeyNewResult{}, err
	}
	session, user, err := s.use(ctx, p.SessionToken)
	if err != nil {
		return api.APIKeyNewResult{}, err
	}
	if user.ID != p.UserID || user.Role != p.UserRole || !sameAddress(session.IPAddress, p.IPAddress) ||
		session.UserAgent != truncate(p.UserAgent, maxUserAgent) {
		return api.APIKeyNewResult{}, api.Fail(api.CodeSessionMismatch)
	}
	secret := s.Tokens.New(token.APIKey)
	key := s.keyOf(store.KeyOfSession, c, secret, s.now())
	key.Name, key.Scopes, key.Session = nameOf(p.Name), scopes, session.Digest
	key.Expires = key.Issued.AddDate(0, 0, int(p.ExpiresDays))
	key.NotBefore = after(key.Issued, float64(p.NotValidBefore))
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		return s.insertKey(ctx, tx, actorOf(ctx, c.userID, session), c, key)
	})
	if err != nil { // ErrReference: the session ended meanwhile
		return api.APIKeyNewResult{}, failWhen(err, store.ErrReference, api.CodeSessionNotFound)
	}
	issued := claims{
		Version: p.APIVersion, UserID: p.UserID, Role: p.UserRole, UserAgent: &p.UserAgent, Client: &p.UserAgent,
		Audience: p.Audience, Subject: p.Subject, IPAddress: p.IPAddress, Token: api.Secret(secret),
		Issued: api.Time(key.Issued), NotBefore: api.Time(key.NotBefore), Expires: api.Time(key.Expires),
	}
	if p.Issuer.Set {
		issued.Issuer = &p.Issuer.Value
	}
	text, err := issued.text()
	if err != nil {
		return api.APIKeyNewResult{}, err
	}
	return api.APIKeyNewResult{
		APIKey: text, Expires: api.Time(key.Expires), KeyID: &key.ID,
		Notes: note("The %s was made. It expires at %s.", aSessionKey, key.Expires),
	}, nil
}

// insertKey stores a new key of a caller who may still make one.
func (s *Server) insertKey(ctx context.Context, tx *store.Tx, by actor, c keyCaller, key *store.APIKey) error {
	err := stillInRole(ctx, tx, c, api.CodeNotAllowedToIssue)
	if err != nil {
		return err
	}
	err = tx.InsertAPIKey(ctx, key)
	if err != nil {
		return err
	}
	more := details{"key_id": key.ID, "kind": key.Kind, "name": key.Name, "scopes": nil}
	if key.Scopes != nil {
		more["scopes"] = key.Scopes
	}
	return s.log(ctx, tx, by, api.EventKeyCreated, key.UserID, more)
}

// deleteKey revokes a key.
func (s *Server) deleteKey(ctx context.Context, tx *store.Tx, by actor, kind api.EventKind, key *store.APIKey) error {
	_, err := tx.DeleteAPIKey(ctx, key)
	if err != nil {
		return err
	}
	return s.log(ctx, tx, by, kind, key.UserID, details{"key_id": key.ID})
}

// now returns the time to the microsecond, as databases keep it.
func (s *Server) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// sameAddress compares a session's address, which is in canonical form, with
// one as it was sent.
func sameAddress(stored, sent string) bool {
	if stored == sent {
		return true
	}
	addr, err := netip.ParseAddr(sent)
	return err == nil && stored == addr.String()
}

// APIKeyNewNoSession answers [api.APIKeyNewNoSession].
func (s *Server) APIKeyNewNoSession(ctx context.Context, p *api.APIKeyNewNoSessionParams) (api.APIKeyNewNoSessionResult, error) {
	event.From(ctx).SetUser(p.UserID)
	c := keyCaller{p.UserID, p.UserRole}
	err := s.mayUseKeys(ctx, c, actionCreate, p.UserID, api.CodeNotAllowedToIssue)
	if err != nil {
		return api.APIKeyNewNoSessionResult{}, err
	}
	scopes, err := s.checkScopes(p.Scopes)
	if err != nil {
		return api.APIKeyNewNoSessionResult{}, err
	}
	tokens := keyTokens{s.Tokens.New(token.APIKey), s.Tokens.New(token.Refresh)}
	key := s.sessionlessKey(c, tokens, lifetimes{p.ExpiresSeconds, p.NotValidBefore, p.RefreshExpires, p.RefreshNotBefore})
	key.Name, key.Scopes = nameOf(p.Name), scopes
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		return s.insertKey(ctx, tx, actorOf(ctx, c.userID, nil), c, key)
	})
	if err != nil {
		return api.APIKeyNewNoSessionResult{}, failWhen(err, store.ErrReference, api.CodeNotAllowedToIssue)
	}
	return issuedKey(key, tokens, &api.RefreshableKey{
		Issuer: p.Issuer, Version: p.APIVersion, Audience: p.Audience, Subject: p.Subject,
	}, p.IPAddress)
}

// keyTokens are the two secrets of a session-less key.
type keyTokens struct{ key, refresh string }

// lifetimes are those of a session-less key and its refresh token in seconds.
type lifetimes struct {
	expires        int64
	notBefore      api.Number
	refreshExpires int64
	refreshNBF     api.Number
}

func (s *Server) sessionlessKey(c keyCaller, tokens keyTokens, l lifetimes) *store.APIKey {
	key := s.keyOf(store.KeySessionless, c, tokens.key, s.now())
	key.Expires = after(key.Issued, float64(l.expires))
	key.NotBefore = after(key.Issued, float64(l.notBefore))
	key.Refresh = store.RefreshToken{
		Stored: token.Sum(tokens.refresh).String(), Issued: key.Issued,
		Expires:   after(key.Issued, float64(l.refreshExpires)),
		NotBefore: after(key.Issued, float64(l.refreshNBF)),
	}
	return key
}

// issuedKey returns the reply that shows a session-less key.
func issuedKey(key *store.APIKey, tokens keyTokens, from *api.RefreshableKey, ipAddress string) (api.APIKeyNewNoSessionResult, error) {
	issued := claims{
		Issuer: &from.Issuer, Version: from.Version, UserID: key.UserID, Role: key.Role,
		Audience: from.Audience, Subject: from.Subject, IPAddress: ipAddress, Token: api.Secret(tokens.key),
		Issued: api.Time(key.Issued), NotBefore: api.Time(key.NotBefore), Expires: api.Time(key.Expires),
	}
	text, err := issued.text()
	if err != nil {
		return api.APIKeyNewNoSessionResult{}, err
	}
	refresh := api.Secret(tokens.refresh)
	return api.APIKeyNewNoSessionResult{
		APIKey: text, Expires: api.Time(key.Expires), RefreshToken: &refresh,
		RefreshTokenExpires: api.Time(key.Refresh.Expires), KeyID: &key.ID,
		Notes: note("The %s was made. It expires at %s.", aSessionlessKey, key.Expires),
	}, nil
}

// APIKeyRevoke answers [api.APIKeyRevoke].
func (s *Server) APIKeyRevoke(ctx context.Context, p *api.APIKeyRevokeParams) (api.APIKeyRevokeResult, error) {
	c := keyCaller{p.UserID, p.UserRole}
	if p.APIKeyDict.Set {
		return api.APIKeyRevokeResult{}, s.revokeKey(ctx, &p.APIKeyDict.Value, store.KeyOfSession, c)
	}
	if !p.KeyID.Set {
		return api.APIKeyRevokeResult{}, api.APIKeyRevoke.Spec().Invalid("apikey_dict", api.ProblemMissing)
	}
	event.From(ctx).SetUser(c.userID)
	var key *store.APIKey
	err := s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		key, err = tx.APIKeyByID(ctx, p.KeyID.Value)
		return err
	})
	if err != nil {
		return api.APIKeyRevokeResult{}, failWhen(err, store.ErrNotFound, api.CodeKeyNotFound)
	}
	event.From(ctx).SetTarget(key.UserID)
	err = s.mayUseKeys(ctx, c, actionDelete, key.UserID, api.CodeNotAllowedOnKey)
	if err != nil {
		return api.APIKeyRevokeResult{}, err
	}
	return api.APIKeyRevokeResult{}, s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		// By the id, because the key may have been refreshed meanwhile.
		key, err := tx.APIKeyByID(ctx, p.KeyID.Value)
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodeKeyNotFound)
		}
		return s.deleteKey(ctx, tx, actorOf(ctx, c.userID, nil), api.EventKeyRevoked, key)
	})
}

// APIKeyRevokeNoSession answers [api.APIKeyRevokeNoSession].
func (s *Server) APIKeyRevokeNoSession(ctx context.Context, p *api.APIKeyRevokeNoSessionParams) (api.APIKeyRevokeResult, error) {
	return api.APIKeyRevokeResult{}, s.revokeKey(ctx, &p.APIKeyDict, store.KeySessionless, keyCaller{p.UserID, p.UserRole})
}

func (s *Server) revokeKey(ctx context.Context, presented *api.APIKey, kind store.KeyKind, c keyCaller) error {
	event.From(ctx).SetUser(c.userID)
	event.From(ctx).SetTarget(presented.UserID)
	err := s.mayUseKeys(ctx, c, actionDelete, presented.UserID, api.CodeNotAllowedOnKey)
	if err != nil {
		return err
	}
	if _, ok := s.mayBeKey(presented.Token); !ok {
		return api.Fail(api.CodeKeyNotFound)
	}
	return s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		key, err := tx.APIKey(ctx, token.Sum(string(presented.Token)))
		if errors.Is(err, store.ErrNotFound) || err == nil && !belongs(key, presented, kind) {
			return api.Fail(api.CodeKeyNotFound)
		}
		if err != nil {
			return err
		}
		return s.deleteKey(ctx, tx, actorOf(ctx, c.userID, nil), api.EventKeyRevoked, key)
	})
}

// APIKeyRevokeAllNoSession answers [api.APIKeyRevokeAllNoSession].
func (s *Server) APIKeyRevokeAllNoSession(ctx context.Context, p *api.APIKeyRevokeNoSessionParams) (api.APIKeyRevokeAllNoSessionResult, error) {
	c := keyCaller{p.UserID, p.UserRole}
	event.From(ctx).SetUser(c.userID)
	event.From(ctx).SetTarget(p.APIKeyDict.UserID)
	err := s.mayUseKeys(ctx, c, actionDelete, p.APIKeyDict.UserID, api.CodeNotAllowedToDeleteKeys)
	if err != nil {
		return api.APIKeyRevokeAllNoSessionResult{}, err
	}
	key, err := s.verifyKey(ctx, &p.APIKeyDict, store.KeySessionless, c)
	var failure *api.Failure
	if errors.As(err, &failure) {
		err = api.Fail(api.CodePresentedKeyNotValid)
	}
	if err != nil {
		return api.APIKeyRevokeAllNoSessionResult{}, err
	}
	var revoked int64
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.APIKey(ctx, key.Digest)
		if err != nil {
			return failWhen(err, store.ErrNotFound, api.CodePresentedKeyNotValid)
		}
		revoked, err = tx.DeleteSessionlessKeysOf(ctx, key.UserID)
		if err != nil {
			return err
		}
		return s.log(ctx, tx, actorOf(ctx, c.userID, nil), api.EventKeysRevoked, key.UserID, details{"count": revoked})
	})
	if err != nil {
		return api.APIKeyRevokeAllNoSessionResult{}, err
	}
	return api.APIKeyRevokeAllNoSessionResult{RevokedKeys: revoked, DeletedKeys: revoked}, nil
}

// APIKeyList answers [api.APIKeyList].
func (s *Server) APIKeyList(ctx context.Context, p *api.APIKeyListParams) (api.APIKeyListResult, error) {
	owner := p.UserID
	if p.TargetUserID.Set {
		owner = p.TargetUserID.Value
	}
	event.From(ctx).SetUser(p.UserID)
	event.From(ctx).SetTarget(owner)
	err := s.mayUseKeys(ctx, keyCaller{p.UserID, p.UserRole}, actionView, owner, api.CodeNotAllowedOnKey)
	if err != nil {
		return api.APIKeyListResult{}, err
	}
	page := pageOf(p.Limit, p.After)
	if p.Limit.Set {
		page.Limit++ // to know whether there are more
	}
	keys, err := s.Store.APIKeysOf(ctx, owner, page)
	if err != nil {
		return api.APIKeyListResult{}, err
	}
	var result api.APIKeyListResult
	if limit := int(p.Limit.Value); p.Limit.Set && len(keys) > limit {
		keys = keys[:limit]
		last := keys[limit-1]
		result.Next = &api.Position{Created: last.Created, ID: last.ID}
	}
	result.APIKeys = make([]api.APIKeyInfo, len(keys))
	for i, key := range keys {
		result.APIKeys[i] = api.APIKeyInfo{
			KeyID: key.ID, Kind: string(key.Kind), Name: key.Name, Prefix: key.Prefix, Scopes: key.Scopes, UserRole: key.Role,
			Created: api.Time(key.Created), Issued: api.Time(key.Issued), NotValidBefore: api.Time(key.NotBefore),
			Expires: api.Time(key.Expires), RefreshExpires: api.Time(key.Refresh.Expires),
			LastUsed: api.Time(key.LastUsed.Truncate(time.Hour)),
		}
	}
	return result, nil
}

// APIKeyRefreshNoSession answers [api.APIKeyRefreshNoSession].
func (s *Server) APIKeyRefreshNoSession(ctx context.Context, p *api.APIKeyRefreshNoSessionParams) (api.APIKeyNewNoSessionResult, error) {
	c := keyCaller{p.UserID, p.UserRole}
	event.From(ctx).SetUser(c.userID)
	event.From(ctx).SetTarget(p.APIKeyDict.UserID)
	if _, ok := s.mayBeKey(p.APIKeyDict.Token); !ok {
		return api.APIKeyNewNoSessionResult{}, api.Fail(api.CodeRefreshNotAvailable)
	}
	hashed, err := s.checkHashedRefresh(ctx, p)
	if err != nil {
		return api.APIKeyNewNoSessionResult{}, err
	}
	var result api.APIKeyNewNoSessionResult
	var failure error
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		result, err = s.refresh(ctx, tx, p, c, hashed)
		// Revoking a family is a failure that changes something.
		if errors.Is(err, api.Fail(api.CodeRefreshReused)) {
			failure, err = err, nil
		}
		return err
	})
	if err != nil {
		return api.APIKeyNewNoSessionResult{}, err
	}
	return result, failure
}

// checkHashedRefresh compares the refresh token of a key of the Python server,
// which stored it like a password. It returns the stored hash that matched, or
// "" when the key has none.
func (s *Server) checkHashedRefresh(ctx context.Context, p *api.APIKeyRefreshNoSessionParams) (string, error) {
	key, err := s.Store.APIKey(ctx, token.Sum(string(p.APIKeyDict.Token)))
	if errors.Is(err, store.ErrNotFound) || err == nil && !strings.HasPrefix(key.Refresh.Stored, "$") {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !s.refreshable(key, &p.APIKeyDict.APIKey) {
		return "", api.Fail(api.CodeRefreshNotAvailable)
	}
	password, err := s.Passwords.Verify(ctx, key.Refresh.Stored, string(p.RefreshToken), nil)
	if errors.Is(err, passwd.ErrMalformed) {
		event.From(ctx).Fault(err)
		err = nil
	}
	if err == nil && !password.Match {
		err = api.Fail(api.CodeRefreshMismatch)
	}
	return key.Refresh.Stored, err
}

// refreshable reports whether a key is the presented one and has a refresh
// token that is within its lifetime. The key itself may have expired.
func (s *Server) refreshable(key *store.APIKey, presented *api.APIKey) bool {
	now := s.Now()
	return belongs(key, presented, store.KeySessionless) && key.Refresh.Expires.After(now) &&
		begun(key.Refresh.Issued, key.Refresh.NotBefore, now)
}

// refresh replaces a key. hashed is the stored hash that the refresh token was
// found to match before, if the key has one.
func (s *Server) refresh(ctx context.Context, tx *store.Tx, p *api.APIKeyRefreshNoSessionParams, c keyCaller, hashed string) (api.APIKeyNewNoSessionResult, error) {
	var none api.APIKeyNewNoSessionResult
	digest := token.Sum(string(p.RefreshToken))
	old, err := tx.APIKey(ctx, token.Sum(string(p.APIKeyDict.Token)))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return s.refreshAgain(ctx, tx, p, c, digest, api.CodeRefreshNotAvailable)
	case err != nil:
		return none, err
	case !s.refreshable(old, &p.APIKeyDict.APIKey):
		return none, api.Fail(api.CodeRefreshNotAvailable)
	case old.Refresh.Stored != hashed && subtle.ConstantTimeCompare([]byte(old.Refresh.Stored), []byte(digest.String())) == 0:
		return s.refreshAgain(ctx, tx, p, c, digest, api.CodeRefreshMismatch)
	}
	err = s.mayRefresh(ctx, tx, c, old.UserID)
	if err != nil {
		return none, err
	}
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // crypto/rand never fails since Go 1.24
	tokens := s.successors(p.RefreshToken, salt)
	next := s.sessionlessKey(c, tokens, lifetimes{p.ExpiresSeconds, p.NotValidBefore, p.RefreshExpires, p.RefreshNotBefore})
	next.ID, next.Name, next.Scopes, next.Created = old.ID, old.Name, old.Scopes, old.Created
	err = tx.ReplaceAPIKey(ctx, old, next, digest, salt)
	if err != nil {
		return none, failWhen(err, store.ErrReference, api.CodeNewKeyNotIssuable)
	}
	err = s.log(ctx, tx, actorOf(ctx, c.userID, nil), api.EventKeyRefreshed, next.UserID, details{"key_id": next.ID})
	if err != nil {
		return none, err
	}
	return issuedKey(next, tokens, &p.APIKeyDict, p.IPAddress)
}

// successors returns the tokens that follow from a refresh token. They are
// derived and not drawn, so that a lost answer can be given again although the
// tokens are not stored.
func (s *Server) successors(refresh api.Secret, salt []byte) keyTokens {
	return keyTokens{
		key:     s.Tokens.Derive(token.APIKey, string(refresh), salt),
		refresh: s.Tokens.Derive(token.Refresh, string(refresh), salt),
	}
}

// mayRefresh fails unless the caller owns the key and may both revoke the old
// one and make the new one.
func (s *Server) mayRefresh(ctx context.Context, tx *store.Tx, c keyCaller, owner int64) error {
	if c.userID != owner || !s.policyAllows(c, actionDelete, owner) {
		return api.Fail(api.CodeOldKeyNotRevocable)
	}
	if !s.policyAllows(c, actionCreate, owner) {
		return api.Fail(api.CodeNewKeyNotIssuable)
	}
	return stillInRole(ctx, tx, c, api.CodeOldKeyNotRevocable)
}

// refreshAgain answers a refresh with a token that is not that of the presented
// key, which fails with the code otherwise unless the token was used before.
// Within the grace period the answer then is the successor that the first such
// refresh made; after it, the whole family is revoked.
func (s *Server) refreshAgain(ctx context.Context, tx *store.Tx, p *api.APIKeyRefreshNoSessionParams, c keyCaller, digest token.Digest, otherwise api.Code) (api.APIKeyNewNoSessionResult, error) {
	var none api.APIKeyNewNoSessionResult
	used, err := tx.UsedRefreshToken(ctx, digest)
	if err != nil {
		return none, failWhen(err, store.ErrNotFound, otherwise)
	}
	// It may have been used after this transaction began, or by a node whose clock is
	// ahead.
	since := tx.Now().Sub(used.Used).Abs()
	if since > s.RefreshGrace {
		return none, s.revokeFamily(ctx, tx, used)
	}
	if used.Key != token.Sum(string(p.APIKeyDict.Token)) || used.UserID != p.APIKeyDict.UserID {
		return none, api.Fail(api.CodeRefreshMismatch)
	}
	successor, err := tx.APIKey(ctx, used.Successor)
	if errors.Is(err, store.ErrNotFound) { // it has been refreshed itself
		return none, s.revokeFamily(ctx, tx, used)
	}
	if err != nil {
		return none, err
	}
	err = s.mayRefresh(ctx, tx, c, used.UserID)
	if err != nil {
		return none, err
	}
	return issuedKey(successor, s.successors(p.RefreshToken, used.Salt), &p.APIKeyDict, p.IPAddress)
}

// revokeFamily revokes what came of a refresh token that was presented again.
func (s *Server) revokeFamily(ctx context.Context, tx *store.Tx, used *store.UsedRefreshToken) error {
	key, err := tx.APIKeyByID(ctx, used.KeyID)
	if err != nil {
		return failWhen(err, store.ErrNotFound, api.CodeRefreshReused)
	}
	// Whoever sent it has not proved to be the owner.
	err = s.deleteKey(ctx, tx, actorOf(ctx, 0, nil), api.EventKeyReuseDetected, key)
	if err != nil {
		return err
	}
	return api.Fail(api.CodeRefreshReused)
}

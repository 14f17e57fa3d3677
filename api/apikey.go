package api

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/jsonobject"
)

// APIKeyNew issues an API key that is tied to a session: it is valid only as
// long as the session is.
//
// The caller must hold the session, in the same role, from the same address
// and with the same user agent as when the session was made. The key is shown
// once and stored as a digest. The frontend is expected to seal it, hand it to
// its user, and send the opened object back as apikey_dict.
var APIKeyNew = define[APIKeyNewParams, APIKeyNewResult](Spec{
	Name:  "apikey-new",
	Limit: LimitFixed30,
	Fails: []Code{CodeNotAllowedToIssue, CodeInvalidScope, CodeSessionNotFound, CodeSessionMismatch},
})

// APIKeyNewParams are the parameters of [APIKeyNew].
type APIKeyNewParams struct {
	// Issuer is copied to iss; clients of the first generation have none.
	Issuer Strict[string] `json:"issuer,omitzero"`
	// Audience is copied to aud.
	Audience string `json:"audience"`
	// Subject is copied to sub.
	Subject TextOrList `json:"subject"`
	// APIVersion is copied to ver.
	APIVersion TextOrInt `json:"apiversion"`
	// ExpiresDays is the key's lifetime in days, at most 100 years.
	ExpiresDays int64 `json:"expires_days" min:"-36500" max:"36500"`
	// NotValidBefore is in how many seconds the key becomes valid.
	NotValidBefore Number `json:"not_valid_before" min:"-3153600000" max:"3153600000"`
	// UserID is the caller, who will own the key.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role" max:"100"`
	// IPAddress is the caller's address; it must be the session's.
	IPAddress string `json:"ip_address"`
	// UserAgent is the caller's browser or program; it must be the session's.
	UserAgent string `json:"user_agent"`
	// SessionToken is the session that the key is tied to.
	SessionToken SessionToken `json:"session_token"`
	// Name is what the user calls the key; null for none.
	Name Strict[Null[string]] `json:"name,omitzero" max:"100"`
	// Scopes narrows what the key may be used for; null for everything that
	// the user may do.
	Scopes Strict[Null[Scopes]] `json:"scopes,omitzero"`
}

// APIKeyNewResult is the result of [APIKeyNew].
type APIKeyNewResult struct {
	// APIKey is the key: the text of a JSON object with the members iss, ver,
	// uid, rol, usa, clt (the same as usa), aud, sub, ipa, tkn (the secret),
	// iat, nbf and exp.
	APIKey *Secret `json:"apikey" failure:"present"`
	// Expires is the end of the key's lifetime.
	Expires Time `json:"expires" failure:"present"`
	// KeyID names the key in lists; it is no secret.
	KeyID *string `json:"key_id" failure:"present"`
	Notes `json:"-"`
}

// Scopes are the actions on items that an API key may be used for, each as
// "action:item" in the policy's names.
type Scopes []string

// MarshalJSON returns the list, or null when there are no scopes.
func (s Scopes) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("null"), nil
	}
	return json.Marshal([]string(s))
}

func (*Scopes) words() []string { return []string{"list"} }

func (s *Scopes) decode(raw jsontext.Value, b bounds) string {
	texts, problem := decodeTexts(raw, bounds{max: maxText})
	switch {
	case problem != "":
		return problem
	case len(texts) < int(b.min), len(texts) > int(b.max):
		return ProblemOutOfRange
	case len(texts) == 0: // neither "everything" nor "nothing" is what all callers mean by it
		return ProblemOutOfRange
	}
	*s = texts
	return ""
}

// An APIKey is what of an API key object counts when it is presented. Its
// other members are ignored.
type APIKey struct {
	// Token is the member tkn, the secret.
	Token Secret
	// UserID is the member uid, the owner.
	UserID int64
	// Role is the member rol, the owner's role when the key was issued.
	Role string
}

// ParseAPIKey reads an API key as a request for a new one returned it.
func ParseAPIKey(text Secret) (APIKey, error) {
	var key APIKey
	problem := key.decode(jsontext.Value(text), bounds{max: maxObject})
	if problem != "" {
		return APIKey{}, fmt.Errorf("read API key: %s", problem)
	}
	return key, nil
}

// MarshalJSON returns the object with the members that count.
func (k APIKey) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		UserID int64  `json:"uid"`
		Role   string `json:"rol"`
		Token  Secret `json:"tkn"`
	}{k.UserID, k.Role, k.Token})
}

func (*APIKey) words() []string { return []string{"dict"} }

func (k *APIKey) decode(raw jsontext.Value, b bounds) string {
	var space [16]Member
	members, problem := soundMembers(space[:0], raw, b)
	if problem != "" {
		return problem
	}
	return k.from(members)
}

// soundMembers appends the members of an object that is within the bounds and sound, as
// decodeRaw has it, whose values may be anything.
func soundMembers(dst []Member, raw jsontext.Value, b bounds) (members []Member, problem string) {
	members, err := jsonobject.AppendMembers(dst, raw)
	if err == nil && int64(len(raw)) <= b.max && jsonobject.Flat(raw, members) {
		return members, "" // as nearly all are, and are found to be in a fraction of the time
	}
	var text []byte
	problem = decodeRaw(&text, raw, b, raw.Kind() == '{')
	if problem == "" && err != nil {
		problem = ProblemType // unreachable: decodeRaw found the object to be sound
	}
	return members, problem
}

func (k *APIKey) from(members []Member) string {
	return firstProblem(
		memberProblem(members, "uid", &k.UserID, anyNumber()),
		memberProblem(members, "rol", &k.Role, bounds{max: maxText}),
		memberProblem(members, "tkn", &k.Token, bounds{max: maxText}),
	)
}

// memberProblem reads a member of a sound object and returns its problem with its
// name, or "".
func memberProblem(members []Member, name string, ptr any, b bounds) string {
	for i := range members {
		if string(members[i].Name) != name {
			continue
		}
		problem := decodeValue(ptr, members[i].Value, b)
		if problem != "" {
			problem += " " + name
		}
		return problem
	}
	return ProblemMissing + " " + name
}

func firstProblem(problems ...string) string {
	for _, problem := range problems {
		if problem != "" {
			return problem
		}
	}
	return ""
}

// A RefreshableKey is an API key with the claims that its successor takes
// over, since the server does not keep them.
type RefreshableKey struct {
	APIKey
	// Issuer is the member iss.
	Issuer string
	// Version is the member ver.
	Version TextOrInt
	// Audience is the member aud.
	Audience string
	// Subject is the member sub.
	Subject TextOrList
}

// ParseRefreshableKey reads an API key as apikey-new-nosession returned it.
func ParseRefreshableKey(text Secret) (RefreshableKey, error) {
	var key RefreshableKey
	problem := key.decode(jsontext.Value(text), bounds{max: maxObject})
	if problem != "" {
		return RefreshableKey{}, fmt.Errorf("read API key: %s", problem)
	}
	return key, nil
}

// MarshalJSON returns the object with the members that count.
func (k RefreshableKey) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Issuer   string     `json:"iss"`
		Version  TextOrInt  `json:"ver"`
		UserID   int64      `json:"uid"`
		Role     string     `json:"rol"`
		Audience string     `json:"aud"`
		Subject  TextOrList `json:"sub"`
		Token    Secret     `json:"tkn"`
	}{k.Issuer, k.Version, k.UserID, k.Role, k.Audience, k.Subject, k.Token})
}

func (*RefreshableKey) words() []string { return []string{"dict"} }

func (k *RefreshableKey) decode(raw jsontext.Value, b bounds) string {
	var space [16]Member
	members, problem := soundMembers(space[:0], raw, b)
	if problem != "" {
		return problem
	}
	text := bounds{max: maxText}
	return firstProblem(k.from(members),
		memberProblem(members, "iss", &k.Issuer, text),
		memberProblem(members, "ver", &k.Version, text),
		memberProblem(members, "aud", &k.Audience, text),
		memberProblem(members, "sub", &k.Subject, text),
	)
}

// APIKeyVerify checks an API key that is tied to a session.
//
// The key must be known, belong to the user and the role that it names, lie
// within its lifetime, and its session must not have ended or expired. Which
// of these failed is not told. The claims in the object (exp, aud, ipa and the
// like) are not looked at, because the server does not keep them: the frontend
// seals the object and knows. user_id and user_role are the caller, who must
// be permitted to view the key; clients of the first generation send neither,
// and the owner counts as the caller.
var APIKeyVerify = define[APIKeyVerifyParams, APIKeyVerifyResult](Spec{
	Name:     "apikey-verify",
	Limit:    LimitAPIKey,
	ReadOnly: true,
	Fails:    []Code{CodeNotAllowedOnKey, CodeKeyNotValid, CodeInsufficientScope},
})

// APIKeyVerifyParams are the parameters of [APIKeyVerify].
type APIKeyVerifyParams struct {
	// APIKeyDict is the key; uid, rol and tkn count.
	APIKeyDict APIKey `json:"apikey_dict"`
	// UserID is the caller. It may be left out together with user_role.
	UserID Strict[int64] `json:"user_id,omitzero"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole Strict[string] `json:"user_role,omitzero" max:"100"`
	// Scope is an "action:item" that the key must be good for.
	Scope Strict[Null[string]] `json:"scope,omitzero"`
}

// APIKeyVerifyResult is the result of [APIKeyVerify] and
// [APIKeyVerifyNoSession].
type APIKeyVerifyResult struct {
	// KeyID names the key.
	KeyID string `json:"key_id"`
	// Name is what the user calls the key.
	Name *string `json:"name"`
	// Scopes is what the key may be used for; null for everything that its
	// user may do.
	Scopes Scopes `json:"scopes"`
	// Expires is the end of the key's lifetime.
	Expires Time `json:"expires"`
	Notes   `json:"-"`
	Encoded `json:"-"`
}

// APIKeyRevoke revokes an API key that is tied to a session, or any key by its
// key_id. Expired keys can be revoked too.
var APIKeyRevoke = define[APIKeyRevokeParams, APIKeyRevokeResult](Spec{
	Name:  "apikey-revoke",
	Limit: LimitAPIKey,
	Fails: []Code{CodeNotAllowedOnKey, CodeKeyNotFound},
	Done:  messageKeyRevoked,
})

// APIKeyRevokeParams are the parameters of [APIKeyRevoke].
type APIKeyRevokeParams struct {
	// APIKeyDict is the key; uid, rol and tkn count. It must be there unless
	// key_id is.
	APIKeyDict Strict[APIKey] `json:"apikey_dict,omitzero"`
	// KeyID is the key of either kind as apikey-list names it.
	KeyID Strict[string] `json:"key_id,omitzero" max:"100"`
	// UserID is the caller.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role" max:"100"`
}

// APIKeyRevokeResult is the empty result of [APIKeyRevoke] and
// [APIKeyRevokeNoSession].
type APIKeyRevokeResult struct{}

// APIKeyList returns the API keys of a user, of both kinds, the newest first.
// Secrets are not in it: they are not stored.
var APIKeyList = define[APIKeyListParams, APIKeyListResult](Spec{
	Name:     "apikey-list",
	Limit:    LimitAPIKey,
	ReadOnly: true,
	Addition: true,
	Fails:    []Code{CodeNotAllowedOnKey},
	Done:     "The keys were looked up.",
})

// APIKeyListParams are the parameters of [APIKeyList].
type APIKeyListParams struct {
	// UserID is the caller.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role" max:"100"`
	// TargetUserID is the owner of the keys; the caller when it is left out.
	TargetUserID Strict[int64] `json:"target_userid,omitzero"`
	// Limit is the most keys to return; without it, all are returned.
	Limit Strict[int64] `json:"limit,omitzero" min:"1" max:"1000"`
	// After leaves out the keys up to this one: next of the page before.
	After Strict[Position] `json:"after,omitzero"`
}

// APIKeyListResult is the result of [APIKeyList].
type APIKeyListResult struct {
	// APIKeys holds the keys that have not been revoked or deleted, expired
	// ones too until they are.
	APIKeys []APIKeyInfo `json:"apikeys" failure:"present"`
	// Next is what to send as after for the next page; it is left out when limit was,
	// or there are no more.
	Next *Position `json:"next,omitzero"`
}

// APIKeyInfo is an API key without its secret. kind is "session" or
// "nosession". prefix is how the token begins, null for a key of the Python
// server. A key that was refreshed keeps its key_id, name, scopes and created;
// issued is when its present token was made. last_used is rounded down to the
// hour, and null for a key that was never verified. refresh_expires is null
// for keys without a refresh token.
type APIKeyInfo struct {
	KeyID          string  `json:"key_id"`
	Kind           string  `json:"kind"`
	Name           *string `json:"name"`
	Prefix         *string `json:"prefix"`
	Scopes         Scopes  `json:"scopes"`
	UserRole       string  `json:"user_role"`
	Created        Time    `json:"created"`
	Issued         Time    `json:"issued"`
	NotValidBefore Time    `json:"not_valid_before"`
	Expires        Time    `json:"expires"`
	RefreshExpires Time    `json:"refresh_expires"`
	LastUsed       Time    `json:"last_used"`
}

// APIKeyNewNoSession issues an API key that is not tied to a session, with a
// refresh token that gets a successor for it.
//
// Who the user is, is the frontend's word.
var APIKeyNewNoSession = define[APIKeyNewNoSessionParams, APIKeyNewNoSessionResult](Spec{
	Name:  "apikey-new-nosession",
	Limit: LimitFixed30,
	Fails: []Code{CodeNotAllowedToIssue, CodeInvalidScope},
})

// APIKeyNewNoSessionParams are the parameters of [APIKeyNewNoSession].
type APIKeyNewNoSessionParams struct {
	// Issuer is copied to iss.
	Issuer string `json:"issuer"`
	// Audience is copied to aud.
	Audience string `json:"audience"`
	// Subject is copied to sub.
	Subject TextOrList `json:"subject"`
	// APIVersion is copied to ver.
	APIVersion TextOrInt `json:"apiversion"`
	// ExpiresSeconds is the key's lifetime in seconds, at most 100 years.
	ExpiresSeconds int64 `json:"expires_seconds" min:"-3153600000" max:"3153600000"`
	// NotValidBefore is in how many seconds the key becomes valid.
	NotValidBefore Number `json:"not_valid_before" min:"-3153600000" max:"3153600000"`
	// UserID is the caller, who will own the key.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role" max:"100"`
	// IPAddress is copied to ipa.
	IPAddress string `json:"ip_address"`
	// RefreshExpires is the refresh token's lifetime in seconds.
	RefreshExpires int64 `json:"refresh_expires" min:"-3153600000" max:"3153600000"`
	// RefreshNotBefore is in how many seconds the refresh token becomes valid.
	RefreshNotBefore Number `json:"refresh_nbf" min:"-3153600000" max:"3153600000"`
	// Name is what the user calls the key; null for none.
	Name Strict[Null[string]] `json:"name,omitzero" max:"100"`
	// Scopes narrows what the key may be used for; null for everything that
	// the user may do.
	Scopes Strict[Null[Scopes]] `json:"scopes,omitzero"`
}

// APIKeyNewNoSessionResult is the result of [APIKeyNewNoSession] and
// [APIKeyRefreshNoSession].
type APIKeyNewNoSessionResult struct {
	// APIKey is the key: the text of a JSON object with the members iss, ver,
	// uid, rol, aud, sub, ipa, tkn (the secret), iat, nbf and exp.
	APIKey *Secret `json:"apikey" failure:"present"`
	// Expires is the end of the key's lifetime.
	Expires Time `json:"expires" failure:"present"`
	// RefreshToken gets a successor for the key, once.
	RefreshToken *Secret `json:"refresh_token" failure:"present"`
	// RefreshTokenExpires is the end of the refresh token's lifetime.
	RefreshTokenExpires Time `json:"refresh_token_expires" failure:"present"`
	// KeyID names the key in lists; it is no secret.
	KeyID *string `json:"key_id" failure:"present"`
	Notes `json:"-"`
}

// APIKeyVerifyNoSession checks an API key that is not tied to a session. The
// key must be known, belong to the user and the role that it names, and lie
// within its lifetime; see apikey-verify for the rest.
var APIKeyVerifyNoSession = define[APIKeyVerifyNoSessionParams, APIKeyVerifyResult](Spec{
	Name:     "apikey-verify-nosession",
	Limit:    LimitAPIKey,
	ReadOnly: true,
	Fails:    []Code{CodeNotAllowedOnKey, CodeKeyNotValid, CodeInsufficientScope},
})

// APIKeyVerifyNoSessionParams are the parameters of [APIKeyVerifyNoSession].
type APIKeyVerifyNoSessionParams struct {
	// APIKeyDict is the key; uid, rol and tkn count.
	APIKeyDict APIKey `json:"apikey_dict"`
	// UserID is the caller.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role" max:"100"`
	// Scope is an "action:item" that the key must be good for.
	Scope Strict[Null[string]] `json:"scope,omitzero"`
}

// APIKeyRevokeNoSession revokes an API key that is not tied to a session,
// together with its refresh token. Expired keys can be revoked too.
var APIKeyRevokeNoSession = define[APIKeyRevokeNoSessionParams, APIKeyRevokeResult](Spec{
	Name:  "apikey-revoke-nosession",
	Limit: LimitAPIKey,
	Fails: []Code{CodeNotAllowedOnKey, CodeKeyNotFound},
	Done:  messageKeyRevoked,
})

// APIKeyRevokeNoSessionParams are the parameters of [APIKeyRevokeNoSession].
type APIKeyRevokeNoSessionParams struct {
	// APIKeyDict is the key; uid, rol and tkn count.
	APIKeyDict APIKey `json:"apikey_dict"`
	// UserID is the caller.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role" max:"100"`
}

// APIKeyRevokeAllNoSession revokes all session-less API keys of the owner of
// a valid one, in whatever role they were issued.
var APIKeyRevokeAllNoSession = define[APIKeyRevokeNoSessionParams, APIKeyRevokeAllNoSessionResult](Spec{
	Name:  "apikey-revokeall-nosession",
	Limit: LimitAPIKey,
	Fails: []Code{CodeNotAllowedToDeleteKeys, CodePresentedKeyNotValid},
	Done:  "All of these API keys were revoked.",
})

// APIKeyRevokeAllNoSessionResult is the result of [APIKeyRevokeAllNoSession].
type APIKeyRevokeAllNoSessionResult struct {
	// RevokedKeys is how many keys were revoked, the presented one included.
	RevokedKeys int64 `json:"revoked_keys"`
	// DeletedKeys is the same, under the name that the Python server's manual
	// gave it.
	DeletedKeys int64 `json:"deleted_keys"`
}

// APIKeyRefreshNoSession replaces a session-less API key, which may have
// expired, and its refresh token by new ones, in one transaction.
//
// The caller must own the key. The successor takes over the claims iss, ver,
// aud and sub of the presented object, and the key_id, name and scopes of the
// key. A refresh token works once. When it is presented again within the grace
// period (option refreshgrace, 30 seconds), because an answer was lost or two
// programs refreshed at once, the answer is the same successor, if that has not
// been refreshed itself. Presented later, it may have been stolen: the whole
// family, which is the present successor too, is revoked.
var APIKeyRefreshNoSession = define[APIKeyRefreshNoSessionParams, APIKeyNewNoSessionResult](Spec{
	Name:   "apikey-refresh-nosession",
	Limit:  LimitFixed30,
	Hashes: 1, // the Python server stored refresh tokens as password hashes
	Fails: []Code{
		CodeRefreshNotAvailable, CodeRefreshMismatch, CodeRefreshReused, CodeOldKeyNotRevocable, CodeNewKeyNotIssuable, CodeBusy,
	},
})

// APIKeyRefreshNoSessionParams are the parameters of [APIKeyRefreshNoSession].
type APIKeyRefreshNoSessionParams struct {
	// APIKeyDict is the key; uid, rol, tkn, iss, ver, aud and sub count.
	APIKeyDict RefreshableKey `json:"apikey_dict"`
	// UserID is the caller, who must own the key.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database, and
	// becomes the new key's.
	UserRole string `json:"user_role" max:"100"`
	// RefreshToken came with the key.
	RefreshToken Secret `json:"refresh_token"`
	// IPAddress is copied to ipa.
	IPAddress string `json:"ip_address"`
	// ExpiresSeconds is the new key's lifetime in seconds, at most 100 years.
	ExpiresSeconds int64 `json:"expires_seconds" min:"-3153600000" max:"3153600000"`
	// NotValidBefore is in how many seconds the new key becomes valid.
	NotValidBefore Number `json:"not_valid_before" min:"-3153600000" max:"3153600000"`
	// RefreshExpires is the new refresh token's lifetime in seconds.
	RefreshExpires int64 `json:"refresh_expires" min:"-3153600000" max:"3153600000"`
	// RefreshNotBefore is in how many seconds the new refresh token becomes
	// valid.
	RefreshNotBefore Number `json:"refresh_nbf" min:"-3153600000" max:"3153600000"`
}

package api

// SessionNew makes a session for a user, or for the anonymous user (id 2)
// when user_id is null or 0.
//
// A frontend asks for an anonymous session when somebody arrives, logs in
// under it with user-login, and then asks for a session of the user that
// user-login returned. It is not checked whether the user is active. A
// user_agent of more than 280 characters is cut to 280.
var SessionNew = define[SessionNewParams, SessionNewResult](Spec{
	Name:  "session-new",
	Limit: LimitSession,
	Fails: []Code{CodeInvalidIPAddress, CodeInvalidExpires, CodeSessionCreateFailed},
	Done:  "The session was made.",
})

// SessionNewParams are the parameters of [SessionNew].
type SessionNewParams struct {
	// IPAddress is the end user's IPv4 or IPv6 address, without a prefix
	// length. It is kept in its canonical form.
	IPAddress string `json:"ip_address"`
	// UserAgent is the end user's browser or program; it may be empty.
	UserAgent string `json:"user_agent" max:"8192"`
	// UserID is the session's user; null or 0 means the anonymous user. A
	// string of digits is accepted too.
	UserID Null[UserRef] `json:"user_id"`
	// Expires is when the session ends: ISO 8601, UTC unless it has an
	// offset. There is no upper limit, and a past moment is accepted.
	Expires string `json:"expires" max:"40"`
	// ExtraInfo is kept with the session and returned by session-exists.
	ExtraInfo Null[Object] `json:"extra_info_json"`
}

// SessionNewResult is the result of [SessionNew].
type SessionNewResult struct {
	// SessionToken names the session: 43 characters, 256 random bits. Only
	// its SHA-256 digest is stored.
	SessionToken *SessionToken `json:"session_token" failure:"present"`
	// Expires is the moment asked for, always with six fraction digits.
	Expires Expiry `json:"expires" failure:"present"`
}

// SessionExists returns a session that has not expired, with its user.
//
// The session of a user who is inactive or locked is returned as well: look
// at is_active and user_role.
var SessionExists = define[SessionTokenParams, SessionExistsResult](Spec{
	Name:     "session-exists",
	ReadOnly: true,
	Limit:    LimitSession,
	Fails:    []Code{CodeSessionNotFound},
	Done:     "The session exists.",
})

// SessionTokenParams are the parameters of [SessionExists].
type SessionTokenParams struct {
	// SessionToken is the session's token as session-new returned it.
	SessionToken SessionToken `json:"session_token"`
}

// SessionExistsResult is the result of [SessionExists].
type SessionExistsResult struct {
	// SessionInfo is the session and its user.
	SessionInfo *SessionUserInfo `json:"session_info" failure:"present"`
	Encoded     `json:"-"`
}

// SessionUserInfo is a session together with its user.
type SessionUserInfo struct {
	UserID            int64        `json:"user_id"`
	SystemID          string       `json:"system_id"`
	FullName          *string      `json:"full_name"`
	Email             Email        `json:"email"`
	ExtraInfo         Object       `json:"extra_info"`
	EmailVerified     bool         `json:"email_verified"`
	EmailVerifySentOn Time         `json:"emailverify_sent_datetime"`
	IsActive          bool         `json:"is_active"`
	LastLoginTry      Time         `json:"last_login_try"`
	LastLoginSuccess  Time         `json:"last_login_success"`
	CreatedOn         Time         `json:"created_on"`
	UserRole          string       `json:"user_role"`
	SessionToken      SessionToken `json:"session_token"`
	IPAddress         string       `json:"ip_address"`
	UserAgent         string       `json:"user_agent"`
	Created           Time         `json:"created"`
	Expires           Expiry       `json:"expires"`
	ExtraInfoJSON     Object       `json:"extra_info_json"`
}

// SessionList returns the sessions of the user of a session, the newest first,
// so that a frontend can show people where they are logged in.
//
// Whoever holds a session may list those of its user. The sessions of another
// user are listed for an active user whose role may view private items
// "session" of others in the policy; of the built-in roles, that is superuser.
// The anonymous user is everybody who has not logged in, so an anonymous
// session lists itself alone.
var SessionList = define[SessionListParams, SessionListResult](Spec{
	Name:     "session-list",
	Limit:    LimitSession,
	ReadOnly: true,
	Addition: true,
	Fails:    []Code{CodeSessionNotFound, CodeNotPermitted, CodeUserNotFound},
	Done:     "The sessions were looked up.",
})

// SessionListParams are the parameters of [SessionList].
type SessionListParams struct {
	// SessionToken is the caller's session, which must not have expired.
	SessionToken SessionToken `json:"session_token"`
	// UserID is whose sessions are listed; the user of session_token when it
	// is left out.
	UserID Strict[int64] `json:"user_id,omitzero"`
	// Limit is the most sessions to return; without it, 1,000.
	Limit Strict[int64] `json:"limit,omitzero" min:"1" max:"1000"`
	// After leaves out the sessions up to this one: next of the page before.
	After Strict[Position] `json:"after,omitzero"`
}

// SessionListResult is the result of [SessionList].
type SessionListResult struct {
	// Sessions holds the sessions that have not expired.
	Sessions []SessionListInfo `json:"sessions" failure:"present"`
	// Next is what to send as after for the next page; it is left out when there are
	// no more.
	Next *Position `json:"next,omitzero"`
}

// SessionListInfo is a session without its token. session_id names it for
// session-delete; it is no secret. current marks the session that asks. device
// is made from user_agent for people to read, for example "Firefox on Linux";
// it is what the end user's program says about itself, so escape it like
// user_agent. last_seen is when the session was last used for any request that did
// not end it, to within a minute, and null when it never was.
type SessionListInfo struct {
	SessionID string `json:"session_id"`
	Current   bool   `json:"current"`
	Device    string `json:"device"`
	IPAddress string `json:"ip_address"`
	UserAgent string `json:"user_agent"`
	Created   Time   `json:"created"`
	LastSeen  Time   `json:"last_seen"`
	Expires   Expiry `json:"expires"`
}

// SessionDelete ends a session, expired or not. API keys that were issued
// under it end with it.
//
// With session_id, the caller's session ends another one of the same user, or
// itself; the caller's session must not have expired then. An anonymous
// session can end only itself.
var SessionDelete = define[SessionDeleteParams, SessionDeleteResult](Spec{
	Name:  "session-delete",
	Limit: LimitSession,
	Fails: []Code{CodeSessionNotFound},
	Done:  "The session was ended.",
})

// SessionDeleteParams are the parameters of [SessionDelete].
type SessionDeleteParams struct {
	// SessionToken is the session to end, or with session_id the caller's.
	SessionToken SessionToken `json:"session_token"`
	// SessionID is the session to end, as session-list names it.
	SessionID Strict[string] `json:"session_id,omitzero" max:"100"`
}

// SessionDeleteResult is the empty result of [SessionDelete].
type SessionDeleteResult struct{}

// SessionDeleteUserID ends the sessions of a user.
//
// With keep_current_session false all of them end; with true, all but the one
// named by session_token. An empty session_token spares none.
var SessionDeleteUserID = define[SessionDeleteUserIDParams, SessionDeleteUserIDResult](Spec{
	Name:  "session-delete-userid",
	Limit: LimitSession,
	Fails: []Code{CodeNoSessionsDeleted},
	Done:  "The sessions were ended.",
})

// SessionDeleteUserIDParams are the parameters of [SessionDeleteUserID].
type SessionDeleteUserIDParams struct {
	// SessionToken is the session to spare; it need not exist.
	SessionToken SessionToken `json:"session_token"`
	// UserID is the user whose sessions end.
	UserID int64 `json:"user_id"`
	// KeepCurrentSession spares the session named by session_token.
	KeepCurrentSession bool `json:"keep_current_session"`
}

// SessionDeleteUserIDResult is the empty result of [SessionDeleteUserID].
type SessionDeleteUserIDResult struct{}

// InternalSessionEdit merges keys into a session's extra_info_json.
//
// Keys are set to the values given; a key whose value is the string
// "__delete__" is removed, which does nothing when it is absent. The request
// fails when an adopted session holds JSON other than an object there. For the
// frontend's own use: never pass on what an end user sent.
var InternalSessionEdit = define[InternalSessionEditParams, SessionEditResult](Spec{
	Name:  "internal-session-edit",
	Limit: LimitInternal,
	Fails: []Code{CodeEmptyUpdate, CodeSessionNotFound, CodeUpdateFailed},
	Done:  "The session was updated.",
})

// InternalSessionEditParams are the parameters of [InternalSessionEdit].
type InternalSessionEditParams struct {
	// TargetSessionToken is the session to edit.
	TargetSessionToken SessionToken `json:"target_session_token"`
	// UpdateDict holds the keys to set or remove.
	UpdateDict Object `json:"update_dict"`
}

// SessionEditResult is the result of [InternalSessionEdit] and
// [SessionSetInfo].
type SessionEditResult struct {
	// SessionInfo is the session after the edit.
	SessionInfo *SessionInfo `json:"session_info" failure:"present"`
}

// SessionInfo is a session without its user's fields.
type SessionInfo struct {
	UserID        int64        `json:"user_id"`
	SessionToken  SessionToken `json:"session_token"`
	IPAddress     string       `json:"ip_address"`
	UserAgent     string       `json:"user_agent"`
	Created       Time         `json:"created"`
	Expires       Expiry       `json:"expires"`
	ExtraInfoJSON Object       `json:"extra_info_json"`
}

// SessionSetInfo replaces a session's extra_info_json. It is the request of
// the first generation of clients; newer ones use internal-session-edit.
var SessionSetInfo = define[SessionSetInfoParams, SessionEditResult](Spec{
	Name:  "session-setinfo",
	Limit: LimitSession,
	Fails: []Code{CodeEmptyUpdate, CodeSessionNotFound},
	Done:  "The session was updated.",
})

// SessionSetInfoParams are the parameters of [SessionSetInfo].
type SessionSetInfoParams struct {
	// SessionToken is the session to edit.
	SessionToken SessionToken `json:"session_token"`
	// ExtraInfo is the new extra_info_json; null removes it.
	ExtraInfo Opt[Null[Object]] `json:"extra_info,omitzero"`
	// ExtraInfoJSON is the name that the first generation's manual used for
	// extra_info. It counts when extra_info is left out; leaving out both is
	// a failure.
	ExtraInfoJSON Opt[Null[Object]] `json:"extra_info_json,omitzero"`
}

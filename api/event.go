package api

import "slices"

// An EventKind names what an entry of the event log tells of.
type EventKind string

// The kinds of events. What each means stands in [EventKinds].
const (
	EventSignedUp         EventKind = "user.signed_up"
	EventSignUpRepeated   EventKind = "user.sign_up_repeated"
	EventVerified         EventKind = "user.verified"
	EventLoggedIn         EventKind = "user.logged_in"
	EventLoginFailed      EventKind = "user.login_failed"
	EventLockedOut        EventKind = "user.locked_out"
	EventLoggedOut        EventKind = "user.logged_out"
	EventConfirmed        EventKind = "user.password_confirmed"
	EventEdited           EventKind = "user.edited"
	EventEmailChanged     EventKind = "user.email_changed"
	EventRoleChanged      EventKind = "user.role_changed"
	EventLocked           EventKind = "user.locked"
	EventUnlocked         EventKind = "user.unlocked"
	EventDeleted          EventKind = "user.deleted"
	EventPasswordChanged  EventKind = "password.changed"
	EventPasswordReset    EventKind = "password.reset"
	EventResetRequested   EventKind = "password.reset_requested"
	EventSessionCreated   EventKind = "session.created"
	EventSessionEnded     EventKind = "session.ended"
	EventSessionsEnded    EventKind = "session.all_ended"
	EventKeyCreated       EventKind = "apikey.created"
	EventKeyRevoked       EventKind = "apikey.revoked"
	EventKeysRevoked      EventKind = "apikey.all_revoked"
	EventKeyRefreshed     EventKind = "apikey.refreshed"
	EventKeyReuseDetected EventKind = "apikey.reuse_detected"
)

// An EventKindInfo describes a kind of event.
type EventKindInfo struct {
	Kind EventKind
	// About says when such an event is written, and which details it has.
	About string
}

// eventKinds is the one list of kinds of events, in the order of the reference.
var eventKinds = []EventKindInfo{
	{EventSignedUp, "somebody signed up, perhaps once more in the place of a sign-up that was never verified: then `replaced` is true"},
	{EventSignUpRepeated, "somebody signed up with the address of this user; nothing was changed"},
	{EventVerified, "the user's e-mail address was verified; `first` is true when this made the user active"},
	{EventLoggedIn, "the user logged in with the password"},
	{EventLoginFailed, "a password was wrong, or right for a user who may not log in; `code` is how the request ended. Without a user, nobody has the address"},
	{EventLockedOut, "too many wrong passwords: until `until`, none is compared for this account from there, or from anywhere but known devices"},
	{EventLoggedOut, "the user logged out"},
	{EventConfirmed, "the user's password was checked and was right"},
	{EventEdited, "the user was edited; `fields` are what was changed"},
	{EventEmailChanged, "the user's e-mail address was changed"},
	{EventRoleChanged, "the user's role was changed, `from` one `to` another"},
	{EventLocked, "an administrator or the frontend locked the user, whose role was `from`"},
	{EventUnlocked, "an administrator or the frontend unlocked the user, whose role is `to`"},
	{EventDeleted, "the user was deleted"},
	{EventPasswordChanged, "the user's password was changed, with the current one"},
	{EventPasswordReset, "the user's password was set without the current one"},
	{EventResetRequested, "a message or a token to set a new password was asked for"},
	{EventSessionCreated, "a session of the user was made; `session_id` is its id"},
	{EventSessionEnded, "a session of the user was ended; `session_id` is its id"},
	{EventSessionsEnded, "sessions of the user were ended at once; `count` is how many"},
	{EventKeyCreated, "an API key was made; `key_id`, `kind`, `name` and `scopes` are the key's"},
	{EventKeyRevoked, "an API key was revoked; `key_id` is the key's"},
	{EventKeysRevoked, "API keys without a session were revoked at once; `count` is how many"},
	{EventKeyRefreshed, "an API key was replaced by its successor; `key_id` is that of both"},
	{EventKeyReuseDetected, "a refresh token was used once more: it was stolen, or an answer was lost for long. The key with `key_id` was revoked"},
}

// EventKinds returns every kind of event in the order of the reference.
func EventKinds() []EventKindInfo { return slices.Clone(eventKinds) }

// Info returns the kind's description and whether the kind is known.
func (k EventKind) Info() (EventKindInfo, bool) {
	i := slices.IndexFunc(eventKinds, func(info EventKindInfo) bool { return info.Kind == k })
	if i < 0 {
		return EventKindInfo{Kind: k}, false
	}
	return eventKinds[i], true
}

// EventList returns entries of the event log, the newest first: what happened to an
// account, when, and from where.
//
// Whoever holds a session may list the events about its user. Superusers may list those
// of any user and of all, and so may active users whose role may view private items
// "event" of others in the policy. An anonymous session has none. Events are kept
// as long as the server's option eventretention says.
var EventList = define[EventListParams, EventListResult](Spec{
	Name:     "event-list",
	Limit:    LimitUser,
	ReadOnly: true,
	Addition: true,
	Fails:    []Code{CodeSessionNotFound, CodeNotPermitted, CodeUnknownEventKind},
	Done:     "The events were looked up.",
})

// EventListParams are the parameters of [EventList].
type EventListParams struct {
	// SessionToken is the caller's session, which must not have expired.
	SessionToken SessionToken `json:"session_token"`
	// UserID is whose events are listed; the user of session_token when it is left
	// out. The user need not exist any more.
	UserID Strict[int64] `json:"user_id,omitzero" min:"1"`
	// All lists the events of all users, and those that are about nobody's account.
	// Then user_id must be left out.
	All Strict[bool] `json:"all,omitzero"`
	// Kind leaves out events of other kinds.
	Kind Strict[string] `json:"kind,omitzero" max:"40"`
	// Limit is the most events to return; without it, 100.
	Limit Strict[int64] `json:"limit,omitzero" min:"1" max:"1000"`
	// After leaves out the events from this one on that are newer: next of the page
	// before.
	After Strict[int64] `json:"after,omitzero" min:"1"`
}

// EventListResult is the result of [EventList].
type EventListResult struct {
	// Events are the events, the newest first.
	Events []EventInfo `json:"events" failure:"present"`
	// Next is what to send as after for the next page; it is left out when there are
	// no more events.
	Next *int64 `json:"next,omitzero"`
}

// EventInfo is an entry of the event log.
type EventInfo struct {
	// EventID grows with time.
	EventID  int64 `json:"event_id"`
	Occurred Time  `json:"occurred"`
	// Kind is one of the kinds of events below.
	Kind EventKind `json:"kind"`
	// UserID is whose account it is about; null when that is nobody's.
	UserID *int64 `json:"user_id"`
	// ActorID is the user who did it; null for the frontend, and for people who have
	// proved nothing.
	ActorID *int64 `json:"actor_id"`
	// Request is the request that did it.
	Request string `json:"request"`
	// IPAddress is the end user's; empty when the frontend did not tell.
	IPAddress string `json:"ip_address"`
	// UserAgent is that of the session; empty when there is none.
	UserAgent string `json:"user_agent"`
	// Device is what the user agent says that it is, for people to read; empty when there
	// is none.
	Device string `json:"device"`
	// Details depend on the kind.
	Details Object `json:"details"`
}

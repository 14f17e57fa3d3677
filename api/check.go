package api

import (
	"bytes"
	"strconv"
)

// Check asks in one request who a credential belongs to, whether this user may do any
// number of actions, and whether limits let them pass. Success only means that the
// questions were answered: granted is the answer to all of them together, and each has
// its own.
//
// The credential is one of session_token, apikey_dict and user_id, the others are null or
// left out; its user must be active. All that is looked up belongs to one state of the
// database: no change by this server lies between two of the answers.
//
// Each question of access is answered as by user-check-access, with the user's role, and
// each limit is counted as by user-count-limit: the key's own count when an API key is
// presented. Costs are counted only when everything is granted, all of them or none.
var Check = define[CheckParams, CheckResult](Spec{
	Name:     "check",
	Counts:   true,
	Limit:    LimitUser,
	Fails:    []Code{CodeSessionNotFound, CodeKeyNotValid, CodeUserNotValid},
	Done:     "The check was made.",
	Addition: true,
})

// CheckParams are the parameters of [Check].
type CheckParams struct {
	// SessionToken names the session of the user.
	SessionToken Strict[Null[SessionToken]] `json:"session_token,omitzero"`
	// APIKeyDict is an API key of the user, of either kind; uid, rol and tkn count. What
	// its scopes do not have is not granted.
	APIKeyDict Strict[Null[APIKey]] `json:"apikey_dict,omitzero"`
	// UserID is the user, whom the frontend knows otherwise.
	UserID Strict[Null[int64]] `json:"user_id,omitzero"`
	// Access is a list of objects with action, target_name, target_owner,
	// target_visibility and target_sharedwith, which may be left out: the parameters of
	// user-check-access. In place of an object there may be a list of its values in this
	// order.
	Access Strict[List[AccessQuestion]] `json:"access,omitzero" max:"1000"`
	// Limits is a list of objects with limit_name and cost, which may be left out: the
	// parameters of user-count-limit; or of lists, as above. No limit may stand there twice.
	Limits Strict[List[LimitCost]] `json:"limits,omitzero" max:"20"`
}

// An AccessQuestion asks whether the user may do an action on an item. As JSON it is a list
// of its values.
type AccessQuestion struct {
	// Action is one of the policy's actions.
	Action string `json:"action"`
	// TargetName is one of the policy's items.
	TargetName string `json:"target_name"`
	// TargetOwner is the id of the item's owner.
	TargetOwner int64 `json:"target_owner"`
	// TargetVisibility is one of the policy's visibilities.
	TargetVisibility string `json:"target_visibility"`
	// TargetSharedWith holds the ids of the users that the item is shared with,
	// separated by commas; empty, "none", null or left out for nobody.
	TargetSharedWith Opt[string] `json:"target_sharedwith,omitzero" max:"65536"`
}

// MarshalJSON returns the short form.
func (q AccessQuestion) MarshalJSON() ([]byte, error) {
	text := appendText([]byte{'['}, q.Action)
	text = appendText(append(text, ','), q.TargetName)
	text = strconv.AppendInt(append(text, ','), q.TargetOwner, 10)
	text = appendText(append(text, ','), q.TargetVisibility)
	if q.TargetSharedWith.Set {
		text = appendText(append(text, ','), q.TargetSharedWith.Value)
	}
	return append(text, ']'), nil
}

// A LimitCost asks whether a limit lets something pass that the user does.
type LimitCost struct {
	// LimitName is one of the limits of the user's role.
	LimitName string `json:"limit_name"`
	// Cost is how many are counted, 1 if it is left out. 0 only looks.
	Cost Opt[int64] `json:"cost,omitzero" min:"0" max:"1000000000"`
}

// CheckResult is the result of [Check].
type CheckResult struct {
	// Granted is whether every question of access and every limit was granted.
	Granted bool `json:"granted"`
	// Identity is the user and the credential.
	Identity Identity `json:"identity"`
	// Access has the answers to the questions of access, in their order.
	Access AccessDecisions `json:"access"`
	// Limits has the answers about the limits, in their order.
	Limits []LimitDecision `json:"limits"`
}

// Identity is a user with the credential that a check was made with. credential is
// session, apikey or user_id; session_id, or key_id and the scopes of the key, and expires
// belong to the first two and are null otherwise. scopes are null for a key that is not
// restricted.
type Identity struct {
	Credential    string  `json:"credential"`
	UserID        int64   `json:"user_id"`
	UserRole      string  `json:"user_role"`
	SystemID      string  `json:"system_id"`
	FullName      *string `json:"full_name"`
	Email         Email   `json:"email"`
	EmailVerified bool    `json:"email_verified"`
	SessionID     *string `json:"session_id"`
	KeyID         *string `json:"key_id"`
	Scopes        Scopes  `json:"scopes"`
	Expires       Time    `json:"expires"`
}

// AccessDecision is the answer to a question of access. code says why it is not granted,
// as failure_code does of user-check-access, and is left out when it is.
type AccessDecision struct {
	Granted bool `json:"granted"`
	Code    Code `json:"code,omitzero"`
}

// AccessDecisions are the answers to questions of access.
type AccessDecisions []AccessDecision

// MarshalJSON returns the list.
func (list AccessDecisions) MarshalJSON() ([]byte, error) {
	const granted = `{"granted":true},`
	text := append(make([]byte, 0, len(granted)*len(list)+2), '[')
	for i := range list {
		if list[i].Granted {
			text = append(text, granted...)
			continue
		}
		text = append(text, `{"granted":false,"code":`...)
		text = append(appendText(text, string(list[i].Code)), '}', ',')
	}
	return append(bytes.TrimSuffix(text, []byte{','}), ']'), nil
}

// LimitDecision is the answer about a limit. granted is whether this limit alone lets the
// cost pass; code says why not, as failure_code does of user-count-limit. limit,
// remaining and reset are those of user-count-limit after what was counted now, and null
// for what is not limited. retry_after is in how many seconds the cost may pass; it is left
// out when it never may, and when access is not granted.
type LimitDecision struct {
	Granted    bool   `json:"granted"`
	Code       Code   `json:"code,omitzero"`
	Limit      *int64 `json:"limit"`
	Remaining  *int64 `json:"remaining"`
	Reset      *int64 `json:"reset"`
	RetryAfter int64  `json:"retry_after,omitzero"`
}

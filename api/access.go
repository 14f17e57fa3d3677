package api

// UserCheckAccess asks whether a user may do an action on an item. success
// is the answer.
//
// The user must exist in this role and be active, and so must the owner and
// every user that the item is shared with. With apikey_dict, the question is
// whether the user may do it with this API key: the key must be valid, be the
// user's, and have action:target_name among its scopes if it has scopes.
var UserCheckAccess = define[UserCheckAccessParams, UserCheckAccessResult](Spec{
	Name:     "user-check-access",
	ReadOnly: true,
	Limit:    LimitUser,
	Fails: []Code{
		CodeAccessCheckFailed, CodeUserNotValid, CodeRelatedNotFound, CodeActionNotPermitted,
		CodeKeyNotValid, CodeInsufficientScope,
	},
	Done: "The check was made. Access is granted.",
})

// UserCheckAccessParams are the parameters of [UserCheckAccess].
type UserCheckAccessParams struct {
	// UserID is the user who wants to act.
	UserID int64 `json:"user_id"`
	// UserRole is the user's role; it must be the one in the database.
	UserRole string `json:"user_role"`
	// Action is one of the policy's actions.
	Action string `json:"action"`
	// TargetName is one of the policy's items.
	TargetName string `json:"target_name"`
	// TargetOwner is the id of the item's owner.
	TargetOwner int64 `json:"target_owner"`
	// TargetVisibility is one of the policy's visibilities.
	TargetVisibility string `json:"target_visibility"`
	// TargetSharedWith holds the ids of the users that the item is shared
	// with, separated by commas; empty, "none" or null for nobody.
	TargetSharedWith Null[string] `json:"target_sharedwith" max:"65536"`
	// APIKeyDict is the API key of either kind with which the user wants to
	// act; uid, rol and tkn count.
	APIKeyDict Strict[Null[APIKey]] `json:"apikey_dict,omitzero"`
}

// UserCheckAccessResult is the empty result of [UserCheckAccess].
type UserCheckAccessResult struct{}

// UserCheckLimit asks whether a value is within a limit of a user's role.
// success is the answer. Nothing is counted.
//
// A limit that the role does not have is not limited.
var UserCheckLimit = define[UserCheckLimitParams, UserCheckLimitResult](Spec{
	Name:     "user-check-limit",
	ReadOnly: true,
	Limit:    LimitUser,
	Fails:    []Code{CodeLimitCheckFailed, CodeUserNotValid, CodeOverLimit},
	Done:     "The check was made. The value is within the limit.",
})

// UserCheckLimitParams are the parameters of [UserCheckLimit].
type UserCheckLimitParams struct {
	// UserID is the user.
	UserID int64 `json:"user_id"`
	// UserRole is the user's role; it must be the one in the database.
	UserRole string `json:"user_role"`
	// LimitName is one of the limits of the role.
	LimitName string `json:"limit_name"`
	// ValueToCheck is the value, as a number or a string of digits.
	ValueToCheck Any `json:"value_to_check"`
}

// UserCheckLimitResult is the empty result of [UserCheckLimit].
type UserCheckLimitResult struct{}

// UserCountLimit counts something that a user does against a limit of the
// user's role, such as max_requests_per_minute. success is the answer: whether
// the limit lets it pass. What does not pass costs nothing.
//
// Limits can be counted when their names end in _per_second, _per_minute,
// _per_hour or _per_day: no such span of time, whenever it begins, has more than
// the limit. Of a limit above 64, what was counted may go on counting for up to a
// 64th of the span longer. A limit that the role does not have is not
// limited. With apikey_dict the count is the key's own and not the user's.
var UserCountLimit = define[UserCountLimitParams, UserCountLimitResult](Spec{
	Name:     "user-count-limit",
	Counts:   true,
	Limit:    LimitUser,
	Fails:    []Code{CodeLimitCheckFailed, CodeLimitNotCountable, CodeUserNotValid, CodeKeyNotValid, CodeOverLimit},
	Done:     "The limit lets this pass.",
	Addition: true,
})

// UserCountLimitParams are the parameters of [UserCountLimit].
type UserCountLimitParams struct {
	// UserID is the user.
	UserID int64 `json:"user_id"`
	// UserRole is the user's role; it must be the one in the database.
	UserRole string `json:"user_role"`
	// LimitName is one of the limits of the role.
	LimitName string `json:"limit_name"`
	// Cost is how many are counted, 1 if it is left out. 0 only looks.
	Cost Opt[int64] `json:"cost,omitzero" min:"0" max:"1000000000"`
	// APIKeyDict is the API key of either kind that the user acts with; uid, rol
	// and tkn count.
	APIKeyDict Strict[Null[APIKey]] `json:"apikey_dict,omitzero"`
}

// UserCountLimitResult is the result of [UserCountLimit]. All of it is null when
// the role does not have the limit.
type UserCountLimitResult struct {
	// Max is the limit.
	Max *int64 `json:"limit" failure:"present"`
	// Remaining is how many more may be counted at once.
	Remaining *int64 `json:"remaining" failure:"present"`
	// Reset is in how many seconds, rounded up, all of the limit remains if
	// nothing more is counted.
	Reset *int64 `json:"reset" failure:"present"`
}

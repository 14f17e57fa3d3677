package api

// UserLogin checks an e-mail address and a password, and ends the session
// under which they were sent.
//
// The session may be any that has not expired, normally an anonymous one. It
// ends whatever the outcome, so a retry needs a new session; after a success
// the frontend asks for a session of the returned user. Exactly one password
// hash is computed whether the session and the user exist or not, and an
// unknown, inactive or unverified user cannot be told from a wrong password.
// A stored hash with other parameters than the configured ones is replaced.
var UserLogin = define[UserLoginParams, UserCheckResult](Spec{
	Name:   "user-login",
	Limit:  LimitFixed10,
	Hashes: 2,
	Fails:  []Code{CodeSessionNotFound, CodeInvalidCredentials, CodeUserLocked, CodeTooManyFailures, CodeBusy},
	Done:   "You are logged in.",
})

// UserLoginParams are the parameters of [UserLogin].
type UserLoginParams struct {
	// SessionToken is the session under which the user logs in.
	SessionToken SessionToken `json:"session_token"`
	// Email is looked up exactly as sent first, then in its normalised form.
	Email Email `json:"email"`
	// Password is the end user's password.
	Password Password `json:"password"`
}

// UserCheckResult is the result of a password check.
type UserCheckResult struct {
	// UserID is the user's id. After a failure it is null unless the
	// password was right and the user is locked.
	UserID *int64 `json:"user_id" failure:"present"`
	// UserRole is the user's role.
	UserRole string `json:"user_role"`
}

// UserLogout ends a session of a user.
var UserLogout = define[UserLogoutParams, UserLogoutResult](Spec{
	Name:  "user-logout",
	Limit: LimitFixed10,
	Fails: []Code{CodeSessionNotFound, CodeSessionUserMismatch},
	Done:  "You are logged out.",
})

// UserLogoutParams are the parameters of [UserLogout].
type UserLogoutParams struct {
	// SessionToken is the session to end.
	SessionToken SessionToken `json:"session_token"`
	// UserID must be the session's user.
	UserID int64 `json:"user_id"`
}

// UserLogoutResult is the result of [UserLogout].
type UserLogoutResult struct {
	// UserID is the user's id, as sent.
	UserID int64 `json:"user_id" failure:"present"`
}

// UserPasscheck checks the password of a session's user. The session goes on.
//
// It does not look at email_verified.
var UserPasscheck = define[UserPasscheckParams, UserCheckResult](Spec{
	Name:   "user-passcheck",
	Limit:  LimitUser,
	Hashes: 1,
	Fails:  []Code{CodeSessionNotFound, CodeInvalidCredentials, CodeUserLocked, CodeTooManyFailures, CodeBusy},
	Done:   "The password is right.",
})

// UserPasscheckParams are the parameters of [UserPasscheck].
type UserPasscheckParams struct {
	// SessionToken is a session of the user.
	SessionToken SessionToken `json:"session_token"`
	// Password is the end user's password.
	Password Password `json:"password"`
}

// UserPasscheckNoSession checks an e-mail address and a password without a
// session. It does not look at email_verified.
var UserPasscheckNoSession = define[UserPasscheckNoSessionParams, UserCheckResult](Spec{
	Name:   "user-passcheck-nosession",
	Limit:  LimitUser,
	Hashes: 1,
	Fails:  []Code{CodeInvalidCredentials, CodeUserLocked, CodeTooManyFailures, CodeBusy},
	Done:   "The password is right.",
})

// UserPasscheckNoSessionParams are the parameters of [UserPasscheckNoSession].
type UserPasscheckNoSessionParams struct {
	// Email is looked up exactly as sent first, then in its normalised form.
	Email Email `json:"email"`
	// Password is the end user's password.
	Password Password `json:"password"`
}

// UserNew signs a user up.
//
// The user can log in after user-set-emailverified. When the address already
// belongs to a user, the request fails with user_exists, whose message for
// the end user equals that of success. If that user was never verified and
// the last sign-up mail is more than verify_retry_wait hours old, the sign-up
// is replaced by this one, which ends its sessions, and send_verification is
// true: act on send_verification, not on success.
var UserNew = define[UserNewParams, UserNewResult](Spec{
	Name:   "user-new",
	Limit:  LimitFixed5,
	Hashes: 1,
	Fails: []Code{
		CodeInvalidEmail, CodeInvalidFullName, CodeInvalidPassword, CodeUserExists,
		CodeSystemIDExists, CodeUserCreateFailed, CodeBusy,
	},
	Done: messageSignUp,
})

// UserNewParams are the parameters of [UserNew].
type UserNewParams struct {
	// FullName may be empty. It is stored HTML-escaped, may not contain a
	// link or a host name, and has at most 280 characters when stored.
	FullName string `json:"full_name"`
	// Email becomes the user's address, stored in lower case.
	Email Email `json:"email"`
	// Password must keep to the password policy.
	Password Password `json:"password"`
	// ExtraInfo is kept with the user. The keys provenance, type and
	// verify_retry_wait are set by the server; previous_user_roles is dropped.
	ExtraInfo Opt[Null[Object]] `json:"extra_info,omitzero"`
	// VerifyRetryWait is how many hours must pass before a repeated sign-up
	// replaces one that was not verified; 6 by default and at least 1.
	VerifyRetryWait Opt[Null[int64]] `json:"verify_retry_wait,omitzero" max:"87600"`
	// SystemID is a name for the user that never changes and is unique; a
	// random UUID when it is left out, null or empty.
	SystemID Opt[Null[string]] `json:"system_id,omitzero" max:"50"`
}

// UserNewResult is the result of [UserNew].
type UserNewResult struct {
	// UserEmail is the address in its normalised form.
	UserEmail *Email `json:"user_email" failure:"present"`
	// UserID is the id of the new user, or of the one that exists.
	UserID *int64 `json:"user_id" failure:"present"`
	// SystemID is the user's unchanging name.
	SystemID *string `json:"system_id" failure:"present"`
	// SendVerification reports whether the frontend should now have the
	// verification mail sent.
	SendVerification bool `json:"send_verification" failure:"present"`
}

// UserDelete deletes a user who gave the password. Superusers cannot be
// deleted this way.
var UserDelete = define[UserDeleteParams, UserDeleteResult](Spec{
	Name:   "user-delete",
	Limit:  LimitUser,
	Hashes: 1,
	Fails: []Code{
		CodeUserNotFound, CodeInvalidPassword, CodeProtectedUser, CodeSuperuserKept, CodeUserDeleteFailed,
		CodeTooManyFailures, CodeBusy,
	},
	Done: "The user was deleted.",
})

// UserDeleteParams are the parameters of [UserDelete].
type UserDeleteParams struct {
	// Email must be the user's address.
	Email Email `json:"email"`
	// UserID is the user to delete.
	UserID int64 `json:"user_id"`
	// Password is the user's password.
	Password Password `json:"password"`
}

// UserDeleteResult is the result of [UserDelete].
type UserDeleteResult struct {
	// UserID is the id as sent.
	UserID int64 `json:"user_id" failure:"present"`
	// Email is the address as sent.
	Email Email `json:"email" failure:"present"`
}

// UserList returns all users in the order of their ids, or one of them.
//
// Many users are better asked for by pages, with limit and after. A longer list is sent
// as it is read; two such lists are made at a time, others wait, and one that takes
// longer than a minute is cut off.
var UserList = define[UserListParams, UserListResult](Spec{
	Name:     "user-list",
	ReadOnly: true,
	Limit:    LimitUser,
	Done:     "The users were looked up.",
})

// UserListParams are the parameters of [UserList].
type UserListParams struct {
	// UserID selects one user; null selects all. A string of digits is
	// accepted too.
	UserID Null[UserRef] `json:"user_id"`
	// Limit is the most users to return; without it, all are returned.
	Limit Strict[int64] `json:"limit,omitzero" min:"1" max:"1000"`
	// After leaves out the users up to this id: next of the page before.
	After Strict[int64] `json:"after,omitzero" min:"0"`
}

// UserListResult is the result of [UserList] and [UserLookupMatch].
type UserListResult struct {
	// UserInfo holds the users in the order of their ids. It is empty, and
	// the request succeeds, when there is none.
	UserInfo []UserInfo `json:"user_info" failure:"present"`
	// Next is what to send as after for the next page; it is left out when limit was
	// not sent, and when there are no more users.
	Next *int64 `json:"next,omitzero"`
}

// UserInfo is everything about a user but the password hash.
type UserInfo struct {
	UserID                int64   `json:"user_id"`
	SystemID              string  `json:"system_id"`
	FullName              *string `json:"full_name"`
	Email                 Email   `json:"email"`
	EmailVerified         bool    `json:"email_verified"`
	IsActive              bool    `json:"is_active"`
	LastLoginTry          Time    `json:"last_login_try"`
	LastLoginSuccess      Time    `json:"last_login_success"`
	FailedLoginTries      int64   `json:"failed_login_tries"`
	CreatedOn             Time    `json:"created_on"`
	LastUpdated           Time    `json:"last_updated"`
	UserRole              string  `json:"user_role"`
	ExtraInfo             Object  `json:"extra_info"`
	EmailVerifySentOn     Time    `json:"emailverify_sent_datetime"`
	EmailForgotPassSentOn Time    `json:"emailforgotpass_sent_datetime"`
	EmailChangePassSentOn Time    `json:"emailchangepass_sent_datetime"`
}

// UserLookupEmail returns the user with an e-mail address.
var UserLookupEmail = define[UserLookupEmailParams, UserInfoResult](Spec{
	Name:     "user-lookup-email",
	ReadOnly: true,
	Limit:    LimitUserEmail,
	Fails:    []Code{CodeUserNotFound},
	Done:     "The user was found.",
})

// UserLookupEmailParams are the parameters of [UserLookupEmail].
type UserLookupEmailParams struct {
	// Email is looked up exactly as sent first, then in its normalised form.
	Email Email `json:"email"`
}

// UserInfoResult is one user, in the state after the request.
type UserInfoResult struct {
	// UserInfo is the user.
	UserInfo *UserInfo `json:"user_info" failure:"present"`
}

// UserLookupMatch returns the users whose field has a value.
//
// A field that is null matches nothing. For extra_info, match is an object
// and a user matches when every key of it has an equal value (by JSON
// equality) at the top level of the user's extra_info. That takes reading all users;
// other fields have an index.
//
// Pages and long lists are as with user-list.
var UserLookupMatch = define[UserLookupMatchParams, UserListResult](Spec{
	Name:     "user-lookup-match",
	ReadOnly: true,
	Limit:    LimitUser,
	Fails:    []Code{CodeInvalidMatch},
	Done:     "The users were looked up.",
})

// UserLookupMatchParams are the parameters of [UserLookupMatch].
type UserLookupMatchParams struct {
	// By is one of the keys of user_info.
	By string `json:"by"`
	// Match is the value: a string, number or boolean as the field has it, a
	// date and time as ISO 8601, a non-empty object for extra_info.
	Match Any `json:"match"`
	// Limit is the most users to return; without it, all are returned.
	Limit Strict[int64] `json:"limit,omitzero" min:"1" max:"1000"`
	// After leaves out the users up to this id: next of the page before.
	After Strict[int64] `json:"after,omitzero" min:"0"`
}

// UserEdit lets a user edit itself, or a superuser edit anybody.
//
// Roles authenticated and staff may change full_name and email of their own
// user; a superuser may change these and is_active, user_role and
// email_verified of any. E-mail addresses and names are checked and stored as
// at sign-up. When is_active becomes false the user's sessions end. Users 2
// and 3 cannot be edited, and the last active superuser stays one.
var UserEdit = define[UserEditParams, UserInfoResult](Spec{
	Name:  "user-edit",
	Limit: LimitFixed10,
	Fails: []Code{
		CodeProtectedUser, CodeNotPermitted, CodeSessionInvalid, CodeFieldsNotEditable, CodeUnknownRole,
		CodeInvalidEmail, CodeInvalidFullName, CodeUserExists, CodeLastSuperuser, CodeUpdateFailed,
	},
	Done: "The user was updated.",
})

// UserEditParams are the parameters of [UserEdit].
type UserEditParams struct {
	// UserID is the caller.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be the one in the database.
	UserRole string `json:"user_role"`
	// SessionToken is a session of the caller.
	SessionToken SessionToken `json:"session_token"`
	// TargetUserID is the user to edit.
	TargetUserID int64 `json:"target_userid"`
	// UpdateDict holds the fields to set.
	UpdateDict Object `json:"update_dict"`
}

// UserLock locks or unlocks a user on behalf of a superuser. See
// internal-user-lock for what that does.
var UserLock = define[UserLockParams, UserInfoResult](Spec{
	Name:  "user-lock",
	Limit: LimitUser,
	Fails: []Code{
		CodeNotPermitted, CodeCannotLockSelf, CodeInvalidAction, CodeProtectedUser, CodeSessionInvalid,
		CodeLastSuperuser, CodeLockFailed,
	},
	Done: "The user was updated.",
})

// UserLockParams are the parameters of [UserLock].
type UserLockParams struct {
	// UserID is the caller.
	UserID int64 `json:"user_id"`
	// UserRole is the caller's role; it must be superuser.
	UserRole string `json:"user_role"`
	// SessionToken is a session of the caller.
	SessionToken SessionToken `json:"session_token"`
	// TargetUserID is the user to lock or unlock.
	TargetUserID int64 `json:"target_userid"`
	// Action is "lock" or "unlock".
	Action string `json:"action"`
}

// InternalUserLock locks or unlocks a user.
//
// Locking gives the role locked, makes the user inactive, notes the old role
// in extra_info.previous_user_roles and ends all sessions. Unlocking makes
// the user active again in the role that was noted last, if the policy still
// has it, else as authenticated. Locking a locked user, or unlocking one that
// is not locked or was never verified, changes nothing and succeeds. For the
// frontend's own use: the caller is not checked.
var InternalUserLock = define[InternalUserLockParams, UserInfoResult](Spec{
	Name:  "internal-user-lock",
	Limit: LimitInternal,
	Fails: []Code{CodeInvalidAction, CodeProtectedUser, CodeLastSuperuser, CodeLockFailed},
	Done:  "The user was updated.",
})

// InternalUserLockParams are the parameters of [InternalUserLock].
type InternalUserLockParams struct {
	// TargetUserID is the user to lock or unlock.
	TargetUserID int64 `json:"target_userid"`
	// Action is "lock" or "unlock".
	Action string `json:"action"`
}

// InternalUserDelete deletes a user with all sessions and keys. Deleting a
// user who does not exist succeeds. For the frontend's own use: the caller is
// not checked.
var InternalUserDelete = define[InternalUserDeleteParams, InternalUserDeleteResult](Spec{
	Name:  "internal-user-delete",
	Limit: LimitInternal,
	Fails: []Code{CodeProtectedUser, CodeLastSuperuser, CodeUserDeleteFailed},
	Done:  "The user was deleted.",
})

// InternalUserDeleteParams are the parameters of [InternalUserDelete].
type InternalUserDeleteParams struct {
	// TargetUserID is the user to delete.
	TargetUserID int64 `json:"target_userid"`
}

// InternalUserDeleteResult is the result of [InternalUserDelete].
type InternalUserDeleteResult struct {
	// UserID is the id as sent.
	UserID int64 `json:"user_id"`
}

// InternalUserEdit sets fields of a user.
//
// Editable are full_name, email, email_verified, is_active, user_role and
// extra_info. The latter is merged key by key; the string "__delete__"
// removes a key, and null leaves it all as it is. The key
// previous_user_roles is kept by the server and cannot be set. Addresses are
// stored in their normalised form. For the frontend's own use: the caller is
// not checked.
var InternalUserEdit = define[InternalUserEditParams, UserInfoResult](Spec{
	Name:  "internal-user-edit",
	Limit: LimitInternal,
	Fails: []Code{
		CodeEmptyUpdate, CodeFieldsNotEditable, CodeProtectedUser, CodeUserNotFound, CodeUnknownRole,
		CodeInvalidEmail, CodeInvalidFullName, CodeUserExists, CodeLastSuperuser, CodeUpdateFailed,
	},
	Done: "The user was updated.",
})

// InternalUserEditParams are the parameters of [InternalUserEdit].
type InternalUserEditParams struct {
	// TargetUserID is the user to edit.
	TargetUserID int64 `json:"target_userid"`
	// UpdateDict holds the fields to set.
	UpdateDict Object `json:"update_dict"`
}

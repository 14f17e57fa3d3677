package api

import (
	"slices"
	"strings"
	"time"
)

// A Code names a kind of failure. Clients switch on it; it is the reply's
// failure_code.
type Code string

// The failure codes. What each means stands in [Codes].
const (
	CodeInvalidParams       Code = "invalid_request_params"
	CodeDatabase            Code = "db_error"
	CodeBusy                Code = "server_busy"
	CodeUnknownOutcome      Code = "unknown_outcome"
	CodeTimeout             Code = "request_timeout"
	CodeInternal            Code = "internal_error"
	CodeInvalidIPAddress    Code = "invalid_ip_address"
	CodeInvalidExpires      Code = "invalid_expires"
	CodeSessionCreateFailed Code = "session_create_failed"
	CodeSessionNotFound     Code = "session_not_found"
	CodeNoSessionsDeleted   Code = "no_sessions_deleted"
	CodeSessionUserMismatch Code = "session_user_mismatch"
	CodeSessionInvalid      Code = "session_invalid"
	CodeEmptyUpdate         Code = "empty_update"
	CodeUpdateFailed        Code = "update_failed"
	CodeInvalidCredentials  Code = "invalid_credentials"
	CodeUserLocked          Code = "user_locked"
	CodeTooManyFailures     Code = "too_many_failures"
	CodeInvalidEmail        Code = "invalid_email"
	CodeInvalidFullName     Code = "invalid_full_name"
	CodeInvalidPassword     Code = "invalid_password"
	CodeUserExists          Code = "user_exists"
	CodeSystemIDExists      Code = "system_id_exists"
	CodeUserCreateFailed    Code = "user_create_failed"
	CodeUserNotFound        Code = "user_not_found"
	CodeSuperuserKept       Code = "cannot_delete_superuser"
	CodeLastSuperuser       Code = "last_superuser"
	CodeUserDeleteFailed    Code = "user_delete_failed"
	CodeProtectedUser       Code = "protected_user"
	CodeInvalidMatch        Code = "invalid_match"
	CodeNotPermitted        Code = "not_permitted"
	CodeFieldsNotEditable   Code = "fields_not_editable"
	CodeUnknownRole         Code = "unknown_role"
	CodeCannotLockSelf      Code = "cannot_lock_self"
	CodeInvalidAction       Code = "invalid_action"
	CodeLockFailed          Code = "lock_failed"
	CodeAccessCheckFailed   Code = "access_check_failed"
	CodeUserNotValid        Code = "user_not_valid"
	CodeRelatedNotFound     Code = "related_users_not_found"
	CodeActionNotPermitted  Code = "action_not_permitted"
	CodeLimitCheckFailed    Code = "limit_check_failed"
	CodeLimitNotCountable   Code = "limit_not_countable"
	CodeOverLimit           Code = "over_limit"
	CodePasswordInsecure    Code = "password_insecure"
	CodePasswordWrong       Code = "current_password_wrong"
	CodePasswordUnchanged   Code = "password_unchanged"
	CodeNewPasswordInsecure Code = "new_password_insecure"
	CodePasswordNotChanged  Code = "db_update_failed"
	CodeUserStateWrong      Code = "user_not_found_or_active_state_wrong"
	CodeInvalidEmailType    Code = "invalid_email_type"
	CodeUnknownEventKind    Code = "unknown_event_kind"

	CodeNotAllowedToIssue      Code = "not_allowed_to_issue"
	CodeSessionMismatch        Code = "session_mismatch"
	CodeInvalidScope           Code = "invalid_scope"
	CodeNotAllowedOnKey        Code = "not_allowed_on_key"
	CodeKeyNotValid            Code = "key_not_valid"
	CodeInsufficientScope      Code = "insufficient_scope"
	CodeKeyNotFound            Code = "key_not_found"
	CodeNotAllowedToDeleteKeys Code = "not_allowed_to_delete_keys"
	CodePresentedKeyNotValid   Code = "presented_key_not_valid"
	CodeRefreshNotAvailable    Code = "refresh_token_not_available"
	CodeRefreshMismatch        Code = "refresh_token_mismatch"
	CodeRefreshReused          Code = "refresh_token_reused"
	CodeOldKeyNotRevocable     Code = "old_key_not_revocable"
	CodeNewKeyNotIssuable      Code = "new_key_not_issuable"

	CodeMailSettingsMissing   Code = "mail_settings_missing"
	CodeVerificationNotWanted Code = "verification_not_wanted"
	CodeUserAlreadyActive     Code = "user_already_active"
	CodeMailSentRecently      Code = "mail_sent_recently"
	CodeMailNotSent           Code = "mail_not_sent"
	CodeInvalidPurpose        Code = "invalid_purpose"
	CodeEmailTokenInvalid     Code = "email_token_not_valid"
)

// A CodeInfo describes a failure code.
type CodeInfo struct {
	Code Code
	// Reason is the reply's failure_reason: short, for the frontend's
	// developer and log, not for the end user.
	Reason string
	// Message is what the end user may be shown when the request has nothing
	// more specific to say. Codes that an end user must not be able to tell
	// apart share one message.
	Message string
	// Retryable reports that nothing was changed and that the same request
	// may succeed when it is sent again a little later.
	Retryable bool
	// Common marks codes that any request may end in.
	Common bool
}

const (
	messageTryLater    = "The service is busy. Please try again in a moment."
	messageUnknown     = "Something went wrong. Please check whether this was done before you try again."
	messageFailed      = "Something went wrong. Nothing was changed."
	messageSession     = "The session does not exist or has ended."
	messageCredentials = "The e-mail address or the password is not right."
	messageDenied      = "The check was made. The answer is no."
	messageSignUp      = "Please look for the message that was sent to this e-mail address."
	messageNotAllowed  = "You may not do this."
	messageNoUser      = "There is no such user."
	messageUserUpdate  = "The user could not be updated."
	messageKeyNotMade  = "The API key could not be made."
	messageKeyInvalid  = "This API key is not valid."
	messageKeyRevoked  = "The API key was revoked."
	messageNoKey       = "There is no such API key."
	messageNotRenewed  = "The API key could not be renewed. Please ask for a new one."
	messageNoMail      = "The message could not be sent."
)

// codes is the one list of failure codes, in the order of the reference.
var codes = []CodeInfo{
	{CodeInvalidParams, "invalid request parameters", "The request has invalid parameters.", false, true},
	{CodeDatabase, "the database could not be used", messageTryLater, true, true},
	{CodeUnknownOutcome, "the database failed while the change was being made; it was made whole or not at all", messageUnknown, false, true},
	{CodeTimeout, "the request could not be finished in time", messageTryLater, true, true},
	{CodeInternal, "internal error; the server's log has the details under this reqid", messageFailed, false, true},
	{CodeBusy, "too many password checks are waiting", messageTryLater, true, false},

	{CodeInvalidIPAddress, "ip_address is not an IPv4 or IPv6 address", "The session could not be made.", false, false},
	{CodeInvalidExpires, "expires is not an ISO 8601 date and time", "The session could not be made.", false, false},
	{CodeSessionCreateFailed, "there is no user with this user_id", "The session could not be made.", false, false},
	{CodeSessionNotFound, "the session does not exist or has expired", messageSession, false, false},
	{CodeNoSessionsDeleted, "the user has no session to delete", "There was no session to end.", false, false},
	{CodeSessionUserMismatch, "the session belongs to another user", "You could not be logged out.", false, false},
	{CodeSessionInvalid, "the session is not a valid one of this user in this role", messageNotAllowed, false, false},
	{CodeEmptyUpdate, "update_dict is empty", "There is nothing to update.", false, false},
	{CodeUpdateFailed, "the update could not be made", "The update could not be made.", false, false},

	{CodeInvalidCredentials, "unknown, inactive or unverified user, or wrong password", messageCredentials, false, false},
	{CodeUserLocked, "the user is locked or not active", "This account is locked.", false, false},
	{CodeTooManyFailures, "too many wrong passwords; the account is closed to this client until retry_after has passed", "There were too many wrong passwords. Please try again later.", false, false},
	{CodePasswordWrong, "the current password is wrong", messageCredentials, false, false},
	{CodePasswordUnchanged, "the new password equals the current one", "The new password must differ from the current one.", false, false},
	{CodePasswordInsecure, "the password breaks the password policy", "The password is not secure enough.", false, false},
	{CodeNewPasswordInsecure, "the new password breaks the password policy", "The new password is not secure enough.", false, false},
	{CodePasswordNotChanged, "the user changed while the request ran; the password was not set", messageFailed, true, false},
	{CodeUserStateWrong, "no user with this address is in the required active state", messageNoUser, false, false},

	{CodeInvalidEmail, "the e-mail address is malformed, reserved or disposable", "This e-mail address cannot be used.", false, false},
	{CodeInvalidEmailType, "email_type is neither signup nor forgotpass", "The date could not be recorded.", false, false},
	{CodeInvalidFullName, "invalid full name", "This name cannot be used. It must not contain a link.", false, false},
	{CodeInvalidPassword, "the password is wrong or breaks the password policy", "The password cannot be used.", false, false},
	{CodeUserExists, "a user with this e-mail address exists", messageSignUp, false, false},
	{CodeSystemIDExists, "a user with this system_id exists", "The account could not be made.", false, false},
	{CodeUserCreateFailed, "the user could not be created", "The account could not be made.", false, false},
	{CodeUserNotFound, "no such user", messageNoUser, false, false},
	{CodeUserDeleteFailed, "the database refers to this user elsewhere", "The user could not be deleted.", false, false},
	{CodeSuperuserKept, "superusers cannot be deleted by this request", "This user cannot be deleted.", false, false},
	{CodeLastSuperuser, "this is the last superuser who can log in", "The last superuser must stay.", false, false},
	{CodeProtectedUser, "users 2 and 3 belong to the system", "This user belongs to the system.", false, false},
	{CodeInvalidMatch, "by is not a field of a user, or match does not suit it", "The search could not be made.", false, false},
	{CodeFieldsNotEditable, "update_dict has fields that this caller cannot edit", messageUserUpdate, false, false},
	{CodeUnknownRole, "the role is not in the permission policy", messageUserUpdate, false, false},
	{CodeCannotLockSelf, "superusers cannot lock themselves", messageUserUpdate, false, false},
	{CodeInvalidAction, "action is neither lock nor unlock", messageUserUpdate, false, false},
	{CodeLockFailed, "no such user, or the user's record does not permit it", messageUserUpdate, false, false},

	{CodeNotPermitted, "the caller's role does not permit this", messageNotAllowed, false, false},
	{CodeUnknownEventKind, "there is no such kind of event", "The events could not be looked up.", false, false},
	{CodeAccessCheckFailed, "the policy has no such role, or target_sharedwith is malformed", "The check could not be made.", false, false},
	{CodeUserNotValid, "no active user with this user_id and user_role", messageDenied, false, false},
	{CodeRelatedNotFound, "the owner or a user shared with does not exist or is not active", messageDenied, false, false},
	{CodeActionNotPermitted, "the policy does not permit this action", messageDenied, false, false},
	{CodeLimitCheckFailed, "the policy has no such role or limit type", "The check could not be made.", false, false},
	{CodeLimitNotCountable, "limit_name does not end in _per_second, _per_minute, _per_hour or _per_day, or values must be greater than this limit", "The check could not be made.", false, false},
	{CodeOverLimit, "the value is not within the limit", messageDenied, false, false},

	{CodeNotAllowedToIssue, "the caller is not an active user in this role, or may not make API keys", messageKeyNotMade, false, false},
	{CodeSessionMismatch, "the session is of another user, role, address or user agent", messageKeyNotMade, false, false},
	{CodeInvalidScope, "a scope is not an action:item of the permission policy", messageKeyNotMade, false, false},
	{CodeNotAllowedOnKey, "the caller may not do this with the owner's API keys, or one of them is not an active user", messageNotAllowed, false, false},
	{CodeKeyNotValid, "the key is unknown, of another user or role, or not within its lifetime", messageKeyInvalid, false, false},
	{CodeInsufficientScope, "the key's scopes do not cover this", messageDenied, false, false},
	{CodeKeyNotFound, "there is no such key", messageNoKey, false, false},
	{CodeNotAllowedToDeleteKeys, "the caller may not revoke the owner's API keys, or one of them is not an active user", messageNotAllowed, false, false},
	{CodePresentedKeyNotValid, "the presented key is not valid", messageKeyInvalid, false, false},
	{CodeRefreshNotAvailable, "the key has no refresh token, or it is not within its lifetime", messageNotRenewed, false, false},
	{CodeRefreshMismatch, "the refresh token is not the key's", messageNotRenewed, false, false},
	{CodeRefreshReused, "the refresh token was used before; all keys that came of it were revoked", messageNotRenewed, false, false},
	{CodeOldKeyNotRevocable, "the caller is not the key's owner, or may not revoke API keys", messageNotRenewed, false, false},
	{CodeNewKeyNotIssuable, "the caller may not make API keys", messageNotRenewed, false, false},

	{CodeMailSettingsMissing, "the server has no mail server: its option emailserver is none", messageNoMail, false, false},
	{CodeVerificationNotWanted, "created_info says that no message should be sent", messageNoMail, false, false},
	{CodeUserAlreadyActive, "the user was verified before", messageNoMail, false, false},
	{CodeMailSentRecently, "such a message was sent in the last 24 hours", messageNoUser, false, false},
	{CodeMailNotSent, "the mail server did not take the message; the server's log has the reason", messageNoMail, true, false},
	{CodeInvalidPurpose, "purpose is neither signup nor forgotpass", messageFailed, false, false},
	{CodeEmailTokenInvalid, "the token is unknown, used, expired, replaced by a newer one, or for another address or purpose", "This code is not valid. Please ask for a new one.", false, false},
}

// Codes returns every failure code in the order of the reference.
func Codes() []CodeInfo { return slices.Clone(codes) }

// Info returns the code's description and whether the code is known.
func (c Code) Info() (CodeInfo, bool) {
	i := slices.IndexFunc(codes, func(info CodeInfo) bool { return info.Code == c })
	if i < 0 {
		return CodeInfo{Code: c}, false
	}
	return codes[i], true
}

// A Failure is the expected end of a request that was understood but not
// granted. It is safe to show to the frontend; Messages are safe to show to
// the end user.
type Failure struct {
	Code Code
	// Reason is the short text for the frontend's developer.
	Reason string
	// Messages are for the end user; there is always at least one.
	Messages []string
	// Problems is set when Code is [CodeInvalidParams].
	Problems []Problem
	// RetryAfter is how long to wait before the next try; 0 when waiting makes
	// no difference. Replies have it as whole seconds, rounded up.
	RetryAfter time.Duration
}

// retryAfter is the wait that is asked for when something may work again a
// little later.
const retryAfter = time.Second

// Error returns the code and the reason.
func (f *Failure) Error() string { return string(f.Code) + ": " + f.Reason }

// Is makes errors.Is(err, api.Fail(code)) compare codes.
func (f *Failure) Is(target error) bool {
	other, ok := target.(*Failure)
	return ok && other.Code == f.Code
}

// Fail returns the failure with the code's own reason. Messages replace the
// code's own message when there are any.
func Fail(c Code, messages ...string) *Failure {
	info, known := c.Info()
	if !known {
		panic("api: undeclared failure code " + string(c)) // unreachable: codes are the constants above
	}
	if len(messages) == 0 {
		messages = []string{info.Message}
	}
	f := &Failure{Code: c, Reason: info.Reason, Messages: messages}
	if info.Retryable {
		f.RetryAfter = retryAfter
	}
	return f
}

// FailFields returns the failure with the names of the fields it is about
// appended to the reason. Names are shown as they were sent, without anything
// that could forge a line of a log.
func FailFields(c Code, names []string) *Failure {
	f := Fail(c)
	clean := make([]string, len(names))
	for i, name := range names {
		clean[i] = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, name)
		if len(clean[i]) > 64 {
			clean[i] = strings.ToValidUTF8(clean[i][:64], "") + "…"
		}
	}
	f.Reason += ": " + strings.Join(clean, ", ")
	return f
}

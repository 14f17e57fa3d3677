package api

// UserValidatePass checks a password against the password policy, without
// looking at the database.
//
// The optional parameters count only where they are stricter than the
// configured policy.
var UserValidatePass = define[UserValidatePassParams, UserValidatePassResult](Spec{
	Name:     "user-validatepass",
	ReadOnly: true,
	Limit:    LimitUser,
	Fails:    []Code{CodePasswordInsecure},
})

// UserValidatePassParams are the parameters of [UserValidatePass].
type UserValidatePassParams struct {
	// Password is the password to check.
	Password Password `json:"password"`
	// Email must not be too similar to the password.
	Email Email `json:"email"`
	// FullName must not be too similar to the password.
	FullName string `json:"full_name"`
	// MinPassLength is the smallest number of characters.
	MinPassLength Opt[int64] `json:"min_pass_length,omitzero"`
	// MaxUnsafeSimilarity is the similarity in percent that is refused.
	MaxUnsafeSimilarity Opt[int64] `json:"max_unsafe_similarity,omitzero"`
	// MaxCharacterFrequency is the largest share of one character.
	MaxCharacterFrequency Opt[Float] `json:"max_character_frequency,omitzero"`
	// MinPwnedMatches is how often a password must have been seen in
	// breaches to be refused.
	MinPwnedMatches Opt[int64] `json:"min_pwned_matches,omitzero"`
}

// UserValidatePassResult is the empty result of [UserValidatePass].
type UserValidatePassResult struct{}

// UserChangePass changes the password of a user who knows the current one.
//
// The session must belong to the user; it goes on. All other sessions of the
// user end, and the user's session-less API keys are revoked. An unknown or
// inactive user costs what a wrong password costs.
var UserChangePass = define[UserChangePassParams, UserChangePassResult](Spec{
	Name:   "user-changepass",
	Limit:  LimitFixed5,
	Hashes: 2,
	Fails:  changePassFails(CodeSessionNotFound),
})

// UserChangePassParams are the parameters of [UserChangePass].
type UserChangePassParams struct {
	// UserID is the user's id.
	UserID int64 `json:"user_id"`
	// SessionToken is a session of the user, and the one that goes on.
	SessionToken SessionToken `json:"session_token"`
	// FullName must not be too similar to the new password; the stored name
	// counts as well.
	FullName string `json:"full_name"`
	// Email must be the user's address.
	Email Email `json:"email"`
	// CurrentPassword is the password so far.
	CurrentPassword Password `json:"current_password"`
	// NewPassword must differ and keep to the password policy.
	NewPassword Password `json:"new_password"`
}

// UserChangePassResult is the result of [UserChangePass] and
// [UserChangePassNoSession].
type UserChangePassResult struct {
	// UserID is the id as sent.
	UserID int64 `json:"user_id" failure:"present"`
	// Email is the address as sent.
	Email Email `json:"email" failure:"present"`
	Notes `json:"-"`
}

// UserChangePassNoSession is user-changepass for frontends that keep no
// session here: all sessions of the user end.
var UserChangePassNoSession = define[UserChangePassNoSessionParams, UserChangePassResult](Spec{
	Name:   "user-changepass-nosession",
	Limit:  LimitUser,
	Hashes: 2,
	Fails:  changePassFails(),
})

func changePassFails(more ...Code) []Code {
	return append(more, CodeUserNotFound, CodePasswordWrong, CodePasswordUnchanged, CodeNewPasswordInsecure,
		CodePasswordNotChanged, CodeProtectedUser, CodeTooManyFailures, CodeBusy)
}

// UserChangePassNoSessionParams are the parameters of
// [UserChangePassNoSession].
type UserChangePassNoSessionParams struct {
	// UserID is the user's id.
	UserID int64 `json:"user_id"`
	// FullName must not be too similar to the new password; the stored name
	// counts as well.
	FullName string `json:"full_name"`
	// Email must be the user's address.
	Email Email `json:"email"`
	// CurrentPassword is the password so far.
	CurrentPassword Password `json:"current_password"`
	// NewPassword must differ and keep to the password policy.
	NewPassword Password `json:"new_password"`
}

// UserResetPass sets a new password for an active user whose identity the
// frontend has established by mail.
//
// The session may be any that has not expired; it need not be the user's. When
// verification_token is given, it must be valid, and it is used up by success.
// All sessions of the user end, and the user's session-less API keys are
// revoked.
var UserResetPass = define[UserResetPassParams, UserResetPassResult](Spec{
	Name:   "user-resetpass",
	Limit:  LimitFixed5,
	Hashes: 1,
	Fails: []Code{
		CodeSessionNotFound, CodeUserNotFound, CodeEmailTokenInvalid, CodeNewPasswordInsecure, CodePasswordNotChanged,
		CodeProtectedUser, CodeBusy,
	},
	Done: "The password was set. You were logged out everywhere.",
})

// UserResetPassParams are the parameters of [UserResetPass].
type UserResetPassParams struct {
	// Email is the user's address.
	Email Email `json:"email_address"`
	// NewPassword must keep to the password policy.
	NewPassword Password `json:"new_password"`
	// SessionToken is the session under which the reset is made.
	SessionToken SessionToken `json:"session_token"`
	// VerificationToken is a token with the purpose forgotpass that the
	// server made.
	VerificationToken Strict[Null[Secret]] `json:"verification_token,omitzero"`
}

// UserResetPassResult is the empty result of [UserResetPass] and
// [UserResetPassNoSession].
type UserResetPassResult struct{}

// UserResetPassNoSession is user-resetpass without a session, for active or
// for inactive users. It does not make an inactive user active.
var UserResetPassNoSession = define[UserResetPassNoSessionParams, UserResetPassResult](Spec{
	Name:   "user-resetpass-nosession",
	Limit:  LimitUser,
	Hashes: 1,
	Fails: []Code{
		CodeUserStateWrong, CodeEmailTokenInvalid, CodeNewPasswordInsecure, CodePasswordNotChanged, CodeProtectedUser, CodeBusy,
	},
	Done: "The password was set. You were logged out everywhere.",
})

// UserResetPassNoSessionParams are the parameters of
// [UserResetPassNoSession].
type UserResetPassNoSessionParams struct {
	// Email is the user's address.
	Email Email `json:"email_address"`
	// NewPassword must keep to the password policy.
	NewPassword Password `json:"new_password"`
	// RequiredActive is the state of is_active that the user must be in.
	RequiredActive bool `json:"required_active"`
	// VerificationToken is a token with the purpose forgotpass that the
	// server made.
	VerificationToken Strict[Null[Secret]] `json:"verification_token,omitzero"`
}

// Notes lets an action add messages of its own to a successful reply, which
// then replace the request's Done.
type Notes struct{ Messages []string }

// OwnMessages returns the messages.
func (n Notes) OwnMessages() []string { return n.Messages }

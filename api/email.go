package api

// UserSetEmailVerified records that a user has proven to own the e-mail
// address, which makes a user who signed up active, in the role
// authenticated.
//
// A user who was verified before and is locked or inactive stays so; the
// request succeeds and the result says what the user is. That the proof was
// made is the frontend's word.
var UserSetEmailVerified = define[UserSetEmailVerifiedParams, UserSetEmailVerifiedResult](Spec{
	Name:    "user-set-emailverified",
	Aliases: []string{"user-verify-emailaddr"},
	Limit:   LimitUserEmail,
	Fails:   []Code{CodeUserNotFound, CodeProtectedUser},
	Done:    "The e-mail address was verified.",
})

// UserSetEmailVerifiedParams are the parameters of [UserSetEmailVerified].
type UserSetEmailVerifiedParams struct {
	// Email is looked up exactly as sent first, then in its normalised form.
	Email Email `json:"email"`
}

// UserSetEmailVerifiedResult is the result of [UserSetEmailVerified].
type UserSetEmailVerifiedResult struct {
	// UserID is the user's id.
	UserID *int64 `json:"user_id" failure:"present"`
	// IsActive is the user's state after the request.
	IsActive bool `json:"is_active" failure:"present"`
	// UserRole is the user's role after the request; "locked" after a
	// failure.
	UserRole string `json:"user_role" failure:"present"`
}

// UserSetEmailSent records that the frontend itself has just sent a mail.
var UserSetEmailSent = define[UserSetEmailSentParams, UserSetEmailSentResult](Spec{
	Name:  "user-set-emailsent",
	Limit: LimitFixed2Email,
	Fails: []Code{CodeInvalidEmailType, CodeUserNotFound, CodeProtectedUser},
	Done:  "The date was recorded.",
})

// UserSetEmailSentParams are the parameters of [UserSetEmailSent].
type UserSetEmailSentParams struct {
	// Email is looked up exactly as sent first, then in its normalised form.
	Email Email `json:"email"`
	// EmailType is "signup" or "forgotpass".
	EmailType string `json:"email_type"`
}

// UserSetEmailSentResult is the result of [UserSetEmailSent].
type UserSetEmailSentResult struct {
	// Email is the user's stored address.
	Email Email `json:"email"`
	// EmailVerifySentOn is when a sign-up mail was last sent.
	EmailVerifySentOn Time `json:"emailverify_sent_datetime"`
	// EmailForgotPassSentOn is when a forgotten-password mail was last sent.
	EmailForgotPassSentOn Time `json:"emailforgotpass_sent_datetime"`
	// UserID is the user's id.
	UserID int64 `json:"user_id"`
	// IsActive is the user's state.
	IsActive bool `json:"is_active"`
	// UserRole is the user's role.
	UserRole string `json:"user_role"`
}

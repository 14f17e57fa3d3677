package api

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// UserSendEmailSignUp mails a user who signed up how to verify the address.
//
// The answer comes after the mail server took the message. The message holds
// verification_token, which the frontend made and will compare; with null the
// server makes one, which user-check-emailtoken or user-set-emailverified takes
// later. The mail server and the sender are the server's options and cannot be
// chosen by the request.
var UserSendEmailSignUp = define[UserSendEmailSignUpParams, UserSendEmailSignUpResult](Spec{
	Name:    "user-sendemail-signup",
	Aliases: []string{"user-signup-sendemail"},
	Limit:   LimitFixed2Email,
	Fails: []Code{
		CodeMailSettingsMissing, CodeVerificationNotWanted, CodeUserNotFound, CodeUserAlreadyActive, CodeSessionNotFound,
		CodeMailNotSent,
	},
	Done: messageSignUp,
})

// UserSendEmailSignUpParams are the parameters of [UserSendEmailSignUp].
type UserSendEmailSignUpParams struct {
	// Email is the address that signed up.
	Email Email `json:"email_address"`
	// SessionToken is any session that has not expired; its address and user
	// agent are shown in the message.
	SessionToken SessionToken `json:"session_token"`
	// CreatedInfo is the response of user-new.
	CreatedInfo CreatedInfo `json:"created_info"`
	// ServerName is the name of the frontend's site.
	ServerName string `json:"server_name"`
	// ServerBaseURL is where the site is.
	ServerBaseURL string `json:"server_baseurl"`
	// AccountVerifyURL follows server_baseurl, without anything between them,
	// in the link to the page that takes the code.
	AccountVerifyURL Strict[string] `json:"account_verify_url,omitzero"`
	// ServerVerifyURL counts when account_verify_url is left out; one of them
	// must be there.
	ServerVerifyURL Strict[string] `json:"server_verify_url,omitzero"`
	// VerificationToken is the code; with null the server makes one.
	VerificationToken Null[Secret] `json:"verification_token"`
	// VerificationExpiry is the code's lifetime in seconds.
	VerificationExpiry int64 `json:"verification_expiry" min:"1" max:"3153600000"`
}

// CreatedInfo is what of a response of user-new counts when it is sent back.
// Its other members are ignored.
type CreatedInfo struct {
	// SendVerification is the member send_verification.
	SendVerification bool
	// UserID is the member user_id.
	UserID int64
}

// MarshalJSON returns the object with the members that count.
func (c CreatedInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		SendVerification bool  `json:"send_verification"`
		UserID           int64 `json:"user_id"`
	}{c.SendVerification, c.UserID})
}

func (*CreatedInfo) words() []string { return []string{"dict"} }

func (c *CreatedInfo) decode(raw jsontext.Value, b bounds) string {
	members, problem := soundMembers(nil, raw, b)
	if problem != "" {
		return problem
	}
	return firstProblem(
		memberProblem(members, "send_verification", &c.SendVerification, bounds{}),
		memberProblem(members, "user_id", &c.UserID, anyNumber()),
	)
}

// UserSendEmailSignUpResult is the result of [UserSendEmailSignUp].
type UserSendEmailSignUpResult struct {
	// UserID is the user's id.
	UserID *int64 `json:"user_id" failure:"present"`
	// EmailAddress is the user's stored address.
	EmailAddress *Email `json:"email_address" failure:"present"`
	// EmailVerifySentOn is when the message was sent.
	EmailVerifySentOn Time `json:"emailverify_sent_datetime" failure:"present"`
	// VerifyEmailSentOn is the same, under the name of the first generation.
	VerifyEmailSentOn Time `json:"verifyemail_sent_datetime" failure:"present"`
}

// UserSendEmailForgotPass mails a user how to set a new password.
//
// The answer comes after the mail server took the message, of which a user
// gets at most one in 24 hours. What the end user is told is the same whether
// or not there is such a user. For the token see user-sendemail-signup; one
// that the server made is taken by user-check-emailtoken, user-resetpass and
// user-resetpass-nosession.
var UserSendEmailForgotPass = define[UserSendEmailForgotPassParams, UserSendEmailForgotPassResult](Spec{
	Name:    "user-sendemail-forgotpass",
	Aliases: []string{"user-forgotpass-sendemail"},
	Limit:   LimitFixed2Email,
	Fails: []Code{
		CodeMailSettingsMissing, CodeUserNotFound, CodeMailSentRecently, CodeSessionNotFound, CodeMailNotSent,
	},
	Done: "If there is an account with this e-mail address, a message was sent to it.",
})

// UserSendEmailForgotPassParams are the parameters of
// [UserSendEmailForgotPass].
type UserSendEmailForgotPassParams struct {
	// Email is the user's address.
	Email Email `json:"email_address"`
	// SessionToken is any session that has not expired; its address and user
	// agent are shown in the message.
	SessionToken SessionToken `json:"session_token"`
	// ServerName is the name of the frontend's site.
	ServerName string `json:"server_name"`
	// ServerBaseURL is where the site is.
	ServerBaseURL string `json:"server_baseurl"`
	// PasswordForgotURL follows server_baseurl, without anything between
	// them, in the link to the page that takes the code.
	PasswordForgotURL string `json:"password_forgot_url"`
	// VerificationToken is the code; with null the server makes one.
	VerificationToken Null[Secret] `json:"verification_token"`
	// VerificationExpiry is the code's lifetime in seconds.
	VerificationExpiry int64 `json:"verification_expiry" min:"1" max:"3153600000"`
}

// UserSendEmailForgotPassResult is the result of [UserSendEmailForgotPass].
type UserSendEmailForgotPassResult struct {
	// UserID is the user's id.
	UserID *int64 `json:"user_id" failure:"present"`
	// EmailAddress is the user's stored address.
	EmailAddress *Email `json:"email_address" failure:"present"`
	// EmailForgotPassSentOn is when the message was sent.
	EmailForgotPassSentOn Time `json:"emailforgotpass_sent_datetime" failure:"present"`
	// ForgotEmailSentOn is the same, under the name of the first generation.
	ForgotEmailSentOn Time `json:"forgotemail_sent_datetime" failure:"present"`
}

// UserNewEmailToken makes a token with which a user can prove to own the
// e-mail address, for frontends that send the message themselves.
//
// The token works once, for this user, address and purpose, and makes older
// ones of the purpose invalid. It is stored as a digest. Purpose signup is for
// users who were never verified, forgotpass for users who may log in.
var UserNewEmailToken = define[UserNewEmailTokenParams, UserNewEmailTokenResult](Spec{
	Name:     "user-new-emailtoken",
	Limit:    LimitFixed2Email,
	Addition: true,
	Fails:    []Code{CodeInvalidPurpose, CodeUserNotFound, CodeUserAlreadyActive},
	Done:     "The code was made.",
})

// UserNewEmailTokenParams are the parameters of [UserNewEmailToken].
type UserNewEmailTokenParams struct {
	// Email is the user's address.
	Email Email `json:"email"`
	// Purpose is "signup" or "forgotpass".
	Purpose string `json:"purpose"`
	// ExpiresSeconds is the token's lifetime: an hour when it is left out, at
	// most 30 days.
	ExpiresSeconds Strict[int64] `json:"expires_seconds,omitzero" min:"1" max:"2592000"`
}

// UserNewEmailTokenResult is the result of [UserNewEmailToken].
type UserNewEmailTokenResult struct {
	// UserID is the user's id.
	UserID *int64 `json:"user_id" failure:"present"`
	// VerificationToken is the token.
	VerificationToken *Secret `json:"verification_token" failure:"present"`
	// Expires is the end of the token's lifetime.
	Expires Time `json:"expires" failure:"present"`
}

// UserCheckEmailToken checks a token that the server made, and uses it up.
//
// Mail programs and virus scanners follow links with GET and HEAD: a frontend
// should ask with peek, which leaves the token valid, when it shows the page
// behind the link, and use the token up when the user sends the form. Better
// still, it passes the token to user-set-emailverified or user-resetpass, which
// use it up together with what they do.
var UserCheckEmailToken = define[UserCheckEmailTokenParams, UserCheckEmailTokenResult](Spec{
	Name:     "user-check-emailtoken",
	Limit:    LimitUserEmail,
	Addition: true,
	Fails:    []Code{CodeInvalidPurpose, CodeEmailTokenInvalid},
	Done:     "The code is valid.",
})

// UserCheckEmailTokenParams are the parameters of [UserCheckEmailToken].
type UserCheckEmailTokenParams struct {
	// Email is the user's address.
	Email Email `json:"email"`
	// Purpose is what the token was made for.
	Purpose string `json:"purpose"`
	// VerificationToken is the token.
	VerificationToken Secret `json:"verification_token"`
	// Peek leaves the token valid.
	Peek Strict[bool] `json:"peek,omitzero"`
}

// UserCheckEmailTokenResult is the result of [UserCheckEmailToken].
type UserCheckEmailTokenResult struct {
	// UserID is the user who owns the address.
	UserID *int64 `json:"user_id" failure:"present"`
}

// UserSetEmailVerified records that a user has proven to own the e-mail
// address, which makes a user who signed up active, in the role
// authenticated.
//
// A user who was verified before and is locked or inactive stays so; the
// request succeeds and the result says what the user is. That the proof was
// made is the frontend's word, unless it passes the token that the server made,
// which is then used up.
var UserSetEmailVerified = define[UserSetEmailVerifiedParams, UserSetEmailVerifiedResult](Spec{
	Name:    "user-set-emailverified",
	Aliases: []string{"user-verify-emailaddr"},
	Limit:   LimitUserEmail,
	Fails:   []Code{CodeUserNotFound, CodeProtectedUser, CodeEmailTokenInvalid},
	Done:    "The e-mail address was verified.",
})

// UserSetEmailVerifiedParams are the parameters of [UserSetEmailVerified].
type UserSetEmailVerifiedParams struct {
	// Email is looked up exactly as sent first, then in its normalised form.
	Email Email `json:"email"`
	// VerificationToken is a token with the purpose signup that the server
	// made.
	VerificationToken Strict[Null[Secret]] `json:"verification_token,omitzero"`
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

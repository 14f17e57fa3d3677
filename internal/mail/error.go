package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"strings"
)

// A Code names a kind of failure.
type Code string

// The failure codes.
const (
	CodeUnreachable      Code = "mail_server_unreachable"
	CodeTimeout          Code = "mail_timeout"
	CodeTLSFailed        Code = "mail_tls_failed"
	CodeAuthFailed       Code = "mail_auth_failed"
	CodeRecipientRefused Code = "mail_recipient_refused"
	CodeRefused          Code = "mail_refused"
	CodeBusy             Code = "mail_busy"
	CodeInvalid          Code = "mail_invalid"
)

// reasons tells what each code means and what to do.
var reasons = map[Code]string{
	CodeUnreachable:      "the mail server could not be reached or closed the connection; check emailserver and emailport",
	CodeTimeout:          "the mail server did not finish in time; check emailport and emailtls, and whether the server is slow",
	CodeTLSFailed:        "there is no safe connection to the mail server; check emailtls",
	CodeAuthFailed:       "the mail server did not accept the login; check emailuser and emailpass",
	CodeRecipientRefused: "the mail server refused the recipient; its log says why",
	CodeRefused:          "the mail server refused; its log says why",
	CodeBusy:             "all connections to the mail server stayed in use",
	CodeInvalid:          "the recipient's address cannot be used",
}

// An Error tells why a message was not sent.
type Error struct {
	Code Code
	// Status is the SMTP status of the server's refusal (RFC 5321 §4.2), 0
	// when the server refused nothing.
	Status int
	// Enhanced is its enhanced status code (RFC 3463) such as 5.1.1, or empty.
	Enhanced string

	reason  string            // takes the place of the code's own, when not empty
	cause   error             // what happened
	secrets *strings.Replacer // takes credentials out of the cause's text; nil when none were sent
}

// Error returns the code, the SMTP status and what to do. It is fit for a log:
// it holds no address, no credential and none of the server's words.
func (e *Error) Error() string {
	reason := e.reason
	if reason == "" {
		reason = reasons[e.Code]
	}
	if e.Status == 0 {
		return string(e.Code) + ": " + reason
	}
	return fmt.Sprintf("%s: %s (SMTP status %s)", e.Code, reason, strings.TrimSpace(fmt.Sprintf("%d %s", e.Status, e.Enhanced)))
}

// Unwrap returns the cause. Its text may hold whatever the server said, also
// the recipient's address or a credential: it isn't fit for a log.
func (e *Error) Unwrap() error { return e.cause }

// Temporary reports whether the same message may be accepted later.
func (e *Error) Temporary() bool {
	switch {
	case e.Status != 0:
		return e.Status >= 400 && e.Status < 500
	default:
		return e.Code == CodeUnreachable || e.Code == CodeTimeout || e.Code == CodeBusy
	}
}

// maxDetail is how much is shown of what a server said, in characters. A reply
// of RFC 5321 §4.5.3.1.5 has a line of 512 bytes, and few lines.
const maxDetail = 2000

// Detail returns the server's own words, or the cause's text when the server
// said nothing: in one line, without control characters and credentials. It
// may hold personal data and is meant for the operator's terminal alone.
func (e *Error) Detail() string {
	if e.cause == nil {
		return ""
	}
	text := e.cause.Error()
	var refusal *textproto.Error
	if errors.As(e.cause, &refusal) {
		text = refusal.Msg
	}
	if e.secrets != nil {
		text = e.secrets.Replace(text)
	}
	return truncate(oneLine(strings.ReplaceAll(text, "\n", " ")), maxDetail)
}

// failure returns the error of a step of a conversation in which a refusal
// has the code.
func failure(code Code, err error) *Error {
	e := &Error{Code: code, cause: err}
	var refusal *textproto.Error
	var malformed textproto.ProtocolError
	switch {
	case errors.As(err, &refusal):
		e.Status, e.Enhanced = refusal.Code, enhancedStatus(refusal)
		if refusal.Code == 530 { // RFC 4954 §6, RFC 3207 §4
			e.reason = "the mail server demands a login or TLS first; check emailuser, emailpass and emailtls"
		}
	case errors.As(err, &malformed) || errors.Is(err, errTooLong):
		e.Code = CodeRefused
		e.reason = "what answers does not speak SMTP; check emailserver and emailport"
	case isTimeout(err):
		e.Code = CodeTimeout
	default:
		e.Code = CodeUnreachable
	}
	return e
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// ended returns the error of a conversation that was cut because its context
// ended.
func ended(ctx context.Context, err error) *Error {
	e := &Error{Code: CodeTimeout, cause: errors.Join(ctx.Err(), err)}
	if errors.Is(ctx.Err(), context.Canceled) {
		e.reason = "sending was cancelled before the mail server had answered"
	}
	return e
}

var enhancedForm = regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}(?:\s|$)`)

// enhancedStatus returns the enhanced status code with which a refusal's text
// begins, or nothing.
func enhancedStatus(refusal *textproto.Error) string {
	return strings.TrimSpace(enhancedForm.FindString(refusal.Msg))
}

// tlsFailure returns the error of a TLS handshake.
func tlsFailure(err error) *Error {
	e := &Error{Code: CodeTLSFailed, cause: err}
	var (
		refusal   *textproto.Error
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &refusal):
		e.Status, e.Enhanced = refusal.Code, enhancedStatus(refusal)
		e.reason = "the mail server did not start TLS"
	case errors.As(err, &authority):
		e.reason = "no known authority signed the mail server's certificate; add yours to SSL_CERT_FILE or SSL_CERT_DIR"
	case errors.As(err, &name):
		e.reason = "the mail server's certificate is for another name than emailserver"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.reason = "the mail server's certificate has expired or is not valid yet"
	case errors.As(err, &record):
		e.reason = "what answers does not speak TLS; check emailport and emailtls"
	}
	return e
}

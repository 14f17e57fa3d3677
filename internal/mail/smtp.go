package mail

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/log"
	"github.com/wneessen/go-mail/smtp"
)

const (
	// goodbyeBudget is how long the answer to QUIT is waited for. It changes
	// nothing any more, and somebody waits.
	goodbyeBudget = 200 * time.Millisecond
	// maxAnswers bounds what a server may say in a conversation, in bytes. A
	// handshake and all replies take less than 20 KiB.
	maxAnswers = 256 << 10
	// maxIterations bounds the work that a server can ask for in a SCRAM
	// login: about half a second. Servers ask for 4,096 (RFC 7677 §4) to some
	// 100,000.
	maxIterations = 1_000_000
)

// errTooLong is the end of a conversation with a server that talks without an
// end.
var errTooLong = errors.New("the server said too much")

// A serverConn reads maxAnswers bytes at most and keeps the first of them.
type serverConn struct {
	net.Conn
	left     int
	keep     bool
	greeting []byte // what was read while keep was true
}

func (c *serverConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooLong
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	if c.keep {
		c.greeting = append(c.greeting, p[:n]...)
	}
	return n, err
}

// deliver sends a message in a conversation of its own (RFC 5321).
//
// It goes through the steps itself, with the commands of the library's smtp
// package: the library's Client does not tell in which step a conversation
// failed, and reports a message as not sent that the server took before it
// failed to answer the command after it.
func (s *Sender) deliver(ctx context.Context, to string, msg *gomail.Msg) *Error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", s.address)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return ended(ctx, err)
	case err != nil:
		return &Error{Code: CodeUnreachable, cause: err}
	}
	// Closing ends every read and write, also under TLS. It is the only limit
	// of time that a server cannot push out by saying a little now and then.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		stop()
		_ = conn.Close()
	}()
	f := s.converse(ctx, conn, to, msg)
	if f != nil && ctx.Err() != nil && (f.Status == 0 || errors.Is(f.cause, net.ErrClosed)) {
		return ended(ctx, f.cause)
	}
	return f
}

func (s *Sender) converse(ctx context.Context, conn net.Conn, to string, msg *gomail.Msg) *Error {
	if s.implicitTLS() {
		secured := tls.Client(conn, s.tlsConfig())
		err := secured.HandshakeContext(ctx)
		if err != nil {
			return tlsFailure(err)
		}
		conn = secured
	}
	client, err := s.connect(conn)
	if err != nil {
		return failure(CodeRefused, err)
	}
	f := s.dialogue(client, to, msg)
	if f == nil || f.Status != 0 {
		// Whether the server answers to the farewell does not matter.
		_ = conn.SetDeadline(time.Now().Add(goodbyeBudget))
		_ = client.Quit()
	}
	return f
}

// connect waits for the server's greeting.
func (s *Sender) connect(conn net.Conn) (*smtp.Client, error) {
	server := &serverConn{Conn: conn, left: maxAnswers, keep: s.options.Trace != nil}
	client, err := smtp.NewClient(server, s.options.Host)
	server.keep = false
	if len(server.greeting) > 0 {
		s.trace("<", strings.TrimSuffix(string(server.greeting), "\r\n"))
	}
	if err != nil {
		return nil, err
	}
	client.SkipSMTPUTF8(true) // addresses are ASCII
	if s.options.Trace != nil {
		client.SetLogger(tracer{s})
		client.SetDebugLog(true)
	}
	return client, nil
}

// dialogue goes from the client's introduction to the server's answer to the
// message.
func (s *Sender) dialogue(client *smtp.Client, to string, msg *gomail.Msg) *Error {
	err := client.Hello(s.options.HelloName)
	if err != nil {
		return s.refusal(CodeRefused, err)
	}
	f := s.secure(client)
	if f == nil && s.options.Password != "" {
		f = s.login(client)
	}
	if f == nil {
		f = s.transact(client, to, msg)
	}
	return f
}

// refusal returns the error of a command.
func (s *Sender) refusal(code Code, err error) *Error {
	s.traceRefusal(err)
	return failure(code, err)
}

// traceRefusal shows a reply that the library does not, since it is not the one
// expected.
func (s *Sender) traceRefusal(err error) {
	var refusal *textproto.Error
	if errors.As(err, &refusal) {
		s.trace("<", replyText(strconv.Itoa(refusal.Code), refusal.Msg))
	}
}

func (s *Sender) implicitTLS() bool {
	return s.options.TLS == TLSImplicit || s.options.TLS != TLSOff && s.options.Port == implicitTLSPort
}

// secure starts TLS where the mode wants it and the server has it.
func (s *Sender) secure(client *smtp.Client) *Error {
	if s.implicitTLS() {
		return nil
	}
	offered, _ := client.Extension("STARTTLS")
	switch {
	case offered && s.options.TLS != TLSOff:
		err := client.StartTLS(s.tlsConfig())
		if err != nil {
			s.traceRefusal(err)
			return tlsFailure(err)
		}
		return nil
	case s.options.TLS == TLSRequire || s.options.TLS == TLSInsecure:
		return &Error{Code: CodeTLSFailed, reason: "the mail server does not offer STARTTLS; check emailport and emailtls"}
	case s.options.Password != "" && !s.local:
		return &Error{Code: CodeTLSFailed, reason: "the password is not sent without TLS, which is off or not offered; check emailport, emailtls and emailpass"}
	default:
		return nil
	}
}

func (s *Sender) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName:         s.options.Host,
		RootCAs:            s.options.RootCAs,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: s.options.TLS == TLSInsecure || s.options.TLS == TLSAuto && s.local,
	}
}

// login does the AUTH command (RFC 4954). secure saw to it that the connection
// is fit for credentials.
func (s *Sender) login(client *smtp.Client) *Error {
	_, offered := client.Extension("AUTH")
	mechanism := s.mechanism(strings.Fields(offered))
	if mechanism == nil {
		return &Error{
			Code: CodeAuthFailed, cause: fmt.Errorf("the server offers the AUTH mechanisms %q", offered),
			reason: "the mail server offers no login that is known here; check emailport and emailtls, or leave emailpass empty",
		}
	}
	err := client.Auth(mechanism)
	var notBase64 base64.CorruptInputError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errMechanism) || errors.As(err, &notBase64):
		return &Error{Code: CodeAuthFailed, cause: err, reason: "the login could not be completed; check emailuser and emailpass"}
	default:
		return failure(CodeAuthFailed, err)
	}
}

// mechanism returns the best of the mechanisms that the server offers, nil when
// none is known here. Those by which the password is not seen stand first: in
// some modes the other side may not be who it says.
func (s *Sender) mechanism(offered []string) smtp.Auth {
	user, password, host := s.options.User, s.options.Password, s.options.Host
	for _, m := range []struct {
		name string
		auth smtp.Auth
	}{
		{"SCRAM-SHA-256", smtp.ScramSHA256Auth(user, password)},
		{"SCRAM-SHA-1", smtp.ScramSHA1Auth(user, password)},
		{"CRAM-MD5", smtp.CRAMMD5Auth(user, password)},
		{"PLAIN", smtp.PlainAuth("", user, password, host, true)},
		{"LOGIN", smtp.LoginAuth(user, password, host, true)},
	} {
		if slices.ContainsFunc(offered, func(name string) bool { return strings.EqualFold(name, m.name) }) {
			return guarded{m.auth}
		}
	}
	return nil
}

// errMechanism marks what went wrong in a login without a refusal by the
// server.
var errMechanism = errors.New("log in")

// A guarded mechanism marks its own errors, and does not work without bounds
// for the server.
type guarded struct{ smtp.Auth }

var iterations = regexp.MustCompile(`,i=([^,]*)`) // of SCRAM, RFC 5802 §5.1

// Next answers a challenge of the server.
func (g guarded) Next(challenge []byte, more bool) ([]byte, error) {
	if found := iterations.FindSubmatch(challenge); found != nil {
		count, err := strconv.Atoi(string(found[1]))
		if err != nil || count > maxIterations {
			return nil, fmt.Errorf("%w: the server asks for too much work", errMechanism)
		}
	}
	response, err := g.Auth.Next(challenge, more)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMechanism, err)
	}
	return response, nil
}

// transact sends a message to one recipient.
func (s *Sender) transact(client *smtp.Client, to string, msg *gomail.Msg) *Error {
	err := client.Mail(mailbox(s.from.Address))
	if err != nil {
		return s.refusal(CodeRefused, err)
	}
	err = client.Rcpt(mailbox(to))
	if err != nil {
		return s.refusal(CodeRecipientRefused, err)
	}
	w, err := client.Data()
	if err != nil {
		return s.refusal(CodeRefused, err)
	}
	s.trace(">", "[message]")
	_, err = msg.WriteTo(w)
	if err != nil {
		return failure(CodeRefused, err)
	}
	err = w.Close()
	if err != nil {
		return s.refusal(CodeRefused, err)
	}
	if w, ok := w.(*smtp.DataCloser); ok {
		s.trace("<", replyText("250", w.ServerResponse()))
	}
	return nil
}

// maxTraced is the most characters of a line that are traced.
const maxTraced = 1000

// trace shows lines of the conversation: the client's when who is ">", the
// server's when it is "<".
func (s *Sender) trace(who, lines string) {
	if s.options.Trace == nil {
		return
	}
	for line := range strings.SplitSeq(lines, "\n") {
		s.options.Trace(who + " " + truncate(oneLine(s.secrets.Replace(line)), maxTraced))
	}
}

// replyText returns a reply with its code before every line.
func replyText(code, text string) string {
	return code + " " + strings.ReplaceAll(text, "\n", "\n"+code+" ")
}

// hidden is what stands in the place of credentials.
const hidden = "[credentials]"

// secretsOf returns what takes credentials out of a text, in the forms in which
// they are sent: servers repeat commands that they don't understand.
func secretsOf(user, password string) *strings.Replacer {
	if password == "" {
		return strings.NewReplacer()
	}
	var pairs []string
	for _, secret := range []string{"\x00" + user + "\x00" + password, password, user} {
		pairs = append(pairs, base64.StdEncoding.EncodeToString([]byte(secret)), hidden)
	}
	return strings.NewReplacer(append(pairs, password, hidden)...)
}

// A tracer shows the library's side of a conversation. It implements
// log.Logger.
type tracer struct{ s *Sender }

// libraryHidden is what the library shows in the place of credentials.
const libraryHidden = "<SMTP auth data redacted>"

// Debugf shows a command or a reply.
func (t tracer) Debugf(l log.Log) {
	text := strings.ReplaceAll(fmt.Sprintf(l.Format, l.Messages...), libraryHidden, hidden)
	if l.Direction == log.DirClientToServer {
		t.s.trace(">", text)
		return
	}
	code, reply, _ := strings.Cut(text, " ")
	t.s.trace("<", replyText(code, reply))
}

// Infof does what Debugf does.
func (t tracer) Infof(l log.Log) { t.Debugf(l) }

// Warnf does what Debugf does.
func (t tracer) Warnf(l log.Log) { t.Debugf(l) }

// Errorf does what Debugf does.
func (t tracer) Errorf(l log.Log) { t.Debugf(l) }

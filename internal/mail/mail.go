// Package mail makes e-mail from templates and sends it through an SMTP server.
//
// A message has one recipient and counts as sent only when the server accepted
// it for that recipient. A conversation takes one connection and a bounded
// time, whatever the server does. Credentials travel under TLS or not at all,
// unless the server is on the same machine. No error text holds an address, a
// credential or the server's words, which usually repeat the address.
package mail

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"authnzerver/internal/identity"
)

// A TLSMode tells how connections are encrypted.
type TLSMode string

// The modes. On port 465 TLS starts with the first byte in all of them but
// TLSOff (RFC 8314 §3.3).
const (
	// TLSAuto uses TLS when the server offers it. Its certificate is verified
	// unless the server is on this machine: there it is often made by the
	// distribution and signed by nobody.
	TLSAuto TLSMode = "auto"
	// TLSRequire sends nothing without TLS and a verified certificate.
	TLSRequire TLSMode = "require"
	// TLSImplicit starts with TLS on any port and verifies the certificate.
	TLSImplicit TLSMode = "implicit"
	// TLSInsecure sends nothing without TLS and doesn't look at the
	// certificate, so that anybody between can pose as the server.
	TLSInsecure TLSMode = "insecure"
	// TLSOff never uses TLS.
	TLSOff TLSMode = "off"
)

const (
	// defaultConnections is how many messages are under way at once: more
	// than a mail server takes from one client is of no use, and Exim and
	// Postfix take 10 and 50.
	defaultConnections = 8
	// defaultTimeout is under the 5 s after which published clients give up.
	defaultTimeout = 3500 * time.Millisecond
	// implicitTLSPort is where TLS starts with the first byte (RFC 8314 §7.3).
	implicitTLSPort = 465
	// maxFrom bounds the sender, in bytes, so that its header fits into a line
	// even when its name is one long word.
	maxFrom = 500
)

// Options configure a Sender.
type Options struct {
	// Host is the mail server's name or IP address, Port its TCP port.
	Host string
	Port int
	// User and Password are sent when Password isn't empty.
	User, Password string
	// From is the sender as an RFC 5322 mailbox: "Name <address>" or
	// "address".
	From string
	// HelloName is the domain name by which the client introduces itself. It
	// is also the right side of message IDs when it has a dot; the domain of
	// From is otherwise. When empty, it is the machine's name.
	HelloName string
	// TLS is TLSAuto when empty.
	TLS TLSMode
	// RootCAs verify the server's certificate; nil for the system's.
	RootCAs *x509.CertPool
	// Connections is how many conversations there are at once, 8 when it is
	// not positive.
	Connections int
	// Timeout bounds a whole call of Send; 3.5 s when it is not positive.
	Timeout time.Duration
	// Now gives the date of messages; nil for time.Now.
	Now func() time.Time
	// Trace, when not nil, is told every line of every conversation, with "> "
	// before the client's and "< " before the server's, without the message
	// itself and with something else in the place of credentials. It holds
	// addresses, and several goroutines may call it at once.
	Trace func(line string)
}

// A Sender sends messages. It is safe for concurrent use.
type Sender struct {
	options  Options // with the defaults filled in
	address  string  // of the server, for dialling
	from     *mail.Address
	idDomain string // the right side of message IDs
	local    bool   // the server is on this machine
	secrets  *strings.Replacer
	slots    chan struct{}
}

// An OptionError tells what is wrong with an option, by its name in the
// configuration.
type OptionError struct{ Option, Message string }

// Error returns the name and the message.
func (e *OptionError) Error() string { return e.Option + ": " + e.Message }

// New returns a Sender. It opens no connection. Its error joins an
// [*OptionError] for each option that is wrong.
func New(o Options) (*Sender, error) {
	var errs []error
	fail := func(option, message string) { errs = append(errs, &OptionError{option, message}) }
	o.Host = strings.TrimSuffix(strings.TrimPrefix(o.Host, "["), "]")
	if _, err := netip.ParseAddr(o.Host); err != nil && !isDomain(o.Host) {
		fail("emailserver", "is not a host name or an IP address")
	}
	if o.Port < 1 || o.Port > 65535 {
		fail("emailport", "is not a number from 1 to 65535")
	}
	if strings.ContainsFunc(o.User+o.Password, unicode.IsControl) {
		fail("emailpass", "neither it nor emailuser may have control characters")
	}
	if o.Password != "" && o.User == "" {
		fail("emailuser", "is missing, though there is a password")
	}
	from, err := parseFrom(o.From)
	if err != nil {
		fail("emailsender", err.Error())
	}
	switch o.TLS {
	case "":
		o.TLS = TLSAuto
	case TLSAuto, TLSRequire, TLSImplicit, TLSInsecure, TLSOff:
	default:
		fail("emailtls", "is not auto, require, implicit, insecure or off")
	}
	if o.HelloName == "" {
		o.HelloName = machineName()
	}
	if !isDomain(o.HelloName) {
		fail("fqdn", "is not a host name")
	}
	if o.Connections < 1 {
		o.Connections = defaultConnections
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sender{
		options:  o,
		address:  net.JoinHostPort(o.Host, strconv.Itoa(o.Port)),
		from:     from,
		idDomain: o.HelloName,
		local:    isLoopback(o.Host),
		secrets:  secretsOf(o.User, o.Password),
		slots:    make(chan struct{}, o.Connections),
	}
	if !strings.Contains(o.HelloName, ".") {
		_, s.idDomain, _ = strings.Cut(from.Address, "@")
	}
	return s, nil
}

func parseFrom(text string) (*mail.Address, error) {
	from, err := mail.ParseAddress(text)
	if err != nil || len(text) > maxFrom {
		return nil, fmt.Errorf("is not an address, or a name and an address in angle brackets, of %d bytes or less", maxFrom)
	}
	err = identity.CheckEmailSyntax(from.Address)
	if err != nil {
		return nil, err
	}
	from.Name = oneLine(from.Name)
	return from, nil
}

// machineName returns the machine's name, localhost when it has none that
// could be shown to a mail server.
func machineName() string {
	name, err := os.Hostname()
	if err != nil || !isDomain(name) {
		return "localhost"
	}
	return name
}

// isDomain reports whether text may stand after the @ of an address.
func isDomain(text string) bool {
	return identity.CheckEmailSyntax("x@"+text) == nil
}

// mailbox returns an address in angle brackets, with the local part quoted
// where its dots demand it (RFC 5321 §4.1.2).
func mailbox(address string) string { return (&mail.Address{Address: address}).String() }

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}

// A Message is what is sent to one recipient.
type Message struct {
	// To is the recipient's bare address.
	To      string
	Subject string
	// Text is the plain form. One that is ASCII with lines of 998 bytes at
	// most arrives literally.
	Text string
	// HTML is the alternative form; there is none when it is empty.
	HTML string
}

// Send sends a message. It returns nil when the server accepted the message
// for its recipient, and an error that holds an [*Error] otherwise. It ends
// within the time-out, and at once when ctx does.
//
// After CodeTimeout and CodeUnreachable the server may nevertheless have the
// message, when the connection ended after the message and before the answer.
func (s *Sender) Send(ctx context.Context, m *Message) error {
	err := identity.CheckEmailSyntax(m.To)
	if err != nil {
		return &Error{Code: CodeInvalid, cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	err = s.take(ctx)
	if err != nil {
		return &Error{Code: CodeBusy, cause: err}
	}
	defer func() { <-s.slots }()
	f := s.deliver(ctx, m.To, s.compose(m))
	if f == nil {
		return nil
	}
	f.secrets = s.secrets
	return f
}

// take waits for a connection that may be opened. One that becomes free when
// hardly any time is left is as good as none: what fails then is not the mail
// server's fault.
func (s *Sender) take(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	end, _ := ctx.Deadline() // there is one
	if time.Until(end) < s.options.Timeout/10 {
		<-s.slots
		return context.DeadlineExceeded
	}
	return nil
}

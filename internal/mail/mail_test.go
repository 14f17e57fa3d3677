package mail_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	netmail "net/mail"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"

	"authnzerver/internal/mail"
	"authnzerver/test/smtpd"
)

const (
	recipient = "some.user+tag@example.org"
	username  = "smtp.account"
	password  = "a-Password+of/mail"
	sender    = "Prüfstelle <authnzerver@example.org>"
)

// patience is how long a conversation may take where a slow one is no failure.
const patience = 20 * time.Second

func message() *mail.Message {
	return &mail.Message{
		To: recipient, Subject: "Grüße: please verify", Text: "enter this code:\n\nabc==\n\ninto the account verification",
		HTML: "<p>Grüße, <b>abc</b></p>",
	}
}

func newSender(t testing.TB, o mail.Options) *mail.Sender {
	t.Helper()
	if o.From == "" {
		o.From = sender
	}
	if o.HelloName == "" {
		o.HelloName = "auth.example.org"
	}
	s, err := mail.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// optionsFor are those that fit a server.
func optionsFor(s *smtpd.Server) mail.Options {
	return mail.Options{Host: s.Host, Port: s.Port, RootCAs: s.Roots, Timeout: patience}
}

// failsWith checks how sending ended, and that nothing personal is said.
func failsWith(t testing.TB, err error, code mail.Code) *mail.Error {
	t.Helper()
	var failure *mail.Error
	if !errors.As(err, &failure) {
		t.Fatalf("sending ended in %v, want %s", err, code)
	}
	if failure.Code != code {
		t.Errorf("sending ended in %v (%s), want %s", err, failure.Detail(), code)
	}
	for _, secret := range []string{recipient, "some.user", "authnzerver@example.org", password, username} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error %q holds %q", err, secret)
		}
	}
	return failure
}

func TestSend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		server smtpd.Options
		modes  []mail.TLSMode
		login  bool
	}{
		{"plain", smtpd.Options{}, []mail.TLSMode{mail.TLSAuto, mail.TLSOff}, false},
		{"STARTTLS", smtpd.Options{TLS: "starttls"}, []mail.TLSMode{mail.TLSAuto, mail.TLSRequire, mail.TLSInsecure, mail.TLSOff}, false},
		{"implicit TLS", smtpd.Options{TLS: "implicit"}, []mail.TLSMode{mail.TLSImplicit}, false},
		{"with a login", smtpd.Options{TLS: "starttls", User: username, Password: password}, []mail.TLSMode{mail.TLSAuto, mail.TLSRequire, mail.TLSInsecure}, true},
		{"with a login and implicit TLS", smtpd.Options{TLS: "implicit", User: username, Password: password}, []mail.TLSMode{mail.TLSImplicit}, true},
		{"with a login in the clear on this machine", smtpd.Options{User: username, Password: password, PlainAuth: true}, []mail.TLSMode{mail.TLSAuto, mail.TLSOff}, true},
		{"self-signed", smtpd.Options{TLS: "starttls", Certificate: "self-signed"}, []mail.TLSMode{mail.TLSAuto, mail.TLSInsecure}, false},
		{"expired", smtpd.Options{TLS: "starttls", Certificate: "expired"}, []mail.TLSMode{mail.TLSAuto, mail.TLSInsecure}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := smtpd.Start(t, tt.server)
			for i, mode := range tt.modes {
				o := optionsFor(server)
				o.TLS = mode
				if tt.login {
					o.User, o.Password = username, password
				}
				err := newSender(t, o).Send(t.Context(), message())
				if err != nil {
					t.Fatalf("%s: %v", mode, err)
				}
				raw := server.Wait(t, i+1)[i]
				protocol := "with esmtp"
				if mode != mail.TLSOff && tt.server.TLS != "" {
					protocol += "s"
				}
				if tt.login {
					protocol += "a"
				}
				if !bytes.Contains(raw, []byte(protocol+" ")) {
					t.Errorf("%s: the message did not come %s:\n%s", mode, protocol, raw)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tls := func(certificate string) smtpd.Options {
		return smtpd.Options{TLS: "starttls", Certificate: certificate}
	}
	for _, tt := range []struct {
		name      string
		server    smtpd.Options
		mode      mail.TLSMode
		password  string
		code      mail.Code
		status    int
		temporary bool
		says      string
	}{
		{"recipient for good", smtpd.Options{RefuseRecipients: 550}, mail.TLSAuto, "", mail.CodeRecipientRefused, 550, false, "550"},
		{"recipient for now", smtpd.Options{RefuseRecipients: 451}, mail.TLSAuto, "", mail.CodeRecipientRefused, 451, true, "451"},
		{"message for good", smtpd.Options{RefuseData: 552}, mail.TLSAuto, "", mail.CodeRefused, 552, false, "552"},
		{"message for now", smtpd.Options{RefuseData: 451}, mail.TLSAuto, "", mail.CodeRefused, 451, true, "451"},
		{"no STARTTLS, required", smtpd.Options{}, mail.TLSRequire, "", mail.CodeTLSFailed, 0, false, "STARTTLS"},
		{"no STARTTLS, insecure", smtpd.Options{}, mail.TLSInsecure, "", mail.CodeTLSFailed, 0, false, "STARTTLS"},
		{"no TLS, implicit", smtpd.Options{}, mail.TLSImplicit, "", mail.CodeTLSFailed, 0, false, "does not speak TLS"},
		{"expired", tls("expired"), mail.TLSRequire, "", mail.CodeTLSFailed, 0, false, "expired"},
		{"wrong name", tls("wrong-name"), mail.TLSRequire, "", mail.CodeTLSFailed, 0, false, "another name"},
		{"self-signed", tls("self-signed"), mail.TLSRequire, "", mail.CodeTLSFailed, 0, false, "authority"},
		{"self-signed, implicit", smtpd.Options{TLS: "implicit", Certificate: "self-signed"}, mail.TLSImplicit, "", mail.CodeTLSFailed, 0, false, "authority"},
		{"wrong password", smtpd.Options{TLS: "starttls", User: username, Password: password}, mail.TLSRequire, "wrong", mail.CodeAuthFailed, 535, false, "emailpass"},
		{"no login offered", smtpd.Options{TLS: "starttls"}, mail.TLSRequire, password, mail.CodeAuthFailed, 0, false, "offers no login"},
		{"no login made", smtpd.Options{TLS: "starttls", User: username, Password: password}, mail.TLSRequire, "", mail.CodeRecipientRefused, 530, false, "demands a login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := smtpd.Start(t, tt.server)
			o := optionsFor(server)
			o.TLS = tt.mode
			if tt.password != "" {
				o.User, o.Password = username, tt.password
			}
			failure := failsWith(t, newSender(t, o).Send(t.Context(), message()), tt.code)
			if tt.status != 0 && failure.Status != tt.status {
				t.Errorf("status %d, want %d", failure.Status, tt.status)
			}
			if failure.Temporary() != tt.temporary {
				t.Errorf("temporary: %v", failure.Temporary())
			}
			if !strings.Contains(failure.Error(), tt.says) {
				t.Errorf("the error %q lacks %q", failure, tt.says)
			}
			if n := len(server.Messages(t)); n != 0 {
				t.Errorf("%d messages arrived", n)
			}
		})
	}
}

// TestSlowServer: what takes too long ends, wherever the server is slow.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]smtpd.Options{
		"greeting": {GreetDelay: 30 * time.Second}, "message": {DataDelay: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := optionsFor(smtpd.Start(t, o))
			options.Timeout = time.Second
			failure := failsWith(t, newSender(t, options).Send(t.Context(), message()), mail.CodeTimeout)
			if !failure.Temporary() {
				t.Error("a time-out is not temporary")
			}
		})
	}
	t.Run("a little slow", func(t *testing.T) {
		t.Parallel()
		server := smtpd.Start(t, smtpd.Options{GreetDelay: time.Second, DataDelay: time.Second})
		err := newSender(t, optionsFor(server)).Send(t.Context(), message())
		if err != nil {
			t.Error(err)
		}
	})
}

// TestHeaders looks at a message as it arrives.
func TestHeaders(t *testing.T) {
	t.Parallel()
	server := smtpd.Start(t, smtpd.Options{})
	o := optionsFor(server)
	o.Now = func() time.Time { return time.Date(2026, 2, 3, 4, 5, 6, 0, time.FixedZone("", 3600)) }
	s := newSender(t, o)
	for range 2 {
		err := s.Send(t.Context(), message())
		if err != nil {
			t.Fatal(err)
		}
	}
	arrived := server.Wait(t, 2)
	var ids []string
	for _, raw := range arrived {
		m := parse(t, raw)
		ids = append(ids, m.Header.Get("Message-Id"))
		for name, want := range map[string]string{
			"To": "<" + recipient + ">", "Subject": "Grüße: please verify", "Date": "Tue, 03 Feb 2026 03:05:06 +0000",
			"Auto-Submitted": "auto-generated", "Mime-Version": "1.0", "User-Agent": "", "X-Mailer": "", "Bcc": "",
		} {
			if got := decoded(t, m.Header.Get(name)); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		from, err := netmail.ParseAddress(m.Header.Get("From"))
		if err != nil || from.Address != "authnzerver@example.org" || from.Name != "Prüfstelle" {
			t.Errorf("From is %v, %v", from, err)
		}
		parts := partsOf(t, m)
		if len(parts) != 2 || parts[0].mediaType != "text/plain" || parts[1].mediaType != "text/html" {
			t.Fatalf("parts %v", parts)
		}
		if parts[0].encoding != "8bit" || !strings.HasPrefix(parts[0].text, "enter this code:\n\nabc==\n\ninto") {
			t.Errorf("the text did not arrive literally: %q", parts[0])
		}
		if !strings.Contains(parts[1].text, "<p>Grüße, <b>abc</b></p>") {
			t.Errorf("the HTML arrived as %q", parts[1])
		}
	}
	if ids[0] == ids[1] || !strings.HasSuffix(ids[0], "@auth.example.org>") {
		t.Errorf("message ids %q", ids)
	}
}

func parse(t testing.TB, raw []byte) *netmail.Message {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, raw)
	}
	return m
}

func decoded(t testing.TB, header string) string {
	t.Helper()
	text, err := new(mime.WordDecoder).DecodeHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type part struct{ mediaType, encoding, text string }

// partsOf returns the parts of a message, one for a message without parts.
func partsOf(t testing.TB, m *netmail.Message) []part {
	t.Helper()
	mediaType, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(mediaType, "multipart/") {
		text, err := io.ReadAll(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		return []part{{mediaType, m.Header.Get("Content-Transfer-Encoding"), unix(string(text))}}
	}
	var parts []part
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextPart() // which undoes quoted-printable
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		mediaType, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part{mediaType, p.Header.Get("Content-Transfer-Encoding"), unix(string(text))})
	}
}

func unix(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

// TestTextAlone: without HTML there is one part.
func TestTextAlone(t *testing.T) {
	t.Parallel()
	server := smtpd.Start(t, smtpd.Options{})
	m := message()
	m.HTML = ""
	m.Text = ".a line that begins with a dot\n..\n.\nend"
	err := newSender(t, optionsFor(server)).Send(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	parts := partsOf(t, parse(t, server.Wait(t, 1)[0]))
	if len(parts) != 1 || parts[0].mediaType != "text/plain" || strings.TrimRight(parts[0].text, "\n") != m.Text {
		t.Errorf("parts %q", parts)
	}
}

// TestRecipients sends to every kind of address that may sign up.
func TestRecipients(t *testing.T) {
	t.Parallel()
	server := smtpd.Start(t, smtpd.Options{})
	s := newSender(t, optionsFor(server))
	good := []string{"a@b", ".a.@b.example", "a..b@c.example", "a/b@c.example", "!#$%&*+/=?^_`{|}~-@c.example", "a@xn--9ca.example", "a@1.2.3.4"}
	for i, to := range good {
		m := message()
		m.To = to
		err := s.Send(t.Context(), m)
		if err != nil {
			t.Errorf("%s: %v", to, err)
			continue
		}
		raw := server.Wait(t, i+1)[i]
		address, err := netmail.ParseAddress(parse(t, raw).Header.Get("To"))
		if err != nil || address.Address != to {
			t.Errorf("the message to %s is addressed to %v, %v", to, address, err)
		}
	}
	for _, to := range []string{
		"", "a", "@b", "a@", "a b@c", "a@b c", "a,b@c", "<a@b>", "a@b>,<c@d", `"a"@b`, "a@b\r\nBcc: c@d", "a\n@b", "a@b@c", "é@c", "a@é.c", "a@b\x00",
	} {
		m := message()
		m.To = to
		failsWith(t, s.Send(t.Context(), m), mail.CodeInvalid)
	}
}

// shows checks a trace: it has the lines, in this order, and no credential.
func shows(t *testing.T, lines []string, given string, want ...string) {
	t.Helper()
	shown := strings.Join(lines, "\n")
	rest := shown
	for _, line := range want {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Fatalf("the trace lacks %q:\n%s", line, shown)
		}
		rest = after
	}
	for _, secret := range []string{
		given, base64.StdEncoding.EncodeToString([]byte(given)), base64.StdEncoding.EncodeToString([]byte(username)),
		base64.StdEncoding.EncodeToString([]byte("\x00" + username + "\x00" + given)), base64.RawStdEncoding.EncodeToString([]byte(given)),
		base64.URLEncoding.EncodeToString([]byte(given)), hex.EncodeToString([]byte(given)), url.QueryEscape(given),
	} {
		if strings.Contains(shown, secret) {
			t.Errorf("the trace shows a credential:\n%s", shown)
		}
	}
}

// TestTrace: the conversation is shown, the password is not.
func TestTrace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		server smtpd.Options
		given  string
		want   []string
	}{
		{"right password", smtpd.Options{User: username, Password: password}, password, []string{
			"< 220 ", "> EHLO auth.example.org", "< 250 ", "> STARTTLS", "< 220 ", "> EHLO auth.example.org", "> [credentials]", "< 235 ",
			"> MAIL FROM:<authnzerver@example.org>", "< 250 ", "> RCPT TO:<" + recipient + ">", "< 250 ", "> DATA", "< 354 ",
			"> [message]", "< 250 OK id=", "> QUIT", "< 221 ",
		}},
		{"wrong password", smtpd.Options{User: username, Password: password}, "wrong-" + password, []string{"> [credentials]", "< 535 "}},
		{"refused recipient", smtpd.Options{RefuseRecipients: 550}, "", []string{"> RCPT TO", "< 550 no mail for this recipient", "> QUIT"}},
		{"refused message", smtpd.Options{RefuseData: 552}, "", []string{"> [message]", "< 552 ", "> QUIT"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.server.TLS = "starttls"
			o := optionsFor(smtpd.Start(t, tt.server))
			if tt.given != "" {
				o.User, o.Password = username, tt.given
			}
			var lines []string
			o.Trace = func(line string) { lines = append(lines, line) }
			err := newSender(t, o).Send(t.Context(), message())
			if (err == nil) != (tt.name == "right password") {
				t.Fatal(err)
			}
			given := tt.given
			if given == "" {
				given = password
			}
			shows(t, lines, given, tt.want...)
		})
	}
}

// TestEcho: some servers repeat what they did not understand.
func TestEcho(t *testing.T) {
	t.Parallel()
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			var said transcript
			o := listen(t, said.record(func(line string) string {
				verb, _, _ := strings.Cut(line, " ")
				switch {
				case verb == "EHLO":
					return "250-mail\n250 AUTH " + mechanism
				case line == "AUTH LOGIN" || line == base64.StdEncoding.EncodeToString([]byte(username)):
					return "334 VXNlcm5hbWU6"
				default:
					return "500-5.5.1 " + password + "\n500 Command \"" + line + "\" unrecognized"
				}
			}))
			o.User, o.Password = username, password
			var lines []string
			o.Trace = func(line string) { lines = append(lines, line) }
			failure := failsWith(t, newSender(t, o).Send(t.Context(), message()), mail.CodeAuthFailed)
			if failure.Status != 500 || failure.Enhanced != "5.5.1" {
				t.Errorf("status %d %q", failure.Status, failure.Enhanced)
			}
			shows(t, lines, password, "< 220 hi", "> [credentials]", "< 500 ", "[credentials]", "unrecognized")
			shows(t, []string{failure.Detail()}, password, "[credentials]", "unrecognized")
		})
	}
}

// listen starts a server that does with each connection what handle says.
func listen(t testing.TB, handle func(net.Conn)) mail.Options {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		end()
		_ = listener.Close()
		running.Wait()
	})
	return mail.Options{Host: "127.0.0.1", Port: listener.Addr().(*net.TCPAddr).Port, Timeout: patience}
}

// script answers each line of the client with the next reply; an empty one
// cuts the connection.
func script(replies ...string) func(net.Conn) {
	return func(conn net.Conn) {
		r := textproto.NewReader(bufio.NewReader(conn))
		inData := false
		for i, reply := range replies {
			if i > 0 {
				for {
					line, err := r.ReadLine()
					if err != nil {
						return
					}
					if !inData || line == "." {
						break
					}
				}
			}
			if reply == "" {
				return
			}
			inData = strings.HasPrefix(reply, "354")
			_, err := io.WriteString(conn, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n")
			if err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, conn)
	}
}

func TestOddServers(t *testing.T) {
	t.Parallel()
	const hello = "250-mail.example\n250 SIZE 1000"
	for _, tt := range []struct {
		name   string
		handle func(net.Conn)
		code   mail.Code // "" for success
	}{
		{"a greeting of several lines", script("220-one\n220 two", hello, "250 ok", "250 ok", "354 go", "250 done", "221 bye"), ""},
		{"no ESMTP", script("220 hi", "502 what?", "250 ok", "250 ok", "250 ok", "354 go", "250 done", "221 bye"), ""},
		{"no farewell", script("220 hi", hello, "250 ok", "250 ok", "354 go", "250 done", ""), ""},
		{"a refused farewell", script("220 hi", hello, "250 ok", "250 ok", "354 go", "250 done", "500 no"), ""},
		{"cut before the greeting", script(""), mail.CodeUnreachable},
		{"cut in the middle", script("220 hi", hello, "250 ok", ""), mail.CodeUnreachable},
		{"cut after the message", script("220 hi", hello, "250 ok", "250 ok", "354 go", ""), mail.CodeUnreachable},
		{"refuses the client", script("554 no"), mail.CodeRefused},
		{"refuses the sender", script("220 hi", hello, "553 no"), mail.CodeRefused},
		{"does not start TLS", script("220 hi", "250-mail\n250 STARTTLS", "454 4.7.0 not now"), mail.CodeTLSFailed},
		{"cut at the start of TLS", script("220 hi", "250-mail\n250 STARTTLS", "220 go", ""), mail.CodeTLSFailed},
		{"says hello to nobody", script("220 hi", "550 no", "550 no"), mail.CodeRefused},
		{"absurd answers", script("220 hi", "99999999999999999999 x", "99999999999999999999 x"), mail.CodeRefused},
		{"demands TLS", script("220 hi", hello, "530 must issue STARTTLS"), mail.CodeRefused},
		{"is no mail server", script("HTTP/1.1 400 Bad Request"), mail.CodeRefused},
		{"talks without an end", func(conn net.Conn) {
			for {
				_, err := io.WriteString(conn, "220-"+strings.Repeat("x", 1000)+"\r\n")
				if err != nil {
					return
				}
			}
		}, mail.CodeRefused},
		{"one endless line", func(conn net.Conn) {
			for {
				_, err := io.WriteString(conn, strings.Repeat("2", 1000))
				if err != nil {
					return
				}
			}
		}, mail.CodeRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := newSender(t, listen(t, tt.handle)).Send(t.Context(), message())
			if tt.code != "" {
				failsWith(t, err, tt.code)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		failsWith(t, newSender(t, mail.Options{Host: "127.0.0.1", Port: 1, Timeout: patience}).Send(t.Context(), message()), mail.CodeUnreachable)
	})
}

// elsewhere is an address that leads to this machine, and that the sender takes
// for one of another.
const elsewhere = "0.0.0.0"

// TestPasswordNeedsTLS: to another machine no password goes in the clear.
func TestPasswordNeedsTLS(t *testing.T) {
	t.Parallel()
	var said transcript
	o := listen(t, said.record(func(string) string { return "250-mail\n250 AUTH PLAIN LOGIN CRAM-MD5" }))
	o.Host, o.User, o.Password = elsewhere, username, password
	for _, mode := range []mail.TLSMode{mail.TLSAuto, mail.TLSOff} {
		o.TLS = mode
		failure := failsWith(t, newSender(t, o).Send(t.Context(), message()), mail.CodeTLSFailed)
		if !strings.Contains(failure.Error(), "password is not sent without TLS") {
			t.Errorf("%s: the error %q does not tell why", mode, failure)
		}
	}
	if all := said.String(); !strings.Contains(all, "EHLO") || strings.Contains(all, "AUTH") || strings.Contains(all, "MAIL") {
		t.Errorf("the sender said %q", all)
	}
}

// TestAutoVerifiesElsewhere: only a server on this machine may have a
// certificate that nobody signed.
func TestAutoVerifiesElsewhere(t *testing.T) {
	t.Parallel()
	o := optionsFor(smtpd.Start(t, smtpd.Options{TLS: "starttls"}))
	o.Host, o.TLS = elsewhere, mail.TLSAuto // the certificate is for other names
	failsWith(t, newSender(t, o).Send(t.Context(), message()), mail.CodeTLSFailed)
	o.TLS = mail.TLSInsecure
	err := newSender(t, o).Send(t.Context(), message())
	if err != nil {
		t.Error(err)
	}
}

// A transcript is what clients said, for several goroutines.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (tr *transcript) add(line string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.text.WriteString(line + "\n")
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// record returns a server that answers every line with what answer says, until
// that is empty.
func (tr *transcript) record(answer func(line string) string) func(net.Conn) {
	return func(conn net.Conn) {
		r := textproto.NewReader(bufio.NewReader(conn))
		for reply := "220 hi"; reply != ""; {
			_, err := io.WriteString(conn, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n")
			if err != nil {
				return
			}
			line, err := r.ReadLine()
			if err != nil {
				return
			}
			tr.add(line)
			reply = answer(line)
		}
	}
}

// TestMechanisms: the one by which the password is seen least is picked.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	const challenge = "<1896.697170952@mail.example>"
	mac := hmac.New(md5.New, []byte(password))
	mac.Write([]byte(challenge))
	cram := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s %x", username, mac.Sum(nil)))
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + username + "\x00" + password))
	encoded := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		offered string
		answer  func(line string) string // to what comes after EHLO
		said    []string
		code    mail.Code // "" when the login is right
	}{
		{"PLAIN LOGIN", func(string) string { return "235 ok" }, []string{"AUTH PLAIN " + plain}, ""},
		{"login plain", func(string) string { return "235 ok" }, []string{"AUTH PLAIN " + plain}, ""},
		{"LOGIN CRAM-MD5 PLAIN", func(line string) string {
			if line == cram {
				return "235 ok"
			}
			return "334 " + encoded([]byte(challenge))
		}, []string{"AUTH CRAM-MD5", cram}, ""},
		{"LOGIN XOAUTH2", func(line string) string {
			switch line {
			case "AUTH LOGIN":
				return "334 " + encoded([]byte("Username:"))
			case encoded([]byte(username)):
				return "334 " + encoded([]byte("Password:"))
			default:
				return "235 ok"
			}
		}, []string{"AUTH LOGIN", encoded([]byte(username)), encoded([]byte(password))}, ""},
		// The server asks for more work than the time-out has room for.
		{"PLAIN SCRAM-SHA-1 SCRAM-SHA-256", func(line string) string {
			message, err := base64.StdEncoding.DecodeString(line)
			if _, nonce, found := strings.Cut(string(message), ",r="); err == nil && found {
				return "334 " + encoded([]byte("r="+nonce+"x,s=QUJD,i=+2000000000"))
			}
			return "334 "
		}, []string{"AUTH SCRAM-SHA-256"}, mail.CodeAuthFailed},
		{"LOGIN", func(string) string { return "334 not base64" }, nil, mail.CodeAuthFailed},
		{"PLAIN", func(string) string { return "334 " + encoded([]byte("more")) }, nil, mail.CodeAuthFailed},
		{"PLAIN", func(string) string { return "454 later" }, nil, mail.CodeAuthFailed},
		{"PLAIN", func(string) string { return "" }, nil, mail.CodeUnreachable},
		{"XOAUTH2 GSSAPI", func(string) string { return "235 ok" }, nil, mail.CodeAuthFailed},
	} {
		t.Run(tt.offered, func(t *testing.T) {
			t.Parallel()
			var said transcript
			in := "login"
			o := listen(t, said.record(func(line string) string {
				switch verb, _, _ := strings.Cut(line, " "); {
				case verb == "EHLO":
					return "250-mail\n250 AUTH " + tt.offered
				case verb == "MAIL" || verb == "RCPT":
					return "250 ok"
				case verb == "DATA":
					in = "message"
					return "354 go"
				case verb == "QUIT":
					return "221 bye"
				case line == ".":
					in = ""
					return "250 done"
				case in == "message":
					return "250 not an answer that anybody waits for"
				default:
					return tt.answer(line)
				}
			}))
			o.User, o.Password = username, password
			started := time.Now()
			err := newSender(t, o).Send(t.Context(), message())
			if time.Since(started) > patience {
				t.Errorf("it took %v", time.Since(started))
			}
			if tt.code == "" && err != nil {
				t.Error(err)
			} else if tt.code != "" {
				failsWith(t, err, tt.code)
			}
			if want := strings.Join(tt.said, "\n") + "\n"; !strings.Contains(said.String(), want) && tt.said != nil {
				t.Errorf("the sender said %q, want %q", said.String(), want)
			}
		})
	}
}

// TestImplicitTLSPort: on port 465 TLS starts with the first byte.
func TestImplicitTLSPort(t *testing.T) {
	const host = "127.0.4.65" // where nothing else listens
	listener, err := net.Listen("tcp", host+":465")
	if errors.Is(err, os.ErrPermission) {
		t.Skip("only the superuser may listen on such a port here")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for mode, implicit := range map[mail.TLSMode]bool{
		mail.TLSAuto: true, mail.TLSRequire: true, mail.TLSImplicit: true, mail.TLSInsecure: true, mail.TLSOff: false,
	} {
		first := make(chan byte, 1)
		go func() {
			defer close(first)
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if !implicit {
				_, _ = io.WriteString(conn, "220 hi\r\n")
			}
			var b [1]byte
			_, err = conn.Read(b[:])
			if err == nil {
				first <- b[0]
			}
		}()
		o := mail.Options{Host: host, Port: 465, TLS: mode, Timeout: patience}
		if newSender(t, o).Send(t.Context(), message()) == nil {
			t.Errorf("%s: the message was sent", mode)
		}
		const handshake = 22 // RFC 8446 §5.1
		if got := <-first; (got == handshake) != implicit {
			t.Errorf("%s: the first byte is %d", mode, got)
		}
	}
}

// TestNoConnection: a machine that does not answer at all.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	// A listener that never accepts, with its queue full: Linux drops what
	// comes then.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	err = syscall.Listen(fd, 0)
	if err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	o := mail.Options{Host: "127.0.0.1", Port: name.(*syscall.SockaddrInet4).Port, Timeout: time.Second}
	address := net.JoinHostPort(o.Host, strconv.Itoa(o.Port))
	for range 100 {
		conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	failsWith(t, newSender(t, o).Send(t.Context(), message()), mail.CodeUnreachable)
}

// TestSilentServer: however many wait for a server that says nothing, or one
// byte now and then, all of them end, and few connections are open.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(net.Conn){
		"silent": func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"trickling": func(conn net.Conn) {
			for {
				_, err := conn.Write([]byte("2"))
				if err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var open, most atomic.Int64
			o := listen(t, func(conn net.Conn) {
				n := open.Add(1)
				defer open.Add(-1)
				for {
					seen := most.Load()
					if n <= seen || most.CompareAndSwap(seen, n) {
						break
					}
				}
				handle(conn)
			})
			o.Timeout, o.Connections = time.Second, 4
			s := newSender(t, o)
			errs := make([]error, 50)
			var running sync.WaitGroup
			for i := range errs {
				running.Go(func() { errs[i] = s.Send(t.Context(), message()) })
			}
			ended := make(chan struct{})
			go func() {
				running.Wait()
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("some still wait")
			}
			ends := map[mail.Code]int{}
			for _, err := range errs {
				var failure *mail.Error
				if errors.As(err, &failure) {
					ends[failure.Code]++
				}
			}
			// One that gets its turn in the last moment may not get a
			// connection any more.
			if ends[mail.CodeTimeout] < o.Connections || ends[mail.CodeTimeout]+ends[mail.CodeBusy]+ends[mail.CodeUnreachable] != len(errs) {
				t.Errorf("the ends are %v", ends)
			}
			// A connection that ended may be closed a moment later here than
			// there.
			if most.Load() > int64(2*o.Connections) {
				t.Errorf("%d connections were open at once", most.Load())
			}
		})
	}
}

// TestConnections: a server that ends each conversation itself sees no more at
// once than there may be.
func TestConnections(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int64
	o := listen(t, func(conn net.Conn) {
		n := open.Add(1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		open.Add(-1)
		_, _ = io.WriteString(conn, "554 no\r\n")
	})
	o.Connections, o.Timeout = 4, time.Minute
	s := newSender(t, o)
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			var failure *mail.Error
			err := s.Send(t.Context(), message())
			if !errors.As(err, &failure) || failure.Code != mail.CodeRefused || failure.Status != 554 {
				t.Errorf("sending ended in %v", err)
			}
		})
	}
	running.Wait()
	if most.Load() != int64(o.Connections) {
		t.Errorf("%d connections were open at once, want %d", most.Load(), o.Connections)
	}
}

// TestCancel: who asked and went away holds nothing.
func TestCancel(t *testing.T) {
	t.Parallel()
	connected := make(chan struct{}, 1)
	o := listen(t, func(conn net.Conn) {
		connected <- struct{}{}
		_, _ = io.Copy(io.Discard, conn)
	})
	o.Timeout = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-connected
		cancel()
	}()
	err := newSender(t, o).Send(ctx, message())
	failsWith(t, err, mail.CodeTimeout)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error %v does not tell that it was cancelled", err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	good := mail.Options{Host: "mail.example.org", Port: 25, From: sender}
	for _, tt := range []struct {
		option string
		change func(*mail.Options)
	}{
		{"", func(*mail.Options) {}},
		{"", func(o *mail.Options) { o.Host = "::1" }},
		{"", func(o *mail.Options) { o.Host = "[::1]" }},
		{"", func(o *mail.Options) { o.From = "a@b" }},
		{"emailserver", func(o *mail.Options) { o.Host = "" }},
		{"emailserver", func(o *mail.Options) { o.Host = "mail.example.org:25" }},
		{"emailserver", func(o *mail.Options) { o.Host = "smtp://mail" }},
		{"emailport", func(o *mail.Options) { o.Port = 0 }},
		{"emailport", func(o *mail.Options) { o.Port = 65536 }},
		{"emailsender", func(o *mail.Options) { o.From = "" }},
		{"emailsender", func(o *mail.Options) { o.From = "Name" }},
		{"emailsender", func(o *mail.Options) { o.From = "a@b, c@d" }},
		{"emailsender", func(o *mail.Options) { o.From = "A <a@b>\r\nBcc: c@d" }},
		{"emailsender", func(o *mail.Options) { o.From = strings.Repeat("n", 600) + " <a@b>" }},
		{"emailpass", func(o *mail.Options) { o.User, o.Password = "u", "a\r\nb" }},
		{"emailuser", func(o *mail.Options) { o.Password = "p" }},
		{"emailtls", func(o *mail.Options) { o.TLS = "maybe" }},
		{"fqdn", func(o *mail.Options) { o.HelloName = "a b" }},
	} {
		o := good
		tt.change(&o)
		_, err := mail.New(o)
		var wrong *mail.OptionError
		switch {
		case tt.option == "" && err != nil:
			t.Error(err)
		case tt.option != "" && (!errors.As(err, &wrong) || wrong.Option != tt.option):
			t.Errorf("the error %v is not about %s", err, tt.option)
		}
	}
}

// forbidden are the characters that no value may bring: controls, line ends,
// and those that change the direction of text.
func forbidden(r rune) bool {
	return unicode.Is(unicode.Cc, r) || strings.ContainsRune("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", r)
}

// permitted returns what is left of a value.
func permitted(text string) string {
	return strings.Map(func(r rune) rune {
		if forbidden(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}

// FuzzHeaders: whatever is sent, no line of it begins a header of its own.
func FuzzHeaders(f *testing.F) {
	f.Add("Subject\r\nBcc: x@y", "Name", "text")
	f.Add("=?utf-8?Q?=0D=0ABcc:_x?=", "\"\r\nBcc: x@y", "<b>")
	f.Add(strings.Repeat("é", 500), "Ünï", strings.Repeat("a", 2000))
	f.Add("a\u2028Bcc: x@y", "a,b", ".\r\n.\r\n")
	f.Add(strings.Repeat("s", 3000), strings.Repeat("é", 200), "\r")
	f.Add(strings.Repeat("=?utf-8?q?x?= ", 300), strings.Repeat("n", 450), "\x00\x1b")
	var arrived atomic.Pointer[[]byte]
	o := listen(f, func(conn net.Conn) {
		r := textproto.NewReader(bufio.NewReader(conn))
		for i, reply := range []string{"220 hi", "250 mail", "250 ok", "250 ok", "354 go"} {
			if i > 0 {
				_, err := r.ReadLine()
				if err != nil {
					return
				}
			}
			_, _ = io.WriteString(conn, reply+"\r\n")
		}
		raw, err := r.ReadDotBytes()
		if err != nil {
			return
		}
		arrived.Store(&raw)
		_, _ = io.WriteString(conn, "250 done\r\n221 bye\r\n")
	})
	o.HelloName = "auth.example.org"
	f.Fuzz(func(t *testing.T, subject, name, text string) {
		o := o
		o.From = fmt.Sprintf("%s <a@b.example>", name)
		s, err := mail.New(o)
		if err != nil {
			return
		}
		err = s.Send(t.Context(), &mail.Message{To: recipient, Subject: subject, Text: text, HTML: text})
		if err != nil {
			t.Fatal(err)
		}
		raw := *arrived.Load()
		m := parse(t, raw)
		for name := range m.Header {
			switch name {
			case "Date", "From", "To", "Subject", "Message-Id", "Mime-Version", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding":
			default:
				t.Errorf("there is a header %q in:\n%s", name, raw)
			}
		}
		want := []rune(strings.ReplaceAll(strings.Join(strings.Fields(permitted(subject)), " "), "=?", "= ?"))
		want = want[:min(len(want), 500)]
		if got := decoded(t, m.Header.Get("Subject")); strings.TrimRight(got, " ") != strings.TrimRight(string(want), " ") {
			t.Errorf("the subject arrived as %q, want %q", got, string(want))
		}
		for line := range strings.SplitSeq(string(raw), "\n") {
			if len(line) > 998 {
				t.Errorf("a line has %d bytes", len(line))
			}
		}
		parts := 2
		if text == "" {
			parts = 1
		}
		if n := len(partsOf(t, m)); n != parts {
			t.Errorf("the message has %d parts, want %d", n, parts)
		}
	})
}

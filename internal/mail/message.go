package mail

import (
	"crypto/rand"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
)

const (
	// maxLine is the most bytes of a line without its end (RFC 5322 §2.1.1).
	maxLine = 998
	// maxSubject is how much of a subject is sent, in characters: one that is
	// a single word of ASCII stands on one line.
	maxSubject = 500
)

// compose returns the message ready to be written.
func (s *Sender) compose(m *Message) *gomail.Msg {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithEncoding(gomail.EncodingQP))
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(&mail.Address{Address: m.To})
	// What looks like an encoded word of RFC 2047 shall not be read as one.
	msg.Subject(truncate(strings.ReplaceAll(oneLine(m.Subject), "=?", "= ?"), maxSubject))
	msg.SetDateWithValue(s.options.Now().UTC())
	msg.SetMessageIDWithValue(rand.Text() + "@" + s.idDomain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 §5
	text, html := body(m.Text), body(m.HTML)
	msg.SetBodyString(gomail.TypeTextPlain, text, gomail.WithPartEncoding(encodingOf(text)))
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, html, gomail.WithPartEncoding(encodingOf(html)))
	}
	return msg
}

// body returns a text with the line ends of a message.
func body(text string) string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(text, "\ufffd"))
	return strings.ReplaceAll(strings.TrimRight(text, "\n")+"\n", "\n", "\r\n")
}

// encodingOf returns the encoding of a part: none when it is possible, since
// clients look for the code in what arrives.
func encodingOf(text string) gomail.Encoding {
	for line := range strings.SplitSeq(text, "\r\n") {
		special := func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') }
		if len(line) > maxLine || strings.ContainsFunc(line, special) {
			return gomail.EncodingQP
		}
	}
	return gomail.NoEncoding // EncodingUSASCII would be quoted-printable all the same
}

// oneLine returns the text without what could begin a new line or pretend to be
// other text, and with single blanks.
func oneLine(text string) string { return strings.Join(strings.Fields(clean(text)), " ") }

// clean returns the text as UTF-8 without control characters, line and
// paragraph separators, and what changes the direction of text.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), // category Cc
			r == 0x2028, r == 0x2029, // line and paragraph separator
			0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069: // embeddings, overrides, isolates
			return -1
		default:
			return r
		}
	}, strings.ToValidUTF8(text, "\ufffd"))
}

// truncate cuts a text to at most n characters.
func truncate(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n])
}

package mail

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
	texttemplate "text/template"
	"time"
)

// A Kind names a message that is made from templates.
type Kind string

// The kinds.
const (
	SignUp     Kind = "signup"
	ForgotPass Kind = "forgotpass"
	// NewDevice tells of a login from a device that was not known.
	NewDevice Kind = "newdevice"
	// ManyFailures tells of many wrong passwords.
	ManyFailures Kind = "manyfailures"
	// PasswordChanged tells of a new password, and EmailChanged the address that a user had
	// before of another one.
	PasswordChanged Kind = "passwordchanged"
	EmailChanged    Kind = "emailchanged"
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{SignUp, ForgotPass, NewDevice, ManyFailures, PasswordChanged, EmailChanged}
}

// Data is what a message tells. Control characters and those that change the
// direction of text are taken out of all of it.
type Data struct {
	// ServerName and ServerBaseURL are the name and the address of the site.
	ServerName, ServerBaseURL string
	// Link is the page that takes the code.
	Link string
	// Email is the recipient's address.
	Email string
	// UserAgent and IPAddress tell who asked for the message.
	UserAgent, IPAddress string
	// Code is the token to enter.
	Code string
	// Expires is when it ends.
	Expires time.Time
	// When is when that happened which the message tells of.
	When time.Time
}

// fields are what templates may use. The comment of each is in docs/email.md.
type fields struct {
	ServerName, ServerBaseURL, Link, Email, UserAgent, IPAddress, Code, Expires, When string
	CodeLines                                                                         []string
}

const (
	// maxTemplate is how large a template may be, in bytes.
	maxTemplate = 64 << 10
	// maxServerName is how much of a site's name a subject shows, in
	// characters.
	maxServerName = 200
	// timeForm is ISO 8601 as the Python server writes it.
	timeForm = "2006-01-02T15:04:05.000000"
)

func (d *Data) fields() *fields {
	lines := Wrap(clean(d.Code))
	return &fields{
		ServerName: truncate(oneLine(d.ServerName), maxServerName), ServerBaseURL: clean(d.ServerBaseURL), Link: clean(d.Link),
		Email: clean(d.Email), UserAgent: clean(d.UserAgent), IPAddress: clean(d.IPAddress),
		Code: strings.Join(lines, "\n"), CodeLines: lines,
		Expires: d.Expires.UTC().Format(timeForm) + " (UTC)", When: d.When.UTC().Format(time.DateTime) + " (UTC)",
	}
}

//go:embed templates
var builtIn embed.FS

// Templates makes messages. It is safe for concurrent use.
type Templates struct{ kinds map[Kind]*pair }

type pair struct {
	text *texttemplate.Template
	html *htmltemplate.Template // nil for a message without that form
}

// LoadTemplates reads the templates: the built-in ones, and in the place of
// those the files of the same names in dir, which may be nil. The texts that it
// returns are notices for the operator. Its error names everything that is
// wrong with any file.
func LoadTemplates(dir fs.FS) (*Templates, []string, error) {
	own, err := fs.Sub(builtIn, "templates")
	if err != nil {
		return nil, nil, err
	}
	t := &Templates{kinds: map[Kind]*pair{}}
	var notices []string
	var errs []error
	for _, kind := range Kinds() {
		p, notice, err := loadPair(kind, own, dir)
		t.kinds[kind] = p
		notices = append(notices, notice...)
		errs = append(errs, err)
	}
	unused, err := unusedFiles(dir)
	err = errors.Join(append(errs, err)...)
	if err != nil {
		return nil, nil, err
	}
	return t, append(notices, unused...), nil
}

func loadPair(kind Kind, own, dir fs.FS) (*pair, []string, error) {
	textName, htmlName := string(kind)+".txt", string(kind)+".html"
	text, textReplaced, textErr := readTemplate(textName, own, dir)
	html, htmlReplaced, htmlErr := readTemplate(htmlName, own, dir)
	err := errors.Join(textErr, htmlErr)
	if err != nil {
		return nil, nil, err
	}
	var p pair
	p.text, textErr = texttemplate.New(textName).Option("missingkey=error").Parse(text)
	p.html, htmlErr = htmltemplate.New(htmlName).Option("missingkey=error").Parse(html)
	if textErr != nil {
		return nil, nil, errors.Join(textErr, htmlErr)
	}
	if htmlErr != nil {
		p.html = nil // see what else is wrong
	}
	var notices []string
	if textReplaced && !htmlReplaced {
		p.html = nil // it would say something else than the operator's text
		notices = append(notices, fmt.Sprintf("%s is replaced and %s is not: the message is sent as text alone", textName, htmlName))
	}
	found, err := p.try(kind)
	return &p, append(notices, found...), errors.Join(htmlErr, err)
}

// readTemplate returns the operator's file, or else the built-in one.
func readTemplate(name string, own, dir fs.FS) (text string, replaced bool, err error) {
	if dir != nil {
		file, err := dir.Open(name)
		if err == nil {
			defer file.Close()
			content, err := io.ReadAll(io.LimitReader(file, maxTemplate+1))
			if err == nil && len(content) > maxTemplate {
				err = fmt.Errorf("larger than %d bytes", maxTemplate)
			}
			if err != nil {
				return "", true, fmt.Errorf("%s: %w", name, err)
			}
			text := strings.TrimPrefix(string(content), "\ufeff") // some editors begin a file with a byte order mark
			return strings.ReplaceAll(text, "\r\n", "\n"), true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", false, fmt.Errorf("%s: %w", name, err)
		}
	}
	content, err := fs.ReadFile(own, name)
	return string(content), false, err
}

// unusedFiles tells of files that look like templates and are not.
func unusedFiles(dir fs.FS) ([]string, error) {
	if dir == nil {
		return nil, nil
	}
	entries, err := fs.ReadDir(dir, ".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the templates: %w", err)
	}
	var notices []string
	for _, entry := range entries {
		name := entry.Name()
		ext := path.Ext(name)
		known := false
		for _, kind := range Kinds() {
			known = known || name == string(kind)+ext
		}
		if (ext == ".txt" || ext == ".html") && !known {
			notices = append(notices, fmt.Sprintf("nothing uses the template %q", name))
		}
	}
	return notices, nil
}

// sampleCode takes two lines.
var sampleCode = strings.Repeat("SampleCode", 10)

// samples are what templates are tried with: all there is, and as little as
// requests may bring.
var samples = []Data{
	{
		ServerName: "Example", ServerBaseURL: "https://example.org", Link: "https://example.org/code", Email: "user@example.org",
		UserAgent: "Browser/1.0", IPAddress: "192.0.2.1", Code: sampleCode, Expires: time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC),
		When: time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC),
	},
	{Email: "u@a", Code: sampleCode},
}

// after is what published clients look for after the code; before it is
// "enter this code:". Kinds without it have no code.
var after = map[Kind]string{SignUp: "into the account verification", ForgotPass: "into the password reset"}

// besidesText is what is between the parts of a code in a message.
var besidesText = regexp.MustCompile(`<[^>]*>|\s+`)

// try makes messages of sample data. It returns what the operator should know,
// and an error when nobody could use the messages.
func (p *pair) try(kind Kind) ([]string, error) {
	anchored := true
	for i := range samples {
		_, text, html, err := p.render(&samples[i])
		if err != nil {
			return nil, err
		}
		if after[kind] == "" {
			continue // a message without a code
		}
		var errs []error
		if !strings.Contains(besidesText.ReplaceAllString(text, ""), sampleCode) {
			errs = append(errs, fmt.Errorf("%s: the template never shows the code; use {{.Code}}", p.text.Name()))
		}
		if p.html != nil && !strings.Contains(besidesText.ReplaceAllString(html, ""), sampleCode) {
			errs = append(errs, fmt.Errorf("%s: the template never shows the code; use {{range .CodeLines}}{{.}}<br>{{end}}", p.html.Name()))
		}
		if errs != nil {
			return nil, errors.Join(errs...)
		}
		_, rest, found := strings.Cut(text, "enter this code:")
		code, _, ended := strings.Cut(rest, after[kind])
		anchored = anchored && found && ended && strings.ReplaceAll(strings.TrimSpace(code), "\n", "") == sampleCode
	}
	if after[kind] != "" && !anchored {
		return []string{fmt.Sprintf("%s: clients that read the message will not find the code; they look for it alone between "+
			`"enter this code:" and %q`, p.text.Name(), after[kind])}, nil
	}
	return nil, nil
}

func (p *pair) render(d *Data) (subject, text, html string, err error) {
	f := d.fields()
	var out strings.Builder
	err = p.text.Execute(&out, f)
	if err != nil {
		return "", "", "", fmt.Errorf("%s: %w", p.text.Name(), err)
	}
	head, text, found := strings.Cut(out.String(), "\n")
	subject, isSubject := strings.CutPrefix(head, "Subject:")
	text, blank := strings.CutPrefix(text, "\n")
	if !found || !isSubject || !blank || oneLine(subject) == "" {
		return "", "", "", fmt.Errorf(`%s: line 1 must be "Subject: " with the subject, and line 2 empty`, p.text.Name())
	}
	if p.html != nil {
		out.Reset()
		err = p.html.Execute(&out, f)
		if err != nil {
			return "", "", "", fmt.Errorf("%s: %w", p.html.Name(), err)
		}
		html = out.String()
	}
	return oneLine(subject), text, html, nil
}

// Render makes a message. html is empty for one without that form.
func (t *Templates) Render(kind Kind, d Data) (subject, text, html string, err error) {
	p := t.kinds[kind]
	if p == nil {
		return "", "", "", fmt.Errorf("make the message: there is no kind %q", kind)
	}
	subject, text, html, err = p.render(&d)
	if err != nil {
		return "", "", "", fmt.Errorf("make the message: %w", err)
	}
	return subject, text, html, nil
}

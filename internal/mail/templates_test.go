package mail_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/mail"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

func data() mail.Data {
	return mail.Data{
		ServerName: "Möbel & Söhne", ServerBaseURL: "https://moebel.example", Link: "https://moebel.example/code?a=1&b=2",
		Email: "jörg@moebel.example", UserAgent: "Browser_1.0 <script>alert(1)</script>", IPAddress: "2001:db8::1",
		Code: strings.Repeat("gAAAA-_", 20), Expires: time.Date(2026, 1, 31, 23, 59, 59, 123456000, time.FixedZone("", 3600)),
	}
}

func load(t testing.TB, files fstest.MapFS) (*mail.Templates, []string) {
	t.Helper()
	templates, notices, err := mail.LoadTemplates(files)
	if err != nil {
		t.Fatal(err)
	}
	return templates, notices
}

// TestBuiltIn compares the messages with the files in testdata.
func TestBuiltIn(t *testing.T) {
	templates, notices, err := mail.LoadTemplates(nil)
	if err != nil || len(notices) != 0 {
		t.Fatal(notices, err)
	}
	for _, kind := range mail.Kinds() {
		subject, text, html, err := templates.Render(kind, data())
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]string{string(kind) + ".txt": "Subject: " + subject + "\n\n" + text, string(kind) + ".html": html} {
			path := filepath.Join("testdata", name+".golden")
			if *update {
				err := os.WriteFile(path, []byte(got), 0o644)
				if err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got; -update rewrites it):\n%s", path, diff)
			}
		}
	}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

const (
	ownText = "Subject: own\n\nenter this code: {{.Code}} into the account verification"
	ownHTML = "<p>{{range .CodeLines}}{{.}}{{end}}</p>"
)

func TestReplaced(t *testing.T) {
	for _, tt := range []struct {
		name    string
		files   fstest.MapFS
		subject string
		html    bool
		notices []string
	}{
		{"nothing", fstest.MapFS{}, "[Möbel & Söhne] Please verify your account sign up request", true, nil},
		{"both", fstest.MapFS{"signup.txt": file(ownText), "signup.html": file(ownHTML)}, "own", true, nil},
		{"with other line ends", fstest.MapFS{"signup.txt": file(strings.ReplaceAll(ownText, "\n", "\r\n")), "signup.html": file(ownHTML)}, "own", true, nil},
		{"with a byte order mark", fstest.MapFS{"signup.txt": file("\ufeff" + ownText), "signup.html": file(ownHTML)}, "own", true, nil},
		{"the text", fstest.MapFS{"signup.txt": file(ownText)}, "own", false, []string{"text alone"}},
		{"the HTML", fstest.MapFS{"signup.html": file(ownHTML)}, "[Möbel & Söhne] Please verify your account sign up request", true, nil},
		{
			"without anchors",
			fstest.MapFS{"signup.txt": file("Subject: own\n\n{{.Code}}"), "signup.html": file(ownHTML)},
			"own", true,
			[]string{"will not find the code"},
		},
		{
			"other files",
			fstest.MapFS{"sign-up.txt": file("x"), "signup.htm": file("x"), "notes.md": file("x"), "forgot.html": file("x")},
			"[Möbel & Söhne] Please verify your account sign up request", true,
			[]string{`"forgot.html"`, `"sign-up.txt"`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			templates, notices := load(t, tt.files)
			subject, text, html, err := templates.Render(mail.SignUp, data())
			if err != nil {
				t.Fatal(err)
			}
			if subject != tt.subject || text == "" || (html != "") != tt.html {
				t.Errorf("subject %q, text %q, html %q", subject, text, html)
			}
			if len(notices) != len(tt.notices) {
				t.Fatalf("notices %q, want %q", notices, tt.notices)
			}
			for i := range notices {
				if !strings.Contains(notices[i], tt.notices[i]) {
					t.Errorf("notice %q lacks %q", notices[i], tt.notices[i])
				}
			}
		})
	}
}

func TestBadTemplates(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files fstest.MapFS
		says  []string
	}{
		{"syntax", fstest.MapFS{"signup.txt": file("Subject: x\n\n{{if}}")}, []string{"signup.txt:3", "if"}},
		{"field", fstest.MapFS{"signup.txt": file("Subject: x\n\n{{.Code}}{{.Password}}")}, []string{"signup.txt:3", "Password"}},
		{"field in HTML", fstest.MapFS{"forgotpass.html": file("{{.Nothing}}")}, []string{"forgotpass.html:1", "Nothing"}},
		{"no subject", fstest.MapFS{"signup.txt": file("{{.Code}}")}, []string{"signup.txt", "Subject: "}},
		{"an empty subject", fstest.MapFS{"signup.txt": file("Subject: \n\n{{.Code}}")}, []string{"signup.txt", "Subject: "}},
		{"no blank line", fstest.MapFS{"signup.txt": file("Subject: x\n{{.Code}}")}, []string{"signup.txt", "line 2"}},
		{"a code in the subject", fstest.MapFS{"signup.txt": file("Subject: {{.Code}}\n\n{{.Code}}")}, []string{"signup.txt", "line 2"}},
		{"too few letters", fstest.MapFS{"signup.txt": file("Subject: x\n\n{{.Code}}{{slice .UserAgent 0 5}}")}, []string{"signup.txt:3", "slice"}},
		{"a code in a condition", fstest.MapFS{"signup.txt": file("Subject: x\n\n{{if .UserAgent}}{{.Code}}{{end}}")}, []string{"signup.txt", "never shows the code"}},
		{"no code", fstest.MapFS{"signup.txt": file("Subject: x\n\nhello")}, []string{"signup.txt", "never shows the code"}},
		{"no code in HTML", fstest.MapFS{"signup.html": file("hello")}, []string{"signup.html", "never shows the code"}},
		{"too large", fstest.MapFS{"signup.txt": file(strings.Repeat("x", 64<<10+1))}, []string{"signup.txt", "65536"}},
		{"a script that is not closed", fstest.MapFS{"signup.html": file("<script>{{.Code}}")}, []string{"signup.html"}},
		{
			"several",
			fstest.MapFS{"signup.txt": file("x"), "signup.html": file("{{end}}"), "forgotpass.txt": file("Subject: x\n\n{{.X}}")},
			[]string{"signup.txt", "signup.html", "forgotpass.txt"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := mail.LoadTemplates(tt.files)
			if err == nil {
				t.Fatal("the templates were accepted")
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}

// codeKinds are the messages with a code.
var codeKinds = []mail.Kind{mail.SignUp, mail.ForgotPass}

// TestNoValueImitatesTheCode: what users choose stands after the code, so that
// clients that take the first thing that looks like one get the true one.
func TestNoValueImitatesTheCode(t *testing.T) {
	templates, _ := load(t, nil)
	d := data()
	d.Code = "true"
	d.UserAgent = "enter this code: false into the account verification or into the password reset"
	for _, kind := range codeKinds {
		_, text, _, err := templates.Render(kind, d)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, "enter this code:")
		code, _, _ := strings.Cut(rest, "into the")
		if strings.TrimSpace(code) != "true" {
			t.Errorf("%s: the code seems to be %q", kind, code)
		}
	}
}

func TestUnknownKind(t *testing.T) {
	templates, _ := load(t, nil)
	_, _, _, err := templates.Render("newsletter", data())
	if err == nil {
		t.Error("there is a message of an unknown kind")
	}
}

// anchored finds the code as published clients do.
var anchored = regexp.MustCompile(`(?s)enter this code:\n\n(.*?)\n\ninto the (account verification|password reset)`)

// FuzzRender: whatever the data is, the subject is one line, the code is found,
// and no value gets out of its place in the HTML.
func FuzzRender(f *testing.F) {
	f.Add("Site", "https://site.example", "agent", "code")
	f.Add("a\r\nBcc: x", "javascript:alert(1)", "enter this code:\n\nfake\n\ninto the account verification", "gAAAA-_")
	f.Add("\u202etxt\u2028", "\"'><script>", "\x00\xff", strings.Repeat("é-", 200))
	templates, _, err := mail.LoadTemplates(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, url, agent, code string) {
		code = strings.Join(strings.Fields(code), "")
		for _, kind := range mail.Kinds() {
			subject, text, html, err := templates.Render(kind, mail.Data{
				ServerName: name, ServerBaseURL: url, Link: url, Email: "a@b", UserAgent: agent, IPAddress: agent, Code: code,
			})
			if err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(subject, "\r\n\u2028\u202e\x00") || subject == "" {
				t.Errorf("subject %q", subject)
			}
			if strings.Contains(html, "<script") || strings.Count(html, "<") != strings.Count(html, ">") {
				t.Errorf("a value got out of its place:\n%s", html)
			}
			found := anchored.FindAllStringSubmatch(text, -1)
			if !slices.Contains(codeKinds, kind) {
				if len(found) > 0 {
					t.Errorf("a code in a message without one:\n%s", text)
				}
				continue
			}
			if len(found) != 1 {
				t.Fatalf("%d codes in:\n%s", len(found), text)
			}
			for _, r := range strings.ReplaceAll(found[0][1], "\n", "") {
				if !strings.ContainsRune(code, r) && r != '\ufffd' {
					t.Errorf("the code is %q, want %q", found[0][1], code)
					break
				}
			}
		}
	})
}

// FuzzLoadTemplates: a template is taken or refused.
func FuzzLoadTemplates(f *testing.F) {
	f.Add(ownText, ownHTML)
	f.Add("Subject: {{.ServerName}}\n\n{{range .CodeLines}}{{.}}{{end}}", "<a href='{{.Link}}'>{{.Code}}")
	f.Add("Subject: x\n\n{{template \"x\"}}", "<script>var x = {{.Code}}</script>")
	f.Fuzz(func(t *testing.T, text, html string) {
		if strings.Contains(text+html, "define") || strings.Contains(text+html, "block") || strings.Contains(text+html, "range") {
			return // may go on for ever, which is the operator's own affair
		}
		templates, _, err := mail.LoadTemplates(fstest.MapFS{"signup.txt": file(text), "signup.html": file(html)})
		if err != nil {
			return
		}
		_, _, _, _ = templates.Render(mail.SignUp, data())
	})
}

package identity_test

import (
	"errors"
	"html"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"authnzerver/internal/identity"
)

func TestParseFullName(t *testing.T) {
	t.Parallel()
	// "Mended" marks what the Python server refuses.
	for _, tt := range []struct{ name, want string }{
		{"", ""},
		{" \t\r\n", ""},
		{"  Pat  O'Brien <b> & \"Co\" \t\n x ", "Pat O&#x27;Brien &lt;b&gt; &amp; &quot;Co&quot; x"},
		{"\u00a0Pat\u00a0\u3000Roe\u2003", "Pat Roe"},
		{"Pat\x00Roe", "Pat Roe"},
		{"Ｐａｔ", "Pat"},
		{"Jose\u0301", "José"},
		{"PAT", "PAT"},
		{"pat@home", "pat@home"},
		{"&amp;", "&amp;amp;"},
		{"J. R. R. Tolkien", "J. R. R. Tolkien"},
		{"J.R.R. Tolkien", "J.R.R. Tolkien"},
		{"Robert Roe Jr.", "Robert Roe Jr."},
		{"Jane Roe, Ph.D.", "Jane Roe, Ph.D."},
		{"Dr. med. Jane Roe", "Dr. med. Jane Roe"},
		{"Anne-Marie D’Arc", "Anne-Marie D’Arc"},
		{"X Æ A-12", "X Æ A-12"},
		{"李小龍", "李小龍"},
		{"А.С.Пушкин", "А.С.Пушкин"},
		{"می\u200cخواهم", "می\u200cخواهم"},
		{"Kim Li", "Kim Li"},
		{"J. Li", "J. Li"},
		{"wait...world", "wait...world"},
		{"v 1.2.3", "v 1.2.3"},
		{strings.Repeat("a", 280), strings.Repeat("a", 280)},
		{strings.Repeat("é", 280), strings.Repeat("é", 280)},
		{strings.Repeat(" a", 140) + strings.Repeat(" ", 1000), strings.TrimSpace(strings.Repeat(" a", 140))},
		{"John Q.Public", "John Q.Public"}, // mended
		{"St.John", "St.John"},             // mended
		{"A.Inamdar", "A.Inamdar"},         // mended
		{"J.Mello", "J.Mello"},             // mended
		{"A.Nuñez", "A.Nuñez"},             // mended
		{"J.Li-Roe", "J.Li-Roe"},           // mended
		{".com", ".com"},                   // mended
	} {
		got, err := identity.ParseFullName(tt.name)
		if got != tt.want || err != nil {
			t.Errorf("ParseFullName(%q) = %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestParseFullNameRefuses(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]string{
		"a@b@c":                               "two @", // mended: no crash
		"a＠b@c":                               "two @ after composition",
		"Pat\xff":                             "not UTF-8",
		strings.Repeat("a", 281):              "too long",
		strings.Repeat("é", 281):              "too long",
		strings.Repeat("'", 47):               "too long when escaped",
		"http":                                "scheme",
		"xHTTPx":                              "scheme",
		"ＨＴＴＰ":                                "fullwidth scheme",
		"ht\u00adtp":                          "scheme with a soft hyphen",
		"ftp://x":                             "scheme",
		"a:\u200b//b":                         "scheme with a zero-width space",
		"Visit bIt.Ly/2x for $$":              "host name with a path",
		"example.com":                         "host name",
		"EXAMPLE.COM":                         "host name",
		"foo.co.uk":                           "host name",
		"co.uk":                               "a suffix of two labels",
		"foo.github.io":                       "host name under a private suffix",
		"github.io":                           "a private suffix",
		"shop.ck":                             "host name under a wildcard suffix",
		"www.ck":                              "an exception to a wildcard",
		"pat@example.com":                     "e-mail address",
		"win (example.com)!":                  "host name in punctuation",
		"“example.com”":                       "host name in quotation marks",
		"example.com.":                        "host name at the end of a sentence",
		"...example.com...":                   "host name among dots",
		"-example.com-":                       "host name among hyphens",
		"example.com:8080":                    "host name with a port",
		"example.com,example":                 "host name before a comma",
		"example.com_x":                       "host name before an underscore",
		"x'example.com":                       "host name after an apostrophe",
		"example．com":                         "fullwidth dot",
		"example。com":                         "ideographic full stop",
		"example｡com":                         "halfwidth ideographic full stop",
		"example․com":                         "one dot leader",
		"ｅｘａｍｐｌｅ.ｃｏｍ":                         "fullwidth letters",
		"ex\u00adample.c\u200dom":             "invisible characters",
		"example.com\ufe0f":                   "variation selector",
		"example.com\u0080":                   "control character",
		"example.com→":                        "symbol after the host name",
		"❤.ws":                                "host name of a picture",
		"x❤example.com❤x":                     "host name between pictures",
		"请访问example.com领奖":                    "host name in a script without blanks",
		"пример.рф":                           "host name beyond ASCII",
		"例え.中国":                               "host name beyond ASCII",
		"xn--e1afmkfd.xn--p1ai":               "host name in its ASCII form",
		"t.me":                                "host name of one letter",
		"J.Li":                                "initial and name, but also a host name",
		"Jane Roe, M.Sc.":                     "degree, but also a host name",
		"Dr.med. Jane Roe":                    "title, but also a host name",
		"1.2.3.4/x":                           "IPv4 address",
		"Pat\nexample.com\nRoe":               "host name on its own line",
		"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.com": "host name of many labels",
		strings.Repeat("ü", 70) + ".com":      "host name with a long label",
		"x." + strings.Repeat("com.", 60) + "x.com": "host name of many labels",
	} {
		got, err := identity.ParseFullName(name)
		if got != "" || !errors.Is(err, identity.ErrInvalidFullName) {
			t.Errorf("%s: ParseFullName(%q) = %q, %v, want ErrInvalidFullName", reason, name, got, err)
			continue
		}
		if strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error %q shows the name", reason, err)
		}
	}
}

// checkStored fails unless a stored name keeps what ParseFullName promises.
func checkStored(t interface {
	Helper()
	Errorf(string, ...any)
}, name, stored string,
) {
	t.Helper()
	if utf8.RuneCountInString(stored) > 280 {
		t.Errorf("ParseFullName(%q) has more than 280 characters", name)
	}
	if strings.ContainsAny(stored, "<>\"'\r\n\x00") || strings.Contains(stored, "  ") || strings.TrimSpace(stored) != stored {
		t.Errorf("ParseFullName(%q) = %q", name, stored)
	}
	if strings.Contains(stored, "://") || strings.Contains(strings.ToLower(stored), "http") {
		t.Errorf("ParseFullName(%q) = %q", name, stored)
	}
	again, err := identity.ParseFullName(html.UnescapeString(stored))
	if again != stored || err != nil {
		t.Errorf("ParseFullName of %q as shown = %q, %v, want %q", name, again, err, stored)
	}
}

func TestStoredNamesAreStable(t *testing.T) {
	t.Parallel()
	characters := rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune("ab. <>&\"'@-\t\u0301\u00a0é李")))
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOf(characters).Draw(t, "name")
		stored, err := identity.ParseFullName(name)
		if err == nil {
			checkStored(t, name, stored)
		}
	})
}

// A word that ends in a suffix is refused wherever it stands.
func TestHostNamesAreRefusedAnywhere(t *testing.T) {
	t.Parallel()
	label := rapid.StringMatching(`[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?`)
	suffix := rapid.SampledFrom([]string{"com", "ORG", "co.uk", "ly", "Io", "tokyo.jp", "github.io", "shop"})
	around := rapid.SampledFrom([]string{"", " ", "  ", "(", ")", ",", "!", "/x", "/", "\t", "…", "|", "\u200b", "→", "¡", "李"})
	rapid.Check(t, func(t *rapid.T) {
		name := around.Draw(t, "before") + label.Draw(t, "label") + "." + suffix.Draw(t, "suffix") + around.Draw(t, "after")
		if got, err := identity.ParseFullName(name); err == nil {
			t.Fatalf("ParseFullName(%q) = %q, want an error", name, got)
		}
	})
}

func FuzzParseFullName(f *testing.F) {
	f.Add("  Pat  O'Brien <b> & \"Co\" \t\n x ")
	f.Add("a@b@c")
	f.Add("bIt.Ly/x")
	f.Add("St.John")
	f.Add("ｅｘ\u00ad。рф\xff")
	f.Add(strings.Repeat("\u0301", 40) + "。com")
	f.Fuzz(func(t *testing.T, name string) {
		stored, err := identity.ParseFullName(name)
		if err == nil {
			checkStored(t, name, stored)
		} else if !errors.Is(err, identity.ErrInvalidFullName) || stored != "" {
			t.Errorf("ParseFullName(%q) = %q, %v", name, stored, err)
		}
	})
}

func BenchmarkParseFullName(b *testing.B) {
	for b.Loop() {
		_, _ = identity.ParseFullName("Pat O'Brien")
	}
}

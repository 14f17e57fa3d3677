package identity_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"authnzerver/internal/identity"
)

func TestCheckEmailSyntax(t *testing.T) {
	t.Parallel()
	// "Mended" marks what the Python server decides otherwise.
	for _, tt := range []struct {
		name, address string
		want          error
	}{
		{"one label", "a@b", nil},
		{"dots at the ends", ".a.@b.c", nil},
		{"two dots", "a..b@c", nil},
		{"numeric domain", "a@1.2.3.4", nil},
		{"slash", "a/b@c", nil},
		{"every symbol", "AZaz09.!#$%&'*+/=?^_`{|}~-@AZ-az.09", nil},
		{"IDNA", "a@xn--9ca.c", nil},
		{"label of 255", "a@" + strings.Repeat("b", 255), nil},
		{"address of 280", strings.Repeat("a", 278) + "@b", nil},
		{"ASCII apostrophe: mended", "a'b@c", nil},

		{"curly apostrophe: mended", "a’b@c", identity.ErrInvalidEmail},
		{"line feed at the end: mended", "a@b.c\n", identity.ErrInvalidEmail},
		{"address of 281: mended", strings.Repeat("a", 279) + "@b", identity.ErrInvalidEmail},
		{"local part of 300: mended", strings.Repeat("a", 300) + "@b", identity.ErrInvalidEmail},
		{"hyphen at the start of a label", "a@-b.c", identity.ErrInvalidEmail},
		{"hyphen at the end of a label", "a@b-.c", identity.ErrInvalidEmail},
		{"empty label", "a@b..c", identity.ErrInvalidEmail},
		{"dot at the end", "a@b.c.", identity.ErrInvalidEmail},
		{"dot at the start of the domain", "a@.b", identity.ErrInvalidEmail},
		{"no local part", "@b.c", identity.ErrInvalidEmail},
		{"no domain", "a@", identity.ErrInvalidEmail},
		{"no @", "ab.c", identity.ErrInvalidEmail},
		{"blank", "a b@c", identity.ErrInvalidEmail},
		{"underscore", "a@b_c", identity.ErrInvalidEmail},
		{"IP address literal", "a@[1.2.3.4]", identity.ErrInvalidEmail},
		{"backslash", `a\b@c`, identity.ErrInvalidEmail},
		{"quotes", `"a"@c`, identity.ErrInvalidEmail},
		{"letter beyond ASCII", "é@c", identity.ErrInvalidEmail},
		{"domain beyond ASCII", "a@é.c", identity.ErrInvalidEmail},
		{"label of 256", "a@" + strings.Repeat("b", 256), identity.ErrInvalidEmail},
		{"two @", "a@b@c", identity.ErrInvalidEmail},
		{"empty", "", identity.ErrInvalidEmail},
		{"line feed at the start", "\na@b.c", identity.ErrInvalidEmail},
		{"two line feeds", "a@b.c\n\n", identity.ErrInvalidEmail},
		{"carriage return", "a@b.c\r", identity.ErrInvalidEmail},
		{"NUL", "a\x00@b.c", identity.ErrInvalidEmail},
		{"not UTF-8", "a\xff@b.c", identity.ErrInvalidEmail},
		{"fullwidth @", "a＠b.c", identity.ErrInvalidEmail},
		{"Kelvin sign", "\u212a@b.c", identity.ErrInvalidEmail},
	} {
		if err := identity.CheckEmailSyntax(tt.address); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestParseEmail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address, normalized string
		want                error
	}{
		{"Jane.O'Hara+News@Example.ORG", "jane.o'hara+news@example.org", nil},
		{"admins@example.org", "admins@example.org", nil},
		{"me.too@example.org", "me.too@example.org", nil},
		{"jane@localhost", "jane@localhost", nil},

		{"admin@example.org", "", identity.ErrReservedEmail},
		{"Admin@example.org", "", identity.ErrReservedEmail}, // mended
		{"PostMaster@example.org", "", identity.ErrReservedEmail},
		{".htaccess@example.org", "", identity.ErrReservedEmail},
		{"www@example.org", "", identity.ErrReservedEmail},
		{"admin@0-mail.com", "", identity.ErrReservedEmail},

		{"jane@0-mail.com", "", identity.ErrDisposableEmail},
		{"jane@0-MAIL.com", "", identity.ErrDisposableEmail},
		{"jane@a.0-mail.com", "", identity.ErrDisposableEmail},   // mended
		{"jane@b.a.0-mail.com", "", identity.ErrDisposableEmail}, // mended
		{"jane@not0-mail.com", "jane@not0-mail.com", nil},
		{"jane@0-mail.com.example", "jane@0-mail.com.example", nil},
		{"jane@0-mail.com\n", "", identity.ErrInvalidEmail}, // mended

		{"jane@mailinator.com", "", identity.ErrDisposableEmail},
		{"jane@instágram.com", "", identity.ErrInvalidEmail},
		{"jane@xn--instgram-cza.com", "", identity.ErrDisposableEmail},
		// The list has edu.pl, under which every Polish school has its name.
		{"jane@edu.pl", "", identity.ErrDisposableEmail},
		{"jane@uni.edu.pl", "jane@uni.edu.pl", nil},
		{"jane@mail.uni.edu.pl", "jane@mail.uni.edu.pl", nil},
	} {
		got, err := identity.ParseEmail(tt.address)
		if got != tt.normalized || !errors.Is(err, tt.want) {
			t.Errorf("ParseEmail(%q) = %q, %v, want %q, %v", tt.address, got, err, tt.normalized, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "jane") {
			t.Errorf("the error %q shows the address", err)
		}
	}
}

// Addresses of ordinary people must never be taken for disposable ones.
func TestOrdinaryProvidersAreNotDisposable(t *testing.T) {
	t.Parallel()
	for domain := range strings.FieldsSeq(`
		gmail.com googlemail.com outlook.com hotmail.com hotmail.co.uk live.com msn.com yahoo.com yahoo.co.uk
		yahoo.co.jp ymail.com aol.com icloud.com me.com mac.com proton.me protonmail.com pm.me tutanota.com tuta.io
		fastmail.com fastmail.fm hey.com zoho.com gmx.de gmx.net gmx.at gmx.com mail.com web.de t-online.de freenet.de
		posteo.de mailbox.org orange.fr laposte.net free.fr libero.it bluewin.ch seznam.cz wp.pl o2.pl interia.pl
		onet.pl ukr.net mail.ru bk.ru list.ru yandex.ru yandex.com rambler.ru qq.com 163.com 126.com sina.com
		naver.com daum.net hanmail.net rediffmail.com uol.com.br bol.com.br terra.com.br comcast.net verizon.net
		att.net sbcglobal.net cox.net shaw.ca rogers.com bigpond.com xtra.co.nz btinternet.com sky.com riseup.net
		duck.com mozmail.com privaterelay.appleid.com users.noreply.github.com
		mit.edu astro.princeton.edu ox.ac.uk ethz.ch u-tokyo.ac.jp gov.uk europa.eu example.com example.org localhost`) {
		if _, err := identity.ParseEmail("jane@" + domain); err != nil {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

func TestWordListsAreFoundWhole(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file          string
		least         int
		before, after string
		want          error
	}{
		{"data/reserved-names.txt", 101, "", "@example.org", identity.ErrReservedEmail},
		{"data/disposable-domains.txt", 100_000, "jane@", "", identity.ErrDisposableEmail},
	} {
		text, err := os.ReadFile(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		list := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if !slices.IsSorted(list) || len(list) < tt.least {
			t.Errorf("%s: %d entries, sorted: %t", tt.file, len(list), slices.IsSorted(list))
		}
		for _, entry := range list {
			address := tt.before + entry + tt.after
			if _, err := identity.ParseEmail(address); !errors.Is(err, tt.want) {
				t.Errorf("%s: ParseEmail(%q): %v, want %v", tt.file, address, err, tt.want)
			}
		}
	}
}

func TestNormalizeEmail(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ address, want string }{
		{"", ""},
		{"Jane@EXAMPLE.org", "jane@example.org"},
		{" Jane@Example.org\n", " jane@example.org\n"},
		{"STRASSE@straße.DE", "strasse@strasse.de"},
		{"A@B@C", "a@b@c"},
		{"Ａ＠Ｂ", "a@b"},
		{"\u212a@\u017f", "k@s"},
		{"ΣΊΣΥΦΟΣ", "σίσυφοσ"},
		{"e\u0301", "é"},
		{"\u0130", "i\u0307"},
		{"ꭰꮿᏸᏽ", "ᎠᏯᏰᏵ"},
		{"ᎠᏯᏰᏵ", "ᎠᏯᏰᏵ"},
		{"A\xffB", "a\ufffdb"},
	} {
		if got := identity.NormalizeEmail(tt.address); got != tt.want {
			t.Errorf("NormalizeEmail(%q) = %q, want %q", tt.address, got, tt.want)
		}
	}
}

func TestEveryCharacterHasOneNormalForm(t *testing.T) {
	t.Parallel()
	for r := range utf8.MaxRune + 1 {
		once := identity.NormalizeEmail(string(r))
		if twice := identity.NormalizeEmail(once); twice != once {
			t.Errorf("%U: %+q, then %+q", r, once, twice)
		}
	}
}

func TestNormalizeEmailIsIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.String().Draw(t, "address")
		once := identity.NormalizeEmail(address)
		if twice := identity.NormalizeEmail(once); twice != once {
			t.Fatalf("%+q: %+q, then %+q", address, once, twice)
		}
	})
}

func FuzzNormalizeEmail(f *testing.F) {
	f.Add("Jane.Doe@Example.org")
	f.Add("\u212a\u0345\u0301@ﬃ")
	f.Add("ꭰ@Ꭰ\xff")
	f.Add(strings.Repeat("\u0345", 40))
	f.Fuzz(func(t *testing.T, address string) {
		once := identity.NormalizeEmail(address)
		if twice := identity.NormalizeEmail(once); twice != once {
			t.Errorf("%+q: %+q, then %+q", address, once, twice)
		}
	})
}

func FuzzParseEmail(f *testing.F) {
	f.Add("Jane.O'Hara+News@Example.ORG")
	f.Add("Admin@example.org")
	f.Add("jane@a.0-mail.com")
	f.Add("a@b@c\n")
	f.Add("\u212a@.b")
	f.Fuzz(func(t *testing.T, address string) {
		got, err := identity.ParseEmail(address)
		if err != nil {
			if got != "" {
				t.Errorf("ParseEmail(%q) = %q beside an error", address, got)
			}
			if !errors.Is(err, identity.ErrInvalidEmail) && !errors.Is(err, identity.ErrReservedEmail) &&
				!errors.Is(err, identity.ErrDisposableEmail) {
				t.Errorf("ParseEmail(%q): unknown error %v", address, err)
			}
			return
		}
		if got != strings.ToLower(address) {
			t.Errorf("ParseEmail(%q) = %q, want its lower case", address, got)
		}
		if again, err := identity.ParseEmail(got); again != got || err != nil {
			t.Errorf("ParseEmail(%q) = %q, %v, want the same", got, again, err)
		}
		if strings.Count(got, "@") != 1 || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("ParseEmail(%q) = %q", address, got)
		}
	})
}

func BenchmarkParseEmail(b *testing.B) {
	for b.Loop() {
		_, _ = identity.ParseEmail("jane.doe@mail.example.org")
	}
}

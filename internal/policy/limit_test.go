package policy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/policy"
)

// withLimit returns a policy in which the role locked has one limit, of each
// type and operator in turn.
func withLimit(tb testing.TB, typeWord, operator, bound string) *policy.Policy {
	tb.Helper()
	text := strings.Replace(string(policy.DefaultJSON()), `"max": {"type": "int", "operator": "lt"}`,
		fmt.Sprintf(`"max": {"type": %q, "operator": %q}`, typeWord, operator), 1)
	text = strings.ReplaceAll(text, `"max_requests": {"type": "max", "limit": 0}`,
		fmt.Sprintf(`"max_requests": {"type": "max", "limit": %s}`, bound))
	return mustParse(tb, []byte(text))
}

func TestWithinLimit(t *testing.T) {
	t.Parallel()
	const million = "5000000"
	for _, tt := range []struct {
		typeWord, operator, bound, value string
		want                             bool
	}{
		{"int", "lt", million, "4999999", true},
		{"int", "lt", million, "4999999.9", true},
		{"int", "lt", million, "5000000", false},
		{"int", "lt", million, "5000000.0", false},
		{"int", "lt", million, `" 10 "`, true},
		{"int", "lt", million, "-1", true},
		{"int", "lt", million, `"10.5"`, false},
		{"int", "lt", million, `""`, false},
		{"int", "lt", million, "[]", false},
		{"int", "lt", million, "[1]", false},
		{"int", "lt", million, "{}", false},
		{"int", "lt", million, "null", false},
		{"int", "lt", million, `"NaN"`, false},
		{"int", "lt", million, "-1e400", false},
		{"int", "lt", million, `"1_0"`, true},
		{"int", "lt", million, `"1__0"`, false},
		{"int", "lt", million, `"४"`, true},
		{"int", "lt", million, `"\ud835\udfd9"`, true},
		{"int", "lt", million, "\n 1\t", true},
		{"int", "lt", million, "4999999.9999999999999999", false}, // is 5000000 as binary64
		{"int", "lt", "10.9", "10", false},
		{"int", "lt", "10.9", "9.9", true},
		{"int", "lt", "-0.9", "-0.9", false},
		{"int", "lt", "1", "false", true},
		{"int", "lt", "1", "true", false},
		{"int", "lt", "-5", "-6", true},
		{"int", "lt", "-5", "-5", false},
		{"int", "lt", "-5", "-4", false},
		{"int", "lt", "-5", "0", false},
		{"int", "gt", "-5", "-4", true},
		{"int", "gt", "-5", "-5", false},
		{"int", "gt", "-5", "-6", false},
		{"int", "gt", "0", "true", true},
		{"int", "gt", "0", "false", false},
		{"int", "gt", "0", "-0", false},
		{"int", "gt", "0", "[1]", false},
		{"int", "gt", "9007199254740992", "9007199254740993", true},
		{"int", "gt", "9007199254740992", "9007199254740993.0", false},
		{"int", "gt", "1e22", "10000000000000000000001", true},
		{"int", "gt", "1e22", "10000000000000000000000", false},
		{"int", "gt", "0", strings.Repeat("9", 4300), true},
		{"int", "gt", "0", strings.Repeat("9", 4301), false},
		{"int", "gt", "0", `"` + strings.Repeat("9_", 4299) + `9"`, true},
		{"float", "lt", "0.5", "0.4999", true},
		{"float", "lt", "0.5", "0.5", false},
		{"float", "lt", "0.5", `"5e-1"`, false},
		{"float", "lt", "0.5", `" +.4_9 "`, true},
		{"float", "lt", "0.5", `"0._4"`, false},
		{"float", "lt", "0.5", `"0_.4"`, false},
		{"float", "lt", "0.5", `"+_0"`, false},
		{"float", "lt", "0.5", `"-inf"`, false},
		{"float", "lt", "0.5", "-1e400", false},
		{"float", "lt", "0.5", `"0x0"`, false},
		{"float", "lt", "0.5", `""`, false},
		{"float", "lt", "0.5", "null", false},
		{"float", "lt", "0.5", "[0]", false},
		{"float", "lt", "0.5", "false", true},
		{"float", "gt", "0.5", "true", true},
		{"float", "gt", "0.5", "false", false},
		{"float", "gt", "0.5", "1e400", false},
		{"float", "gt", "0.5", `"infinity"`, false},
		{"float", "gt", "0.5", `"1é"`, false},
		{"float", "gt", "0", "-0.0", false},
		{"float", "gt", "0", "5e-324", true},
		// What is no JSON text is within no limit either.
		{"int", "lt", million, "", false},
		{"int", "lt", million, "01", false},
		{"int", "lt", million, "1 2", false},
		{"float", "lt", million, "NaN", false},
		{"float", "lt", million, `"1`, false},
	} {
		p := withLimit(t, tt.typeWord, tt.operator, tt.bound)
		got, err := p.WithinLimit("locked", "max_requests", []byte(tt.value))
		if got != tt.want || err != nil {
			t.Errorf("%s %.60s %s %s: %v, %v; want %v", tt.typeWord, tt.value, tt.operator, tt.bound, got, err, tt.want)
		}
	}
}

func TestUnlimited(t *testing.T) {
	t.Parallel()
	p := withLimit(t, "int", "lt", "0")
	for _, value := range []string{"1e9", "null", `"x"`, "]"} {
		if ok, err := p.WithinLimit("locked", "max_request", []byte(value)); !ok || err != nil {
			t.Errorf("%s against no limit: %v, %v", value, ok, err)
		}
	}
	if ok, err := p.WithinLimit("nobody", "max_request", []byte("1")); ok || !errors.Is(err, policy.ErrUnknownRole) {
		t.Errorf("unknown role: %v, %v", ok, err)
	}
}

// longValues hold as many characters as a request may have for a value, or
// stand for numbers of very many digits.
var longValues = []struct {
	name, value string
	whole, real bool // whether the value is a number greater than 0
}{
	{"integer", strings.Repeat("9", 1<<16), false, false},
	{"fraction", "0." + strings.Repeat("9", 1<<16), true, true},
	{"small", "0." + strings.Repeat("0", 1<<16) + "9", false, false},
	{"exponent", "1e" + strings.Repeat("9", 1<<16), false, false},
	{"negative exponent", "1e-" + strings.Repeat("9", 1<<16), false, false},
	{"great exponent", "1e999999999", false, false},
	{"digits", `"` + strings.Repeat("9", 1<<16) + `"`, false, false},
	{"zeros", `"` + strings.Repeat("0", 1<<16) + `9"`, false, true},
	{"underscores", `"` + strings.Repeat("0_", 1<<15) + `9"`, false, true},
	{"blanks", `"` + strings.Repeat(" ", 1<<16) + `9"`, true, true},
	{"other script", `"` + strings.Repeat("٠", 1<<15) + `9"`, false, true},
	{"brackets", strings.Repeat("[", 1<<16), false, false},
}

func TestLongValues(t *testing.T) {
	t.Parallel()
	for typeWord, p := range map[string]*policy.Policy{"int": withLimit(t, "int", "gt", "0"), "float": withLimit(t, "float", "gt", "0")} {
		for _, v := range longValues {
			want := v.real
			if typeWord == "int" {
				want = v.whole
			}
			if got, err := p.WithinLimit("locked", "max_requests", []byte(v.value)); got != want || err != nil {
				t.Errorf("%s as %s: %v, %v; want %v", v.name, typeWord, got, err, want)
			}
		}
	}
}

func BenchmarkWithinLimit(b *testing.B) {
	values := map[string]string{"short": "4999999"}
	for _, v := range longValues {
		values[v.name] = v.value
	}
	for name, value := range values {
		for _, typeWord := range []string{"int", "float"} {
			b.Run(strings.ReplaceAll(name, " ", "-")+"/"+typeWord, func(b *testing.B) {
				p := withLimit(b, typeWord, "lt", "5000000")
				text := []byte(value)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := p.WithinLimit("locked", "max_requests", text); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestParseSharedWith(t *testing.T) {
	t.Parallel()
	const failure = "not an integer"
	for _, tt := range []struct {
		text string
		want []int64
		err  string
	}{
		{"", nil, ""},
		{"none", nil, ""},
		{"NoNe", nil, ""},
		{"5", []int64{5}, ""},
		{"5,6,5", []int64{5, 6, 5}, ""},
		{" 5 ,\t6\n,\v7\f\r", []int64{5, 6, 7}, ""},
		{"\u00a05\u3000", []int64{5}, ""},
		{"+5,-6,-0", []int64{5, -6, 0}, ""},
		{"1_000", []int64{1000}, ""},
		{"007", []int64{7}, ""},
		{"٤٢,４２,𝟜𝟚,4२", []int64{42, 42, 42, 42}, ""},
		{"9223372036854775807,-9223372036854775808", []int64{9223372036854775807, -9223372036854775808}, ""},
		{strings.Repeat("0", 4299) + "8", []int64{8}, ""},
		{" none", nil, failure},
		{" ", nil, failure},
		{",", nil, failure},
		{"5,", nil, failure},
		{",5", nil, failure},
		{"5,,6", nil, failure},
		{"5, none", nil, failure},
		{"5;6", nil, failure},
		{"5 6", nil, failure},
		{"_5", nil, failure},
		{"5_", nil, failure},
		{"5__5", nil, failure},
		{"5_,5", nil, failure},
		{"+", nil, failure},
		{"+-5", nil, failure},
		{"- 5", nil, failure},
		{"+_5", nil, failure},
		{"5.0", nil, failure},
		{"5e0", nil, failure},
		{"0x5", nil, failure},
		{"²", nil, failure},
		{"−5", nil, failure},
		{"\u200b5", nil, failure},
		{"\x1c5", nil, failure},
		{"5\x00", nil, failure},
		{"\xff5", nil, failure},
		{strings.Repeat("0", 4300) + "8", nil, failure},
		{"9223372036854775808", nil, "out of range"},
		{"-9223372036854775809", nil, "out of range"},
	} {
		got, err := policy.ParseSharedWith(tt.text)
		if (err == nil) != (tt.err == "") || err != nil && !strings.HasSuffix(err.Error(), tt.err) {
			t.Errorf("ParseSharedWith(%.40q): error %v, want %q", tt.text, err, tt.err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseSharedWith(%.40q) (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestParseSharedWithNamesThePosition(t *testing.T) {
	t.Parallel()
	_, err := policy.ParseSharedWith("5,6,seven")
	if want := "user id 3 in the list: not an integer"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// The digits of every script follow one another from 0 to 9.
func TestDigitsOfAllScripts(t *testing.T) {
	t.Parallel()
	digits := 0
	var last rune
	value := int64(-1)
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !unicode.IsDigit(r) {
			continue
		}
		digits++
		// A new script begins with a gap or after a nine.
		if r != last+1 || value == 9 {
			value = -1
		}
		value, last = value+1, r
		ids, err := policy.ParseSharedWith(string(r))
		if err != nil || len(ids) != 1 || ids[0] != value {
			t.Errorf("%U: %v, %v; want %d", r, ids, err, value)
		}
	}
	if digits < 600 || digits%10 != 0 {
		t.Errorf("%d digits", digits)
	}
}

func FuzzParseSharedWith(f *testing.F) {
	for _, seed := range []string{"", "None", "1,2,3", " +1_0 ,-5", "٤٢", "5,,", "9223372036854775808"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := policy.ParseSharedWith(text)
		if err != nil {
			if ids != nil {
				t.Error("ids with an error")
			}
			return
		}
		if ids == nil {
			if text != "" && !strings.EqualFold(text, "none") {
				t.Error("a list is nobody")
			}
			return
		}
		// What is canonical means the same.
		again, err := policy.ParseSharedWith(strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ids)), ","), "[]"))
		if diff := cmp.Diff(ids, again); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func FuzzWithinLimit(f *testing.F) {
	for _, value := range values {
		f.Add([]byte(value), true, true)
		f.Add([]byte(value), false, false)
	}
	policies := map[string]*policy.Policy{}
	files := map[string]map[string]any{}
	for _, typeWord := range []string{"int", "float"} {
		for _, operator := range []string{"lt", "gt"} {
			policies[typeWord+operator] = withLimit(f, typeWord, operator, "10.5")
			files[typeWord+operator] = map[string]any{
				"limits":      map[string]any{"max": map[string]any{"type": typeWord, "operator": operator}},
				"role_policy": map[string]any{"locked": map[string]any{"limits": map[string]any{"max_requests": map[string]any{"type": "max", "limit": json.Number("10.5")}}}},
			}
		}
	}
	f.Fuzz(func(t *testing.T, value []byte, integer, below bool) {
		key := map[bool]string{true: "int", false: "float"}[integer] + map[bool]string{true: "lt", false: "gt"}[below]
		got, err := policies[key].WithinLimit("locked", "max_requests", value)
		if err != nil {
			t.Fatal(err)
		}
		// The reference needs JSON in UTF-8, and knows only some digits, which
		// escapes must not hide.
		if !json.Valid(value) || !utf8.Valid(value) || bytes.Contains(value, []byte(`\u`)) || len(value) > 10_000 {
			return
		}
		for _, r := range string(value) {
			if r > unicode.MaxASCII && unicode.IsDigit(r) && plainDigits(string(r)) == string(r) {
				return
			}
		}
		want, err := referenceLimit(files[key], "locked", "max_requests", decode(t, value))
		if err != nil || got != want {
			t.Errorf("%s %q: got %v; the reference says %v, %v", key, value, got, want, err)
		}
	})
}

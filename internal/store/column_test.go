package store_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// A planted is a session in which raw SQL puts what no method writes.
type planted struct {
	*fixture
	raw    *sql.DB
	digest token.Digest
}

func newPlanted(t testing.TB) *planted {
	t.Helper()
	f, path := newFile(t)
	return &planted{f, rawSQLite(t, path), f.insertSession("planted", 2).Digest}
}

// plant sets a column to an SQL expression, and returns the session as store
// and transaction read it.
func (p *planted) plant(t testing.TB, column, expression string, args ...any) (session *store.Session, fromStore, fromTx error) {
	t.Helper()
	mustExec(t, p.raw, "UPDATE sessions SET "+column+" = "+expression, args...)
	err := p.Update(t.Context(), func(context.Context, *store.Tx) error { return nil }) // notices it
	wantErr(t, "Update", err, nil)
	session, _, fromStore = p.Session(t.Context(), p.digest)
	fromTx = p.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Session(ctx, p.digest)
		return err
	})
	return session, fromStore, fromTx
}

func TestStoredDates(t *testing.T) {
	t.Parallel()
	p := newPlanted(t)
	day := time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, tt := range []struct {
		expression string
		want       time.Time // zero for an error
	}{
		{"'2021-02-03 04:05:06.000000'", day},
		{"'2021-02-03 04:05:06.123456'", day.Add(123456 * time.Microsecond)},
		{"'2021-02-03 04:05:06.000001'", day.Add(time.Microsecond)},
		{"'2021-02-03 04:05:06'", day},
		{"'2021-02-03 04:05:06.5'", day.Add(500 * time.Millisecond)},
		{"'2021-02-03 06:05:06+02:00'", day},
		{"'9999-12-31 23:59:59.999999'", time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"'1969-12-31 23:59:59.999999'", time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"'0001-01-01 00:00:00.000001'", time.Time{}.Add(time.Microsecond)},
		{"'2021-02-29 00:00:00.000000'", time.Time{}},
		{"'2021-13-01 00:00:00.000000'", time.Time{}},
		{"'03.02.2021'", time.Time{}},
		{"'planted-value'", time.Time{}},
		{"''", time.Time{}},
		{"'2021-02-03 04:05:06.000000 '", time.Time{}},
		{"1612325106", time.Time{}},
		{"1612325106.5", time.Time{}},
		{"'20210203'", time.Time{}},
		{"x'00ff'", time.Time{}},
	} {
		s, fromStore, fromTx := p.plant(t, "created", tt.expression)
		if tt.want.IsZero() {
			for _, err := range []error{fromStore, fromTx} {
				if err == nil || strings.Contains(err.Error(), "planted-value") {
					t.Errorf("%s: error %v, want one without the value", tt.expression, err)
				}
			}
			continue
		}
		if fromStore != nil || fromTx != nil {
			t.Errorf("%s: errors %v, %v", tt.expression, fromStore, fromTx)
			continue
		}
		if !s.Created.Equal(tt.want) || s.Created.Location() != time.UTC {
			t.Errorf("%s: %v, want %v", tt.expression, s.Created, tt.want)
		}
	}
}

func FuzzStoredDate(f *testing.F) {
	for _, text := range []string{"2021-02-03 04:05:06.000007", "2021-02-03 04:05:06", "2021-02-03T04:05:06Z", "planted", "", "1", "1e9", "2021-02-03 04:05:06 m=+1"} {
		f.Add(text)
	}
	p := newPlanted(f)
	f.Fuzz(func(t *testing.T, text string) {
		s, fromStore, fromTx := p.plant(t, "created", "?", text)
		if (fromStore == nil) != (fromTx == nil) {
			t.Fatalf("%q: errors %v, %v", text, fromStore, fromTx)
		}
		want, err := time.Parse("2006-01-02 15:04:05.000000", text)
		if err == nil && (fromStore != nil || !s.Created.Equal(want)) {
			t.Errorf("%q is %v, %v", text, s, fromStore)
		}
	})
}

func TestStoredJSON(t *testing.T) {
	t.Parallel()
	p := newPlanted(t)
	for _, tt := range []struct{ expression, want string }{
		{"NULL", ""},
		{"'null'", ""},
		{"'{}'", "{}"},
		{`'{"a": [1, 2.50, null], "ü": "\u00fc"}'`, `{"a": [1, 2.50, null], "ü": "\u00fc"}`},
		{`'[1, "two"]'`, `[1, "two"]`},
		{`'"text"'`, `"text"`},
		{`'"null"'`, `"null"`},
		{"'true'", "true"},
		{"'17'", "17"},
		{"17", "17"},
		{"'1.5'", "1.5"},
		{"'-2.50'", "-2.5"},
		{"'1e3'", "1000"},
		{"'9007199254740993'", "9007199254740993"},
		{`x'7b7d'`, "{}"},
		{"x'6e756c6c'", ""},
	} {
		s, fromStore, fromTx := p.plant(t, "extra_info_json", tt.expression)
		if fromStore != nil || fromTx != nil {
			t.Errorf("%s: errors %v, %v", tt.expression, fromStore, fromTx)
			continue
		}
		if string(s.ExtraInfo) != tt.want || (s.ExtraInfo == nil) != (tt.want == "") {
			t.Errorf("%s is %q, want %q", tt.expression, s.ExtraInfo, tt.want)
		}
	}
}

func FuzzStoredJSON(f *testing.F) {
	for _, text := range []string{`{"a": 1}`, "[]", `"x"`, "null", "17", "1e5", "{\"a\": \"\x00\"}", "\xff", " 1 ", ""} {
		f.Add(text)
	}
	p := newPlanted(f)
	f.Fuzz(func(t *testing.T, text string) {
		s, fromStore, fromTx := p.plant(t, "extra_info_json", "?", text)
		if fromStore != nil || fromTx != nil {
			t.Fatalf("%q: errors %v, %v", text, fromStore, fromTx)
		}
		// SQLite makes a number of what looks like one; objects, lists and
		// texts stay as they are.
		if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") || strings.HasPrefix(text, `"`) {
			if string(s.ExtraInfo) != text {
				t.Errorf("%q is %q", text, s.ExtraInfo)
			}
		}
	})
}

// What the store writes is what a reader of the Python server's file expects.
func TestWrittenForms(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u := fullUser("u")
	u.LastLoginOK = time.Date(2026, 1, 1, 2, 0, 0, 0, time.FixedZone("east", 7200))
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
	s := f.insertSession("s", u.ID)
	raw := rawSQLite(t, path)
	for _, tt := range []struct{ column, want string }{
		{"created_on", "'2026-02-03 04:05:06.789012'"},
		{"last_login_success", "'2026-01-01 00:00:00.000000'"},
		{"first_verified", "'2026-02-02 21:05:06.789012'"},
		{"email_verified", "1"},
		{"extra_info", literal(string(u.ExtraInfo))},
		{"failed_login_tries", "6"},
	} {
		equal(t, tt.column, one[string](t, raw, "SELECT quote("+tt.column+") FROM users WHERE user_id = ?", u.ID), tt.want)
	}
	for _, column := range []string{"emailverify_sent_datetime", "last_login_try", "full_name"} {
		equal(t, column+" of user 2", one[string](t, raw, "SELECT typeof("+column+") FROM users WHERE user_id = 2"),
			map[bool]string{true: "text", false: "null"}[column == "full_name"])
	}
	equal(t, "token", one[string](t, raw, "SELECT session_token FROM sessions"), s.Digest.String())
	equal(t, "expiry", one[string](t, raw, "SELECT quote(expires) FROM sessions"), "'2026-02-03 05:05:06.789012'")
	equal(t, "journal", one[string](t, raw, "PRAGMA journal_mode"), "wal")
}

// A session under something that is no digest, as another server might write
// one, stops neither the purge nor the deletion of its user.
func TestSessionsUnderNoDigest(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u := f.insertUser("u")
	raw := rawSQLite(t, path)
	plant := func() {
		mustExec(t, raw, "INSERT INTO sessions VALUES ('clear token', 'ip', 'agent', ?, ?2, ?2, NULL, 'id', NULL)", u.ID, stored(start.Add(-time.Hour)))
	}
	for _, tt := range []struct {
		name string
		do   func(context.Context, *store.Tx) error
	}{
		{"DeleteExpiredSessions", func(ctx context.Context, tx *store.Tx) error {
			n, err := tx.DeleteExpiredSessions(ctx, start, 10)
			equal(t, "deleted", n, 1)
			return err
		}},
		{"DeleteSessionsOf", func(ctx context.Context, tx *store.Tx) error {
			n, err := tx.DeleteSessionsOf(ctx, u.ID, token.Digest{})
			equal(t, "deleted", n, 1)
			return err
		}},
		{"DeleteUser", func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteUser(ctx, u.ID)
			return err
		}},
	} {
		plant()
		err := f.Update(t.Context(), tt.do)
		wantErr(t, tt.name, err, nil)
		if n := one[int](t, raw, "SELECT count(*) FROM sessions"); n != 0 {
			t.Errorf("%s left %d sessions", tt.name, n)
			mustExec(t, raw, "DELETE FROM sessions")
		}
	}
}

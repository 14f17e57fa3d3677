package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

// A legacy is a database file as the Python server left it.
type legacy struct {
	path     string
	before   map[string][]row
	sessions []string // tokens of sessions that are in the file
	keys     []string
	deleted  []string // tokens of sessions that were deleted from it
}

// A generation is a shape that files of the Python server have.
type generation struct {
	name string
	ddl  string
	// userInfo: users have extra_info; sessionless: there are session-less
	// keys and members of groups; groupsHead: groups have their later form.
	userInfo, sessionless, groupsHead bool
}

// generations returns all shapes; the development line adds tables to a file of
// 0.1.3, but no columns.
func generations(t testing.TB) []generation {
	t.Helper()
	old, head := readFile(t, "testdata/python-0.1.3.sql"), readFile(t, "testdata/python-head.sql")
	added := ""
	for _, name := range []string{"apikeys_nosession", "user_groups"} {
		_, rest, ok := strings.Cut(head, "CREATE TABLE "+name)
		if !ok {
			t.Fatalf("no table %s", name)
		}
		next := strings.Index(rest, "CREATE TABLE")
		added += "CREATE TABLE " + name + rest[:next]
	}
	return []generation{
		{name: "0.1.3", ddl: old},
		{name: "0.1.3 opened by the development line", ddl: old + added, sessionless: true},
		{name: "development line", ddl: head, userInfo: true, sessionless: true, groupsHead: true},
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The users of a legacy file, by the states that a sign-up goes through.
const (
	verifiedUser       = 4 // Twin@Example.org
	twinOfVerified     = 5 // twin@example.org
	unverifiedUser     = 6
	lockedUser         = 7
	deactivatedUser    = 8
	unverifiedUnlocked = 9
	unverifiedHistory  = 10
	lockedNoHistory    = 11
	staffUser          = 12
	lastUser           = 13
)

// A legacyUser is a row of users.
type legacyUser struct {
	id               int64
	systemID, email  string
	verified, active bool
	role             string
	info             any
	created          string
	optional         any // every date that may be NULL
}

func legacyUsers() []legacyUser {
	system := `{"provenance": "auto-created", "type": "system-user"}`
	users := []legacyUser{
		{1, "", "Root.Keeper@Example.org", true, true, "superuser", system, "2020-01-02 03:04:05.000006", nil},
		{2, "", "anonuser@localhost", true, true, "anonymous", system, "2020-01-02 03:04:05.000007", nil},
		{3, "", "dummyuser@localhost", true, false, "locked", system, "2020-01-02 03:04:05.000008", nil},
		{verifiedUser, "shared", "Twin@Example.org", true, true, "authenticated", `{"a": {"b": [1, 2.50, null]}}`, "2021-02-03 04:05:06.123456", "2021-02-03 04:05:07.000000"},
		{twinOfVerified, "shared", "twin@example.org", true, true, "authenticated", "{}", "2021-02-03 04:05:06", "2021-02-03 04:05:07"},
		{unverifiedUser, "", "Waiting@example.org", false, false, "locked", `{"provenance": "request-created"}`, "2021-02-03 04:05:06.5", "2021-02-03 04:05:07.25"},
		{lockedUser, "", "banned@example.org", true, false, "locked", `{"previous_user_roles": ["authenticated"]}`, "2021-02-04 00:00:00.000000", nil},
		{deactivatedUser, "", "gone@example.org", false, false, "authenticated", nil, "2021-02-05 00:00:00.000000", nil},
		{unverifiedUnlocked, "shared", "odd@example.org", false, true, "locked", "null", "2021-02-06 00:00:00.000000", nil},
		{unverifiedHistory, "", "again@example.org", false, false, "locked", `{"x": "ü", "previous_user_roles": ["staff"]}`, "2021-02-07 00:00:00.000000", nil},
		{lockedNoHistory, "", "silent@example.org", true, false, "locked", `{"text": "previous_user_roles"}`, "2021-02-08 00:00:00.000000", nil},
		{staffUser, "", "STAFF@EXAMPLE.ORG", true, true, "staff", nil, "2021-02-09 00:00:00.999999", nil},
		{lastUser, "", "o'hara+%_@example.org", true, true, "authenticated", `[1, "two", {"three": null}]`, "2021-02-10 00:00:00.000000", nil},
	}
	for i := range users {
		if users[i].systemID == "" {
			users[i].systemID = store.NewUUID()
		}
	}
	return users
}

// newLegacy makes a file with rows in every table, enough of them to have
// split pages and free ones.
func newLegacy(t testing.TB, g generation, path string) *legacy {
	t.Helper()
	l := &legacy{path: path}
	db := rawSQLite(t, path)
	mustExec(t, db, "PRAGMA journal_mode = WAL")
	mustExec(t, db, g.ddl)
	for _, role := range []string{"superuser", "staff", "authenticated", "anonymous", "locked", "baker"} {
		mustExec(t, db, `INSERT INTO roles VALUES (?, ?)`, role, "a role: "+role)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	run := func(query string, args ...any) {
		t.Helper()
		_, err := tx.Exec(query, args...)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	for _, u := range legacyUsers() {
		systemID, infoColumn, infoValue := u.systemID, "", ""
		args := []any{u.id, "", "Name <b>" + u.email, "$argon2id$hash of " + u.email, u.email, u.verified, u.active, u.optional, 0, u.created, u.role}
		if g.userInfo {
			infoColumn, infoValue = ", extra_info", ", ?12"
			args = append(args, u.info)
			if systemID == "shared" { // here the index is unique
				systemID = store.NewUUID()
			}
		}
		args[1] = systemID
		run(`INSERT INTO users (user_id, system_id, full_name, password, email, email_verified, is_active,
			emailverify_sent_datetime, emailforgotpass_sent_datetime, emailchangepass_sent_datetime,
			last_login_success, last_login_try, failed_login_tries, created_on, last_updated, user_role`+infoColumn+`)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?8, ?8, ?8, ?9, ?10, ?10, ?11`+infoValue+`)`, args...)
	}
	// A user who was the last one and was deleted.
	run(`INSERT INTO users (user_id, system_id, password, email, email_verified, is_active, created_on, last_updated, user_role)
		VALUES (14, 'deleted', 'p', 'deleted@example.org', 1, 1, '2021-01-01 00:00:00.000000', '2021-01-01 00:00:00.000000', 'staff')`)
	run("DELETE FROM users WHERE user_id = 14")

	infos := []any{`{"a": "b", "n": 1.0}`, `["x", 1]`, `"text"`, "null", nil, "{}", 17}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		secret, expires := token.New(), "2027-01-01 00:00:00.000000"
		if i%3 == 0 {
			expires = "2024-01-01 00:00:00.000000"
		}
		run("INSERT INTO sessions VALUES (?, '192.0.2.1', ?, ?, '2023-12-31 23:59:59.999999', ?, ?)",
			secret, strings.Repeat("agent ", random.IntN(20)), 1+random.IntN(13), expires, infos[i%len(infos)])
		l.sessions = append(l.sessions, secret)
	}
	for i := range 80 {
		secret := token.New()
		run(`INSERT INTO apikeys VALUES (?, '2023-12-31 23:59:59.000001', '2027-01-01 00:00:00.000000', '2024-01-01 00:00:00', ?, 'authenticated', ?)`,
			secret, 1+i%13, l.sessions[i/2])
		l.keys = append(l.keys, secret)
		if !g.sessionless {
			continue
		}
		secret = token.New()
		run(`INSERT INTO apikeys_nosession VALUES (?, '2023-12-31 23:59:59.000001', '2027-01-01 00:00:00.000000', '2024-01-01 00:00:00.000000',
			'$argon2id$refresh', '2023-12-31 23:59:59.000001', '2028-01-01 00:00:00.000000', '2024-01-01 00:00:00.000000', ?, 'staff')`,
			secret, 1+i%13)
		l.keys = append(l.keys, secret)
	}
	for i := 1; i <= 3; i++ {
		columns, values, args := "group_name, user_role", "?, ?", []any{fmt.Sprint("group ", i), "staff"}
		if g.groupsHead {
			columns, values = "group_name, group_role, system_id, extra_info", "?, ?, ?, ?"
			args = append(args, store.NewUUID(), infos[i])
		}
		run(`INSERT INTO groups (visibility, created_by, is_active, created_on, last_updated, `+columns+`)
			VALUES ('public', 4, 1, '2021-02-03 04:05:06.123456', '2021-02-03 04:05:06', `+values+`)`, args...)
		run("INSERT INTO preferences (user_id, pref_name, pref_value) VALUES (?, 'colour', ?)", i, []any{"red", nil, ""}[i-1])
		if g.sessionless {
			run("INSERT INTO user_groups VALUES (?, ?)", i+3, i)
		}
	}
	// What the session killer does; the pages keep what was deleted.
	for i := 40; i < len(l.sessions); i += 2 {
		l.deleted = append(l.deleted, l.sessions[i])
		run("DELETE FROM sessions WHERE session_token = ?", l.sessions[i])
	}
	err = tx.Commit()
	if err != nil {
		t.Fatal(err)
	}
	l.sessions = slices.DeleteFunc(l.sessions, func(s string) bool { return slices.Contains(l.deleted, s) })
	sound(t, db)
	l.before = dump(t, db)
	err = db.Close()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A row is a row of a table as SQL literals, by column.
type row map[string]string

// dump returns all rows of the Python server's tables, in an order that
// depends on the rows alone.
func dump(t testing.TB, db *sql.DB) map[string][]row {
	t.Helper()
	out := map[string][]row{}
	for _, table := range []string{"roles", "users", "sessions", "groups", "preferences", "apikeys_nosession", "user_groups", "apikeys"} {
		if one[int](t, db, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?", table) == 0 {
			continue
		}
		out[table] = rowsOf(t, db, table)
	}
	return out
}

func rowsOf(t testing.TB, db *sql.DB, table string) []row {
	t.Helper()
	var columns []string
	query(t, db, "SELECT name FROM pragma_table_info('"+table+"')", func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		columns = append(columns, name)
		return err
	})
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = `quote("` + c + `")`
	}
	var rows []row
	query(t, db, "SELECT "+strings.Join(quoted, ", ")+" FROM "+table, func(scan func(...any) error) error {
		values, targets := make([]string, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		err := scan(targets...)
		r := row{}
		for i, c := range columns {
			r[c] = values[i]
		}
		rows = append(rows, r)
		return err
	})
	sortRows(rows)
	return rows
}

func query(t testing.TB, db *sql.DB, text string, each func(scan func(...any) error) error) {
	t.Helper()
	rows, err := db.Query(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	for rows.Next() {
		err := each(rows.Scan)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	err = errors.Join(rows.Err(), rows.Close())
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func sortRows(rows []row) {
	keyed := map[string]row{}
	for i, r := range rows {
		keyed[fmt.Sprint(r, " ", i)] = r
	}
	for i, key := range slices.Sorted(maps.Keys(keyed)) {
		rows[i] = keyed[key]
	}
}

// literal is text as quote() writes it.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func digestLiteral(quoted string) string {
	return literal(token.Sum(strings.Trim(quoted, "'")).String())
}

// adopted returns what the rows of the file should have become, except for
// values that are drawn at random, which are taken from got.
func adopted(t testing.TB, before, got map[string][]row) map[string][]row {
	t.Helper()
	want := map[string][]row{"user_groups": nil, "apikeys_nosession": nil}
	for table, rows := range before {
		for _, old := range rows {
			r := row{}
			for column, value := range old {
				r[column] = value
			}
			switch table {
			case "sessions":
				r["session_token"] = digestLiteral(r["session_token"])
				newUUID(t, r, got[table], "session_token", "session_id")
				r["last_seen"] = "NULL"
			case "apikeys":
				r["session_token"], r["apikey"] = digestLiteral(r["session_token"]), digestLiteral(r["apikey"])
				newKeyColumns(t, r, got[table])
			case "apikeys_nosession":
				r["apikey"], r["created"] = digestLiteral(r["apikey"]), r["issued"]
				newKeyColumns(t, r, got[table])
			case "users":
				now := find(t, got[table], "user_id", r["user_id"])
				if _, ok := r["extra_info"]; !ok {
					r["extra_info"] = "NULL"
				}
				r["email_normalized"] = strings.ToLower(r["email"])
				r["first_verified"] = r["created_on"]
				if r["user_id"] == fmt.Sprint(unverifiedUser) || r["user_id"] == fmt.Sprint(unverifiedHistory) && r["extra_info"] == "NULL" {
					r["first_verified"] = "NULL"
				}
				if r["user_id"] == fmt.Sprint(unverifiedHistory) && r["extra_info"] != "NULL" {
					r["extra_info"] = `'{"x":"ü"}'`
				}
				if r["system_id"] == "'shared'" && r["user_id"] != fmt.Sprint(verifiedUser) {
					r["system_id"] = now["system_id"]
				}
			case "groups":
				if role, ok := r["user_role"]; ok {
					delete(r, "user_role")
					r["group_role"], r["extra_info"] = role, "NULL"
					r["system_id"] = find(t, got[table], "group_id", r["group_id"])["system_id"]
				}
			}
			want[table] = append(want[table], r)
		}
		sortRows(want[table])
	}
	return want
}

var uuidForm = regexp.MustCompile(`^'[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'$`)

// newKeyColumns adds what an API key of the Python server does not have. That
// no two have the same id is what the index is for.
func newKeyColumns(t testing.TB, r row, got []row) {
	t.Helper()
	newUUID(t, r, got, "apikey", "key_id")
	for _, column := range newColumns[1:] {
		r[column] = "NULL"
	}
}

// newUUID takes the id over that the row with the same key got, if it is one.
func newUUID(t testing.TB, r row, got []row, key, column string) {
	t.Helper()
	r[column] = find(t, got, key, r[key])[column]
	if !uuidForm.MatchString(r[column]) {
		r[column] = "a UUID"
	}
}

// newColumns are what the third migration adds to both tables of keys.
var newColumns = []string{"key_id", "key_name", "key_prefix", "scopes", "last_used"}

// beforeNewColumns takes the columns out of what rows should have become, when
// their migration was not made yet.
func beforeNewColumns(want, got map[string][]row) map[string][]row {
	keys := append(slices.Clone(newColumns), "created")
	for table, columns := range map[string][]string{
		"apikeys": keys, "apikeys_nosession": keys, "sessions": {"session_id", "last_seen"},
	} {
		if _, made := got[table][0][columns[0]]; made {
			continue
		}
		for _, r := range want[table] {
			for _, column := range columns {
				delete(r, column)
			}
		}
	}
	return want
}

func find(t testing.TB, rows []row, column, value string) row {
	t.Helper()
	for _, r := range rows {
		if r[column] == value {
			return r
		}
	}
	t.Fatalf("no row with %s = %s", column, value)
	return nil
}

// fragment is how many bytes of a token count as a trace of it.
const fragment = 16

// traces counts the tokens of which a part is in the file, its log or its
// journal.
func traces(t testing.TB, path string, tokens ...[]string) int {
	t.Helper()
	parts := map[string]int{}
	for i, token := range slices.Concat(tokens...) {
		for at := range len(token) - fragment + 1 {
			parts[token[at:at+fragment]] = i
		}
	}
	found := map[int]bool{}
	for _, suffix := range []string{"", "-wal", "-journal", "-shm"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for at := range len(b) - fragment + 1 {
			if i, ok := parts[string(b[at:at+fragment])]; ok {
				found[i] = true
			}
		}
	}
	return len(found)
}

// A journal notes log lines and other events in their order.
type journal struct {
	mu     sync.Mutex
	events []string
}

func (j *journal) Write(line []byte) (int, error) {
	j.note(string(line))
	return len(line), nil
}

func (j *journal) note(event string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event)
}

func backups(t testing.TB, path string) []string {
	t.Helper()
	found, err := filepath.Glob(path + ".backup-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, g := range generations(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			l := newLegacy(t, g, filepath.Join(t.TempDir(), "auth.sqlite"))
			all := len(l.sessions) + len(l.keys)
			if n := traces(t, l.path, l.sessions, l.keys); n != all {
				t.Fatalf("the file shows %d of %d tokens before it is adopted", n, all)
			}
			if traces(t, l.path, l.deleted) == 0 {
				t.Fatal("the file shows no deleted token before it is adopted")
			}

			var j journal
			c := newClock()
			options := store.Options{
				URL: sqliteURL(l.path), Now: c.Now, Log: slog.New(slog.NewJSONHandler(&j, nil)),
				NormalizeEmail: func(email string) string {
					j.note("normalise")
					return strings.ToLower(email)
				},
			}
			s, err := store.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if n := traces(t, l.path, l.sessions, l.keys, l.deleted); n != 0 {
				t.Errorf("the open file shows %d tokens", n)
			}
			raw := rawSQLite(t, l.path)
			sound(t, raw)
			got := dump(t, raw)
			if diff := cmp.Diff(adopted(t, l.before, got), got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			checkIDs(t, got)
			checkIndexes(t, raw)
			checkAnnouncement(t, &j, l)
			checkBackup(t, l)
			checkTokensFindTheirRows(t, s, raw, l)
			checkIDsGoOn(t, s)

			err = s.Close()
			if err != nil {
				t.Fatal(err)
			}
			after, lines := dump(t, raw), len(j.events)
			s, err = store.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(after, dump(t, raw)); diff != "" {
				t.Errorf("rows after the second opening (-before +after):\n%s", diff)
			}
			equal(t, "events of the second opening", len(j.events)-lines, 0)
			equal(t, "backups after the second opening", len(backups(t, l.path)), 1)
			err = errors.Join(s.Close(), raw.Close())
			if err != nil {
				t.Fatal(err)
			}
			if n := traces(t, l.path, l.sessions, l.keys, l.deleted); n != 0 {
				t.Errorf("the closed file shows %d tokens", n)
			}
		})
	}
}

// TestAdoptPostgreSQL adopts the same rows on PostgreSQL. What came of them is looked at
// in a copy, which moving has verified.
func TestAdoptPostgreSQL(t *testing.T) {
	t.Parallel()
	for _, g := range generations(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			l := newLegacy(t, g, filepath.Join(t.TempDir(), "auth.sqlite"))
			url := servers.New(t, databases.PostgreSQL)
			db, err := databases.Open(url)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			l.copyTo(t, db, g)

			var j journal
			options := store.Options{
				URL: url, Now: newClock().Now, Log: slog.New(slog.NewJSONHandler(&j, nil)),
				NormalizeEmail: strings.ToLower,
			}
			s, err := store.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			checks(t, url)
			copied := filepath.Join(t.TempDir(), "copy.sqlite")
			moves(t, url, sqliteURL(copied))
			raw := rawSQLite(t, copied)
			got := dump(t, raw)
			want := adopted(t, l.before, got)
			for _, r := range want["users"] {
				if r["extra_info"] == `'{"x":"ü"}'` {
					r["extra_info"] = `'{"x": "ü"}'` // where PostgreSQL took a member away, it writes the rest its way
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			checkIDs(t, got)
			checkTokensFindTheirRows(t, s, raw, l)
			checkIDsGoOn(t, s)
			_, fresh := newSource(t, databases.PostgreSQL)
			if diff := cmp.Diff(postgresIndexes(t, fresh.raw()), postgresIndexes(t, db)); diff != "" {
				t.Errorf("indexes (-new database +adopted):\n%s", diff)
			}
			for _, event := range j.events {
				if strings.Contains(event, "example.org") {
					t.Errorf("an address is in the log: %s", event)
				}
			}
			lines := len(j.events)
			again, err := store.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "events of the second opening", len(j.events)-lines, 0)
			err = errors.Join(again.Close(), s.Close())
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// copyTo makes of the file what the Python server would have made on PostgreSQL:
// SQLAlchemy has other types there, and numbers rows with sequences. Moments have a
// fraction always, there and in the rows that are to be compared.
func (l *legacy) copyTo(t *testing.T, db *sql.DB, g generation) {
	t.Helper()
	mustExec(t, db, postgresDDL(t, g))
	moment := regexp.MustCompile(`^'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d+))?'$`)
	for _, table := range []string{"roles", "users", "sessions", "groups", "preferences", "apikeys_nosession", "user_groups", "apikeys"} {
		for _, r := range l.before[table] {
			var columns, values []string
			for column, value := range r {
				if parts := moment.FindStringSubmatch(value); parts != nil {
					value = "'" + parts[1] + "." + (parts[2] + "000000")[:6] + "'"
					r[column] = value
				}
				if value != "NULL" && !strings.HasPrefix(value, "'") {
					value = "'" + value + "'" // true and numbers in JSON, too
				}
				columns, values = append(columns, `"`+column+`"`), append(values, value)
			}
			mustExec(t, db, "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES ("+strings.Join(values, ", ")+")")
		}
		sortRows(l.before[table])
	}
	for _, key := range [][2]string{{"users", "user_id"}, {"groups", "group_id"}, {"preferences", "pref_id"}} {
		mustExec(t, db, "SELECT setval(pg_get_serial_sequence('"+key[0]+"', '"+key[1]+"'), 14)")
	}
}

// postgresDDL returns the tables of a generation as SQLAlchemy makes them there.
func postgresDDL(t testing.TB, g generation) string {
	t.Helper()
	ddl := strings.ReplaceAll(g.ddl, "DATETIME", "TIMESTAMP WITHOUT TIME ZONE")
	ddl = regexp.MustCompile(`(CREATE TABLE (?:users|groups|preferences) \(\s+\w+_id) INTEGER`).ReplaceAllString(ddl, "$1 SERIAL")
	equal(t, "sequences", strings.Count(ddl, "SERIAL"), 3)
	return ddl
}

// BenchmarkAdopt adopts a database with 100,000 users, 500,000 sessions and 100,000 API
// keys.
func BenchmarkAdopt(b *testing.B) {
	const users, sessionsEach = 100_000, 5
	generations := generations(b)
	g := generations[len(generations)-1]
	for _, kind := range []databases.Kind{databases.SQLite, databases.PostgreSQL} {
		b.Run(string(kind), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				url := servers.New(b, kind)
				db, err := databases.Open(url)
				if err != nil {
					b.Fatal(err)
				}
				ddl := g.ddl
				if kind == databases.PostgreSQL {
					ddl = postgresDDL(b, g)
				}
				mustExec(b, db, ddl)
				mustExec(b, db, "INSERT INTO roles VALUES ('superuser', ''), ('staff', ''), ('authenticated', ''), ('anonymous', ''), ('locked', '')")
				fillLegacy(b, db, "users (user_id, system_id, full_name, password, email, email_verified, is_active, extra_info, created_on, last_updated, user_role)",
					users, func(i int) string {
						role := "authenticated"
						if i < 3 {
							role = []string{"superuser", "anonymous", "locked"}[i]
						}
						return fmt.Sprintf(`(%d, '%08x-5ca1-4ab1-8e55-000000000000', 'User %[2]d', '%s', 'User%[2]d@Example.org', TRUE, TRUE, '{"n": 1}', '2021-02-03 04:05:06.123456', '2021-02-03 04:05:06.123456', '%[4]s')`,
							i+1, i, databases.FillerHash, role)
					})
				fillLegacy(b, db, "sessions (session_token, ip_address, user_agent, user_id, created, expires, extra_info_json)", users*sessionsEach, func(i int) string {
					return fmt.Sprintf("('%s', '192.0.2.1', 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0', %d, '2023-12-31 23:59:59.999999', '2027-01-01 00:00:00.000000', NULL)",
						token.New(), i%users+1)
				})
				fillLegacy(b, db, "apikeys_nosession (apikey, issued, expires, not_valid_before, refresh_token, refresh_issued, refresh_expires, refresh_nbf, user_id, user_role)", users, func(i int) string {
					const at, until = "2023-12-31 23:59:59.000001", "2027-01-01 00:00:00.000000"
					return fmt.Sprintf("('%s', '%s', '%s', '%[2]s', '%[4]s', '%[2]s', '%[3]s', '%[2]s', %[5]d, 'authenticated')", token.New(), at, until, databases.FillerHash, i+1)
				})
				b.StartTimer()
				s, err := store.Open(b.Context(), store.Options{URL: url, Now: newClock().Now, Log: slog.New(slog.DiscardHandler), NormalizeEmail: strings.ToLower})
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				err = errors.Join(s.Close(), db.Close())
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// fillLegacy inserts n rows, many at once.
func fillLegacy(b *testing.B, db *sql.DB, into string, n int, row func(int) string) {
	b.Helper()
	const atOnce = 1000
	for first := 0; first < n; first += atOnce {
		var rows []string
		for i := first; i < min(first+atOnce, n); i++ {
			rows = append(rows, row(i))
		}
		mustExec(b, db, "INSERT INTO "+into+" VALUES "+strings.Join(rows, ", "))
	}
}

func postgresIndexes(t *testing.T, db *sql.DB) (all []string) {
	t.Helper()
	query(t, db, "SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY indexdef", func(scan func(...any) error) error {
		var text string
		err := scan(&text)
		all = append(all, text)
		return err
	})
	return all
}

// checkIDs checks the ids that were drawn.
func checkIDs(t *testing.T, got map[string][]row) {
	t.Helper()
	for _, table := range []string{"users", "groups"} {
		seen := map[string]bool{}
		for _, r := range got[table] {
			id := strings.Trim(r["system_id"], "'")
			if seen[id] {
				t.Errorf("%s: system_id %s twice", table, id)
			}
			seen[id] = true
			if id != "shared" && !uuid.MatchString(id) {
				t.Errorf("%s: system_id %s", table, id)
			}
		}
	}
}

// checkIndexes compares the indexes with those of a new database.
func checkIndexes(t *testing.T, raw *sql.DB) {
	t.Helper()
	_, path := newFile(t)
	indexes := func(db *sql.DB) (names []string) {
		query(t, db, `SELECT i.name || ' on ' || t.name || CASE WHEN i."unique" THEN ' unique' ELSE '' END
			FROM sqlite_schema AS t, pragma_index_list(t.name) AS i WHERE t.type = 'table' ORDER BY 1`, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			names = append(names, name)
			return err
		})
		return names
	}
	if diff := cmp.Diff(indexes(rawSQLite(t, path)), indexes(raw)); diff != "" {
		t.Errorf("indexes (-new database +adopted):\n%s", diff)
	}
}

func checkAnnouncement(t *testing.T, j *journal, l *legacy) {
	t.Helper()
	first := j.events[0]
	for _, want := range []string{`"level":"WARN"`, "cannot be undone", l.path, ".backup-"} {
		if !strings.Contains(first, want) {
			t.Errorf("the first event has no %q: %s", want, first)
		}
	}
	if !slices.Contains(j.events, "normalise") {
		t.Error("no address was normalised")
	}
	for _, event := range j.events {
		if strings.Contains(event, "example.org") {
			t.Errorf("an address is in the log: %s", event)
		}
		for _, secret := range slices.Concat(l.sessions, l.keys) {
			if strings.Contains(event, secret) {
				t.Error("a token is in the log")
			}
		}
	}
}

func checkBackup(t *testing.T, l *legacy) {
	t.Helper()
	found := backups(t, l.path)
	if len(found) != 1 {
		t.Fatalf("backups: %v", found)
	}
	info, err := os.Stat(found[0])
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "mode of the backup", info.Mode(), 0o600)
	db := rawSQLite(t, found[0])
	sound(t, db)
	if diff := cmp.Diff(l.before, dump(t, db)); diff != "" {
		t.Errorf("backup (-original +backup):\n%s", diff)
	}
}

func checkTokensFindTheirRows(t *testing.T, s *store.Store, raw *sql.DB, l *legacy) {
	t.Helper()
	bySession := map[string]row{}
	for _, r := range l.before["sessions"] {
		bySession[strings.Trim(r["session_token"], "'")] = r
	}
	live := 0
	for _, secret := range l.sessions {
		want := bySession[secret]
		got, user, err := s.Session(t.Context(), token.Sum(secret))
		if want["expires"] < literal(stored(start)) {
			wantErr(t, "expired session", err, store.ErrNotFound)
			continue
		}
		live++
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(user.ID) != want["user_id"] || got.UserID != user.ID {
			t.Errorf("the session of user %s is of user %d", want["user_id"], user.ID)
		}
	}
	if live == 0 || live == len(l.sessions) {
		t.Errorf("%d of %d sessions are live", live, len(l.sessions))
	}
	for _, secret := range l.keys {
		digest := token.Sum(secret).String()
		if one[int](t, raw, "SELECT (SELECT count(*) FROM apikeys WHERE apikey = ?1) + (SELECT count(*) FROM apikeys_nosession WHERE apikey = ?1)", digest) != 1 {
			t.Error("a key does not find its row")
		}
	}
	for _, secret := range l.deleted {
		_, _, err := s.Session(t.Context(), token.Sum(secret))
		wantErr(t, "deleted session", err, store.ErrNotFound)
	}
}

// checkIDsGoOn checks that what is inserted from now on gets new ids, and
// that the addresses of adopted users are found.
func checkIDsGoOn(t *testing.T, s *store.Store) {
	t.Helper()
	last := int64(lastUser)
	for range 3 {
		u := newUser("later")
		err := s.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.InsertUser(ctx, u) })
		if err != nil {
			t.Fatal(err)
		}
		if u.ID <= last {
			t.Errorf("id %d after %d", u.ID, last)
		}
		last = u.ID
		err = s.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteUser(ctx, u.ID)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := s.View(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		for email, want := range map[string]int64{
			"Twin@Example.org": verifiedUser, "twin@example.org": twinOfVerified, "TWIN@example.org": 0,
			"waiting@EXAMPLE.org": unverifiedUser, "staff@example.org": staffUser, "root.keeper@example.org": 1,
		} {
			u, err := tx.UserByEmail(ctx, email)
			if want == 0 {
				wantErr(t, email, err, store.ErrNotFound)
				continue
			}
			if err != nil {
				return err
			}
			equal(t, email, u.ID, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// An adoption that fails leaves the file as the Python server can use it.
func TestAdoptionThatFails(t *testing.T) {
	t.Parallel()
	for _, g := range generations(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			l := newLegacy(t, g, filepath.Join(t.TempDir(), "auth.sqlite"))
			raw := rawSQLite(t, l.path)
			mustExec(t, raw, "CREATE TABLE user_id_sequence (in_the_way TEXT)")
			_, err := store.Open(t.Context(), store.Options{URL: sqliteURL(l.path), NormalizeEmail: strings.ToLower})
			if err == nil || !strings.Contains(err.Error(), "user_id_sequence") {
				t.Fatalf("Open: error %v, want one about the table in the way", err)
			}
			sound(t, raw)
			if diff := cmp.Diff(l.before, dump(t, raw)); diff != "" {
				t.Errorf("rows after the failure (-before +after):\n%s", diff)
			}
			mustExec(t, raw, "DROP TABLE user_id_sequence")
			openFixture(t, sqliteURL(l.path))
			got := dump(t, raw)
			if diff := cmp.Diff(adopted(t, l.before, got), got); diff != "" {
				t.Errorf("rows after the second try (-want +got):\n%s", diff)
			}
		})
	}
}

// What a crash in the middle of the adoption leaves: the file and its log as
// they are at that moment.
func TestAdoptionThatIsCutOff(t *testing.T) {
	t.Parallel()
	for _, g := range generations(t) {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			l := newLegacy(t, g, filepath.Join(t.TempDir(), "auth.sqlite"))
			copied := filepath.Join(t.TempDir(), "auth.sqlite")
			var once sync.Once
			s, err := store.Open(t.Context(), store.Options{URL: sqliteURL(l.path), NormalizeEmail: func(email string) string {
				once.Do(func() {
					for _, suffix := range []string{"", "-wal"} {
						err := os.WriteFile(copied+suffix, []byte(readFile(t, l.path+suffix)), 0o600)
						if err != nil {
							t.Error(err)
						}
					}
				})
				return strings.ToLower(email)
			}})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Close()
			if err != nil {
				t.Fatal(err)
			}
			raw := rawSQLite(t, copied)
			sound(t, raw)
			if diff := cmp.Diff(l.before, dump(t, raw)); diff != "" {
				t.Errorf("rows of the copy (-before +after):\n%s", diff)
			}
			openFixture(t, sqliteURL(copied))
			got := dump(t, raw)
			if diff := cmp.Diff(adopted(t, l.before, got), got); diff != "" {
				t.Errorf("rows of the copy once adopted (-want +got):\n%s", diff)
			}
		})
	}
}

// A process that is killed while it adopts a file leaves it as it was or as
// it should become, and the next opening finishes the work.
func TestAdoptionThatIsKilled(t *testing.T) {
	t.Parallel()
	const cycles = 6
	g := generations(t)[2]
	// adoptedRows leaves out the sessions that the child goes on to insert.
	adoptedRows := func(raw *sql.DB) map[string][]row {
		got := dump(t, raw)
		got["sessions"] = slices.DeleteFunc(got["sessions"], func(r row) bool { return r["user_agent"] == "'agent'" })
		return got
	}
	took, unchanged := time.Duration(0), 0
	for cycle := range cycles {
		l := newLegacy(t, g, filepath.Join(t.TempDir(), "auth.sqlite"))
		began := time.Now()
		child := startChild(t, childWriter, sqliteURL(l.path))
		if cycle == 0 { // see how long a whole one takes
			child.waitForLine(t)
			took = time.Since(began)
		} else {
			time.Sleep(took/2 + took*time.Duration(cycle)/(2*cycles)) // the adoption comes last
		}
		child.kill(t)
		raw := rawSQLite(t, l.path)
		sound(t, raw)
		got := adoptedRows(raw)
		if cmp.Equal(l.before, got) {
			unchanged++
		} else if diff := cmp.Diff(beforeNewColumns(adopted(t, l.before, got), got), got); diff != "" {
			t.Errorf("cycle %d: neither as before nor adopted (-want +got):\n%s", cycle, diff)
		}
		s, err := open(t, sqliteURL(l.path))
		if err != nil {
			t.Fatalf("cycle %d: %v", cycle, err)
		}
		sound(t, raw)
		got = adoptedRows(raw)
		if diff := cmp.Diff(adopted(t, l.before, got), got); diff != "" {
			t.Errorf("cycle %d: after the next opening (-want +got):\n%s", cycle, diff)
		}
		if n := traces(t, l.path, l.sessions, l.keys, l.deleted); n != 0 {
			t.Errorf("cycle %d: the file shows %d tokens", cycle, n)
		}
		err = errors.Join(s.Close(), raw.Close())
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills in %v each; %d left the file as it was", cycles, took, unchanged)
}

// Rows that refer to none, which a shell without foreign keys can leave,
// neither stop the adoption nor are lost.
func TestAdoptRowsThatReferToNone(t *testing.T) {
	t.Parallel()
	l := newLegacy(t, generations(t)[2], filepath.Join(t.TempDir(), "auth.sqlite"))
	raw := rawSQLite(t, l.path)
	mustExec(t, raw, "PRAGMA foreign_keys = OFF")
	mustExec(t, raw, "DELETE FROM sessions WHERE session_token = ?", l.sessions[0])
	before := dump(t, raw)
	openFixture(t, sqliteURL(l.path))
	got := dump(t, raw)
	if diff := cmp.Diff(adopted(t, before, got), got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

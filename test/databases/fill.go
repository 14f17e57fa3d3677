package databases

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// A Filling is how many rows to put into a database that a server has made.
type Filling struct {
	// Users are users beside those that are there.
	Users int
	// SessionsEach and KeysEach are how many sessions and how many API keys without a
	// session each of them has.
	SessionsEach, KeysEach int
}

// FirstUser is the id of the first user that Fill makes; the others follow.
const FirstUser = 1000

// FillerPassword is the password of all users that Fill makes, and FillerHash its hash,
// with the lowest cost that servers accept.
const (
	FillerPassword = "the one passphrase of all fillers"
	FillerHash     = "$argon2id$v=19$m=7168,t=1,p=1$c29tZSBzYWx0IG9mIDE2IA$a0eFsUdyLSeCdZ9f1Yh2gzpsNelplVyEqYVvbvSzIhI"
)

// rowsAtOnce is how many rows a statement inserts, and chunk how many a transaction
// does.
const (
	rowsAtOnce = 500
	chunk      = 50_000
)

// Fill fills a database that has the tables of authnzerver, quickly: the keys of its
// rows are in order. All else is as people leave it: accounts and sessions from many
// years, some without a name, some of them locked or unverified.
func Fill(ctx context.Context, db *sql.DB, f Filling) error {
	begin := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	const moment = "2006-01-02 15:04:05.000000"
	err := insert(ctx, db, "users (user_id, system_id, full_name, password, email, email_normalized, email_verified, is_active,"+
		" emailverify_sent_datetime, emailforgotpass_sent_datetime, last_login_success, last_login_try, failed_login_tries,"+
		" created_on, last_updated, user_role, first_verified)", f.Users, func(i int) string {
		at := begin.Add(time.Duration(i) * time.Minute).Format(moment)
		name, forgot, verified, role := "NULL", "NULL", "TRUE", "authenticated"
		if i%3 > 0 {
			name = fmt.Sprintf("'User %d'", i)
		}
		if i%10 == 0 {
			forgot = "'" + at + "'"
		}
		if i%50 == 0 {
			verified, role = "FALSE", "locked"
		}
		return fmt.Sprintf("(%d, '%08x-5ca1-4ab1-8e55-000000000000', %s, '%s', 'user%d@example.org', 'user%d@example.org', %s, %s, '%s', %s, '%s', '%s', %d, '%s', '%s', '%s', '%s')",
			FirstUser+i, i, name, FillerHash, i, i, verified, verified, at, forgot, at, at, i%4, at, at, role, at)
	})
	if err != nil {
		return err
	}
	sessions := time.Now().UTC().Add(-24 * time.Hour)
	err = insert(ctx, db, "sessions (session_token, ip_address, user_agent, user_id, created, expires, extra_info_json, session_id)",
		f.Users*f.SessionsEach, func(i int) string {
			at := sessions.Add(time.Duration(i) * time.Millisecond)
			return fmt.Sprintf("('%064x', '192.0.2.%d', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/%d.0', %d, '%s', '%s', NULL, '%08x-5ca1-4ab1-8e55-000000000000')",
				i, i%256, i%200, FirstUser+i%f.Users, at.Format(moment), at.Add(30*24*time.Hour).Format(moment), i)
		})
	if err != nil {
		return err
	}
	return insert(ctx, db, "apikeys_nosession (apikey, issued, expires, not_valid_before, refresh_token, refresh_issued, refresh_expires, refresh_nbf,"+
		" user_id, user_role, key_id, key_name, key_prefix, created)", f.Users*f.KeysEach, func(i int) string {
		at := sessions.Add(time.Duration(i) * time.Millisecond).Format(moment)
		until := sessions.Add(30 * 24 * time.Hour).Format(moment)
		return fmt.Sprintf("('%064x', '%s', '%s', '%s', '%064x', '%s', '%s', '%s', %d, 'authenticated', '%08x-5ca1-4ab1-8e55-000000000000', 'key', 'authnz_v_0123', '%s')",
			i, at, until, at, i, at, until, at, FirstUser+i%f.Users, i, at)
	})
}

// insert inserts n rows, given as lists of values.
func insert(ctx context.Context, db *sql.DB, into string, n int, row func(int) string) error {
	for first := 0; first < n; first += chunk {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for i := first; i < min(first+chunk, n); i += rowsAtOnce {
			var rows []string
			for j := i; j < min(i+rowsAtOnce, first+chunk, n); j++ {
				rows = append(rows, row(j))
			}
			_, err = tx.ExecContext(ctx, "INSERT INTO "+into+" VALUES "+strings.Join(rows, ", "))
			if err != nil {
				return fmt.Errorf("insert into %s: %w (rollback: %w)", into, err, tx.Rollback())
			}
		}
		err = tx.Commit()
		if err != nil {
			return err
		}
	}
	return nil
}

// Analyze has the planner of a database look at its rows.
func Analyze(ctx context.Context, db *sql.DB, kind Kind) error {
	if kind != MariaDB {
		_, err := db.ExecContext(ctx, "ANALYZE")
		return err
	}
	rows, err := db.QueryContext(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")
	if err != nil {
		return err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		err = rows.Scan(&name)
		if err != nil {
			return err
		}
		tables = append(tables, "`"+name+"`")
	}
	err = rows.Err()
	if err != nil {
		return err
	}
	result, err := db.QueryContext(ctx, "ANALYZE TABLE "+strings.Join(tables, ", "))
	if err != nil {
		return err
	}
	return result.Close()
}

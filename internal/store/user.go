package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"authnzerver/internal/token"
)

// A User is a row of the table users. Users that a Store returned are shared:
// do not change them.
type User struct {
	ID              int64
	SystemID        string
	FullName        *string
	PasswordHash    string // PHC string
	Email           string
	EmailVerified   bool
	IsActive        bool
	EmailVerifySent time.Time
	EmailForgotSent time.Time
	EmailChangeSent time.Time
	LastLoginOK     time.Time
	LastLoginTry    time.Time
	FailedLogins    int64
	// ExtraInfo is JSON text, nil for none.
	ExtraInfo   []byte
	CreatedOn   time.Time
	LastUpdated time.Time
	Role        string
	// FirstVerified is when the user first was verified or active; zero for
	// a sign-up that was never verified, which a new sign-up may replace.
	FirstVerified time.Time
}

const userColumns = `user_id, system_id, full_name, password, email, email_verified, is_active,
	emailverify_sent_datetime, emailforgotpass_sent_datetime, emailchangepass_sent_datetime,
	last_login_success, last_login_try, failed_login_tries, extra_info, created_on, last_updated, user_role, first_verified`

func scanUser(row interface{ Scan(dest ...any) error }) (*User, error) {
	var u User
	var failed *int64
	err := row.Scan(&u.ID, &u.SystemID, &u.FullName, &u.PasswordHash, &u.Email, &u.EmailVerified, &u.IsActive,
		timeColumn{&u.EmailVerifySent}, timeColumn{&u.EmailForgotSent}, timeColumn{&u.EmailChangeSent},
		timeColumn{&u.LastLoginOK}, timeColumn{&u.LastLoginTry}, &failed, jsonColumn{&u.ExtraInfo},
		timeColumn{&u.CreatedOn}, timeColumn{&u.LastUpdated}, &u.Role, timeColumn{&u.FirstVerified})
	if err != nil {
		return nil, classify(err)
	}
	if failed != nil {
		u.FailedLogins = *failed
	}
	return &u, nil
}

// User returns the user with this id, from memory when it is there, as fresh
// as [Store.Session] promises.
func (s *Store) User(ctx context.Context, id int64) (*User, error) {
	err := s.checkForeignWrites(ctx, s.now())
	if err != nil {
		return nil, err
	}
	return s.user(ctx, id)
}

func (s *Store) user(ctx context.Context, id int64) (*User, error) {
	user, err := cached(s.cache, &s.cache.users, id, func() (*User, error) {
		return reading(ctx, func(ctx context.Context) (*User, error) {
			return scanUser(s.userByID.QueryRowContext(ctx, id))
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read user: %w", err)
	}
	return user, nil
}

// User returns the user with this id.
func (t *Tx) User(ctx context.Context, id int64) (*User, error) {
	user, err := scanUser(t.row(ctx, "SELECT "+userColumns+" FROM users WHERE user_id = ?", id))
	if err != nil {
		return nil, fmt.Errorf("read user: %w", err)
	}
	return user, nil
}

// UserByEmail returns the user with this address: exactly as given, else the
// only one whose address has the same normalised form.
func (t *Tx) UserByEmail(ctx context.Context, email string) (*User, error) {
	user, err := scanUser(t.row(ctx, "SELECT "+userColumns+" FROM users WHERE email = ?", email))
	if err == nil || !errors.Is(err, ErrNotFound) {
		return user, err
	}
	rows, err := t.query(ctx, "SELECT "+userColumns+" FROM users WHERE email_normalized = ? LIMIT 2", t.normalize(email))
	users, err := rowsOf(rows, err, scanUser)
	if err != nil {
		return nil, fmt.Errorf("read user: %w", err)
	}
	if len(users) != 1 {
		// An adopted database may hold two addresses that differ only in
		// letter case; guessing between them could mix up two people.
		return nil, fmt.Errorf("read user: %d with this normalised address: %w", len(users), ErrNotFound)
	}
	return &users[0], nil
}

// EmailTaken reports whether a user other than except has an address with the
// same normalised form.
func (t *Tx) EmailTaken(ctx context.Context, email string, except int64) (bool, error) {
	var taken bool
	err := t.row(ctx, "SELECT EXISTS (SELECT 1 FROM users WHERE email_normalized = ? AND user_id <> ?)",
		t.normalize(email), except).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("look for address: %w", classify(err))
	}
	return taken, nil
}

// SystemIDTaken reports whether a user has this system id.
func (t *Tx) SystemIDTaken(ctx context.Context, id string) (bool, error) {
	var taken bool
	err := t.row(ctx, "SELECT EXISTS (SELECT 1 FROM users WHERE system_id = ?)", id).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("look for system id: %w", classify(err))
	}
	return taken, nil
}

// A UserField is a column of users that a [UserQuery] can look up.
type UserField string

// The fields that can be looked up by value.
const (
	FieldUserID          UserField = "user_id"
	FieldSystemID        UserField = "system_id"
	FieldFullName        UserField = "full_name"
	FieldEmailVerified   UserField = "email_verified"
	FieldIsActive        UserField = "is_active"
	FieldEmailVerifySent UserField = "emailverify_sent_datetime"
	FieldEmailForgotSent UserField = "emailforgotpass_sent_datetime"
	FieldEmailChangeSent UserField = "emailchangepass_sent_datetime"
	FieldLastLoginOK     UserField = "last_login_success"
	FieldLastLoginTry    UserField = "last_login_try"
	FieldFailedLogins    UserField = "failed_login_tries"
	FieldCreatedOn       UserField = "created_on"
	FieldLastUpdated     UserField = "last_updated"
	FieldRole            UserField = "user_role"
)

// A UserQuery says which users to list.
type UserQuery struct {
	// Field, unless it is empty, must equal Value: an int64, a bool, a string or a
	// time.Time as the field has it.
	Field UserField
	Value any
	// After leaves out the users up to this id, when it is not 0.
	After int64
	// Limit is the most users to list; 0 for all.
	Limit int64
}

// readAtOnce is how many users a statement reads. A driver may have to read all of what
// it has asked for, also when nobody wants more.
const readAtOnce = 1000

// EachUser calls use with each of the users in the order of their ids. An error of use
// ends it and is returned. Some users at a time are in memory.
func (t *Tx) EachUser(ctx context.Context, q UserQuery, use func(*User) error) error {
	left := q.Limit
	for {
		q.Limit = readAtOnce
		if left > 0 {
			q.Limit = min(left, readAtOnce)
		}
		n, err := t.someUsers(ctx, &q, use)
		if err != nil || n < q.Limit {
			return err
		}
		left -= n
		if left == 0 {
			return nil
		}
	}
}

// someUsers is EachUser for one statement. It counts the users and has q go on after
// them.
func (t *Tx) someUsers(ctx context.Context, q *UserQuery, use func(*User) error) (n int64, err error) {
	query, args := q.statement()
	rows, err := t.queryAsGiven(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("list users: %w", classify(err))
	}
	defer rows.Close()
	for rows.Next() {
		user, err := scanUser(rows)
		if err != nil {
			return n, fmt.Errorf("list users: %w", err)
		}
		n++
		q.After = user.ID
		err = use(user)
		if err != nil {
			return n, err
		}
	}
	err = rows.Err()
	if err != nil {
		return n, fmt.Errorf("list users: %w", classify(err))
	}
	return n, nil
}

// statement returns the query with its arguments. Field is one of the constants above,
// never text from a request.
func (q *UserQuery) statement() (query string, args []any) {
	var conditions []string
	if q.Field != "" {
		conditions, args = append(conditions, string(q.Field)+" = ?"), append(args, q.Value)
	}
	if q.After != 0 {
		conditions, args = append(conditions, "user_id > ?"), append(args, q.After)
	}
	query = "SELECT " + userColumns + " FROM users"
	if conditions != nil {
		query += " WHERE " + strings.Join(conditions, " AND ")
	}
	return query + " ORDER BY user_id LIMIT ?", append(args, q.Limit)
}

// InsertUser adds a user and sets its id, which no user had before. The
// clock of the transaction becomes the dates of creation and update.
func (t *Tx) InsertUser(ctx context.Context, u *User) error {
	_, err := t.exec(ctx, `UPDATE user_id_sequence SET last_id = 1 + CASE
		WHEN last_id < (SELECT coalesce(max(user_id), 0) FROM users) THEN (SELECT coalesce(max(user_id), 0) FROM users)
		ELSE last_id END`)
	if err == nil {
		err = classify(t.row(ctx, "SELECT last_id FROM user_id_sequence").Scan(&u.ID))
	}
	if err != nil {
		return fmt.Errorf("take user id: %w", err)
	}
	return t.insertUser(ctx, u)
}

func (t *Tx) insertUser(ctx context.Context, u *User) error {
	u.CreatedOn, u.LastUpdated = t.now, t.now
	t.touched.users = append(t.touched.users, u.ID)
	_, err := t.exec(ctx, "INSERT INTO users ("+userColumns+", email_normalized) VALUES ("+strings.Repeat("?, ", 18)+"?)",
		u.ID, u.SystemID, u.FullName, u.PasswordHash, u.Email, u.EmailVerified, u.IsActive,
		nullTime(u.EmailVerifySent), nullTime(u.EmailForgotSent), nullTime(u.EmailChangeSent),
		nullTime(u.LastLoginOK), nullTime(u.LastLoginTry), u.FailedLogins, jsonText(u.ExtraInfo),
		u.CreatedOn, u.LastUpdated, u.Role, nullTime(u.FirstVerified), t.normalize(u.Email))
	if err != nil {
		return fmt.Errorf("insert user: %w", err)
	}
	return nil
}

// UpdateUser writes every field of the user but its id, system id, password
// hash and date of creation, and sets the date of update. A taken address is
// ErrConflict, a role without a row ErrReference.
func (t *Tx) UpdateUser(ctx context.Context, u *User) error {
	t.touched.users = append(t.touched.users, u.ID)
	u.LastUpdated = t.now
	if u.FirstVerified.IsZero() && (u.EmailVerified || u.IsActive) {
		u.FirstVerified = t.now
	}
	n, err := t.exec(ctx, `UPDATE users SET full_name = ?, email = ?, email_normalized = ?, email_verified = ?, is_active = ?,
		emailverify_sent_datetime = ?, emailforgotpass_sent_datetime = ?, emailchangepass_sent_datetime = ?,
		extra_info = ?, last_updated = ?, user_role = ?, first_verified = ? WHERE user_id = ?`,
		u.FullName, u.Email, t.normalize(u.Email), u.EmailVerified, u.IsActive,
		nullTime(u.EmailVerifySent), nullTime(u.EmailForgotSent), nullTime(u.EmailChangeSent),
		jsonText(u.ExtraInfo), u.LastUpdated, u.Role, nullTime(u.FirstVerified), u.ID)
	if err != nil {
		return fmt.Errorf("update user: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("update user: %w", ErrNotFound)
	}
	return nil
}

// SetPassword replaces a password hash. When the stored one is no longer
// from, somebody else was faster: that is ErrConflict.
func (t *Tx) SetPassword(ctx context.Context, id int64, from, to string) error {
	t.touched.users = append(t.touched.users, id)
	n, err := t.exec(ctx, "UPDATE users SET password = ?, last_updated = ? WHERE user_id = ? AND password = ?",
		to, t.now, id, from)
	if err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("set password: %w", ErrConflict)
	}
	return nil
}

// RecordLogin notes the time of a login try and of its success.
func (t *Tx) RecordLogin(ctx context.Context, id int64, success bool) error {
	t.touched.users = append(t.touched.users, id)
	query := "UPDATE users SET last_login_try = ?1 WHERE user_id = ?2"
	if success {
		query = "UPDATE users SET last_login_try = ?1, last_login_success = ?1 WHERE user_id = ?2"
	}
	_, err := t.exec(ctx, query, t.now, id)
	if err != nil {
		return fmt.Errorf("record login: %w", err)
	}
	return nil
}

// DeleteUser deletes a user with its sessions and keys, and reports whether
// there was one. A user who is referred to elsewhere is ErrReference.
func (t *Tx) DeleteUser(ctx context.Context, id int64) (bool, error) {
	_, err := t.DeleteSessionsOf(ctx, id, token.Digest{})
	if err != nil {
		return false, err
	}
	t.touched.users = append(t.touched.users, id)
	n, err := t.exec(ctx, "DELETE FROM users WHERE user_id = ?", id)
	if err != nil {
		return false, fmt.Errorf("delete user: %w", err)
	}
	return n > 0, nil
}

// OtherSuperusers returns how many superusers besides id can log in.
func (t *Tx) OtherSuperusers(ctx context.Context, id int64) (int, error) {
	var n int
	err := t.row(ctx,
		"SELECT count(*) FROM users WHERE user_role = 'superuser' AND is_active AND email_verified AND user_id <> ?", id).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count superusers: %w", classify(err))
	}
	return n, nil
}

// AddRoles adds the roles that are not there yet. Roles are never removed:
// users and keys may refer to them.
func (t *Tx) AddRoles(ctx context.Context, names []string) error {
	for _, name := range slices.Sorted(slices.Values(names)) {
		found, err := t.exists(ctx, "SELECT 1 FROM roles WHERE name = ?", name)
		if err == nil && !found {
			_, err = t.exec(ctx, `INSERT INTO roles (name, "desc") VALUES (?, ?)`, name, "Role with "+name+" privileges")
		}
		if err != nil {
			return fmt.Errorf("add role: %w", err)
		}
	}
	return nil
}

// Roles returns the names and descriptions of all roles.
func (t *Tx) Roles(ctx context.Context) (map[string]string, error) {
	rows, err := t.query(ctx, `SELECT name, "desc" FROM roles`)
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", classify(err))
	}
	defer rows.Close()
	roles := map[string]string{}
	for rows.Next() {
		var name, desc string
		err := rows.Scan(&name, &desc)
		if err != nil {
			return nil, fmt.Errorf("list roles: %w", classify(err))
		}
		roles[name] = desc
	}
	return roles, classify(rows.Err())
}

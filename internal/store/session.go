package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"authnzerver/internal/token"
)

// A Session is a row of the table sessions. Sessions that a Store returned are
// shared: do not change them.
type Session struct {
	Digest token.Digest
	// ID is a UUID, by which the session can be named without its token.
	ID        string
	IPAddress string
	UserAgent string
	UserID    int64
	Created   time.Time
	Expires   time.Time
	// ExtraInfo is JSON text, nil for none.
	ExtraInfo []byte
	// LastSeen is zero for a session that was never seen. In a session that a
	// Tx returned it may lag by a minute, in one that a Store returned by more.
	LastSeen time.Time

	lastUse lastUse
	memo    memo
}

const sessionColumns = "session_token, session_id, ip_address, user_agent, user_id, created, expires, extra_info_json, last_seen"

func scanSession(row interface{ Scan(dest ...any) error }) (*Session, error) {
	var s Session
	var digest string
	err := row.Scan(&digest, &s.ID, &s.IPAddress, &s.UserAgent, &s.UserID,
		timeColumn{&s.Created}, timeColumn{&s.Expires}, jsonColumn{&s.ExtraInfo}, timeColumn{&s.LastSeen})
	if err != nil {
		return nil, classify(err)
	}
	s.Digest, err = token.ParseDigest(digest)
	if err != nil {
		return nil, fmt.Errorf("stored session: %w", err)
	}
	s.lastUse.read(s.LastSeen)
	return &s, nil
}

// scanSession is scanSession with what was not written yet.
func (t *Tx) scanSession(row interface{ Scan(dest ...any) error }) (*Session, error) {
	s, err := scanSession(row)
	if err != nil {
		return nil, err
	}
	s.LastSeen = t.seen.newest(s.Digest, s.LastSeen)
	s.lastUse.read(s.LastSeen)
	return s, nil
}

// lastUsed is when the session was last used, as far as is known here.
func (s *Session) lastUsed() time.Time {
	if noted := s.lastUse.noted.Load(); noted != 0 {
		return time.Unix(0, noted)
	}
	return s.Created
}

// An idleness is after how long sessions end that nobody uses; 0 for never.
type idleness time.Duration

// ended reports whether nobody has used the session for too long. A session may go on for
// seenLag more; it never ends early.
func (i idleness) ended(s *Session, now time.Time) bool {
	return i > 0 && now.Sub(s.lastUsed()) >= time.Duration(i)+seenLag
}

// Session returns the session with this digest and its user, unless it has expired or
// was not used for too long: then, as for an unknown one, the error is ErrNotFound.
//
// Rows come from memory when they are there. They are never older than the
// last change that this process acknowledged, nor more than half a second
// older than the last change by another process, and on a server than 0.9 s and the
// time of a query.
func (s *Store) Session(ctx context.Context, digest token.Digest) (*Session, *User, error) {
	now := s.now()
	err := s.checkForeignWrites(ctx, now)
	if err != nil {
		return nil, nil, err
	}
	return s.session(ctx, digest, now)
}

func (s *Store) session(ctx context.Context, digest token.Digest, now time.Time) (*Session, *User, error) {
	read := func() (*Session, error) {
		return reading(ctx, func(ctx context.Context) (*Session, error) {
			return scanSession(s.sessionByDigest.QueryRowContext(ctx, digest.String()))
		})
	}
	session, err := cached(s.cache, &s.cache.sessions, digest, read)
	if err != nil {
		return nil, nil, fmt.Errorf("read session: %w", err)
	}
	if !session.Expires.After(now) {
		return nil, nil, fmt.Errorf("read session: expired: %w", ErrNotFound)
	}
	if s.idle.ended(session, now) {
		// Perhaps another node was asked, which tells the others only in the database, or
		// this one, and the row came back to memory before that was written.
		stored, err := read()
		if err != nil {
			return nil, nil, fmt.Errorf("read when a session was used: %w", err)
		}
		session.lastUse.read(s.sessionUses.newest(digest, stored.LastSeen))
		if s.idle.ended(session, now) {
			return nil, nil, fmt.Errorf("read session: not used for too long: %w", ErrNotFound)
		}
	}
	user, err := s.user(ctx, session.UserID)
	if err != nil {
		return nil, nil, err
	}
	return session, user, nil
}

// Session returns the session with this digest unless it has expired or was not used
// for too long.
func (t *Tx) Session(ctx context.Context, digest token.Digest) (*Session, error) {
	session, err := t.scanSession(t.row(ctx,
		"SELECT "+sessionColumns+" FROM sessions WHERE session_token = ? AND expires > ?", digest.String(), t.now))
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	if t.idle.ended(session, t.now) {
		return nil, fmt.Errorf("read session: not used for too long: %w", ErrNotFound)
	}
	return session, nil
}

// A Page is a part of a list whose rows are in the order of their creation, the newest
// first, and after that of their ids.
type Page struct {
	// After and AfterID are of the last row of the page before; zero for the first page.
	After   time.Time
	AfterID string
	// Limit is the most rows.
	Limit int64
}

// SessionsOf returns a page of the sessions of a user that have not ended.
func (t *Tx) SessionsOf(ctx context.Context, userID int64, page Page) ([]*Session, error) {
	var sessions []*Session
	for part := page; ; {
		rows, err := t.unexpiredSessions(ctx, userID, part)
		if err != nil {
			return nil, err
		}
		for _, session := range rows {
			if !t.idle.ended(session, t.now) && int64(len(sessions)) < page.Limit {
				sessions = append(sessions, session)
			}
		}
		if int64(len(rows)) < page.Limit || int64(len(sessions)) == page.Limit {
			return sessions, nil
		}
		last := rows[len(rows)-1]
		part.After, part.AfterID = last.Created, last.ID
	}
}

func (t *Tx) unexpiredSessions(ctx context.Context, userID int64, page Page) ([]*Session, error) {
	query, args := "SELECT "+sessionColumns+" FROM sessions WHERE user_id = ? AND expires > ?", []any{userID, t.now}
	if !page.After.IsZero() {
		query += " AND created <= ? AND (created < ? OR session_id > ?)"
		args = append(args, page.After, page.After, page.AfterID)
	}
	rows, err := t.query(ctx, query+" ORDER BY created DESC, session_id LIMIT ?", append(args, page.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", classify(err))
	}
	defer rows.Close()
	var sessions []*Session
	for rows.Next() {
		session, err := t.scanSession(rows)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		sessions = append(sessions, session)
	}
	err = rows.Err()
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", classify(err))
	}
	return sessions, nil
}

// InsertSession adds a session and sets its ID. A user who does not exist is
// ErrReference.
func (t *Tx) InsertSession(ctx context.Context, s *Session) error {
	s.ID = NewUUID()
	_, err := t.exec(ctx, "INSERT INTO sessions ("+sessionColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
		s.Digest.String(), s.ID, s.IPAddress, s.UserAgent, s.UserID, s.Created, s.Expires,
		jsonText(s.ExtraInfo), nullTime(s.LastSeen))
	if err != nil {
		return fmt.Errorf("insert session: %w", err)
	}
	return nil
}

// DeleteSession deletes a session, expired or not, with its API keys. It
// reports whether there was one.
func (t *Tx) DeleteSession(ctx context.Context, digest token.Digest) (bool, error) {
	t.touched.sessions = append(t.touched.sessions, digest)
	n, err := t.exec(ctx, "DELETE FROM sessions WHERE session_token = ?", digest.String())
	if err != nil {
		return false, fmt.Errorf("delete session: %w", err)
	}
	return n > 0, nil
}

// DeleteSessionByID deletes the session of a user with this public id, expired
// or not, with its API keys. It reports whether there was one.
func (t *Tx) DeleteSessionByID(ctx context.Context, userID int64, id string) (bool, error) {
	n, err := t.deleteSessions(ctx, "session_id = ? AND user_id = ?", id, userID)
	if err != nil {
		return false, fmt.Errorf("delete session by its id: %w", err)
	}
	return n > 0, nil
}

// DeleteSessionsOf deletes the sessions of a user, all but the one with the
// digest except, and returns how many there were. The zero digest spares none.
func (t *Tx) DeleteSessionsOf(ctx context.Context, userID int64, except token.Digest) (int, error) {
	n, err := t.deleteSessions(ctx, "user_id = ? AND session_token <> ?", userID, except.String())
	if err != nil {
		return 0, fmt.Errorf("delete sessions of user: %w", err)
	}
	return n, nil
}

// DeleteExpiredSessions deletes up to limit sessions that expired before the
// given moment, and returns how many there were.
func (t *Tx) DeleteExpiredSessions(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := t.deleteSessions(ctx, "expires < ? ORDER BY expires LIMIT ?", before, limit)
	if err != nil {
		return 0, fmt.Errorf("delete expired sessions: %w", err)
	}
	return n, nil
}

// deleteSessions deletes the sessions that fulfil a condition.
func (t *Tx) deleteSessions(ctx context.Context, condition string, args ...any) (int, error) {
	digests, err := t.deleteDigests(ctx, "sessions", "session_token", condition, args...)
	t.touched.sessions = append(t.touched.sessions, digests...)
	return len(digests), err
}

// deleteDigests deletes the rows that fulfil a condition and returns their
// digests. That of another server's row, which is never in the cache, is zero.
func (t *Tx) deleteDigests(ctx context.Context, table, column, condition string, args ...any) ([]token.Digest, error) {
	keys, err := t.keysOf(ctx, table, []string{column}, condition, args...)
	if err != nil {
		return nil, err
	}
	digests := make([]token.Digest, len(keys))
	for i, key := range keys {
		text, _ := key[0].(string)
		digests[i], _ = token.ParseDigest(text)
	}
	_, err = t.deleteKeys(ctx, table, []string{column}, keys)
	return digests, err
}

// SetSessionInfo replaces the extra information of a session.
func (t *Tx) SetSessionInfo(ctx context.Context, digest token.Digest, info []byte) error {
	t.touched.sessions = append(t.touched.sessions, digest)
	n, err := t.exec(ctx, "UPDATE sessions SET extra_info_json = ? WHERE session_token = ?", jsonText(info), digest.String())
	if err != nil {
		return fmt.Errorf("update session: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("update session: %w", ErrNotFound)
	}
	return nil
}

// rowsOf scans every row of a query with scan.
func rowsOf[T any](rows *sql.Rows, err error, scan func(interface{ Scan(dest ...any) error }) (*T, error)) ([]T, error) {
	if err != nil {
		return nil, classify(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, *v)
	}
	return out, classify(rows.Err())
}

package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// A Notice is a message that the server sends to a user on its own: a row of the
// table notices.
type Notice struct {
	ID     int64
	UserID int64
	Kind   string
	// Address is where it goes; empty for the one that the user has then.
	Address   string
	IPAddress string
	UserAgent string
	Created   time.Time
	// Attempts is how often sending it has failed.
	Attempts int
	// NextTry is when to send it; zero when it is done.
	NextTry time.Time
}

// AddNotice stores a message to be sent at once, unless the user was sent one of
// this kind, or should have been, after the moment given. It reports whether
// the message was stored.
func (t *Tx) AddNotice(ctx context.Context, n *Notice, after time.Time) (bool, error) {
	found, err := t.exists(ctx, "SELECT 1 FROM notices WHERE user_id = ? AND kind = ? AND created > ? LIMIT 1", n.UserID, n.Kind, after)
	if err == nil && !found {
		_, err = t.exec(ctx, `INSERT INTO notices (user_id, kind, address, ip_address, user_agent, created, attempts, next_try)
			VALUES (?, ?, ?, ?, ?, ?, 0, ?)`, n.UserID, n.Kind, sql.NullString{String: n.Address, Valid: n.Address != ""}, n.IPAddress, n.UserAgent, t.now, t.now)
		t.queued = true
	}
	if err != nil {
		return false, fmt.Errorf("store notice: %w", err)
	}
	return !found, nil
}

// NextNotice returns the message whose turn is first, be it later than now, or
// ErrNotFound.
func (t *Tx) NextNotice(ctx context.Context) (*Notice, error) {
	var n Notice
	err := classify(t.row(ctx, `SELECT notice_id, user_id, kind, coalesce(address, ''), ip_address, user_agent, created, attempts, next_try
		FROM notices WHERE next_try IS NOT NULL ORDER BY next_try, notice_id LIMIT 1`).
		Scan(&n.ID, &n.UserID, &n.Kind, &n.Address, &n.IPAddress, &n.UserAgent, timeColumn{&n.Created}, &n.Attempts, timeColumn{&n.NextTry}))
	if err != nil {
		return nil, fmt.Errorf("read notice: %w", err)
	}
	return &n, nil
}

// ClaimNotice puts a message off until a moment, so that nobody else sends it
// before, and counts an attempt. It fails with ErrConflict when somebody else
// was first.
func (t *Tx) ClaimNotice(ctx context.Context, n *Notice, until time.Time) error {
	changed, err := t.exec(ctx, "UPDATE notices SET attempts = attempts + 1, next_try = ? WHERE notice_id = ? AND attempts = ? AND next_try IS NOT NULL",
		until, n.ID, n.Attempts)
	if err == nil && changed == 0 {
		err = ErrConflict
	}
	if err != nil {
		return fmt.Errorf("claim notice: %w", err)
	}
	return nil
}

// EndNotice marks a message as done. What it told is forgotten; that there was
// one is kept, so that there is not another too soon.
func (t *Tx) EndNotice(ctx context.Context, id int64) error {
	_, err := t.exec(ctx, "UPDATE notices SET next_try = NULL, address = NULL, ip_address = '', user_agent = '' WHERE notice_id = ?", id)
	if err != nil {
		return fmt.Errorf("end notice: %w", err)
	}
	return nil
}

// DeleteOldNotices deletes up to limit messages from before a moment and returns
// how many there were.
func (t *Tx) DeleteOldNotices(ctx context.Context, before time.Time, limit int) (int64, error) {
	n, err := t.deleteSome(ctx, "notices", []string{"notice_id"}, "created < ? ORDER BY created LIMIT ?", before, limit)
	if err != nil {
		return 0, fmt.Errorf("delete old notices: %w", err)
	}
	return n, nil
}

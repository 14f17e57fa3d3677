package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// LoginFailures are the failed logins that were counted for a subject: a row of
// the table login_failures.
type LoginFailures struct {
	// Subject names what is counted, as 32 hexadecimal digits.
	Subject string
	Count   int
	First   time.Time
	Last    time.Time
	// LockedUntil is zero when nothing is locked.
	LockedUntil time.Time
}

// LoginFailures returns what was counted for a subject; nothing was when Count
// is 0.
func (t *Tx) LoginFailures(ctx context.Context, subject string) (LoginFailures, error) {
	f := LoginFailures{Subject: subject}
	err := classify(t.tx.QueryRowContext(ctx, `SELECT failures, first_failure, last_failure, locked_until
		FROM login_failures WHERE subject = ?`, subject).Scan(&f.Count, timeColumn{&f.First}, timeColumn{&f.Last}, timeColumn{&f.LockedUntil}))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return f, fmt.Errorf("read login failures: %w", err)
	}
	return f, nil
}

// PutLoginFailures replaces what was counted for a subject. A Count of 0 means
// nothing.
func (t *Tx) PutLoginFailures(ctx context.Context, f *LoginFailures) error {
	var err error
	if f.Count == 0 {
		_, err = t.exec(ctx, "DELETE FROM login_failures WHERE subject = ?", f.Subject)
	} else {
		_, err = t.exec(ctx, `INSERT INTO login_failures (subject, failures, first_failure, last_failure, locked_until)
			VALUES (?, ?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE SET failures = excluded.failures,
			first_failure = excluded.first_failure, last_failure = excluded.last_failure, locked_until = excluded.locked_until`,
			f.Subject, f.Count, formatTime(f.First), formatTime(f.Last), nullTime(f.LockedUntil))
	}
	if err != nil {
		return fmt.Errorf("store login failures: %w", err)
	}
	return nil
}

// DeleteOldFailures deletes up to limit counts whose last failure was before a
// moment and that lock nothing now, and returns how many there were.
func (t *Tx) DeleteOldFailures(ctx context.Context, before time.Time, limit int) (int64, error) {
	n, err := t.exec(ctx, `DELETE FROM login_failures WHERE subject IN (SELECT subject FROM login_failures
		WHERE last_failure < ? AND (locked_until IS NULL OR locked_until <= ?) ORDER BY last_failure LIMIT ?)`,
		formatTime(before), formatTime(t.now), limit)
	if err != nil {
		return 0, fmt.Errorf("delete old login failures: %w", err)
	}
	return n, nil
}

// maxDevices is how many devices of a user are known: the ones that were used
// last.
const maxDevices = 20

// KnownDevice reports whether the user has logged in from a device before.
func (t *Tx) KnownDevice(ctx context.Context, userID int64, device string) (bool, error) {
	var known bool
	err := t.tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM known_devices WHERE user_id = ? AND device = ?)", userID, device).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look for device: %w", classify(err))
	}
	return known, nil
}

// HasDevices reports whether the user has logged in from any device before.
func (t *Tx) HasDevices(ctx context.Context, userID int64) (bool, error) {
	var has bool
	err := t.tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM known_devices WHERE user_id = ?)", userID).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for devices: %w", classify(err))
	}
	return has, nil
}

// PutDevice notes that the user has logged in from a device, and forgets the
// one that was used least recently when there are too many.
func (t *Tx) PutDevice(ctx context.Context, userID int64, device string) error {
	now := formatTime(t.now)
	_, err := t.exec(ctx, `INSERT INTO known_devices (user_id, device, first_seen, last_seen) VALUES (?, ?, ?, ?)
		ON CONFLICT (user_id, device) DO UPDATE SET last_seen = excluded.last_seen`, userID, device, now, now)
	if err == nil {
		_, err = t.exec(ctx, `DELETE FROM known_devices WHERE user_id = ? AND device IN
			(SELECT device FROM known_devices WHERE user_id = ? ORDER BY last_seen DESC, device LIMIT -1 OFFSET ?)`,
			userID, userID, maxDevices)
	}
	if err != nil {
		return fmt.Errorf("store device: %w", err)
	}
	return nil
}

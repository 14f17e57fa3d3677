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
	err := classify(t.row(ctx, `SELECT failures, first_failure, last_failure, locked_until
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
		err = t.put(ctx, "login_failures", row{{"subject", f.Subject}}, row{
			{"failures", f.Count}, {"first_failure", f.First}, {"last_failure", f.Last}, {"locked_until", nullTime(f.LockedUntil)},
		})
	}
	if err != nil {
		return fmt.Errorf("store login failures: %w", err)
	}
	return nil
}

// DeleteOldFailures deletes up to limit counts whose last failure was before a
// moment and that lock nothing now, and returns how many there were.
func (t *Tx) DeleteOldFailures(ctx context.Context, before time.Time, limit int) (int64, error) {
	n, err := t.deleteSome(ctx, "login_failures", []string{"subject"},
		"last_failure < ? AND (locked_until IS NULL OR locked_until <= ?) ORDER BY last_failure LIMIT ?", before, t.now, limit)
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
	err := t.row(ctx, "SELECT EXISTS (SELECT 1 FROM known_devices WHERE user_id = ? AND device = ?)", userID, device).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look for device: %w", classify(err))
	}
	return known, nil
}

// HasDevices reports whether the user has logged in from any device before.
func (t *Tx) HasDevices(ctx context.Context, userID int64) (bool, error) {
	var has bool
	err := t.row(ctx, "SELECT EXISTS (SELECT 1 FROM known_devices WHERE user_id = ?)", userID).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for devices: %w", classify(err))
	}
	return has, nil
}

// PutDevice notes that the user has logged in from a device, and forgets the
// one that was used least recently when there are too many.
func (t *Tx) PutDevice(ctx context.Context, userID int64, device string) error {
	found, err := t.KnownDevice(ctx, userID, device)
	switch {
	case err != nil:
		return err
	case found:
		_, err = t.exec(ctx, "UPDATE known_devices SET last_seen = ? WHERE user_id = ? AND device = ?", t.now, userID, device)
	default:
		_, err = t.exec(ctx, "INSERT INTO known_devices (user_id, device, first_seen, last_seen) VALUES (?, ?, ?, ?)",
			userID, device, t.now, t.now)
		if err == nil {
			_, err = t.deleteSome(ctx, "known_devices", []string{"user_id", "device"},
				"user_id = ? ORDER BY last_seen DESC, device LIMIT ? OFFSET ?", userID, maxDevices, maxDevices)
		}
	}
	if err != nil {
		return fmt.Errorf("store device: %w", err)
	}
	return nil
}

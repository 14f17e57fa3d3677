package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// An Event is an entry of the event log: a row of the table events, written in the
// transaction of what it tells of. It outlives the users it is about, whose ids are not
// used again.
type Event struct {
	// ID numbers events in the order in which they were written. On a database server,
	// one can become visible after one with a larger number that was written at the
	// same time.
	ID       int64
	Occurred time.Time
	Kind     string
	// UserID is whose account it is about, 0 for nobody's.
	UserID int64
	// ActorID is the user who did it, 0 for the frontend or somebody unknown.
	ActorID int64
	// Request is the name of the request that did it.
	Request string
	// IPAddress and UserAgent are the end user's as far as they are known.
	IPAddress string
	UserAgent string
	// Details are a JSON object, nil for none.
	Details []byte
}

const eventColumns = "event_id, occurred, kind, user_id, actor_id, request, ip_address, user_agent, details"

func scanEvent(row interface{ Scan(dest ...any) error }) (*Event, error) {
	var e Event
	var user, actor *int64
	err := row.Scan(&e.ID, timeColumn{&e.Occurred}, &e.Kind, &user, &actor, &e.Request, &e.IPAddress, &e.UserAgent, jsonColumn{&e.Details})
	if err != nil {
		return nil, classify(err)
	}
	if user != nil {
		e.UserID = *user
	}
	if actor != nil {
		e.ActorID = *actor
	}
	return &e, nil
}

// AddEvent writes an event, whose moment is that of the transaction. With deliver, it is
// put in the queue of events to be sent.
func (t *Tx) AddEvent(ctx context.Context, e *Event, deliver bool) error {
	_, err := t.exec(ctx, `INSERT INTO events (occurred, kind, user_id, actor_id, request, ip_address, user_agent, details)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		t.now, e.Kind, nullID(e.UserID), nullID(e.ActorID), e.Request, e.IPAddress, e.UserAgent, jsonText(e.Details))
	if err == nil && deliver {
		_, err = t.exec(ctx, "INSERT INTO event_deliveries (event_id, attempts, next_try) VALUES ("+t.dialect.lastID+", 0, ?)", t.now)
		t.queued = true
	}
	if err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}

// nullID returns the argument for an id, or NULL for 0.
func nullID(id int64) any {
	if id == 0 {
		return nil
	}
	return id
}

// An EventQuery says which events are wanted.
type EventQuery struct {
	// UserID leaves out what is about other users, unless it is 0.
	UserID int64
	// Kind leaves out other kinds, unless it is empty.
	Kind string
	// Before leaves out events with this id and with larger ones, unless it is 0.
	Before int64
	// After leaves out events with this id and with smaller ones. When it is set the
	// oldest events come first, else the newest.
	After *int64
	// Limit is the most events.
	Limit int64
}

// Events returns the events that a query asks for.
func (t *Tx) Events(ctx context.Context, q EventQuery) ([]Event, error) {
	condition, args, order := "event_id < ?", []any{int64(math.MaxInt64)}, " ORDER BY event_id DESC LIMIT ?"
	if q.Before != 0 {
		args[0] = q.Before
	}
	if q.After != nil {
		condition, args, order = "event_id > ?", []any{*q.After}, " ORDER BY event_id LIMIT ?"
	}
	if q.UserID != 0 {
		condition, args = condition+" AND user_id = ?", append(args, q.UserID)
	}
	if q.Kind != "" {
		condition, args = condition+" AND kind = ?", append(args, q.Kind)
	}
	rows, err := t.query(ctx, "SELECT "+eventColumns+" FROM events WHERE "+condition+order, append(args, q.Limit)...)
	events, err := rowsOf(rows, err, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

// DeleteOldEvents deletes up to limit events from before a moment, also those that
// are still to be sent, and returns how many there were.
func (t *Tx) DeleteOldEvents(ctx context.Context, before time.Time, limit int) (int64, error) {
	keys, err := t.keysOf(ctx, "events", []string{"event_id"}, "occurred < ? ORDER BY occurred LIMIT ?", before, limit)
	if err == nil {
		_, err = t.deleteKeys(ctx, "event_deliveries", []string{"event_id"}, keys)
	}
	var n int64
	if err == nil {
		n, err = t.deleteKeys(ctx, "events", []string{"event_id"}, keys)
	}
	if err != nil {
		return 0, fmt.Errorf("delete old events: %w", err)
	}
	return n, nil
}

// A Delivery is an event that is to be sent.
type Delivery struct {
	Event
	// Attempts is how often it was tried to send it.
	Attempts int
	// NextTry is when to send it.
	NextTry time.Time
}

// NextDelivery returns the event that is to be sent before all others, be it later than
// now, or ErrNotFound.
func (t *Tx) NextDelivery(ctx context.Context) (*Delivery, error) {
	var d Delivery
	err := classify(t.row(ctx, "SELECT event_id, attempts, next_try FROM event_deliveries ORDER BY event_id LIMIT 1").
		Scan(&d.ID, &d.Attempts, timeColumn{&d.NextTry}))
	if err == nil {
		var event *Event
		event, err = scanEvent(t.row(ctx, "SELECT "+eventColumns+" FROM events WHERE event_id = ?", d.ID))
		if err == nil {
			d.Event = *event
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the next event to send: %w", err)
	}
	return &d, nil
}

// ClaimDelivery puts an event off until a moment, so that nobody else sends it before,
// and counts an attempt. It fails with ErrConflict when somebody else was first.
func (t *Tx) ClaimDelivery(ctx context.Context, d *Delivery, until time.Time) error {
	changed, err := t.exec(ctx, "UPDATE event_deliveries SET attempts = attempts + 1, next_try = ? WHERE event_id = ? AND attempts = ?",
		until, d.ID, d.Attempts)
	if err == nil && changed == 0 {
		err = ErrConflict
	}
	if err != nil {
		return fmt.Errorf("claim event: %w", err)
	}
	return nil
}

// PutOffDelivery sets when to try again to send an event that was claimed.
func (t *Tx) PutOffDelivery(ctx context.Context, id int64, next time.Time) error {
	_, err := t.exec(ctx, "UPDATE event_deliveries SET next_try = ? WHERE event_id = ?", next, id)
	if err != nil {
		return fmt.Errorf("put off event: %w", err)
	}
	return nil
}

// EndDelivery takes an event out of the queue.
func (t *Tx) EndDelivery(ctx context.Context, id int64) error {
	_, err := t.exec(ctx, "DELETE FROM event_deliveries WHERE event_id = ?", id)
	if err != nil {
		return fmt.Errorf("end the sending of an event: %w", err)
	}
	return nil
}

package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/internal/event"
	"authnzerver/internal/store"
)

// An actor is who does something, as far as the event log tells.
type actor struct {
	id      int64 // of the user; 0 for the frontend, and for who has proved nothing
	address string
	agent   string
}

// actorOf returns who acts in a request: a user, if the request has proved which, under
// a session, if there is one.
func actorOf(ctx context.Context, id int64, session *store.Session) actor {
	by := actor{id: id}
	client := clientOf(ctx)
	if client.Given {
		by.address = client.Address
	}
	if session != nil {
		by.address, by.agent = cmp.Or(by.address, session.IPAddress), session.UserAgent
	}
	return by
}

// details are what an event tells beyond its columns: JSON values by their names.
type details map[string]any

// log writes an event about a user's account, or about nobody's when userID is 0, in the
// transaction of what it tells.
func (s *Server) log(ctx context.Context, tx *store.Tx, by actor, kind api.EventKind, userID int64, more details) error {
	e := store.Event{
		Kind: string(kind), UserID: userID, ActorID: by.id, Request: event.From(ctx).Request,
		IPAddress: by.address, UserAgent: by.agent,
	}
	if more != nil {
		var err error
		e.Details, err = json.Marshal(more, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("encode the details of an event: %w", err)
		}
	}
	return tx.AddEvent(ctx, &e, s.SendEvent != nil)
}

// itemEvent is the policy's name for entries of the event log.
const itemEvent = "event"

// defaultEvents is how many events are listed when it is not said how many.
const defaultEvents = 100

// EventList answers [api.EventList].
func (s *Server) EventList(ctx context.Context, p *api.EventListParams) (api.EventListResult, error) {
	_, known := api.EventKind(p.Kind.Value).Info()
	switch {
	case p.All.Value && p.UserID.Set:
		return api.EventListResult{}, api.EventList.Spec().Invalid("all", api.ProblemNotBeside+" user_id")
	case p.Kind.Set && !known:
		return api.EventListResult{}, api.Fail(api.CodeUnknownEventKind)
	}
	_, caller, err := s.use(ctx, p.SessionToken)
	if err != nil {
		return api.EventListResult{}, err
	}
	owner := caller.ID
	if p.UserID.Set {
		owner = p.UserID.Value
	}
	if p.All.Value {
		owner = 0
	}
	event.From(ctx).SetTarget(owner)
	if owner == store.AnonymousID || owner != caller.ID && !s.mayViewEvents(caller, owner) {
		return api.EventListResult{}, api.Fail(api.CodeNotPermitted)
	}
	limit := cmp.Or(p.Limit.Value, defaultEvents)
	q := store.EventQuery{UserID: owner, Kind: p.Kind.Value, Before: p.After.Value, Limit: limit + 1} // to know whether there are more
	view := s.Store.View
	if q.Kind != "" { // many others may lie between them
		view = s.Store.ViewLong
	}
	var events []store.Event
	err = view(ctx, func(ctx context.Context, tx *store.Tx) error {
		var err error
		events, err = tx.Events(ctx, q)
		return err
	})
	if err != nil {
		return api.EventListResult{}, err
	}
	var result api.EventListResult
	if int64(len(events)) > limit {
		events = events[:limit]
		result.Next = &events[limit-1].ID
	}
	result.Events = make([]api.EventInfo, len(events))
	for i := range events {
		result.Events[i] = EventInfo(&events[i])
	}
	return result, nil
}

// mayViewEvents reports whether an active user may view the events of another, or of
// all for owner 0.
func (s *Server) mayViewEvents(caller *store.User, owner int64) bool {
	return caller.IsActive && caller.Role == roleSuperuser || s.mayViewPrivate(caller, itemEvent, owner)
}

// EventInfo returns an event as replies and webhooks show it.
func EventInfo(e *store.Event) api.EventInfo {
	info := api.EventInfo{
		EventID: e.ID, Occurred: api.Time(e.Occurred), Kind: api.EventKind(e.Kind), Request: e.Request,
		IPAddress: e.IPAddress, UserAgent: e.UserAgent, Details: shown(e.Details),
	}
	if e.UserAgent != "" {
		info.Device = deviceOf(e.UserAgent)
	}
	if e.UserID != 0 {
		info.UserID = &e.UserID
	}
	if e.ActorID != 0 {
		info.ActorID = &e.ActorID
	}
	return info
}

const (
	// eventClaim is how long nobody else sends an event that is being sent. Sending
	// must take less.
	eventClaim = 30 * time.Second
	// eventRetry and eventMaxRetry are the first and the longest time between two tries;
	// each is twice as long as the one before.
	eventRetry    = 5 * time.Second
	eventMaxRetry = 30 * time.Minute
	// eventLife is how long it is tried to send an event. Then it is given up, so that
	// those after it have their turn.
	eventLife = 72 * time.Hour
)

// ErrGivenUp: an event could not be sent for so long that it is not tried any more.
var ErrGivenUp = errors.New("an event was given up")

// SendNextEvent sends the oldest event that has not been sent; no other is sent before
// the webhook has taken it. It returns when the next try may be made: the zero time when
// there is nothing to send. An event that could not be sent is an error.
func (s *Server) SendNextEvent(ctx context.Context) (next time.Time, err error) {
	var d *store.Delivery
	err = s.Store.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		d, err = tx.NextDelivery(ctx)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	case d.NextTry.After(s.Now()):
		return d.NextTry, nil
	}
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		return tx.ClaimDelivery(ctx, d, tx.Now().Add(eventClaim))
	})
	if errors.Is(err, store.ErrConflict) { // another node sends it
		return s.Now().Add(time.Second), nil
	}
	if err != nil {
		return time.Time{}, err
	}
	sendErr := s.sendEvent(ctx, d)
	if sendErr != nil {
		sendErr = fmt.Errorf("send event %d, attempt %d: %w", d.ID, d.Attempts+1, sendErr)
		if s.Now().Sub(d.Occurred) < eventLife {
			next = s.Now().Add(min(eventRetry<<min(d.Attempts, 16), eventMaxRetry))
			err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.PutOffDelivery(ctx, d.ID, next) })
			return next, errors.Join(sendErr, err)
		}
		sendErr = fmt.Errorf("%w: %w", ErrGivenUp, sendErr)
	}
	err = s.Store.Update(ctx, func(ctx context.Context, tx *store.Tx) error { return tx.EndDelivery(ctx, d.ID) })
	return s.Now(), errors.Join(sendErr, err)
}

// sendEvent sends an event in the form that Standard Webhooks have: type, timestamp and
// data.
func (s *Server) sendEvent(ctx context.Context, d *store.Delivery) error {
	info := EventInfo(&d.Event)
	body, err := json.Marshal(struct {
		Type      api.EventKind  `json:"type"`
		Timestamp string         `json:"timestamp"`
		Data      *api.EventInfo `json:"data"`
	}{info.Kind, d.Occurred.UTC().Format(time.RFC3339Nano), &info})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return s.SendEvent(ctx, fmt.Sprintf("evt_%d", d.ID), body)
}

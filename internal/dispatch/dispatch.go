// Package dispatch turns the text of an opened envelope into a call of the
// action that answers it, and the action's outcome into the text of a reply.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/event"
)

// A Route is a declared request with the function that answers it.
type Route struct {
	spec *api.Spec
	// answer appends the reply to dst and tells how the request ended.
	answer func(ctx context.Context, dst []byte, in *Incoming) ([]byte, ending, error)
}

// An ending is how a request that was answered ended.
type ending struct {
	failure *api.Failure // nil for a success
	delay   time.Duration
}

// Handle pairs a request with its function. The compiler checks that the
// function takes the request's parameters and returns its result.
//
// A result that is returned together with an error supplies the keys that
// failed replies carry too.
func Handle[P, R any](request api.Request[P, R], do func(context.Context, *P) (R, error)) Route {
	answer := func(ctx context.Context, dst []byte, in *Incoming) ([]byte, ending, error) {
		var params P
		problems := request.Decode(in.Body, &params)
		if problems != nil {
			var none R
			failure := api.Invalid(request.Spec().Name, problems)
			dst, err := request.AppendFailure(dst, in.ReqID, &none, failure)
			return dst, ending{failure: failure}, err
		}
		result, err := guard(ctx, do, &params)
		if err == nil {
			dst, err := request.AppendSuccess(dst, in.ReqID, &result)
			return dst, ending{}, err
		}
		failure, operator := action.Classify(err)
		if operator {
			event.From(ctx).Fault(err)
		}
		dst, encodeErr := request.AppendFailure(dst, in.ReqID, &result, failure)
		return dst, ending{failure, action.Delay(err)}, encodeErr
	}
	return Route{request.Spec(), answer}
}

// guard turns a panic into an error, so that a mistake in one action costs one
// request and not the server. The stack is for the log; it holds no values.
func guard[P, R any](ctx context.Context, do func(context.Context, *P) (R, error), params *P) (result R, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return do(ctx, params)
}

// A Table holds the routes of all requests. It is safe for concurrent use.
type Table struct {
	routes map[string]*Route
	limits *Limits
}

// New returns the table of the routes, under limits unless these are nil. It
// fails when a declared request has no route, or a name has two.
func New(limits *Limits, routes ...Route) (*Table, error) {
	t := &Table{routes: make(map[string]*Route, 2*len(routes)), limits: limits}
	for i := range routes {
		route := &routes[i]
		for _, name := range append([]string{route.spec.Name}, route.spec.Aliases...) {
			if t.routes[name] != nil {
				return nil, fmt.Errorf("request %s has two routes", name)
			}
			t.routes[name] = route
		}
	}
	var missing []string
	for _, spec := range api.All() {
		if t.routes[spec.Name] == nil {
			missing = append(missing, spec.Name)
		}
	}
	if missing != nil {
		return nil, errors.New("requests without a route: " + strings.Join(missing, ", "))
	}
	return t, nil
}

// An Outcome says what is to be done about a reply apart from sending it.
type Outcome struct {
	// Delay is how long to wait before it is sent.
	Delay time.Duration
	// RetryAfter is how long the caller is asked to wait before the next try;
	// 0 when that makes no difference.
	RetryAfter time.Duration
}

// Do answers a request: it appends the text of the reply to dst. An unknown
// request is ErrMalformed and one over its limit a [LimitedError]; everything
// else that can be wrong with a request is told in the reply.
func (t *Table) Do(ctx context.Context, dst []byte, in *Incoming) ([]byte, Outcome, error) {
	record := event.From(ctx)
	record.ReqID = string(in.ReqID)
	route := t.routes[in.Request]
	name := unknownRequest
	if route != nil {
		name = route.spec.Name
		record.Request = name
		record.Routine = route.spec.ReadOnly && route.spec.Hashes == 0
	}
	if t.limits != nil {
		err := t.limits.charge(ctx, name, in)
		if err != nil {
			return nil, Outcome{}, err
		}
	}
	if route == nil {
		return nil, Outcome{}, fmt.Errorf("%w: unknown request", ErrMalformed)
	}
	if route.spec.Hashes > 0 {
		ctx = action.WithClient(ctx, action.Client{Network: in.Network(), Given: in.ClientAddr != ""})
	}
	dst, end, err := route.answer(ctx, dst, in)
	if err != nil {
		return nil, Outcome{}, fmt.Errorf("encode reply: %w", err)
	}
	outcome := Outcome{Delay: end.delay}
	if end.failure != nil {
		record.Code = string(end.failure.Code)
		outcome.RetryAfter = end.failure.RetryAfter
	}
	return dst, outcome, nil
}

// Package dispatch turns the text of an opened envelope into a call of the
// action that answers it, and the action's outcome into the text of a reply.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/event"
)

// A Route is a declared request with the function that answers it.
type Route struct {
	spec *api.Spec
	// answer appends the reply to dst and returns the failure in it, if any.
	answer func(ctx context.Context, dst []byte, in *Incoming) ([]byte, *api.Failure, error)
}

// Handle pairs a request with its function. The compiler checks that the
// function takes the request's parameters and returns its result.
//
// A result that is returned together with an error supplies the keys that
// failed replies carry too.
func Handle[P, R any](request api.Request[P, R], do func(context.Context, *P) (R, error)) Route {
	answer := func(ctx context.Context, dst []byte, in *Incoming) ([]byte, *api.Failure, error) {
		var params P
		problems := request.Decode(in.Body, &params)
		if problems != nil {
			var none R
			failure := api.Invalid(request.Spec().Name, problems)
			dst, err := request.AppendFailure(dst, in.ReqID, &none, failure)
			return dst, failure, err
		}
		result, err := guard(ctx, do, &params)
		if err == nil {
			dst, err := request.AppendSuccess(dst, in.ReqID, &result)
			return dst, nil, err
		}
		failure, operator := action.Classify(err)
		if operator {
			event.From(ctx).Fault(err)
		}
		dst, err = request.AppendFailure(dst, in.ReqID, &result, failure)
		return dst, failure, err
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
type Table struct{ routes map[string]*Route }

// New returns the table of the routes. It fails when a declared request has no
// route, or a name has two.
func New(routes ...Route) (*Table, error) {
	t := &Table{routes: make(map[string]*Route, 2*len(routes))}
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

// Do answers a request: it appends the text of the reply to dst. An unknown
// request is ErrMalformed; everything else that can be wrong with a request is
// told in the reply.
func (t *Table) Do(ctx context.Context, dst []byte, in *Incoming) ([]byte, error) {
	record := event.From(ctx)
	record.ReqID = string(in.ReqID)
	route := t.routes[in.Request]
	if route == nil {
		return nil, fmt.Errorf("%w: unknown request", ErrMalformed)
	}
	record.Request = route.spec.Name
	record.Routine = route.spec.ReadOnly && route.spec.Hashes == 0
	dst, failure, err := route.answer(ctx, dst, in)
	if err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	if failure != nil {
		record.Code = string(failure.Code)
	}
	return dst, nil
}

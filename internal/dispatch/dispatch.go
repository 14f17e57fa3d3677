// Package dispatch turns the text of an opened envelope into a call of the
// action that answers it, and the action's outcome into the text of a reply.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	sent    bool // to where a long reply goes
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
		return dst, ending{failure: failure, delay: action.Delay(err)}, encodeErr
	}
	return Route{request.Spec(), answer}
}

// HandleList pairs a request for a list with a function that yields the elements, and
// may set the other keys of the result. A list that does not fit into memory is sent
// while it is made; see [Incoming.Long]. When it fails then, that is an error.
func HandleList[P, R, T any](request api.Request[P, R], do func(ctx context.Context, params *P, result *R, yield func(*T) error) error) Route {
	answer := func(ctx context.Context, dst []byte, in *Incoming) ([]byte, ending, error) {
		var params P
		var result R
		problems := request.Decode(in.Body, &params)
		if problems != nil {
			failure := api.Invalid(request.Spec().Name, problems)
			dst, err := request.AppendFailure(dst, in.ReqID, &result, failure)
			return dst, ending{failure: failure}, err
		}
		reply := &keptReply{kept: dst, whole: in.Long}
		err := api.StreamSuccess(request, reply, in.ReqID, &result, func(yield func(*T) error) error {
			_, err := guard(ctx, func(ctx context.Context, params *P) (struct{}, error) {
				return struct{}{}, do(ctx, params, &result, yield)
			}, &params)
			return err
		})
		if err == nil || reply.long != nil {
			return reply.kept, ending{sent: reply.long != nil}, err
		}
		failure, operator := action.Classify(err)
		if operator {
			event.From(ctx).Fault(err)
		}
		var none R
		dst, err = request.AppendFailure(dst, in.ReqID, &none, failure)
		return dst, ending{failure: failure}, err
	}
	return Route{request.Spec(), answer}
}

// maxKept is how much of a list's reply is kept in memory, in bytes.
const maxKept = 64 << 10

// A keptReply keeps a reply, or sends it on when it gets too long.
type keptReply struct {
	kept  []byte
	whole LongReply // nil to keep all
	long  io.Writer // what it is sent to, once it is too long
}

// Write implements io.Writer.
func (r *keptReply) Write(data []byte) (int, error) {
	if r.long == nil && (r.whole == nil || len(r.kept)+len(data) <= maxKept) {
		r.kept = append(r.kept, data...)
		return len(data), nil
	}
	if r.long == nil {
		var err error
		r.long, err = r.whole.Begin()
		if err != nil {
			return 0, err
		}
		_, err = r.long.Write(r.kept)
		if err != nil {
			return 0, err
		}
	}
	return r.long.Write(data)
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
	// Sent is set when the reply was long and has been sent; see [Incoming.Long].
	Sent bool
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
		record.Routine = (route.spec.ReadOnly || route.spec.Counts) && route.spec.Hashes == 0
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
	if route.spec.Hashes > 0 || !route.spec.ReadOnly && !route.spec.Counts {
		ctx = action.WithClient(ctx, in.client())
	}
	dst, end, err := route.answer(ctx, dst, in)
	if err != nil {
		return nil, Outcome{Sent: end.sent}, fmt.Errorf("encode reply: %w", err)
	}
	outcome := Outcome{Delay: end.delay, Sent: end.sent}
	if end.failure != nil {
		record.Code = string(end.failure.Code)
		outcome.RetryAfter = end.failure.RetryAfter
	}
	return dst, outcome, nil
}

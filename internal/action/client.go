package action

import "context"

// A Client is who a request is made for, as far as the frontend told.
type Client struct {
	// Address is the end user's address in its canonical form, empty when the frontend
	// named none.
	Address string
	// Network is the end user's address, or the first 64 bits of it.
	Network string
	// Given reports that the frontend named the end user's address. Otherwise
	// Network is the frontend's own.
	Given bool
}

type clientKey struct{}

// WithClient returns a context for a request that checks a password or changes
// something, with the client that it is made for.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

func clientOf(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/config"
	"authnzerver/internal/identity"
	"authnzerver/internal/limit"
)

// A LimitedError says that a request came too often. It was not looked at any
// further, and it counts for nothing.
type LimitedError struct {
	// RetryAfter is when the same request would be let through if there were
	// no others until then.
	RetryAfter time.Duration
}

func (e *LimitedError) Error() string {
	return fmt.Sprintf("over the rate limit; the wait is %v", e.RetryAfter.Round(time.Millisecond))
}

// internalLimit is how many calls a minute the requests of the frontend's own
// (internal-…) are good for, as in the Python server.
const internalLimit = 3000

// unknownRequest stands for the names that are no request's: they count
// together, so that making names up gets nobody further.
const unknownRequest = "unknown"

// Limits charge requests to the client that they are made for, and some to the
// e-mail address that they are about. They are safe for concurrent use.
type Limits struct {
	spend func(ctx context.Context, each []limit.Decision, charges ...limit.Charge) limit.Decision
	keyer *limit.Keyer
	rules map[string]requestLimit
}

// A requestLimit is what a request is charged under.
type requestLimit struct {
	client limit.Rule
	// email is the rule for the address in the parameter emailParam; there is
	// none when that is empty.
	email      limit.Rule
	emailParam string
}

// NewLimits returns the limits of the option ratelimits. spend charges a call.
// It fails when the option names a request that there is not.
func NewLimits(rates *config.RateLimits, keyer *limit.Keyer, spend func(ctx context.Context, each []limit.Decision, charges ...limit.Charge) limit.Decision) (*Limits, error) {
	l := &Limits{spend: spend, keyer: keyer, rules: map[string]requestLimit{
		unknownRequest: {client: perMinute(rates.IPAddr, rates.Burst)},
	}}
	given := maps.Clone(rates.Requests)
	for _, spec := range api.All() {
		rule := requestLimit{client: classRule(spec.Limit, rates)}
		for _, name := range append([]string{spec.Name}, spec.Aliases...) {
			if calls, ok := given[name]; ok {
				rule.client = perMinute(calls, calls)
				delete(given, name)
			}
		}
		if spec.Limit == api.LimitUserEmail || spec.Limit == api.LimitFixed2Email {
			rule.emailParam = emailParam(spec)
			// No burst goes with an address: the first calls up to the limit
			// pass at once.
			rule.email = perMinute(rule.client.Limit, rule.client.Limit)
		}
		l.rules[spec.Name] = rule
	}
	if len(given) > 0 {
		unknown := slices.Sorted(maps.Keys(given))
		return nil, errors.New("there is no request of this name: " + strings.Join(unknown, ", "))
	}
	return l, nil
}

func perMinute(calls, burst int) limit.Rule {
	return limit.Rule{Limit: calls, Burst: burst, Per: time.Minute}
}

// classRule returns the rule of a class of requests. A limit of single
// requests is its own burst.
func classRule(class api.LimitClass, rates *config.RateLimits) limit.Rule {
	switch class {
	case api.LimitUser, api.LimitUserEmail:
		return perMinute(rates.User, rates.Burst)
	case api.LimitSession:
		return perMinute(rates.Session, rates.Burst)
	case api.LimitAPIKey:
		return perMinute(rates.APIKey, rates.Burst)
	case api.LimitInternal:
		return perMinute(internalLimit, rates.Burst)
	case api.LimitFixed2Email:
		return perMinute(2, 2)
	case api.LimitFixed5:
		return perMinute(5, 5)
	case api.LimitFixed10:
		return perMinute(10, 10)
	case api.LimitFixed30:
		return perMinute(30, 30)
	default:
		return perMinute(rates.IPAddr, rates.Burst)
	}
}

// emailParam is the parameter in which a request declares the address that it
// is about.
func emailParam(spec *api.Spec) string {
	for _, p := range spec.Params() {
		if p.Name == "email" || p.Name == "email_address" {
			return p.Name
		}
	}
	panic("dispatch: " + spec.Name + " is limited by an address that it does not have") // unreachable: a test declares all
}

// charge lets a request through or returns a LimitedError. The name is the
// request's own, not an alias.
func (l *Limits) charge(ctx context.Context, name string, in *Incoming) error {
	rule := l.rules[name]
	var space [2]limit.Charge
	charges := append(space[:0], limit.Charge{
		Key: l.keyer.Key("request", name, "client", in.Network()), Rule: rule.client, Cost: 1,
	})
	if email, ok := in.text(rule.emailParam); ok {
		charges = append(charges, limit.Charge{
			Key: l.keyer.Key("request", name, "email", identity.NormalizeEmail(email)), Rule: rule.email, Cost: 1,
		})
	}
	decision := l.spend(ctx, nil, charges...)
	if !decision.Allowed {
		return &LimitedError{decision.RetryAfter}
	}
	return nil
}

// Network returns what the end user counts as: the network of the client's
// address, as [limit.Network] has it, or of the frontend's when it gave none.
// Whatever is no address counts as one client of the frontend's, so that a
// frontend which passes on what anybody wrote into a header opens no way around
// the limits.
func (in *Incoming) Network() string {
	if in.ClientAddr == "" {
		return limit.Network(in.Peer.String())
	}
	network := limit.Network(in.ClientAddr)
	if network == "" {
		network = "no address, from " + limit.Network(in.Peer.String())
	}
	return network
}

// client returns who the request is made for.
func (in *Incoming) client() action.Client {
	c := action.Client{Network: in.Network(), Given: in.ClientAddr != ""}
	if limit.Network(in.ClientAddr) != "" { // else it is any text
		c.Address = in.ClientAddr
	}
	return c
}

// text returns the string in the first member of the body with this name.
func (in *Incoming) text(name string) (string, bool) {
	for i := range in.Body {
		if string(in.Body[i].Name) == name {
			text, err := unquote(in.Body[i].Value)
			return text, err == nil
		}
	}
	return "", false
}

package limitstore

import (
	"context"
	"strconv"
	"time"

	"authnzerver/internal/limit"
)

// SpendAt is Spend at a moment of the test's.
func (s *Store) SpendAt(ctx context.Context, now time.Time, each []limit.Decision, charges ...limit.Charge) (limit.Decision, error) {
	return s.spend(ctx, strconv.FormatInt(now.UnixMicro(), 10), each, charges)
}

// Look looks at a server that seems to be up.
func (s *Store) Look(ctx context.Context) error { return s.look(ctx, true) }

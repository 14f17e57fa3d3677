package store

import (
	"database/sql"
	"maps"
	"slices"
	"time"
)

// Stats are what is known about a store at some moment, for who operates it.
type Stats struct {
	Pools []PoolStats
	// Sessions, Keys and Users are how many of each are in memory, about.
	Sessions, Keys, Users int
	// Loads is how many rows were read because they were not in memory, and Retries how
	// often a transaction was tried again because another was in its way, or because the
	// connection was lost; since the store was opened.
	Loads, Retries uint64
	// Failing reports that the last change could not be made.
	Failing bool
}

// PoolStats are about the connections for a purpose.
type PoolStats struct {
	// Name is "writer" or "reader", or "both" where there is one pool.
	Name        string
	InUse, Idle int
	// Waits is how often somebody had to wait for a connection, and Waited how long in
	// all.
	Waits  int64
	Waited time.Duration
}

// Stats returns what is known now.
func (s *Store) Stats() Stats {
	stats := Stats{
		Sessions: s.cache.sessions.rows.EstimatedSize(), Keys: s.cache.keys.rows.EstimatedSize(), Users: s.cache.users.rows.EstimatedSize(),
		Loads: s.cache.loads.Load(), Retries: s.retries.Load(), Failing: s.changesFail.Load(),
	}
	pools := map[string]*sql.DB{"writer": s.writer, "reader": s.reader}
	if s.reader == s.writer {
		pools = map[string]*sql.DB{"both": s.writer}
	}
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		now := pools[name].Stats()
		stats.Pools = append(stats.Pools, PoolStats{name, now.InUse, now.Idle, now.WaitCount, now.WaitDuration})
	}
	return stats
}

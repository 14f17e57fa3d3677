package store_test

import (
	"context"
	"testing"
	"time"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

// onServers runs a test over two stores on one database, as two nodes have it.
func onServers(t *testing.T, test func(t *testing.T, first, other *fixture, url string)) {
	t.Helper()
	t.Parallel()
	for _, kind := range []databases.Kind{databases.PostgreSQL, databases.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			url := servers.New(t, kind)
			first := openFixture(t, url)
			first.initialize()
			test(t, first, openFixture(t, url), url)
		})
	}
}

// mostBehind is how much older than the database the memory of a node may be.
const mostBehind = 900 * time.Millisecond

// TestNodesSeeEachOthersChanges changes on one node what another has in memory.
func TestNodesSeeEachOthersChanges(t *testing.T) {
	onServers(t, func(t *testing.T, first, other *fixture, _ string) {
		user := first.insertUser("u")
		session := first.insertSession("s", user.ID)
		seen := func(what string, role string, want error) {
			t.Helper()
			_, got, err := other.Session(t.Context(), session.Digest)
			wantErr(t, what, err, want)
			if err == nil {
				equal(t, what, got.Role, role)
			}
		}
		other.clock.advance(mostBehind)
		seen("before", "authenticated", nil)
		first.update(func(ctx context.Context, tx *store.Tx) error {
			u, err := tx.User(ctx, user.ID)
			if err != nil {
				return err
			}
			u.Role = "staff"
			return tx.UpdateUser(ctx, u)
		})
		other.clock.advance(mostBehind)
		seen("after another role", "staff", nil)
		first.update(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteSessionsOf(ctx, user.ID, token.Digest{})
			return err
		})
		other.clock.advance(mostBehind)
		seen("after the end", "", store.ErrNotFound)
	})
}

// TestAFloodOfChangesIsSeen changes more in a transaction than is told apart.
func TestAFloodOfChangesIsSeen(t *testing.T) {
	onServers(t, func(t *testing.T, first, other *fixture, _ string) {
		user := first.insertUser("u")
		const n = 250
		first.update(func(ctx context.Context, tx *store.Tx) error {
			for range n {
				err := tx.InsertSession(ctx, newSession(store.NewUUID(), user.ID, tx.Now()))
				if err != nil {
					return err
				}
			}
			return tx.InsertSession(ctx, newSession("s", user.ID, tx.Now()))
		})
		other.clock.advance(mostBehind)
		_, _, err := other.Session(t.Context(), token.Sum("s"))
		wantErr(t, "before", err, nil)
		first.update(func(ctx context.Context, tx *store.Tx) error {
			deleted, err := tx.DeleteSessionsOf(ctx, user.ID, token.Digest{})
			equal(t, "deleted", deleted, n+1)
			return err
		})
		other.clock.advance(mostBehind)
		_, _, err = other.Session(t.Context(), token.Sum("s"))
		wantErr(t, "after", err, store.ErrNotFound)
	})
}

// TestPurgeChanges purges what is old, and only that.
func TestPurgeChanges(t *testing.T) {
	onServers(t, func(t *testing.T, first, _ *fixture, url string) {
		db, err := databases.Open(url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for range 150 {
			first.insertSession(store.NewUUID(), 2)
		}
		mustExec(t, db, "UPDATE cache_changes SET changed = '2020-01-01 00:00:00'")
		first.insertSession("s", 2)
		err = first.PurgeChanges(t.Context())
		wantErr(t, "PurgeChanges", err, nil)
		equal(t, "changes that are kept", one[int](t, db, "SELECT count(*) FROM cache_changes"), 1)
	})
}

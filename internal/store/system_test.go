package store_test

import (
	"context"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"authnzerver/internal/store"
	"authnzerver/test/databases"
)

func TestInitialize(t *testing.T) {
	t.Parallel()
	for _, kind := range databases.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := openFixture(t, servers.New(t, kind))
			hasUsers := func() (found bool) {
				f.view(func(ctx context.Context, tx *store.Tx) (err error) {
					found, err = tx.HasUsers(ctx)
					return err
				})
				return found
			}
			err := f.Ping(t.Context())
			wantErr(t, "ping before", err, nil)
			equal(t, "users before", hasUsers(), false)
			f.initialize()
			equal(t, "users after", hasUsers(), true)
			err = f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.Initialize(ctx, initial()) })
			wantErr(t, "a second time", err, store.ErrConflict)

			name := func(s string) *string { return &s }
			common := store.User{EmailVerified: true, IsActive: true, CreatedOn: start, LastUpdated: start, FirstVerified: start}
			want := []store.User{common, common, common}
			want[0].ID, want[0].Email, want[0].Role = 1, "Root.Keeper@Example.org", "superuser"
			want[0].PasswordHash, want[0].FullName = "admin hash", name("Superuser account")
			want[1].ID, want[1].Email, want[1].Role = 2, "anonuser@localhost", "anonymous"
			want[1].PasswordHash, want[1].FullName = "no password", name("The systemwide anonymous user")
			want[2].ID, want[2].Email, want[2].Role, want[2].IsActive = 3, "dummyuser@localhost", "locked", false
			want[2].PasswordHash, want[2].FullName = "no password", name("The systemwide locked user")
			info := `{"provenance": "auto-created", "type": "system-user"}`
			want[0].ExtraInfo, want[1].ExtraInfo = []byte(info), []byte(info)
			want[2].ExtraInfo = []byte(`{"provenance": "auto-created", "type": "locked-user"}`)
			f.view(func(ctx context.Context, tx *store.Tx) error {
				got, err := usersOf(ctx, tx, store.UserQuery{})
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(store.User{}, "SystemID")); diff != "" {
					t.Errorf("users (-want +got):\n%s", diff)
				}
				for _, u := range got {
					if !uuid.MatchString(u.SystemID) {
						t.Errorf("system id %q", u.SystemID)
					}
				}
				return err
			})
		})
	}
}

func TestInitializeNeedsTheRolesOfItsUsers(t *testing.T) {
	t.Parallel()
	for _, kind := range databases.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			f := openFixture(t, servers.New(t, kind))
			in := initial()
			in.Roles = []string{"superuser", "anonymous"}
			err := f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.Initialize(ctx, in) })
			wantErr(t, "without the role of user 3", err, store.ErrReference)
			f.initialize() // nothing of the first try is in the way
		})
	}
}

func TestProtected(t *testing.T) {
	t.Parallel()
	for id, want := range map[int64]bool{-2: false, 0: false, 1: false, 2: true, 3: true, 4: false} {
		if store.Protected(id) != want {
			t.Errorf("Protected(%d) is %t", id, !want)
		}
	}
}

// uuid is the text form of RFC 9562, version 4.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func TestNewUUID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 10_000 {
		id := store.NewUUID()
		if !uuid.MatchString(id) {
			t.Fatalf("NewUUID() is %q", id)
		}
		if seen[id] {
			t.Fatalf("NewUUID() returned %q twice", id)
		}
		seen[id] = true
	}
}

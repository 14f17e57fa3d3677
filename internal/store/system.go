package store

import (
	"context"
	"fmt"
)

// The ids of the users that every database has.
const (
	// SuperuserID is the administrator who was made with the database.
	SuperuserID = 1
	// AnonymousID is the user of sessions that belong to nobody.
	AnonymousID = 2
	// LockedID is the user that the Python server compared passwords with
	// when there was no other.
	LockedID = 3
)

// Protected reports whether a user belongs to the system and cannot be
// deleted, locked, edited, or given a password.
func Protected(id int64) bool { return id == AnonymousID || id == LockedID }

// An Initial holds what a new database starts with.
type Initial struct {
	// Roles are the names of the policy's roles.
	Roles []string
	// AdminEmail is the superuser's address, kept as it is.
	AdminEmail string
	// AdminHash is the PHC string of the superuser's password.
	AdminHash string
	// NoPassword returns a PHC string that no password matches, of the same
	// cost as any other.
	NoPassword func() string
}

// HasUsers reports whether the database has been initialised.
func (t *Tx) HasUsers(ctx context.Context) (bool, error) {
	found, err := t.exists(ctx, "SELECT 1 FROM users LIMIT 1")
	if err != nil {
		return false, fmt.Errorf("look for users: %w", err)
	}
	return found, nil
}

// Initialize adds the roles and the three users of the system to a database
// without users.
func (t *Tx) Initialize(ctx context.Context, in Initial) error {
	err := t.AddRoles(ctx, in.Roles)
	if err != nil {
		return err
	}
	system := []User{
		{
			ID: SuperuserID, Email: in.AdminEmail, Role: "superuser", IsActive: true,
			PasswordHash: in.AdminHash, FullName: text("Superuser account"),
			ExtraInfo: []byte(`{"provenance": "auto-created", "type": "system-user"}`),
		},
		{
			ID: AnonymousID, Email: "anonuser@localhost", Role: "anonymous", IsActive: true,
			PasswordHash: in.NoPassword(), FullName: text("The systemwide anonymous user"),
			ExtraInfo: []byte(`{"provenance": "auto-created", "type": "system-user"}`),
		},
		{
			ID: LockedID, Email: "dummyuser@localhost", Role: "locked",
			PasswordHash: in.NoPassword(), FullName: text("The systemwide locked user"),
			ExtraInfo: []byte(`{"provenance": "auto-created", "type": "locked-user"}`),
		},
	}
	for i := range system {
		u := &system[i]
		u.SystemID, u.EmailVerified, u.FirstVerified = NewUUID(), true, t.now
		err := t.insertUser(ctx, u)
		if err != nil {
			return fmt.Errorf("user %d: %w", u.ID, err)
		}
	}
	return nil
}

func text(s string) *string { return &s }

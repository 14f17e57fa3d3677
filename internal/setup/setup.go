// Package setup makes what a new server needs: a database with its first
// users, keys, and an envfile that names them. It never overwrites a file.
package setup

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"authnzerver/internal/passwd"
	"authnzerver/internal/store"
)

// Names of the files that set-up writes into the base directory; those of the
// Python server.
const (
	DatabaseFile    = ".authdb.sqlite"
	CredentialsFile = ".authnzerver-admin-credentials"
	SecretFile      = ".authnzerver-secret-key"
	SaltFile        = ".authnzerver-salt"
	PolicyFile      = "default-permissions-model.json"
	EnvFile         = ".env"
)

// chosenPassword stands in the credentials file for a password that a person
// chose.
const chosenPassword = "password-was-user-generated"

// An Admin is what is needed to fill an empty database.
type Admin struct {
	// Email is the superuser's address; <user>@localhost when empty.
	Email string
	// Password is the superuser's password; a random one when empty.
	Password string
	// BaseDir is the directory of the credentials file. It is created when
	// it is missing.
	BaseDir string
	// Roles are the roles of the permission policy.
	Roles []string
}

// errFilled ends a transaction that found users.
var errFilled = errors.New("the database has users")

// Initialize fills an empty database with the roles and the system's three
// users and writes the superuser's credentials to a file that only the owner
// can read, whose path it returns. When the database has users it does
// nothing and returns "".
func Initialize(ctx context.Context, db *store.Store, pool *passwd.Pool, admin Admin) (credentials string, err error) {
	filled, err := hasUsers(ctx, db)
	if err != nil || filled {
		return "", err
	}
	if admin.Email == "" {
		admin.Email = loginName() + "@localhost"
	}
	written := chosenPassword
	if admin.Password == "" {
		admin.Password = randomText(16)
		written = admin.Password
	}
	hash, err := pool.Hash(ctx, admin.Password)
	if err != nil {
		return "", fmt.Errorf("hash the administrator's password: %w", err)
	}
	// Written first: a password that nobody can read would lock everybody out.
	credentials, err = writeCredentials(admin.BaseDir, admin.Email+" "+written+"\n")
	if err != nil {
		return "", fmt.Errorf("write the administrator's credentials: %w", err)
	}
	err = db.Update(ctx, func(ctx context.Context, tx *store.Tx) error {
		filled, err := tx.HasUsers(ctx)
		if err != nil {
			return err
		}
		if filled { // by another server, meanwhile
			return errFilled
		}
		return tx.Initialize(ctx, store.Initial{
			Roles: admin.Roles, AdminEmail: admin.Email, AdminHash: hash, NoPassword: pool.Unusable,
		})
	})
	if err != nil {
		removed := os.Remove(credentials)
		if errors.Is(err, errFilled) {
			return "", removed
		}
		return "", errors.Join(fmt.Errorf("initialise the database: %w", err), removed)
	}
	return credentials, nil
}

func hasUsers(ctx context.Context, db *store.Store) (filled bool, err error) {
	err = db.View(ctx, func(ctx context.Context, tx *store.Tx) error {
		filled, err = tx.HasUsers(ctx)
		return err
	})
	return filled, err
}

// loginName returns the name of the user that the server runs as.
func loginName() string {
	for _, variable := range []string{"LOGNAME", "USER"} {
		if name := os.Getenv(variable); name != "" {
			return name
		}
	}
	return "admin"
}

// randomText returns n random bytes as unpadded URL-safe base64.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

// writeCredentials writes the credentials file, under a name with the time in
// it when there is one already.
func writeCredentials(dir, text string) (path string, err error) {
	err = os.MkdirAll(dir, 0o700)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, CredentialsFile)
	err = writeNew(path, text, 0o400)
	if errors.Is(err, fs.ErrExist) {
		path += "-" + strconv.FormatInt(time.Now().Unix(), 10)
		err = writeNew(path, text, 0o400)
	}
	return path, err
}

// writeNew writes a file that does not exist yet and flushes it to the disk.
func writeNew(path, text string, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

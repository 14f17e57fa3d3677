package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

// newAPIKey returns a key of a user that is valid for a day.
func newAPIKey(secret string, userID int64) *store.APIKey {
	prefix := "authnz_abcdefgh"
	return &store.APIKey{
		Kind: store.KeySessionless, Digest: token.Sum(secret), ID: store.NewUUID(), Prefix: &prefix, UserID: userID, Role: "authenticated",
		Created: start, Issued: start, Expires: start.Add(24 * time.Hour), NotBefore: start,
		Refresh: store.RefreshToken{Stored: token.Sum("refresh " + secret).String(), Issued: start, Expires: start.Add(48 * time.Hour), NotBefore: start},
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	f, _ := newFile(t)
	u := f.insertUser("u")
	s := f.insertSession("s", u.ID)
	name := "laptop"
	sessionless, ofSession := newAPIKey("a", u.ID), newAPIKey("b", u.ID)
	sessionless.Name, sessionless.Scopes = &name, []string{"view:object", "edit:dataset"}
	ofSession.Kind, ofSession.Session, ofSession.Refresh, ofSession.Prefix = store.KeyOfSession, s.Digest, store.RefreshToken{}, nil
	f.update(func(ctx context.Context, tx *store.Tx) error {
		for _, k := range []*store.APIKey{sessionless, ofSession} {
			err := tx.InsertAPIKey(ctx, k)
			if err != nil {
				return err
			}
		}
		return nil
	})
	text := func(k *store.APIKey) string {
		name, prefix := "", ""
		if k.Name != nil {
			name = *k.Name
		}
		if k.Prefix != nil {
			prefix = *k.Prefix
		}
		return fmt.Sprint(k.Kind, k.Digest, k.ID, name, prefix, k.Scopes, k.Scopes == nil, k.UserID, k.Role, k.Created, k.Issued,
			k.Expires, k.NotBefore, k.LastUsed, k.Session, k.Refresh)
	}
	for _, want := range []*store.APIKey{sessionless, ofSession} {
		for range 2 { // from the file, then from memory
			got, err := f.APIKey(t.Context(), want.Digest)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "key", text(got), text(want))
		}
		f.update(func(ctx context.Context, tx *store.Tx) error {
			byID, err := tx.APIKeyByID(ctx, want.ID)
			if err != nil {
				return err
			}
			equal(t, "key by its id", text(byID), text(want))
			return nil
		})
	}
	keys, err := f.APIKeysOf(t.Context(), u.ID, store.Page{})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "keys of the user", len(keys), 2)
	var paged []*store.APIKey
	for page := (store.Page{Limit: 1}); ; page.After, page.AfterID = paged[len(paged)-1].Created, paged[len(paged)-1].ID {
		more, err := f.APIKeysOf(t.Context(), u.ID, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(more) == 0 {
			break
		}
		paged = append(paged, more...)
	}
	equal(t, "keys of the user by pages", fmt.Sprint(text(paged[0]), len(paged)), fmt.Sprint(text(keys[0]), 2))
	_, err = f.APIKey(t.Context(), token.Sum("nothing"))
	wantErr(t, "unknown key", err, store.ErrNotFound)
	insert := func(k *store.APIKey) error {
		return f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error { return tx.InsertAPIKey(ctx, k) })
	}
	wantErr(t, "the same key", insert(sessionless), store.ErrConflict)
	wantErr(t, "key of nobody", insert(newAPIKey("c", 99)), store.ErrReference)
	orphan := newAPIKey("d", u.ID)
	orphan.Kind, orphan.Session = store.KeyOfSession, token.Sum("no session")
	wantErr(t, "key of no session", insert(orphan), store.ErrReference)
	roleless := newAPIKey("e", u.ID)
	roleless.Role = "no role"
	wantErr(t, "key of no role", insert(roleless), store.ErrReference)
	equal(t, "length of the checksum key", len(f.TokenKey()), 64)
	equal(t, "old keys", f.HasOldKeys(), false)
}

// TestRevokedKeysAreForgotten: every way to delete a key is seen by the very
// next read, although the key was in memory.
func TestRevokedKeysAreForgotten(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	for name, revoke := range map[string]func(ctx context.Context, tx *store.Tx, k *store.APIKey) error{
		"one": func(ctx context.Context, tx *store.Tx, k *store.APIKey) error {
			_, err := tx.DeleteAPIKey(ctx, k)
			return err
		},
		"all of a user": func(ctx context.Context, tx *store.Tx, k *store.APIKey) error {
			_, err := tx.DeleteSessionlessKeysOf(ctx, k.UserID)
			return err
		},
		"replaced": func(ctx context.Context, tx *store.Tx, k *store.APIKey) error {
			next := newAPIKey("next", k.UserID)
			next.ID = k.ID
			return tx.ReplaceAPIKey(ctx, k, next, token.Sum("refresh"), []byte("salt"))
		},
	} {
		u := f.insertUser("user of " + name)
		key := newAPIKey(name, u.ID)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertAPIKey(ctx, key) })
		_, err := f.APIKey(t.Context(), key.Digest)
		wantErr(t, name+": before", err, nil)
		f.update(func(ctx context.Context, tx *store.Tx) error { return revoke(ctx, tx, key) })
		_, err = f.APIKey(t.Context(), key.Digest)
		wantErr(t, name+": after", err, store.ErrNotFound)
		err = f.Update(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			return tx.ReplaceAPIKey(ctx, key, newAPIKey("later", u.ID), token.Sum("r"), nil)
		})
		wantErr(t, name+": replacing what is gone", err, store.ErrConflict)
	}
	// By another process.
	u := f.insertUser("another")
	key := newAPIKey("another", u.ID)
	f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertAPIKey(ctx, key) })
	_, err := f.APIKey(t.Context(), key.Digest)
	wantErr(t, "before", err, nil)
	mustExec(t, rawSQLite(t, path), "DELETE FROM apikeys_nosession WHERE apikey = ?", key.Digest.String())
	f.clock.advance(time.Second)
	_, err = f.APIKey(t.Context(), key.Digest)
	wantErr(t, "deleted by another process", err, store.ErrNotFound)
}

// TestReadersNeverReviveAKey reads a key again and again while it is revoked.
func TestReadersNeverReviveAKey(t *testing.T) {
	t.Parallel()
	f, _ := newFile(t)
	u := f.insertUser("u")
	for round := range 30 {
		key := newAPIKey(fmt.Sprint("key ", round), u.ID)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertAPIKey(ctx, key) })
		ctx, stop := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for ctx.Err() == nil {
					_, _ = f.APIKey(ctx, key.Digest)
				}
			})
		}
		f.update(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteAPIKey(ctx, key)
			return err
		})
		_, err := f.APIKey(t.Context(), key.Digest)
		wantErr(t, "right after", err, store.ErrNotFound)
		stop()
		readers.Wait()
		_, err = f.APIKey(t.Context(), key.Digest)
		wantErr(t, "later", err, store.ErrNotFound)
	}
}

// TestUsesThatCannotBeWritten stay for the next try.
func TestUsesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	f, path := newFile(t)
	u := f.insertUser("u")
	const n = 1200 // more than two batches
	for i := range n {
		key := newAPIKey(fmt.Sprint(i), u.ID)
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.InsertAPIKey(ctx, key) })
		got, err := f.APIKey(t.Context(), key.Digest)
		if err != nil {
			t.Fatal(err)
		}
		f.NoteUse(got)
		f.NoteUse(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := f.FlushUses(ctx)
	if err == nil {
		t.Error("a flush that was cancelled reports success")
	}
	err = f.FlushUses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw := rawSQLite(t, path)
	equal(t, "uses that were written", one[int](t, raw, "SELECT count(*) FROM apikeys_nosession WHERE last_used IS NOT NULL"), n)
	// Nothing is left: a lock of the file does not matter.
	mustExec(t, raw, "UPDATE apikeys_nosession SET last_used = NULL")
	err = f.FlushUses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "uses that were written again", one[int](t, raw, "SELECT count(*) FROM apikeys_nosession WHERE last_used IS NOT NULL"), 0)
}

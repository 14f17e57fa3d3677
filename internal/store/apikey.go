package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/internal/token"
)

// A KeyKind tells whether an API key is tied to a session.
type KeyKind string

// The kinds of API keys.
const (
	KeyOfSession   KeyKind = "session"
	KeySessionless KeyKind = "nosession"
)

// An APIKey is a row of the table apikeys or apikeys_nosession. Keys that a
// Store returned are shared: do not change them.
type APIKey struct {
	Kind   KeyKind
	Digest token.Digest
	// ID is a UUID; a refreshed key keeps it.
	ID string
	// Name is the user's name for the key, nil for none.
	Name *string
	// Prefix is how the token begins, nil for a key of the Python server.
	Prefix *string
	// Scopes are "action:item" texts; nil for no restriction.
	Scopes []string
	UserID int64
	Role   string
	// Created is when the first key with this ID was issued.
	Created   time.Time
	Issued    time.Time
	Expires   time.Time
	NotBefore time.Time
	// LastUsed is zero for a key that was never used; it may lag by an hour.
	LastUsed time.Time
	// Session is the session that a KeyOfSession is tied to.
	Session token.Digest
	// Refresh is set for a KeySessionless.
	Refresh RefreshToken

	lastUse lastUse
	memo    memo
}

// A RefreshToken is what is stored of a refresh token.
type RefreshToken struct {
	// Stored is the token's digest, or of the Python server the PHC string of
	// its Argon2 hash.
	Stored    string
	Issued    time.Time
	Expires   time.Time
	NotBefore time.Time
}

// A keyTable is where keys of one kind are.
type keyTable struct {
	kind    KeyKind
	name    string
	columns string
}

const commonKeyColumns = "apikey, key_id, key_name, key_prefix, scopes, user_id, user_role, issued, expires, not_valid_before, last_used"

var keyTables = [...]keyTable{
	{KeyOfSession, "apikeys", commonKeyColumns + ", issued AS made, session_token, '' AS refresh_token, NULL AS refresh_issued, NULL AS refresh_expires, NULL AS refresh_nbf"},
	{KeySessionless, "apikeys_nosession", commonKeyColumns + ", coalesce(created, issued) AS made, '', refresh_token, refresh_issued, refresh_expires, refresh_nbf"},
}

// keysWhere returns a query for the keys of both kinds, the kind first.
func keysWhere(condition string) string {
	query := ""
	for i, table := range keyTables {
		if i > 0 {
			query += " UNION ALL "
		}
		query += "SELECT '" + string(table.kind) + "' AS kind, " + table.columns + " FROM " + table.name + " WHERE " + condition
	}
	return query
}

func scanKey(row interface{ Scan(dest ...any) error }) (*APIKey, error) {
	var k APIKey
	var digest, session string
	var scopes []byte
	err := row.Scan(&k.Kind, &digest, &k.ID, &k.Name, &k.Prefix, jsonColumn{&scopes}, &k.UserID, &k.Role,
		timeColumn{&k.Issued}, timeColumn{&k.Expires}, timeColumn{&k.NotBefore}, timeColumn{&k.LastUsed}, timeColumn{&k.Created},
		&session, &k.Refresh.Stored, timeColumn{&k.Refresh.Issued}, timeColumn{&k.Refresh.Expires}, timeColumn{&k.Refresh.NotBefore})
	if err != nil {
		return nil, classify(err)
	}
	k.Digest, err = token.ParseDigest(digest)
	if err == nil && k.Kind == KeyOfSession {
		k.Session, err = token.ParseDigest(session)
	}
	if err == nil && scopes != nil {
		err = json.Unmarshal(scopes, &k.Scopes)
	}
	if err != nil {
		return nil, fmt.Errorf("stored key: %w", err)
	}
	k.lastUse.read(k.LastUsed)
	return &k, nil
}

// APIKey returns the key of either kind with this digest, from memory when it
// is there, as fresh as [Store.Session] promises. It may have expired.
func (s *Store) APIKey(ctx context.Context, digest token.Digest) (*APIKey, error) {
	err := s.checkForeignWrites(ctx, s.now())
	if err != nil {
		return nil, err
	}
	return s.apiKey(ctx, digest)
}

func (s *Store) apiKey(ctx context.Context, digest token.Digest) (*APIKey, error) {
	key, err := cached(s.cache, &s.cache.keys, digest, func() (*APIKey, error) {
		return reading(ctx, func(ctx context.Context) (*APIKey, error) {
			text := digest.String()
			return scanKey(s.keyByDigest.QueryRowContext(ctx, text, text))
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read API key: %w", err)
	}
	return key, nil
}

// Remembers reports whether the key with this digest is in memory, so that reading it
// costs no query.
func (s *Store) Remembers(digest token.Digest) bool {
	_, ok := s.cache.keys.rows.GetIfPresent(digest)
	return ok
}

// APIKey returns the key of either kind with this digest. It may have expired.
func (t *Tx) APIKey(ctx context.Context, digest token.Digest) (*APIKey, error) {
	return t.key(ctx, "apikey = ?1", digest.String())
}

// APIKeyByID returns the key of either kind with this public id.
func (t *Tx) APIKeyByID(ctx context.Context, id string) (*APIKey, error) {
	return t.key(ctx, "key_id = ?1", id)
}

func (t *Tx) key(ctx context.Context, condition string, arg any) (*APIKey, error) {
	key, err := scanKey(t.row(ctx, keysWhere(condition), arg))
	if err != nil {
		return nil, fmt.Errorf("read API key: %w", err)
	}
	return key, nil
}

// APIKeysOf returns a page of the keys of a user; all of them where it has no limit.
func (s *Store) APIKeysOf(ctx context.Context, userID int64, page Page) ([]*APIKey, error) {
	query, args := "SELECT * FROM ("+keysWhere("user_id = ?1")+") AS listed", []any{userID}
	if !page.After.IsZero() {
		query += " WHERE made <= ?2 AND (made < ?2 OR key_id > ?3)"
		args = append(args, page.After, page.AfterID)
	}
	query += " ORDER BY made DESC, key_id"
	if page.Limit > 0 {
		query += fmt.Sprintf(" LIMIT ?%d", len(args)+1)
		args = append(args, page.Limit)
	}
	query, args = s.dialect.translate(query, args)
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", classify(err))
	}
	defer rows.Close()
	var keys []*APIKey
	for rows.Next() {
		key, err := scanKey(rows)
		if err != nil {
			return nil, fmt.Errorf("list API keys: %w", err)
		}
		key.LastUsed = s.keyUses.newest(key.Digest, key.LastUsed)
		keys = append(keys, key)
	}
	err = rows.Err()
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", classify(err))
	}
	return keys, nil
}

// InsertAPIKey adds a key. A user, role or session that does not exist is
// ErrReference.
func (t *Tx) InsertAPIKey(ctx context.Context, k *APIKey) error {
	var scopes []byte
	if k.Scopes != nil {
		var err error
		scopes, err = json.Marshal(k.Scopes)
		if err != nil {
			return fmt.Errorf("insert API key: %w", err)
		}
	}
	args := []any{
		k.Digest.String(), k.ID, k.Name, k.Prefix, jsonText(scopes), k.UserID, k.Role,
		k.Issued, k.Expires, k.NotBefore, nullTime(k.LastUsed),
	}
	query := "INSERT INTO apikeys (" + commonKeyColumns + ", session_token) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	if k.Kind == KeySessionless {
		query = "INSERT INTO apikeys_nosession (" + commonKeyColumns +
			", created, refresh_token, refresh_issued, refresh_expires, refresh_nbf) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
		args = append(args, k.Created, k.Refresh.Stored,
			k.Refresh.Issued, k.Refresh.Expires, k.Refresh.NotBefore)
	} else {
		args = append(args, k.Session.String())
	}
	_, err := t.exec(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("insert API key: %w", err)
	}
	return nil
}

// DeleteAPIKey revokes a key, for a session-less one with everything that is
// known about the refresh tokens of its family. It reports whether the key was
// still there.
func (t *Tx) DeleteAPIKey(ctx context.Context, k *APIKey) (bool, error) {
	if k.Kind == KeySessionless {
		_, err := t.exec(ctx, "DELETE FROM refresh_tokens_used WHERE key_id = ?", k.ID)
		if err != nil {
			return false, fmt.Errorf("forget used refresh tokens: %w", err)
		}
	}
	return t.deleteKey(ctx, k)
}

func (t *Tx) deleteKey(ctx context.Context, k *APIKey) (bool, error) {
	table := keyTables[slices.IndexFunc(keyTables[:], func(table keyTable) bool { return table.kind == k.Kind })]
	t.touched.keys = append(t.touched.keys, k.Digest)
	n, err := t.exec(ctx, "DELETE FROM "+table.name+" WHERE apikey = ?", k.Digest.String())
	if err != nil {
		return false, fmt.Errorf("delete API key: %w", err)
	}
	return n > 0, nil
}

// DeleteSessionlessKeysOf revokes all session-less keys of a user and returns
// how many there were.
func (t *Tx) DeleteSessionlessKeysOf(ctx context.Context, userID int64) (int64, error) {
	_, err := t.exec(ctx, "DELETE FROM refresh_tokens_used WHERE user_id = ?", userID)
	if err != nil {
		return 0, fmt.Errorf("forget used refresh tokens: %w", err)
	}
	digests, err := t.deleteDigests(ctx, "apikeys_nosession", "apikey", "user_id = ?", userID)
	if err != nil {
		return 0, fmt.Errorf("delete API keys of user: %w", err)
	}
	t.touched.keys = append(t.touched.keys, digests...)
	return int64(len(digests)), nil
}

// DeleteExpiredKeys deletes up to limit API keys of either kind that expired,
// together with their refresh tokens, before the given moment, and as many
// used refresh tokens and e-mail tokens. It returns how many keys there were,
// and whether there may be more of anything.
func (t *Tx) DeleteExpiredKeys(ctx context.Context, before time.Time, limit int64) (keys int64, more bool, err error) {
	for _, rows := range []struct {
		table     string
		key       []string
		condition string
		args      []any
		isKey     bool
	}{
		{"apikeys", []string{"apikey"}, "expires < ?", []any{before}, true},
		{"apikeys_nosession", []string{"apikey"}, "expires < ? AND refresh_expires < ?", []any{before, before}, true},
		{"refresh_tokens_used", []string{"token_digest"}, "expires < ?", []any{before}, false},
		{"email_tokens", []string{"user_id", "purpose"}, "expires < ?", []any{before}, false},
	} {
		n, err := t.deleteSome(ctx, rows.table, rows.key, rows.condition+" LIMIT ?", append(rows.args, limit)...)
		if err != nil {
			return keys, false, fmt.Errorf("delete expired keys and tokens: %w", err)
		}
		if rows.isKey {
			keys += n
		}
		more = more || n == int64(limit)
	}
	return keys, more, nil
}

// A UsedRefreshToken is what is known of a refresh token that was used.
type UsedRefreshToken struct {
	// Key is the key that was replaced.
	Key token.Digest
	// KeyID names the family.
	KeyID  string
	UserID int64
	// Successor is the key that replaced it.
	Successor token.Digest
	// Salt is what the successor's tokens were derived with.
	Salt []byte
	// Used is when.
	Used time.Time
}

// UsedRefreshToken returns what is known of a refresh token that was used.
func (t *Tx) UsedRefreshToken(ctx context.Context, digest token.Digest) (*UsedRefreshToken, error) {
	var u UsedRefreshToken
	var key, successor, salt string
	err := t.row(ctx, `SELECT apikey, key_id, user_id, successor, salt, used
		FROM refresh_tokens_used WHERE token_digest = ?`, digest.String()).
		Scan(&key, &u.KeyID, &u.UserID, &successor, &salt, timeColumn{&u.Used})
	if err != nil {
		return nil, fmt.Errorf("read used refresh token: %w", classify(err))
	}
	u.Key, err = token.ParseDigest(key)
	if err == nil {
		u.Successor, err = token.ParseDigest(successor)
	}
	if err == nil {
		u.Salt, err = hex.DecodeString(salt)
	}
	if err != nil {
		return nil, fmt.Errorf("read used refresh token: %w", err)
	}
	return &u, nil
}

// ReplaceAPIKey puts next in the place of the session-less key old, and
// remembers that old's refresh token was used. When old is not there any more,
// that is ErrConflict.
func (t *Tx) ReplaceAPIKey(ctx context.Context, old, next *APIKey, refresh token.Digest, salt []byte) error {
	found, err := t.deleteKey(ctx, old)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("replace API key: %w", ErrConflict)
	}
	_, err = t.exec(ctx, `INSERT INTO refresh_tokens_used (token_digest, apikey, key_id, user_id, successor, salt, used, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, refresh.String(), old.Digest.String(), old.ID, old.UserID, next.Digest.String(),
		hex.EncodeToString(salt), t.now, old.Refresh.Expires)
	if err != nil {
		return fmt.Errorf("remember used refresh token: %w", err)
	}
	return t.InsertAPIKey(ctx, next)
}

// hasOldKeys reports whether any key still has a token of the old form.
func (s *Store) hasOldKeys(ctx context.Context) (bool, error) {
	var old bool
	query, _ := s.dialect.translate(`SELECT EXISTS (SELECT 1 FROM apikeys WHERE key_prefix IS NULL)
		OR EXISTS (SELECT 1 FROM apikeys_nosession WHERE key_prefix IS NULL)`, nil)
	err := s.reader.QueryRowContext(ctx, query).Scan(&old)
	if err != nil {
		return false, fmt.Errorf("look for old API keys: %w", classify(err))
	}
	return old, nil
}

// HasOldKeys reports whether there were keys with tokens of the Python
// server's form when the database was opened. Nobody makes new ones.
func (s *Store) HasOldKeys() bool { return s.oldKeys }

// TokenKey returns the key of the checksums in tokens, which the database has
// had since it was made or adopted.
func (s *Store) TokenKey() []byte { return s.tokenKey }

// prepareKeys reads what the store must know about keys and tokens.
func (s *Store) prepareKeys(ctx context.Context) error {
	var err error
	s.keyByDigest, err = s.prepare(ctx, keysWhere("apikey = ?"), "", "") // one for each kind
	if err != nil {
		return classify(err)
	}
	s.oldKeys, err = s.hasOldKeys(ctx)
	if err != nil {
		return err
	}
	return s.readTokenKey(ctx)
}

// readTokenKey reads the key of the checksums in tokens, and makes one when there
// is none, which is on other databases than SQLite.
func (s *Store) readTokenKey(ctx context.Context) error {
	const query = "SELECT key_hex FROM token_checksum_key"
	var key string
	err := classify(s.reader.QueryRowContext(ctx, query).Scan(&key))
	if errors.Is(err, ErrNotFound) {
		err = s.Update(ctx, func(ctx context.Context, tx *Tx) error {
			err := classify(tx.row(ctx, query).Scan(&key))
			if !errors.Is(err, ErrNotFound) {
				return err // another node was faster
			}
			var random [32]byte
			_, _ = rand.Read(random[:]) // crypto/rand never fails since Go 1.24
			key = hex.EncodeToString(random[:])
			_, err = tx.exec(ctx, "INSERT INTO token_checksum_key (only_row, key_hex) VALUES (1, ?)", key)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("read the key of token checksums: %w", err)
	}
	s.tokenKey = []byte(key)
	return nil
}

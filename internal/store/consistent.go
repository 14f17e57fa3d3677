package store

import (
	"context"
	"time"

	"authnzerver/internal/token"
)

// Rows reads rows one after the other. Errors are those of the methods of [Store] with the
// same names.
type Rows interface {
	Session(ctx context.Context, digest token.Digest) (*Session, *User, error)
	APIKey(ctx context.Context, digest token.Digest) (*APIKey, error)
	User(ctx context.Context, id int64) (*User, error)
}

// consistentTries is how often rows are read from memory before they are read from the
// database. Few changes fall into the microseconds of one try.
const consistentTries = 5

// Consistently calls fn with rows that all belong to one state of the database: no change
// that this process acknowledged lies between two of them. Of a change by another process
// a part may be seen before the rest, for as long as it may be overlooked; see
// [Store.Session].
//
// Rows come from memory when they are there. When something was changed while fn ran, it
// runs again, and in the end in one transaction that only reads. So fn must have no effect
// but on its result.
func (s *Store) Consistently(ctx context.Context, fn func(context.Context, Rows) error) error {
	for range consistentTries {
		before := s.cache.state()
		rows, err := s.Fresh(ctx)
		if err != nil {
			return err
		}
		err = fn(ctx, rows)
		if before.same(s.cache.state()) {
			return err
		}
	}
	return s.View(ctx, func(ctx context.Context, tx *Tx) error { return fn(ctx, snapshot{tx}) })
}

// Fresh returns the rows as they are now: it has looked whether another process has
// changed any, so that not each of them has to. It is for the time of one request.
func (s *Store) Fresh(ctx context.Context) (Rows, error) {
	now := s.now()
	err := s.checkForeignWrites(ctx, now)
	return fresh{s, now}, err
}

// fresh reads rows from memory when they are there.
type fresh struct {
	store *Store
	now   time.Time
}

func (r fresh) Session(ctx context.Context, digest token.Digest) (*Session, *User, error) {
	return r.store.session(ctx, digest, r.now)
}

func (r fresh) APIKey(ctx context.Context, digest token.Digest) (*APIKey, error) {
	return r.store.apiKey(ctx, digest)
}

func (r fresh) User(ctx context.Context, id int64) (*User, error) { return r.store.user(ctx, id) }

// A snapshot reads rows in a transaction.
type snapshot struct{ tx *Tx }

func (r snapshot) Session(ctx context.Context, digest token.Digest) (*Session, *User, error) {
	session, err := r.tx.Session(ctx, digest)
	if err != nil {
		return nil, nil, err
	}
	user, err := r.tx.User(ctx, session.UserID)
	return session, user, err
}

func (r snapshot) APIKey(ctx context.Context, digest token.Digest) (*APIKey, error) {
	return r.tx.APIKey(ctx, digest)
}

func (r snapshot) User(ctx context.Context, id int64) (*User, error) { return r.tx.User(ctx, id) }

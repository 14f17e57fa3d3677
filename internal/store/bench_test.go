package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
)

func BenchmarkSessionCached(b *testing.B) {
	f, _ := newFile(b)
	s := f.insertSession("s", 2)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _, err := f.Session(context.Background(), s.Digest)
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// Each session is read once from a store whose memory is empty.
func BenchmarkSessionUncached(b *testing.B) {
	const sessions = 10_000
	f, path := newFile(b)
	digests := make([]token.Digest, sessions)
	f.update(func(ctx context.Context, tx *store.Tx) error {
		var errs []error
		for i := range digests {
			s := newSession(fmt.Sprint(i), 2, tx.Now())
			digests[i] = s.Digest
			errs = append(errs, tx.InsertSession(ctx, s))
		}
		return errors.Join(errs...)
	})
	b.ReportAllocs()
	i := sessions
	var s *store.Store
	for b.Loop() {
		if i == sessions {
			b.StopTimer()
			if s != nil {
				s.Close()
			}
			var err error
			s, err = store.Open(b.Context(), store.Options{URL: sqliteURL(path), NormalizeEmail: strings.ToLower, Now: f.clock.Now})
			if err != nil {
				b.Fatal(err)
			}
			i = 0
			b.StartTimer()
		}
		_, _, err := s.Session(b.Context(), digests[i])
		if err != nil {
			b.Fatal(err)
		}
		i++
	}
	s.Close()
}

func BenchmarkInsertSession(b *testing.B) {
	f, _ := newFile(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.insertSession(fmt.Sprint(i), 2)
	}
}

func BenchmarkUpdateUser(b *testing.B) {
	f, _ := newFile(b)
	u := f.insertUser("u")
	b.ReportAllocs()
	for b.Loop() {
		f.update(func(ctx context.Context, tx *store.Tx) error { return tx.UpdateUser(ctx, u) })
	}
}

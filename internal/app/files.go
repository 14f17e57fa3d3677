package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// lookEvery is how often files are looked at that may be replaced. They are read anew
// when they have been left alone for as long, so that half-written ones are not.
const lookEvery = time.Second

// look returns how files are now.
func look(paths ...string) ([]fs.FileInfo, error) {
	found := make([]fs.FileInfo, len(paths))
	for i, path := range paths {
		var err error
		found[i], err = os.Stat(path)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// same reports whether two looks at files saw the same versions of them.
func same(a, b []fs.FileInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// watchFiles calls reload whenever one of the files has another version than loaded, which
// is how they were when they were read, until ctx ends. When reload returns false it is
// called again although nothing changes. A file that cannot be looked at is told to
// missing, and all are read when it is back.
func watchFiles(ctx context.Context, paths []string, loaded []fs.FileInfo, missing func(error), reload func(context.Context) (done bool)) {
	seen := loaded
	ticks := time.NewTicker(lookEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		now, err := look(paths...)
		if err != nil {
			missing(err)
			seen, loaded = nil, nil
			continue
		}
		quiet := same(now, seen)
		seen = now
		if !quiet || same(now, loaded) {
			continue
		}
		loaded = now
		if !reload(ctx) {
			loaded = nil
		}
	}
}

// A certificateFile is the certificate in force and the files that it came from. New ones
// that do not belong together, or cannot be read, are refused; the one before stays in
// force.
type certificateFile struct {
	cert, key string
	log       *slog.Logger

	inForce atomic.Pointer[tls.Certificate]
	loaded  []fs.FileInfo
	last    string // why it was refused last
}

// openCertificate reads a certificate and its key. The error says in what.
func openCertificate(cert, key string, log *slog.Logger) (*certificateFile, error) {
	f := &certificateFile{cert: cert, key: key, log: log}
	var err error
	f.loaded, err = look(cert, key)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	f.inForce.Store(&certificate)
	return f, nil
}

// config returns what listens with the certificate in force.
func (f *certificateFile) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.inForce.Load(), nil },
	}
}

// expires returns when the certificate in force ends.
func (f *certificateFile) expires() time.Time { return f.inForce.Load().Leaf.NotAfter }

// watch reads the certificate whenever its files change, until ctx ends.
func (f *certificateFile) watch(ctx context.Context) {
	if f == nil {
		return
	}
	watchFiles(ctx, []string{f.cert, f.key}, f.loaded, f.refuse, func(context.Context) bool {
		certificate, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			f.refuse(fmt.Errorf("%s and %s: %w", f.cert, f.key, err))
			return true
		}
		f.inForce.Store(&certificate)
		f.last = ""
		f.log.Info("the certificate was reloaded", "file", f.cert, "expires", f.expires().UTC().Format(time.RFC3339))
		return true
	})
}

// refuse keeps the certificate in force, and says so once for each reason.
func (f *certificateFile) refuse(err error) {
	if f.last != err.Error() {
		f.last = err.Error()
		f.log.Error("the certificate was not reloaded; the one before stays in force", "error", err)
	}
}

package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"authnzerver/internal/config"
	"authnzerver/internal/dispatch"
	"authnzerver/internal/event"
	"authnzerver/internal/limit"
	"authnzerver/internal/limitstore"
	"authnzerver/internal/wire"
)

// saveLimitsEvery is how often the limits are saved: as much is forgotten by a
// crash.
const saveLimitsEvery = 30 * time.Second

// makeLimits returns the limits of requests, nil when there are none. They go on
// where the last run left off.
func (a *App) makeLimits() (*dispatch.Limits, error) {
	a.limiter = limit.NewLimiter(0, limit.Clock())
	a.loadLimits()
	if a.cfg.RateLimits.Off {
		return nil, nil
	}
	limits, err := dispatch.NewLimits(&a.cfg.RateLimits, a.keys, a.spend)
	if err != nil {
		return nil, &config.Error{Option: "ratelimits", Code: config.CodeInvalid, Message: err.Error()}
	}
	return limits, nil
}

// openStore connects to the store that nodes share, if there is one.
func (a *App) openStore(ctx context.Context) error {
	if a.cfg.LimitStore == "" {
		return nil
	}
	shared, err := limitstore.Open(ctx, limitstore.Options{URL: a.cfg.LimitStore, Log: a.log})
	if err != nil {
		return &config.Error{Option: "limitstore", Code: config.CodeInvalid, Message: err.Error()}
	}
	a.shared = shared
	return nil
}

// spend charges a call: here, and if there is a store that nodes share, there. What
// is refused here would be there, too, and while the store cannot be used the
// count here goes on alone. For each, see [limit.Limiter.Spend].
func (a *App) spend(ctx context.Context, each []limit.Decision, charges ...limit.Charge) limit.Decision {
	decision := a.limiter.Spend(each, charges...)
	if a.shared == nil || !decision.Allowed {
		return decision
	}
	shared, err := a.shared.Spend(context.WithoutCancel(ctx), each, charges...)
	if err != nil {
		if !errors.Is(err, limitstore.ErrDown) { // which the store itself logs
			event.From(ctx).Fault(err)
		}
		return decision
	}
	if !shared.Allowed {
		a.limiter.Refund(charges...)
	}
	return shared
}

// accept lets a message through once, on all nodes if they share a store. While
// that cannot be used, the window of this node goes on alone.
func (a *App) accept(ctx context.Context, m *wire.Message, now time.Time) error {
	err := a.replay.Accept(m, now)
	if err != nil || a.shared == nil || a.cfg.MessageTTL == 0 {
		return err
	}
	// It is too old everywhere when it is forgotten there.
	first, err := a.shared.FirstSight(context.WithoutCancel(ctx), m.ID, a.cfg.MessageTTL+2*time.Minute)
	if err == nil && !first {
		return &wire.ReplayError{Err: wire.ErrReplayed, Skew: now.Truncate(time.Second).Sub(m.Time)}
	}
	return nil
}

// storeProblem says why the store that nodes share cannot be used.
func (a *App) storeProblem() error {
	if a.shared == nil {
		return nil
	}
	return a.shared.Err()
}

func (a *App) limitsPath() string { return filepath.Join(a.cfg.CacheDir, "limits") }

// loadLimits reads what the last run counted. Without it everybody begins with a
// full allowance, which is no reason not to start.
func (a *App) loadLimits() {
	if a.cfg.CacheDir == "" {
		return
	}
	text, err := os.ReadFile(a.limitsPath())
	if err == nil {
		err = a.limiter.Load(bytes.NewReader(text))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Warn("what the last run counted for the limits cannot be read; the count begins anew", "error", err)
	}
}

func (a *App) saveLimits() error {
	if a.cfg.CacheDir == "" {
		return nil
	}
	var text bytes.Buffer
	err := a.limiter.Save(&text)
	if err == nil {
		err = replaceFile(a.limitsPath(), text.Bytes())
	}
	if err != nil {
		return fmt.Errorf("save the limits: %w", err)
	}
	return nil
}

// saveLimitsOften saves the limits now and then, so that a crash does not reset
// them.
func (a *App) saveLimitsOften(ctx context.Context) {
	ticker := time.NewTicker(saveLimitsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := a.saveLimits()
		if err != nil {
			a.log.Error("what was counted for the limits could not be saved", "error", err)
		}
	}
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, text []byte) error {
	temporary := path + ".new"
	err := os.WriteFile(temporary, text, 0o600)
	if err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

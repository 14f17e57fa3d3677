package app

import (
	"context"
	"errors"
	"time"

	"authnzerver/internal/config"
	"authnzerver/internal/webhook"
)

// openWebhook returns what sends events, nil when the configuration has no webhook.
// Errors are [*config.Error].
func openWebhook(cfg *config.Config) (func(ctx context.Context, id string, body []byte) error, error) {
	if cfg.WebhookURL == "" {
		return nil, nil
	}
	secrets, err := webhook.ParseSecrets(cfg.WebhookSecret)
	if err != nil {
		err = &config.Error{Option: "webhooksecret", Code: config.CodeInvalid, Message: err.Error()}
	}
	if wrong := webhook.CheckURL(cfg.WebhookURL); wrong != nil {
		err = errors.Join(&config.Error{Option: "webhookurl", Code: config.CodeInvalid, Message: wrong.Error()}, err)
	}
	if err != nil {
		return nil, err
	}
	sender, err := webhook.New(cfg.WebhookURL, secrets)
	if err != nil {
		return nil, err
	}
	return sender.Send, nil
}

// noteQueued wakes up who sends what the database has queued.
func (a *App) noteQueued() {
	for _, wake := range []chan struct{}{a.notices, a.events} {
		select {
		case wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// queueRetry is how long sending pauses when the database fails.
const queueRetry = 10 * time.Second

// otherNodes is how often a node looks for events that another one has written and could
// not send, because it was stopped or died.
const otherNodes = 30 * time.Second

// sendNotices sends the messages that the server sends on its own, each when its
// turn comes. While there is none, it waits without asking the database.
func (a *App) sendNotices(ctx context.Context) {
	a.work(ctx, a.notices, 0, "notices", a.actions.SendNotice)
}

// sendEvents sends events to the webhook, if there is one.
func (a *App) sendEvents(ctx context.Context) {
	if a.actions.SendEvent != nil {
		a.work(ctx, a.events, otherNodes, "events", a.actions.SendNextEvent)
	}
}

// work does the next piece of work of a queue, again and again. It returns when the
// one after it has its turn, the zero time when there is none: then work waits until it
// is woken up, and no longer than idle unless that is 0.
func (a *App) work(ctx context.Context, wake <-chan struct{}, idle time.Duration, name string, do func(context.Context) (time.Time, error)) {
	for {
		next, err := do(ctx)
		if err != nil && ctx.Err() == nil {
			a.log.Error("something queued could not be sent; it is tried again unless the error says otherwise", "queue", name, "error", err)
		}
		if err != nil || !next.IsZero() && !next.After(a.now()) { // else there was nothing to do
			a.observed.queue(name, err)
		}
		var turn <-chan time.Time
		switch {
		case err != nil && next.IsZero(): // the database
			turn = time.After(queueRetry)
		case !next.IsZero():
			turn = time.After(next.Sub(a.now()))
		case idle != 0:
			turn = time.After(idle)
		}
		select {
		case <-ctx.Done():
			return
		case <-turn:
		case <-wake:
		}
	}
}

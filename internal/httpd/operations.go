package httpd

import (
	"context"
	"net/http"
	"time"

	"authnzerver/internal/event"
)

// live answers GET /health/live: the process answers. What it needs beside itself is no
// reason to start it anew.
func (h *Handler) live(ctx context.Context, w http.ResponseWriter, _ *http.Request) int {
	event.From(ctx).Routine = true
	return write(w, http.StatusOK, plainText, []byte("live\n"))
}

// ready answers GET /health/ready: requests can be sent here.
func (h *Handler) ready(ctx context.Context, w http.ResponseWriter, _ *http.Request) int {
	record := event.From(ctx)
	record.Routine = true
	select {
	case <-h.stopping:
		record.Refused = "stopping"
		return write(w, http.StatusServiceUnavailable, plainText, []byte("not ready: the server is stopping\n"))
	default:
	}
	err := h.Health(ctx).Err
	if err != nil {
		record.Refused = "database"
		record.Fault(err)
		return write(w, http.StatusServiceUnavailable, plainText, []byte("not ready: the database cannot be used\n"))
	}
	return write(w, http.StatusOK, plainText, []byte("ready\n"))
}

// Operations returns an HTTP server for those who operate this one: with metrics, and
// the states of health. It looks at no Host header, holds no secrets and no personal data,
// and takes nothing that changes anything. Requests to it are logged only when they fail.
func (h *Handler) Operations(metrics http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	for path, answer := range map[string]func(context.Context, http.ResponseWriter, *http.Request) int{
		"/health": h.health, "/health/live": h.live, "/health/ready": h.ready,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			record := &event.Record{Started: time.Now(), Peer: peerOf(r).String()}
			ctx, cancel := context.WithDeadline(event.NewContext(r.Context(), record), record.Started.Add(requestTime))
			defer cancel()
			record.Status = answer(ctx, w, r)
			record.Log(ctx, h.Log, h.Hasher, h.Sampler)
		})
	}
	return h.bounded(mux)
}

//go:build linux

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/internal/httpd"
	"authnzerver/internal/wire"
)

// emptyCommand is the first argument that makes this program the empty handler.
const emptyCommand = "empty"

// An emptyHandler answers every POST with the same text. It reads the body,
// opens the envelope and seals the text, and does nothing else: no window of
// seen messages, no JSON, no log, no deadline. It may make a query, to be compared
// with.
type emptyHandler struct {
	keys  *wire.KeyRing
	reply []byte
	// query, when not nil, is made for each request.
	query *querier
}

// buffers are what one request needs.
type buffers struct {
	body   bytes.Buffer
	sealed []byte
}

var spare = sync.Pool{New: func() any { return new(buffers) }}

// ServeHTTP implements http.Handler.
func (h *emptyHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // is it up?
		return
	}
	b := spare.Get().(*buffers)
	defer spare.Put(b)
	b.body.Reset()
	_, err := b.body.ReadFrom(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	message, err := h.keys.Open(b.body.Bytes())
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if h.query != nil {
		var request struct {
			Body struct {
				Token string `json:"session_token"`
			} `json:"body"`
		}
		err = json.Unmarshal(message.Plaintext, &request)
		if err == nil {
			err = h.query.ask(r.Context(), request.Body.Token)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	b.sealed = h.keys.AppendSeal(b.sealed[:0], h.reply, message.Key, time.Now())
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(b.sealed)))
	_, _ = w.Write(b.sealed)
}

// serveEmpty serves the empty handler, with the settings of the real server,
// until ctx ends.
func serveEmpty(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(emptyCommand, flag.ExitOnError)
	address := flags.String("address", "", "where to listen")
	secret := flags.String("secret", "", "the file of the key")
	reply := flags.String("reply", "", "the file of the text to answer with")
	database := flags.String("database", "", "the URL of the database to look a session up in for each request; none without it")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*secret)
	if err != nil {
		return err
	}
	keys, err := wire.ParseKeys(string(text))
	if err != nil {
		return err
	}
	h := &emptyHandler{keys: keys}
	h.reply, err = os.ReadFile(*reply)
	if err != nil {
		return err
	}
	if *database != "" {
		h.query, err = newQuerier(ctx, *database)
		if err != nil {
			return err
		}
	}
	server := httpd.New(httpd.Options{Log: slog.New(slog.DiscardHandler)}).Server()
	server.Handler = h
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return fmt.Errorf("empty handler: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	err = server.Serve(listener)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

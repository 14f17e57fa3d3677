package httpd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"authnzerver/internal/event"
	"authnzerver/internal/wire"
)

// longTime bounds sending a reply that does not fit into memory. Longer, and the
// database would have to keep too much for it.
const longTime = time.Minute

// A longReply sends a reply while it is made. It implements [dispatch.LongReply].
type longReply struct {
	handler *Handler
	ctx     context.Context // of the request, as long as this
	w       http.ResponseWriter
	key     int
	sealer  *wire.Sealer
	// lost is why the client could not be sent more.
	lost error
}

// Begin begins the answer. Its length is not known yet.
func (l *longReply) Begin() (io.Writer, error) {
	record := event.From(l.ctx)
	record.Status = http.StatusOK
	record.Add(slog.Bool("long", true))
	// Only a writer that is no connection, as tests have, cannot be given the
	// time; it needs none.
	_ = http.NewResponseController(l.w).SetWriteDeadline(l.handler.Now().Add(longTime))
	setHeader(l.w, plainText)
	l.w.WriteHeader(http.StatusOK)
	var err error
	l.sealer, err = l.handler.Keys.NewSealer(toClient{l}, l.key, l.handler.Now())
	return l.sealer, err
}

// end ends the answer. With an error it is cut off: its reader finds that it is not
// whole, and that nobody has signed it.
func (l *longReply) end(err error) {
	if err == nil {
		err = l.sealer.Close()
	}
	switch {
	case err == nil:
		return
	case l.lost != nil:
		event.From(l.ctx).Add(slog.String("cut", "the client has gone, or did not take the reply in time"))
	default:
		event.From(l.ctx).Fault(fmt.Errorf("a long reply was cut off: %w", err))
	}
	panic(http.ErrAbortHandler)
}

// toClient writes to the client.
type toClient struct{ *longReply }

// Write implements io.Writer.
func (c toClient) Write(data []byte) (int, error) {
	n, err := c.w.Write(data)
	if err != nil {
		c.lost = err
	}
	return n, err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"authnzerver/api"
	"authnzerver/internal/action"
	"authnzerver/internal/config"
	"authnzerver/internal/store"
)

// An eventsCommand is what an operator does with the event log.
type eventsCommand struct {
	Tail  eventsTailCommand  `cmd:"" help:"Print the newest entries of the event log, and with --follow those that come."`
	Prune eventsPruneCommand `cmd:"" help:"Delete old entries of the event log, also while the server runs."`
	Kinds eventsKindsCommand `cmd:"" help:"List the kinds of events."`
}

// setFlags gives the commands the options of the server.
func (c *eventsCommand) setFlags() {
	for _, one := range []*dbFlags{&c.Tail.dbFlags, &c.Prune.dbFlags} {
		one.flags = config.NewFlags(dbOptions...)
		one.Plugins = one.flags.Plugins()
	}
}

// open opens the event log of the server's database.
func (f *dbFlags) openEvents(ctx context.Context) (*store.EventLog, error) {
	url, err := f.url()
	if err != nil {
		return nil, err
	}
	return store.OpenEventLog(ctx, url)
}

// An eventsTailCommand prints events.
type eventsTailCommand struct {
	dbFlags

	Lines  int64  `short:"n" default:"10" help:"How many to begin with."`
	Follow bool   `short:"f" help:"Go on with those that come, until the command is interrupted."`
	User   int64  `help:"Only those about the user with this id."`
	Kind   string `help:"Only those of this kind; see authnzrv events kinds." placeholder:"KIND"`
	JSON   bool   `name:"json" help:"Print one JSON object a line."`
}

// lookEvery is how often a follower looks for events.
const lookEvery = 500 * time.Millisecond

// Run implements the command.
func (c *eventsTailCommand) Run(ctx context.Context, p *process) (err error) {
	if c.Lines < 0 {
		return errors.New("--lines must be 0 or more")
	}
	if _, known := api.EventKind(c.Kind).Info(); c.Kind != "" && !known {
		return fmt.Errorf("there is no kind of event %q; see authnzrv events kinds", c.Kind)
	}
	log, err := c.openEvents(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	events, err := log.Last(ctx, store.EventQuery{UserID: c.User, Kind: c.Kind, Limit: c.Lines})
	for err == nil {
		err = c.print(p.stdout, events)
		if err != nil || !c.Follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
		events, err = log.New(ctx)
	}
	if ctx.Err() != nil {
		return nil // interrupted while it looked
	}
	return err
}

func (c *eventsTailCommand) print(out io.Writer, events []store.Event) error {
	for i := range events {
		e := &events[i]
		if c.User != 0 && e.UserID != c.User || c.Kind != "" && e.Kind != c.Kind {
			continue
		}
		text := eventLine(e)
		if c.JSON {
			line, err := json.Marshal(action.EventInfo(e))
			if err != nil {
				return fmt.Errorf("print event %d: %w", e.ID, err)
			}
			text = string(line)
		}
		_, err := io.WriteString(out, text+"\n")
		if err != nil {
			return err
		}
	}
	return nil
}

// eventLine shows an event in a line for people to read.
func eventLine(e *store.Event) string {
	info := action.EventInfo(e)
	id := func(name string, id *int64) string {
		if id == nil {
			return ""
		}
		return name + "=" + strconv.FormatInt(*id, 10)
	}
	parts := []string{
		e.Occurred.UTC().Format("2006-01-02T15:04:05.000Z"), strconv.FormatInt(e.ID, 10), e.Kind,
		id("user", info.UserID), id("by", info.ActorID), e.Request, e.IPAddress,
	}
	if e.UserAgent != "" {
		parts = append(parts, strconv.Quote(info.Device))
	}
	parts = append(parts, string(info.Details))
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " ")
}

// An eventsPruneCommand deletes old events.
type eventsPruneCommand struct {
	dbFlags

	OlderThan string `required:"" help:"How old the newest of them is: days, hours or minutes, such as 90d, 36h or 30m." placeholder:"AGE"`
}

// Run implements the command.
func (c *eventsPruneCommand) Run(ctx context.Context, p *process) (err error) {
	age, err := parseAge(c.OlderThan)
	if err != nil {
		return fmt.Errorf("--older-than: %w", err)
	}
	log, err := c.openEvents(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	n, err := log.Prune(ctx, time.Now().Add(-age))
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted after %d events were deleted; the same command goes on from here", n)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%d events were deleted\n", n)
	return err
}

// maxAgeDays bounds an age, to what a Duration holds.
const maxAgeDays = 36500

// parseAge reads a number of days, hours or minutes: 90d, 36h, 30m.
func parseAge(text string) (time.Duration, error) {
	for unit, of := range map[string]time.Duration{"d": 24 * time.Hour, "h": time.Hour, "m": time.Minute} {
		digits, ok := strings.CutSuffix(text, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n > uint64(maxAgeDays*24*time.Hour/of) {
			break
		}
		return time.Duration(n) * of, nil
	}
	return 0, fmt.Errorf("%q is not a number of days, hours or minutes such as 90d, 36h or 30m", text)
}

// An eventsKindsCommand lists the kinds of events.
type eventsKindsCommand struct{}

// Run implements the command.
func (c *eventsKindsCommand) Run(p *process) error {
	for _, kind := range api.EventKinds() {
		_, err := fmt.Fprintf(p.stdout, "%-24s %s\n", kind.Kind, kind.About)
		if err != nil {
			return err
		}
	}
	return nil
}

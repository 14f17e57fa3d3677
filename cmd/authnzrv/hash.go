package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"authnzerver/internal/hashproc"
	"authnzerver/internal/memory"
)

// hashCommandName is what a server starts itself with for its hashes.
const hashCommandName = "hash-worker"

// A hashCommand is what the server runs beside itself; see package hashproc.
type hashCommand struct{}

// Run implements the command.
func (*hashCommand) Run(ctx context.Context, p *process) error {
	// What stops the server may be sent to all of its processes. This one must
	// be there until the last request has ended.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := hashproc.LowerPriority()
	if err != nil {
		fmt.Fprintln(p.stderr, "authnzrv: password hashes take their time from all other requests:", err)
	}
	go memory.FreeWhenIdle(ctx)
	return hashproc.Serve(p.stdin, os.Stdout)
}

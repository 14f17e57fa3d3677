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

// hashProcessName is what lists of processes call it; Linux has 15 bytes for it.
const hashProcessName = "authnzrv-hashes"

// A hashCommand is what the server runs beside itself; see package hashproc.
type hashCommand struct{}

// Run implements the command.
func (*hashCommand) Run(ctx context.Context, p *process) error {
	// What stops the server may be sent to all of its processes. This one must
	// be there until the last request has ended.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// It was started by another name than that of the program's file. Where
	// there is no such file, it keeps that name.
	_ = os.WriteFile("/proc/self/comm", []byte(hashProcessName), 0)
	err := hashproc.LowerPriority()
	if err != nil {
		fmt.Fprintln(p.stderr, "authnzrv: password hashes take their time from all other requests:", err)
	}
	go memory.FreeWhenIdle(ctx)
	return hashproc.Serve(p.stdin, os.Stdout)
}

//go:build linux

// Bench measures a built server and prints one table: the throughput of its
// requests as a share of what an empty handler reaches in the same run, its
// memory, and how long it takes to start. It ends with status 1 when a required
// figure is missed. docs/performance.md says what each row means.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpus is how many CPUs the servers and the generator of the load share.
const cpus = 2

// A plan is what to measure and for how long.
type plan struct {
	server      string
	rounds      int
	duration    time.Duration
	connections int
	stepTime    time.Duration
	only        string
	requests    string
	databases   string
	users       int
	json        string
}

// The parts that can be measured alone.
const (
	partRequests = "requests"
	partFigures  = "figures"
	partOverload = "overload"
	partSizes    = "sizes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	// The empty handler is this program in a process of its own.
	if len(args) > 0 && args[0] == emptyCommand {
		return serveEmpty(ctx, args[1:])
	}
	var p plan
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.StringVar(&p.server, "server", "bin/authnzrv", "the built server")
	flags.IntVar(&p.rounds, "rounds", 15, "how often each request is measured, in turns with the empty handler")
	flags.DurationVar(&p.duration, "duration", 500*time.Millisecond, "how long one round lasts for each of the two")
	flags.IntVar(&p.connections, "connections", 64, "how many keep-alive connections send requests, each one after the other")
	flags.DurationVar(&p.stepTime, "step", 15*time.Second, "how long each rate of logins is offered")
	flags.StringVar(&p.only, "only", "", "requests, figures or overload, to measure nothing else; or sizes, to compare a large database with a small one")
	flags.StringVar(&p.requests, "requests", "", "the names of the requests to measure, all if empty")
	flags.StringVar(&p.databases, "databases", "sqlite,postgresql", "the kinds of the databases whose sizes are compared")
	flags.IntVar(&p.users, "users", largeSize, "how many users the large one has")
	flags.StringVar(&p.json, "json", "", "a file for the results, as JSON")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	if flags.NArg() > 0 || p.rounds < 1 || p.duration <= 0 || p.connections < 1 {
		return errors.New("rounds, duration and connections must be positive, and nothing else is expected; see -help")
	}
	if p.stepTime <= warmUp {
		return fmt.Errorf("a step must take longer than %v", warmUp)
	}
	if !slices.Contains([]string{"", partRequests, partFigures, partOverload, partSizes}, p.only) {
		return fmt.Errorf("there is no part %q, only %s, %s, %s and %s", p.only, partRequests, partFigures, partOverload, partSizes)
	}
	if p.users < smallSize {
		return fmt.Errorf("a large database has %d users or more", smallSize)
	}
	_, err = os.Stat(p.server)
	if err != nil {
		return fmt.Errorf("make build makes the server: %w", err)
	}
	err = shareCPUs()
	if err != nil {
		return err
	}
	return p.measure(ctx)
}

// shareCPUs confines the process, and so those that it starts, to as many CPUs
// as the figures are about. Threads that run already keep their CPUs, so the
// program starts again.
func shareCPUs() error {
	switch n := runtime.NumCPU(); {
	case n == cpus:
		return nil
	case n < cpus:
		return fmt.Errorf("the figures are about %d CPUs; there is only %d", cpus, n)
	}
	var all, some unix.CPUSet
	err := unix.SchedGetaffinity(0, &all)
	if err != nil {
		return fmt.Errorf("read the CPUs: %w", err)
	}
	for cpu := 0; some.Count() < cpus; cpu++ {
		if all.IsSet(cpu) {
			some.Set(cpu)
		}
	}
	runtime.LockOSThread()
	err = unix.SchedSetaffinity(0, &some)
	if err != nil {
		return fmt.Errorf("choose the CPUs: %w", err)
	}
	err = unix.Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("start again: %w", err)
}

//go:build linux

// Scorecard measures what the project promises about attacks and faults, one figure at a
// time, each with a control that must fail. It prints a JSON object a line, appends it to a
// file when it is given one, and ends with status 1 when a figure misses its target.
// docs/scorecard.md has the results.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"authnzerver/test/figures"
)

// A measurement finds out a figure, or several of a group.
type measurement struct {
	name    string
	measure func(context.Context, *card) error
}

// measurements are all there are. Those of a group have its name and a colon before their own.
func measurements() []measurement {
	all := []measurement{{"comparison", comparison}}
	for _, p := range probes() {
		all = append(all, measurement{"enumeration:" + p.request, func(ctx context.Context, c *card) error { return c.enumerate(ctx, &p) }})
	}
	return all
}

// wanted reports whether a figure is among those that were asked for, by its name or that of
// its group.
func wanted(name, only string) bool {
	group, _, _ := strings.Cut(name, ":")
	asked := strings.Split(only, ",")
	return only == "" || slices.Contains(asked, name) || slices.Contains(asked, group)
}

// A card is a run of the scorecard.
type card struct {
	server string
	size   int
	seed   uint64
	commit string
	file   string // empty for none
	failed int
}

// report prints a figure.
func (c *card) report(f figures.Figure) error {
	f.Seed, f.Commit = c.seed, c.commit
	if !f.Pass {
		c.failed++
	}
	line, err := f.Line()
	if err != nil {
		return err
	}
	_, err = fmt.Print(line)
	if err == nil && c.file != "" {
		err = f.Append(c.file)
	}
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scorecard:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c := &card{}
	var only string
	flag.StringVar(&c.server, "server", "bin/authnzrv", "the program to measure")
	flag.IntVar(&c.size, "n", 2000, "how many tries of each kind are compared")
	flag.Uint64Var(&c.seed, "seed", 0, "the seed; 0 for another one each time")
	flag.StringVar(&only, "only", "", "the figures or groups of figures to measure, separated by commas, such as comparison or enumeration:user-login; all when it is empty")
	flag.StringVar(&c.file, "append", "", "a file to which the results are appended")
	flag.Parse()
	if c.seed == 0 {
		c.seed = rand.Uint64N(1 << 53) // which JSON keeps exact
	}
	commit, err := figures.Commit()
	if err != nil {
		return err
	}
	c.commit = commit
	measured := 0
	for _, f := range measurements() {
		if !wanted(f.name, only) {
			continue
		}
		measured++
		err := f.measure(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	switch {
	case measured == 0:
		return fmt.Errorf("there is no figure %s", only)
	case c.failed > 0:
		return fmt.Errorf("%d results miss their target", c.failed)
	}
	return nil
}

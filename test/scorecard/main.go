//go:build linux

// Scorecard measures what the project promises about attacks and faults, one figure at a
// time, each with a control that must fail. It prints a JSON object a line, appends it to a
// file when it is given one, and ends with status 1 when a figure misses its target.
// docs/scorecard.md has the results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/go-json-experiment/json"
)

// A result is one line.
type result struct {
	Figure string  `json:"figure"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target string  `json:"target"`
	Pass   bool    `json:"pass"`
	// Control is what the same measurement finds where it must find something.
	Control float64 `json:"control"`
	Seed    uint64  `json:"seed"`
	Commit  string  `json:"commit"`
	Note    string  `json:"note,omitzero"`
}

// A figure is something that is measured.
type figure struct {
	name    string
	measure func(context.Context, *card) error
}

// figures are all figures. Those of a group have its name and a colon before their own.
func figures() []figure {
	all := []figure{{"comparison", comparison}}
	for _, p := range probes() {
		all = append(all, figure{"enumeration:" + p.request, func(ctx context.Context, c *card) error { return c.enumerate(ctx, &p) }})
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
	out    *os.File // nil for none
	failed int
}

// report prints a result.
func (c *card) report(r result) error {
	r.Seed, r.Commit = c.seed, c.commit
	if !r.Pass {
		c.failed++
	}
	line, err := json.Marshal(&r)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", line)
	if err == nil && c.out != nil {
		_, err = fmt.Fprintf(c.out, "%s\n", line)
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

func run(ctx context.Context) (err error) {
	c := &card{}
	var only, file string
	flag.StringVar(&c.server, "server", "bin/authnzrv", "the program to measure")
	flag.IntVar(&c.size, "n", 2000, "how many tries of each kind are compared")
	flag.Uint64Var(&c.seed, "seed", 0, "the seed; 0 for another one each time")
	flag.StringVar(&only, "only", "", "the figures or groups of figures to measure, separated by commas, such as comparison or enumeration:user-login; all when it is empty")
	flag.StringVar(&file, "append", "", "a file to which the results are appended")
	flag.Parse()
	if c.seed == 0 {
		c.seed = rand.Uint64N(1 << 53) // which JSON keeps exact
	}
	commit, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return fmt.Errorf("find the commit: %w", err)
	}
	c.commit = strings.TrimSpace(string(commit))
	if file != "" {
		c.out, err = os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.out.Close()) }()
	}
	measured := 0
	for _, f := range figures() {
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

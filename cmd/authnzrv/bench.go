package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/internal/bench"
	"authnzerver/internal/passwd"
)

// A benchCommand measures this program.
type benchCommand struct {
	printed

	AuthDB      string        `name:"authdb" env:"AUTHNZERVER_BENCH_AUTHDB" help:"An empty database to measure, as in the server's --authdb. What is put into it stays there. Without it: a new SQLite file in --folder." placeholder:"URL"`
	Folder      string        `help:"Where the files are made and removed again, on the disk to measure; the system's folder for temporary files without it." placeholder:"DIR"`
	Duration    time.Duration `default:"3s" help:"How long each figure is measured."`
	Connections int           `default:"64" help:"How many connections send requests, each one after the other."`
	Argon2      string        `name:"argon2" default:"${argon2}" help:"The cost of password hashes, as in the server's --argon2." placeholder:"m=KIB,t=PASSES,p=LANES"`
	LoginTime   time.Duration `default:"250ms" help:"How long a login may take, to recommend parameters of Argon2."`
	Out         string        `help:"Write the figures as JSON to this file, too." placeholder:"FILE"`
}

// Run implements the command.
func (c *benchCommand) Run(ctx context.Context, p *process) (err error) {
	if c.Duration < 100*time.Millisecond || c.Duration > time.Hour {
		return fmt.Errorf("--duration=%v: from 100ms to 1h", c.Duration)
	}
	if c.Connections < 1 || c.Connections > 1000 {
		return fmt.Errorf("--connections=%d: from 1 to 1000", c.Connections)
	}
	if c.LoginTime < time.Millisecond || c.LoginTime > time.Minute {
		return fmt.Errorf("--login-time=%v: from 1ms to 1m", c.LoginTime)
	}
	params, err := passwd.ParseParams(c.Argon2)
	if err != nil {
		return fmt.Errorf("--argon2: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	folder, err := os.MkdirTemp(c.Folder, "authnzrv-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	folder, err = filepath.Abs(folder)
	if err != nil {
		return err
	}
	report, err := bench.Run(ctx, bench.Options{
		Program: program, AuthDB: c.AuthDB, Folder: folder, Duration: c.Duration, Connections: c.Connections, Params: params, LoginTime: c.LoginTime,
		Say: func(format string, args ...any) { fmt.Fprintf(p.stderr, format+"\n", args...) },
	})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	text, err := json.Marshal(report, jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	text = append(text, '\n')
	if c.Out != "" {
		err := os.WriteFile(c.Out, text, 0o644)
		if err != nil {
			return err
		}
	}
	if c.JSON {
		_, err = p.stdout.Write(text)
		return err
	}
	return report.Print(p.stdout)
}

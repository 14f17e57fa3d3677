package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"authnzerver/internal/app"
	"authnzerver/internal/config"
	"authnzerver/internal/hashproc"
	"authnzerver/internal/memory"
	"authnzerver/internal/passwd"
	"authnzerver/internal/setup"
)

// A serveCommand runs the server, or the set-up.
type serveCommand struct {
	kong.Plugins
	flags *config.Flags
}

// Run implements the command.
func (c *serveCommand) Run(ctx context.Context, p *process) error {
	started := time.Now()
	source, err := config.System(c.flags.Given())
	if err != nil {
		return err
	}
	cfg, notices, err := config.Load(source)
	if err != nil {
		return fmt.Errorf("the configuration has mistakes:\n%w", err)
	}
	log := newLog(cfg, p)
	for _, notice := range notices {
		log.Warn(notice.String())
	}
	if cfg.Autosetup {
		return c.setUp(ctx, p, cfg, log)
	}
	listener, err := app.Listen(cfg)
	if err != nil {
		return fmt.Errorf("the server cannot start:\n%w", err)
	}
	var compute func(passwd.Job) ([]byte, error)
	hashing := startHashing(p, log)
	if hashing != nil {
		defer hashing.Close()
		compute = hashing.Compute
	}
	server, err := app.Open(ctx, cfg, app.Options{Log: log, Version: version(), Compute: compute, Now: now})
	if err != nil {
		return errors.Join(fmt.Errorf("the server cannot start:\n%w", err), listener.Close())
	}
	if hashing != nil {
		memory.Tune(0)
	} else {
		memory.Tune(server.HashMemory())
	}
	debug.FreeOSMemory() // what hashing the first passwords took
	return server.Run(ctx, listener, func(address net.Addr) {
		scheme := "http"
		if cfg.TLSCertFile != "" {
			scheme = "https"
		}
		log.Info("ready", "url", scheme+"://"+address.String()+"/", "version", version(),
			"argon2", cfg.Argon2, "workers", cfg.Workers, "took", time.Since(started).Round(time.Millisecond).String())
	})
}

// startHashing starts the process that computes password hashes. Where none can
// be started, the server computes them itself, as the log says.
func startHashing(p *process, log *slog.Logger) *hashproc.Process {
	path := "/proc/self/exe" // this program, even when its file has been replaced
	if runtime.GOOS != "linux" {
		path = os.Args[0]
	}
	hashing, err := hashproc.Start(p.stderr, path, hashCommandName)
	if err != nil {
		log.Warn("password hashes take their time from all other requests, because another process cannot be started for them", "error", err)
		return nil
	}
	return hashing
}

// newLog returns the log that the configuration asks for.
func newLog(cfg *config.Config, p *process) *slog.Logger {
	if cfg.LogOff {
		return slog.New(slog.DiscardHandler)
	}
	options := &slog.HandlerOptions{Level: cfg.LogLevel}
	asText := cfg.LogFormat == "text"
	if file, ok := p.stderr.(*os.File); ok && cfg.LogFormat == "auto" {
		asText = term.IsTerminal(int(file.Fd()))
	}
	if asText {
		return slog.New(slog.NewTextHandler(p.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, options))
}

func (c *serveCommand) setUp(ctx context.Context, p *process, cfg *config.Config, log *slog.Logger) error {
	params, err := passwd.ParseParams(cfg.Argon2)
	if err != nil {
		return &config.Error{Option: "argon2", Code: config.CodeInvalid, Message: err.Error()}
	}
	o := setup.Options{
		Terminal:    setup.Terminal{In: p.stdin, Out: p.stdout},
		BaseDir:     cfg.BaseDir,
		AuthDB:      cfg.AuthDB,
		Permissions: cfg.Permissions,
		AdminEmail:  cfg.AdminEmail, AdminPassword: cfg.AdminPassword,
		Secret: cfg.Secret, Salt: cfg.PIISalt,
		Given:   config.Keepable(c.flags.Given()),
		Params:  params,
		Program: os.Args[0],
		Log:     log,
	}
	if fd := int(p.stdin.Fd()); term.IsTerminal(fd) {
		state, err := term.GetState(fd)
		if err != nil {
			return fmt.Errorf("look at the terminal: %w", err)
		}
		// An interrupt at the question for the password leaves it hiding what is typed.
		defer func() { _ = term.Restore(fd, state) }()
		o.ReadPassword = func() (string, error) {
			password, err := term.ReadPassword(fd)
			if err == io.EOF {
				err = nil
			}
			return string(password), err
		}
	}
	return setup.Run(ctx, o)
}

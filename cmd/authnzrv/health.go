package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"authnzerver/internal/config"
)

// healthOptions are the options of the server that tell how to ask for its health.
var healthOptions = []string{"envfile", "confvars", "basedir", "listen", "port", "allowedhosts", "tlscertfile", "tlscertkey"}

// A healthCommand asks a server on this machine whether it is ready, as a container or a
// supervisor does.
type healthCommand struct {
	kong.Plugins
	flags *config.Flags

	Live    bool          `help:"Only ask whether it is live: whether its process answers."`
	Timeout time.Duration `help:"How long to wait for the answer." default:"4s"`
}

// Run implements the command.
func (c *healthCommand) Run(ctx context.Context, p *process) error {
	source, err := config.System(c.flags.Given())
	if err != nil {
		return err
	}
	source.Only = healthOptions
	cfg, _, err := config.Load(source)
	if err != nil {
		return fmt.Errorf("where does the server listen? Use --port or --envfile:\n%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	path := "health/ready"
	if c.Live {
		path = "health/live"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, serverURL(cfg)+path, nil)
	if err != nil {
		return fmt.Errorf("ask for the health: %w", err)
	}
	request.Host = cfg.AllowedHosts[0]
	// Whose certificate it is makes no difference: it is this machine that is asked.
	asker := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := asker.Do(request)
	if err != nil {
		return fmt.Errorf("ask for the health: %w", err)
	}
	defer response.Body.Close()
	const longest = 1 << 10 // bytes
	text, err := io.ReadAll(io.LimitReader(response.Body, longest))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(text)))
	}
	_, err = p.stdout.Write(text)
	return err
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json/jsontext"

	"authnzerver/client"
	"authnzerver/internal/config"
)

// callOptions are the options of the server that tell how to reach it.
var callOptions = []string{"envfile", "confvars", "basedir", "secret", "listen", "port", "tlscertfile", "tlscertkey"}

// A callCommand sends one request.
type callCommand struct {
	kong.Plugins
	flags *config.Flags

	URL      string        `help:"Where the server listens; by default, what listen, port and tlscertfile say." env:"AUTHNZERVER_URL" placeholder:"URL"`
	ClientIP string        `name:"client-ip" help:"The end user's address that the request names." placeholder:"ADDRESS"`
	Timeout  time.Duration `help:"How long to wait for the answer." default:"6s"`

	Request string `arg:"" help:"The request's name, for example session-new. See authnzrv api."`
	Body    string `arg:"" optional:"" default:"{}" help:"The parameters as a JSON object, or - to read them from standard input."`
}

// Run implements the command.
func (c *callCommand) Run(ctx context.Context, p *process) error {
	source, err := config.System(c.flags.Given())
	if err != nil {
		return err
	}
	source.Only = callOptions
	cfg, _, err := config.Load(source)
	if err != nil {
		return fmt.Errorf("the settings of the server are needed; use --envfile:\n%w", err)
	}
	body := []byte(c.Body)
	if c.Body == "-" {
		body, err = io.ReadAll(p.stdin)
		if err != nil {
			return fmt.Errorf("read the parameters: %w", err)
		}
	}
	if !jsontext.Value(body).IsValid() {
		return errors.New("the parameters are not JSON; quote them for the shell: '{\"name\": \"value\"}'")
	}
	asker, err := c.client(cfg)
	if err != nil {
		return err
	}
	if c.ClientIP != "" {
		ctx = client.WithClientAddr(ctx, c.ClientIP)
	}
	reply, err := asker.Call(ctx, c.Request, body)
	if err != nil {
		return err
	}
	answer := reply.Response
	err = answer.Indent()
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", answer)
	if err == nil && !reply.Success {
		err = errSilent
	}
	return err
}

func (c *callCommand) client(cfg *config.Config) (*client.Client, error) {
	o := client.Options{URL: c.URL, Secret: cfg.Secret, Timeout: c.Timeout}
	if o.URL == "" {
		o.URL = serverURL(cfg)
	}
	if cfg.TLSCertFile != "" {
		// The server's own certificate is trusted, whoever signed it.
		text, err := os.ReadFile(cfg.TLSCertFile)
		if err != nil {
			return nil, fmt.Errorf("tlscertfile: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("read the system's certificates: %w", err)
		}
		roots.AppendCertsFromPEM(text)
		o.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	}
	return client.New(o)
}

// serverURL returns where a server with this configuration can be reached
// from the same machine.
func serverURL(cfg *config.Config) string {
	scheme, host := "http", cfg.Listen
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(cfg.Port)) + "/"
}

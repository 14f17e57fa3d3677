package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alecthomas/kong"

	"authnzerver/internal/app"
	"authnzerver/internal/config"
	"authnzerver/internal/mail"
)

// mailOptions are the options of the server that tell how it sends mail.
var mailOptions = []string{
	"envfile", "confvars", "basedir", "fqdn",
	"emailserver", "emailport", "emailuser", "emailpass", "emailsender", "emailtls",
}

type mailCommand struct {
	Test mailTestCommand `cmd:"" help:"Send a message with the server's settings and print the conversation with the mail server."`
}

// A mailTestCommand sends one message.
type mailTestCommand struct {
	kong.Plugins
	flags *config.Flags

	Template string `help:"Which message to send, with sample data: ${enum}." enum:"signup,forgotpass,newdevice,manyfailures,passwordchanged,emailchanged" default:"signup" placeholder:"KIND"`
	Address  string `arg:"" help:"Whom to send it to."`
}

// Run implements the command.
func (c *mailTestCommand) Run(ctx context.Context, p *process) error {
	source, err := config.System(c.flags.Given())
	if err != nil {
		return err
	}
	source.Only = mailOptions
	cfg, _, err := config.Load(source)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		// Standard output may be closed; the outcome is the exit status too.
		_, _ = fmt.Fprintf(p.stdout, format+"\n", args...)
	}
	sender, templates, notices, err := app.OpenMail(cfg, func(line string) { say("  %s", line) })
	if err != nil {
		return err
	}
	for _, notice := range notices {
		say("note: %s", notice)
	}
	if sender == nil {
		return errors.New("emailserver: is none, so the server sends no mail")
	}
	subject, text, html, err := templates.Render(mail.Kind(c.Template), mail.Data{
		ServerName: "authnzerver test", ServerBaseURL: "https://example.org", Link: "https://example.org/code", Email: c.Address,
		UserAgent: "authnzrv mail test", IPAddress: "192.0.2.1", Code: "this-is-a-test-and-no-code",
		Expires: time.Now().Add(time.Hour), When: time.Now(),
	})
	if err != nil {
		return err
	}
	say("sending %q to %s through %s, port %d, emailtls %s", c.Template, c.Address, cfg.EmailServer, cfg.EmailPort, cfg.EmailTLS)
	started := time.Now()
	err = sender.Send(ctx, &mail.Message{To: c.Address, Subject: subject, Text: text, HTML: html})
	took := time.Since(started).Round(time.Millisecond)
	if err == nil {
		say("sent: the mail server took the message after %s", took)
		return nil
	}
	var failure *mail.Error
	if errors.As(err, &failure) && failure.Detail() != "" {
		say("the mail server, or what stood between, said: %s", failure.Detail())
	}
	return fmt.Errorf("not sent, after %s: %w", took, err)
}

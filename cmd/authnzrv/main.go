// Authnzrv is the authnzerver: a server that gives other HTTP servers
// authentication and authorization.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"authnzerver/internal/config"
	"authnzerver/internal/passwd"
)

// The command line. Every command's own documentation stands at its type.
type commands struct {
	Version kong.VersionFlag `help:"Print the version and exit."`

	Serve      serveCommand      `cmd:"" default:"withargs" help:"Run the server. This is the default command."`
	Call       callCommand       `cmd:"" help:"Send one request to a running server and print the answer."`
	Policy     policyCommand     `cmd:"" help:"Check and explain permission policies."`
	Mail       mailCommand       `cmd:"" help:"Test the sending of e-mail."`
	DB         dbCommand         `cmd:"" name:"db" help:"Move, back up, restore, check and migrate databases."`
	Events     eventsCommand     `cmd:"" help:"Show and prune the event log."`
	Bench      benchCommand      `cmd:"" help:"Measure this machine and a database, and recommend the cost of password hashes."`
	API        apiCommand        `cmd:"" name:"api" help:"Print the reference of all requests."`
	Health     healthCommand     `cmd:"" help:"Ask a server on this machine whether it is ready."`
	Keygen     keygenCommand     `cmd:"" help:"Print a new secret key."`
	Man        manCommand        `cmd:"" help:"Print the manual page, for man -l."`
	Completion completionCommand `cmd:"" help:"Print what completes command lines of this program in a shell."`
	Hash       hashCommand       `cmd:"" name:"hash-worker" hidden:"" help:"Compute password hashes for the server that started this process."`
}

// A process is what a command may use of the process that it runs in.
type process struct {
	stdin  *os.File
	stdout io.Writer
	stderr io.Writer
}

func main() {
	// A second signal ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	go func() {
		<-ctx.Done()
		stop()
	}()
	err := run(ctx, os.Args[1:])
	if err != nil {
		if !errors.Is(err, errSilent) {
			fmt.Fprintln(os.Stderr, "authnzrv:", err)
		}
		os.Exit(1)
	}
}

// errSilent ends the process with status 1 after everything has been said.
var errSilent = errors.New("failed")

func run(ctx context.Context, args []string) error {
	cli := commands{
		Serve: serveCommand{flags: config.NewFlags()},
		Call:  callCommand{flags: config.NewFlags(callOptions...)},
		Mail:  mailCommand{Test: mailTestCommand{flags: config.NewFlags(mailOptions...)}},
	}
	cli.Health = healthCommand{flags: config.NewFlags(healthOptions...)}
	cli.Health.Plugins = cli.Health.flags.Plugins()
	cli.Serve.Plugins = cli.Serve.flags.Plugins()
	cli.Call.Plugins = cli.Call.flags.Plugins()
	cli.Mail.Test.Plugins = cli.Mail.Test.flags.Plugins()
	cli.DB.setFlags()
	cli.Events.setFlags()
	p := &process{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	parser, err := kong.New(&cli,
		kong.Name("authnzrv"),
		kong.Description("Authentication and authorization for other HTTP servers.\n\nFirst steps: authnzrv --autosetup, then the line that it prints. The options of the server: authnzrv serve --help."),
		kong.Vars{"version": "authnzrv " + version(), "argon2": passwd.DefaultParams.String()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(p),
	)
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	parsed, err := parser.Parse(config.Normalize(args))
	if err != nil {
		return fmt.Errorf("%w; see authnzrv --help", err)
	}
	return parsed.Run(parser)
}

// version returns the module's version and the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, changed := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			commit = " " + setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = " with changes"
		}
	}
	return info.Main.Version + commit + changed + " (" + info.GoVersion + ")"
}

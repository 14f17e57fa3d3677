package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/term"

	"authnzerver/internal/config"
	"authnzerver/internal/identity"
	"authnzerver/internal/store"
)

// dbOptions are the options of the server that tell where its database is.
var dbOptions = []string{"envfile", "confvars", "basedir", "authdb"}

// A dbCommand is what an operator does with whole databases.
type dbCommand struct {
	Move    dbMoveCommand    `cmd:"" help:"Copy a database into an empty one, of any kind, and verify the copy. The server must be stopped."`
	Backup  dbBackupCommand  `cmd:"" help:"Copy the server's database into a new SQLite file, also while the server runs."`
	Restore dbRestoreCommand `cmd:"" help:"Copy a backup into the server's database, which must be empty."`
	Check   dbCheckCommand   `cmd:"" help:"Read all of the server's database and report what is wrong with it."`
	Migrate dbMigrateCommand `cmd:"" help:"Bring the tables of the server's database up to date, as the server does when it starts."`
}

// setFlags gives the commands the options of the server.
func (c *dbCommand) setFlags() {
	for _, one := range []*dbFlags{&c.Backup.dbFlags, &c.Restore.dbFlags, &c.Check.dbFlags, &c.Migrate.dbFlags} {
		one.flags = config.NewFlags(dbOptions...)
		one.Plugins = one.flags.Plugins()
	}
}

// dbFlags tell where the server's database is.
type dbFlags struct {
	kong.Plugins
	flags *config.Flags
}

// url returns the URL of the server's database.
func (f *dbFlags) url() (string, error) {
	source, err := config.System(f.flags.Given())
	if err != nil {
		return "", err
	}
	source.Only = dbOptions
	cfg, _, err := config.Load(source)
	if err != nil {
		return "", fmt.Errorf("which database? Use --authdb or --envfile:\n%w", err)
	}
	return cfg.AuthDB, nil
}

// printed is how results are printed.
type printed struct {
	JSON bool `name:"json" help:"Print the result as one JSON object."`
}

// print prints a result, as JSON or by lines.
func (o *printed) print(p *process, result any, lines []string) error {
	if !o.JSON {
		_, err := io.WriteString(p.stdout, strings.Join(lines, "\n")+"\n")
		return err
	}
	text, err := json.Marshal(result, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("print the result: %w", err)
	}
	_, err = fmt.Fprintf(p.stdout, "%s\n", text)
	return err
}

// digestLines are the lines of a table of digests.
func digestLines(tables []store.TableDigest) []string {
	lines := []string{fmt.Sprintf("%-20s %12s  %s", "table", "rows", "digest")}
	var rows int64
	for _, t := range tables {
		lines = append(lines, fmt.Sprintf("%-20s %12d  %s", t.Table, t.Rows, t.Digest))
		rows += t.Rows
	}
	return append(lines, fmt.Sprintf("%-20s %12d", "all", rows))
}

// commandLog is the log of a command, which says what a reader of its output should
// know.
func commandLog(p *process) *slog.Logger {
	return slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// A dbMoveCommand moves a database into another.
type dbMoveCommand struct {
	printed

	From string `required:"" env:"AUTHNZERVER_MOVE_FROM" help:"The database to copy: its URL as in --authdb." placeholder:"URL"`
	To   string `required:"" env:"AUTHNZERVER_MOVE_TO" help:"The database to fill: its URL as in --authdb." placeholder:"URL"`
}

// Run implements the command.
func (c *dbMoveCommand) Run(ctx context.Context, p *process) error {
	return move(ctx, p, &c.printed, store.MoveOptions{From: c.From, To: c.To}, "moved")
}

// move moves a database and prints what it moved.
func move(ctx context.Context, p *process, out *printed, o store.MoveOptions, done string) error {
	progress := newProgressLine(p.stderr)
	o.Log, o.Report = commandLog(p), progress.report
	started := time.Now()
	result, err := store.Move(ctx, o)
	progress.end()
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; the same command goes on from here")
	}
	if err != nil {
		return err
	}
	return out.print(p, result, moveLines(result, done, started))
}

// moveLines are the lines that say what was moved.
func moveLines(result *store.MoveResult, done string, started time.Time) []string {
	lines := digestLines(result.Tables)
	for _, name := range result.Ignored {
		lines = append(lines, "not copied: the table "+name+", which is not one of authnzerver's")
	}
	return append(lines, fmt.Sprintf("%s and verified in %s", done, time.Since(started).Round(time.Millisecond)))
}

// A dbBackupCommand copies the server's database into a file.
type dbBackupCommand struct {
	dbFlags
	printed

	File string `arg:"" help:"The file to write; there must be none of this name."`
}

// Run implements the command.
func (c *dbBackupCommand) Run(ctx context.Context, p *process) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	progress := newProgressLine(p.stderr)
	started := time.Now()
	result, err := store.Backup(ctx, url, c.File, commandLog(p), progress.report)
	progress.end()
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; no file was written")
	}
	if err != nil {
		return err
	}
	return c.print(p, result, moveLines(result, "backed up", started))
}

// A dbRestoreCommand fills the server's database from a backup.
type dbRestoreCommand struct {
	dbFlags
	printed

	File string `arg:"" help:"The backup, or another SQLite file of the server." type:"existingfile"`
}

// Run implements the command.
func (c *dbRestoreCommand) Run(ctx context.Context, p *process) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	return move(ctx, p, &c.printed, store.MoveOptions{From: "sqlite:///" + c.File, To: url}, "restored")
}

// A dbCheckCommand checks the server's database.
type dbCheckCommand struct {
	dbFlags
	printed
}

// Run implements the command.
func (c *dbCheckCommand) Run(ctx context.Context, p *process) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	progress := newProgressLine(p.stderr)
	result, err := store.Check(ctx, url, progress.report)
	progress.end()
	if err != nil {
		return err
	}
	lines := digestLines(result.Tables)
	for _, finding := range result.Findings {
		lines = append(lines, "wrong: "+finding)
	}
	if len(result.Findings) == 0 {
		lines = append(lines, "all is well")
	}
	err = c.print(p, result, lines)
	if err == nil && len(result.Findings) > 0 {
		err = errSilent
	}
	return err
}

// A dbMigrateCommand migrates the server's database.
type dbMigrateCommand struct {
	dbFlags
	printed

	Plan bool `help:"Only print what there is to do."`
}

// Run implements the command.
func (c *dbMigrateCommand) Run(ctx context.Context, p *process) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	plan, err := store.Pending(ctx, url)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; authnzrv --autosetup makes a new database", err)
	}
	if err != nil {
		return err
	}
	lines := []string{"the tables are up to date"}
	if len(plan) > 0 {
		lines = lines[:0]
	}
	for _, migration := range plan {
		lines = append(lines, fmt.Sprintf("%d %s: %s", migration.Version, migration.Name, migration.About))
	}
	if c.Plan || len(plan) == 0 {
		return c.print(p, plan, lines)
	}
	db, err := store.Open(ctx, store.Options{URL: url, NormalizeEmail: identity.NormalizeEmail, Log: commandLog(p)})
	if err != nil {
		return err
	}
	err = db.Close()
	if err != nil {
		return err
	}
	return c.print(p, plan, append(lines, "done"))
}

// A progressLine shows how far a command is: on a terminal in one line, elsewhere in a
// line now and then.
type progressLine struct {
	out      io.Writer
	terminal bool
	every    time.Duration
	shown    time.Time
	phase    store.Phase
	began    time.Time
	first    int64 // rows that were done when the phase began
}

func newProgressLine(out io.Writer) *progressLine {
	l := &progressLine{out: out, every: 10 * time.Second}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		l.terminal, l.every = true, 200*time.Millisecond
	}
	return l
}

// phaseWords say what is being done.
var phaseWords = map[store.Phase]string{
	store.PhaseCopy: "copying", store.PhaseReread: "reading the source again:", store.PhaseVerify: "verifying",
}

func (l *progressLine) report(now store.Progress) {
	if now.Phase != l.phase {
		l.phase, l.began, l.first = now.Phase, time.Now(), now.AllDone
		l.shown = l.began
		if !l.terminal {
			return
		}
	}
	if time.Since(l.shown) < l.every {
		return
	}
	l.shown = time.Now()
	text := progressText(now, now.AllDone-l.first, time.Since(l.began))
	// Nobody may be looking.
	if l.terminal {
		_, _ = fmt.Fprintf(l.out, "\r\x1b[K%s", text)
	} else {
		_, _ = fmt.Fprintln(l.out, text)
	}
}

// end leaves the line to what comes next.
func (l *progressLine) end() {
	if l.terminal {
		_, _ = io.WriteString(l.out, "\r\x1b[K")
	}
}

// progressText says how far a phase is that has done some rows in some time.
func progressText(now store.Progress, rows int64, took time.Duration) string {
	percent := int64(100)
	if now.AllTotal > 0 {
		percent = 100 * now.AllDone / now.AllTotal
	}
	text := fmt.Sprintf("%s %s, %d of %d rows; %d%% of all", phaseWords[now.Phase], now.Table, now.Done, now.Total, percent)
	if rate := float64(rows) / took.Seconds(); rate >= 1 && took > time.Second {
		left := time.Duration(float64(now.AllTotal-now.AllDone) / rate * float64(time.Second))
		text += fmt.Sprintf(", %.0f rows/s, %s left", rate, max(left, 0).Round(time.Second))
	}
	return text
}

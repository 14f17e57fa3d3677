package setup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"authnzerver/internal/config"
	"authnzerver/internal/identity"
	"authnzerver/internal/passwd"
	"authnzerver/internal/policy"
	"authnzerver/internal/store"
	"authnzerver/internal/wire"
)

// A Terminal asks a person. Without a person, answers come from the lines of
// In, and after its end every answer is blank.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	// ReadPassword reads a line without showing it; when nil, a password is
	// read from In like every other answer.
	ReadPassword func() (string, error)
}

// Options configure Run. Answers that are given here become the defaults of
// the questions.
type Options struct {
	Terminal
	BaseDir       string
	AuthDB        string
	Permissions   string
	AdminEmail    string
	AdminPassword string
	// Secret and Salt are written to the files of the keys; new random ones
	// when empty.
	Secret, Salt string
	// Given are values of other options, by name, that the envfile keeps.
	Given  map[string]string
	Params passwd.Params
	// Program is how the server was called, for the line that starts it.
	Program string
	Log     *slog.Logger
}

// answers are what the four questions end in.
type answers struct {
	authDB, permissions, email, password string
	policy                               *policy.Policy
}

// Run asks the questions of the set-up, makes the files and the database, and
// prints the line that starts the server. What exists already is kept.
func Run(ctx context.Context, o Options) error {
	dir, err := filepath.Abs(o.BaseDir)
	if err != nil {
		return fmt.Errorf("basedir: %w", err)
	}
	o.BaseDir = dir
	err = os.MkdirAll(dir, 0o700)
	if err != nil {
		return fmt.Errorf("basedir: %w", err)
	}
	out := &printer{w: o.Out}
	out.printf("Setting up authnzerver in %s.\n", dir)
	a, err := o.askUntil(ctx, out)
	if err != nil {
		return err
	}
	err = o.makeDatabase(ctx, out, a)
	if err != nil {
		return err
	}
	err = o.makeFiles(out, a)
	if err != nil {
		return err
	}
	out.printf("\nSet-up is done. This starts the server:\n\n%s --envfile=%s\n", shellWord(o.Program), shellWord(filepath.Join(dir, EnvFile)))
	return out.err
}

// A printer remembers the first error, so that printing needs one check.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// shellWord quotes a word for a POSIX shell where that is necessary.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// askUntil asks until ctx ends. The question that is open then stays open, since
// reading from a terminal cannot be broken off.
func (o *Options) askUntil(ctx context.Context, out *printer) (*answers, error) {
	asked := make(chan struct{})
	var given *answers
	var failed error
	go func() {
		defer close(asked)
		given, failed = o.ask(out)
	}()
	select {
	case <-ctx.Done():
		return nil, errors.New("set-up was interrupted before it made anything")
	case <-asked:
		return given, failed
	}
}

func (o *Options) ask(out *printer) (*answers, error) {
	in := bufio.NewReader(o.In)
	line := func(question, ifBlank string) (string, error) {
		out.printf("%s [default: %s]: ", question, ifBlank)
		text, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", err)
		}
		if errors.Is(err, io.EOF) || o.ReadPassword == nil {
			out.printf("\n") // nobody pressed the return key
		}
		return strings.TrimSpace(text), nil
	}
	ask := func(question, given, otherwise string) (string, error) {
		shown := otherwise
		if given != "" {
			shown = given
		}
		answer, err := line(question, shown)
		if answer == "" {
			answer = given
		}
		return answer, err
	}
	a := &answers{policy: policy.Default()}
	var err error
	// A URL may hold a password, which the question must not show.
	shown := ""
	if o.AuthDB != "" {
		shown = "as configured"
	}
	a.authDB, err = ask("Auth DB URL", shown, "auto generated")
	if err != nil {
		return nil, err
	}
	switch a.authDB {
	case "as configured":
		a.authDB = o.AuthDB
	case "":
		a.authDB = "sqlite:///" + filepath.Join(o.BaseDir, DatabaseFile)
	}
	a.permissions, err = ask("Permission JSON path", o.Permissions, "included permissions JSON")
	if err != nil {
		return nil, err
	}
	if a.permissions != "" {
		a.permissions, a.policy, err = readPolicy(a.permissions)
		if err != nil {
			return nil, err
		}
	}
	email := o.AdminEmail
	if email == "" {
		email = loginName() + "@localhost"
	}
	a.email, err = ask("Admin email address", email, "")
	if err != nil {
		return nil, err
	}
	err = identity.CheckEmailSyntax(a.email)
	if err != nil {
		return nil, fmt.Errorf("admin e-mail address: %w", err)
	}
	a.password, err = o.askPassword(out, line)
	return a, err
}

func (o *Options) askPassword(out *printer, line func(question, ifBlank string) (string, error)) (password string, err error) {
	ifBlank := "randomly generated"
	if o.AdminPassword != "" {
		ifBlank = "as configured"
	}
	if o.ReadPassword == nil {
		password, err = line("Admin password", ifBlank)
	} else {
		out.printf("Admin password [default: %s]: ", ifBlank)
		password, err = o.ReadPassword()
		out.printf("\n")
	}
	if password == "" {
		password = o.AdminPassword
	}
	return password, err
}

func readPolicy(path string) (string, *policy.Policy, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", nil, fmt.Errorf("permission policy: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("permission policy: %w", err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return "", nil, fmt.Errorf("permission policy %s: %w", path, err)
	}
	return path, p, nil
}

func (o *Options) makeDatabase(ctx context.Context, out *printer, a *answers) (err error) {
	db, err := store.Open(ctx, store.Options{URL: a.authDB, NormalizeEmail: identity.NormalizeEmail, Log: o.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	pool := passwd.NewPool(passwd.Options{Params: o.Params, Workers: 1})
	credentials, err := Initialize(ctx, db, pool, Admin{
		Email: a.email, Password: a.password, BaseDir: o.BaseDir, Roles: a.policy.Roles(),
	})
	if err != nil {
		return err
	}
	if credentials == "" {
		out.printf("The database has users already and was kept; the admin e-mail address and password were not used.\n")
	} else {
		out.printf("The database was made. The administrator's credentials are in %s.\n", credentials)
	}
	return nil
}

func (o *Options) makeFiles(out *printer, a *answers) error {
	path := func(name string) string { return filepath.Join(o.BaseDir, name) }
	if a.permissions == "" {
		a.permissions = path(PolicyFile)
	}
	var env bytes.Buffer
	values := map[string]string{}
	maps.Copy(values, o.Given)
	maps.Copy(values, map[string]string{
		"authdb": a.authDB, "basedir": o.BaseDir, "permissions": a.permissions,
		"secret": path(SecretFile), "piisalt": path(SaltFile),
	})
	err := config.WriteEnvfile(&env, values)
	if err != nil {
		return fmt.Errorf("make the envfile: %w", err)
	}
	for _, file := range []struct {
		name, text string
		mode       fs.FileMode
	}{
		{SecretFile, cmp.Or(o.Secret, wire.NewKey()), 0o400},
		{SaltFile, cmp.Or(o.Salt, wire.NewKey()), 0o400},
		{PolicyFile, string(policy.DefaultJSON()), 0o644},
		// Not readable by others, unlike the Python server's: it may hold
		// the passwords of the database and of the mail server.
		{EnvFile, env.String(), 0o600},
	} {
		err := writeNew(path(file.name), file.text, file.mode)
		switch {
		case err == nil:
			out.printf("Wrote %s.\n", path(file.name))
		case errors.Is(err, fs.ErrExist):
			out.printf("Kept %s as it was.\n", path(file.name))
		default:
			return err
		}
	}
	return o.compareEnvfile(out, env.Bytes())
}

// compareEnvfile says so when an envfile that was kept is not the one that
// the answers lead to, which it then writes beside it.
func (o *Options) compareEnvfile(out *printer, env []byte) error {
	kept, err := os.ReadFile(filepath.Join(o.BaseDir, EnvFile))
	if err != nil || bytes.Equal(kept, env) {
		return err
	}
	path := filepath.Join(o.BaseDir, EnvFile+".new")
	err = writeNew(path, string(env), 0o600)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	out.printf("The envfile differs from these answers. What they lead to is in %s.\n", path)
	return nil
}

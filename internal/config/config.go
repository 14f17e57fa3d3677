// Package config reads the server's configuration.
//
// # Where values come from
//
// Every option has one declaration, from which its flag, its name in the
// environment, its default, its range and its documentation come. A value is
// taken from the first of these that isn't blank:
//
//  1. the flag of the command line,
//  2. the process environment,
//  3. the file that --envfile names, whose keys are the names in the
//     environment (see [ParseEnvfile] for its form),
//  4. a file or URL that the option's entry in the file that --confvars names
//     points at,
//  5. the default of that entry,
//  6. the option's own default.
//
// Where an earlier one hides a different value of a later one, a notice says
// so. The Python server let the environment win over the command line, and
// read an envfile instead of the environment.
//
// The values of secret and piisalt may be paths of files. A text is taken as
// a path if there is such a file, and also if it holds a path separator or a
// placeholder: then it is an error that there is none, so that a mistyped
// path never becomes a key. The one exception is a text of exactly the form
// of a key, 44 characters of base64, which may hold slashes.
//
// In paths, [[basedir]] stands for the directory that the option basedir
// gives and [[homedir]] for the user's home directory. Relative paths start
// at the working directory.
//
// # Values from files and URLs
//
// The file that --confvars names is a JSON object from option names to
// entries:
//
//	{
//	  "secret": {"file": "/run/secrets/auth.json", "json_path": "keys._arr_0", "decode": "base64"},
//	  "authdb": {
//	    "http": {"url": "https://vault.example/v1/kv/auth", "headers": {"X-Vault-Token": "[[VAULT_TOKEN]]"}},
//	    "json_path": "data.authdb"
//	  },
//	  "port":    {"env": ["MY_PORT"], "default": "1234"},
//	  "piisalt": {"from": "value", "json_path": "salt"}
//	}
//
// An entry with file or http says where the value is when neither a flag nor
// the environment nor the envfile has one; those are then not asked. An entry
// with "from": "value" says that the value found there, or the entry's
// default, is itself the path or the URL of the value. For an entry with
// neither, json_path and decode work on the text of the value itself, which
// is how one variable that holds JSON serves several options. [Entry] and
// [Request] describe all members. Whatever fails on the way is an error; a
// value is never silently replaced by its default.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is the server's configuration. Every value is in its range; what has
// a grammar of its own (Secret, PassPolicy, Argon2, AuthDB) is text that
// others check. Paths are absolute. It holds secrets, so that printing or
// logging it shows nothing.
type Config struct {
	// AllowedHosts are the names that a Host header may have. There is at
	// least one.
	AllowedHosts []string
	// AuthDB is the URL of the database.
	AuthDB string
	// BaseDir is where set-up writes its files. It need not exist yet.
	BaseDir string
	// CacheDir is the directory for what must survive a restart. It need
	// not exist yet. "" means that nothing survives.
	CacheDir string
	Debug    bool
	// Listen is an IP address (without brackets) or a host name.
	Listen string
	// Port is a TCP port; 0 lets the system choose one.
	Port int
	// Permissions is the path of the policy; "" stands for the built-in
	// one.
	Permissions string

	// Secret is one key or several, separated by commas or line ends.
	Secret string
	// PIISalt is the key of the hashes in the log. It isn't blank.
	PIISalt string
	// MessageTTL is how old a request may be; 0 means any age, and that
	// requests may be repeated.
	MessageTTL time.Duration

	// SessionIdle is after how long a session ends that nobody uses; 0 for never.
	SessionIdle time.Duration
	// SessionExpiry is how long an expired session is kept.
	SessionExpiry time.Duration
	// UserLockTries is how many failures an account takes before a lock.
	UserLockTries int
	UserLockTime  time.Duration
	// MaxLoginWait caps the wait after a wrong password.
	MaxLoginWait time.Duration
	PassPolicy   string
	// FQDN is the host name that passwords must not resemble; "" stands for
	// the machine's own.
	FQDN string
	// PwnedURL is the base URL of the breach list, without a slash at its
	// end; "" means that none is asked.
	PwnedURL string
	// APIKeyPrefix begins new API keys.
	APIKeyPrefix string
	// EventRetention is how long events are kept.
	EventRetention time.Duration
	// WebhookURL is where events are sent; "" means nowhere. WebhookSecret is one key of
	// their signatures or several, separated by commas.
	WebhookURL    string
	WebhookSecret string
	// LogSample is how many requests that end alike are logged in a second, and LogEvery
	// which ones of those beyond; 0 for all.
	LogSample, LogEvery int
	// MetricsListen is the host and port of the listener for operators; "" for none.
	MetricsListen string
	// TracesURL is the base URL of a collector of traces, without a slash at its end; ""
	// for none. TraceSample is the share of requests that are traced.
	TracesURL   string
	TraceSample float64
	// RefreshGrace is how long a used refresh token gets the same successor.
	RefreshGrace time.Duration
	RateLimits   RateLimits
	LimitStore   string

	Workers int
	// HashQueue is how many password hashes may wait.
	HashQueue int
	// Argon2 is the cost of a new hash, such as "m=65536,t=3,p=4".
	Argon2          string
	ShutdownTimeout time.Duration

	// EmailServer is "" for none.
	EmailServer string
	EmailPort   int
	EmailUser   string
	EmailPass   string
	EmailSender string
	// EmailTLS is auto, require, implicit, insecure or off.
	EmailTLS string
	// EmailPace is what the time of answers about forgotten passwords is a
	// multiple of; 0 for any time.
	EmailPace time.Duration

	// TLSCertFile and TLSKeyFile are both set or both "".
	TLSCertFile string
	TLSKeyFile  string

	// LogLevel is the least level that is logged, unless LogOff is set.
	LogLevel slog.Level
	LogOff   bool
	// LogFormat is auto, text or json.
	LogFormat string

	// AdminEmail and AdminPassword are those of the first superuser; "" if
	// the environment doesn't give them.
	AdminEmail    string
	AdminPassword string

	// Autosetup asks for set-up instead of service. AuthDB, Secret and
	// PIISalt may then be "".
	Autosetup bool
}

// Format prints nothing of the configuration, whatever the verb.
func (Config) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("[configuration]")) }

// LogValue logs nothing of the configuration.
func (Config) LogValue() slog.Value { return slog.StringValue("[configuration]") }

// Source is what the process was started with.
type Source struct {
	// Flags are the texts of the flags that were given, by option name, as
	// [Flags.Given] returns them.
	Flags map[string]string
	// Environ has the form of os.Environ.
	Environ []string
	// Dir is the working directory, an absolute path.
	Dir string
	// Home is the user's home directory, User the login name. They may be
	// "".
	Home, User string
	// Only are the names of the options that are wanted; nil stands for
	// all. The others stay at their zero values.
	Only []string
}

// System returns the source of the running process, with the given flags.
func System(flags map[string]string) (Source, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Source{}, fmt.Errorf("find the working directory: %w", err)
	}
	src := Source{Flags: flags, Environ: os.Environ(), Dir: dir}
	// A container's user may have no entry in the password file, and need
	// not have one.
	if home, err := os.UserHomeDir(); err == nil {
		src.Home = home
	}
	if u, err := user.Current(); err == nil {
		src.User = u.Username
	}
	return src, nil
}

// Load reads the configuration. It reports all mistakes at once, joined, each
// an *[Error]. Notices come with a configuration as well as with an error. It
// reads files, and asks URLs only if a confvars file says so.
func Load(src Source) (*Config, []Notice, error) {
	l := loader{src: src, environ: map[string]string{}, responses: map[string]response{}, cfg: &Config{}}
	for _, variable := range src.Environ {
		name, value, _ := strings.Cut(variable, "=")
		l.environ[name] = value
	}
	l.readEnvfile()
	l.readConfvars()
	wanted := l.wanted()
	// The paths of the other options need these two.
	for _, first := range []string{"autosetup", "basedir"} {
		if o, known := lookup(first); known {
			l.load(&o)
		}
	}
	for _, o := range wanted {
		if o.name != "autosetup" && o.name != "basedir" {
			l.load(&o)
		}
	}
	l.finish(wanted)
	if len(l.errs) > 0 {
		return nil, l.notices, joinErrors(l.errs)
	}
	return l.cfg, l.notices, nil
}

type loader struct {
	src     Source
	environ map[string]string
	envfile map[string]Variable
	// envfilePath is the path of the envfile, "" without one.
	envfilePath string
	confvars    map[string]Entry
	responses   map[string]response
	cfg         *Config
	notices     []Notice
	errs        []*Error
	// incomplete is set when a source couldn't be read, so that it isn't
	// known what is missing.
	incomplete bool
}

// A found is a value and where it was.
type found struct {
	text   string
	origin string
	// shown tells whether an error may show the value: it came from a place
	// in which the operator wrote it for this option.
	shown bool
	// final is set when the text is the value itself, not a path.
	final bool
}

func (l *loader) fail(err *Error) { l.errs = append(l.errs, err) }

func (l *loader) note(option, origin, message string) {
	l.notices = append(l.notices, Notice{Option: option, Origin: origin, Message: message})
}

func (l *loader) wanted() []option {
	all := options()
	if l.src.Only == nil {
		return all
	}
	return slices.DeleteFunc(all, func(o option) bool {
		_, given := l.src.Flags[o.name]
		return !slices.Contains(l.src.Only, o.name) && !(o.ignored() && given)
	})
}

func (l *loader) readEnvfile() {
	path, given := l.flagPath("envfile")
	if !given {
		return
	}
	data, _, err := readFile(path)
	if err != nil {
		l.incomplete = true
		l.fail(err.at("envfile", "--envfile"))
		return
	}
	variables, notices, parseErr := ParseEnvfile(path, data)
	for _, err := range splitErrors(parseErr) {
		l.incomplete = true
		l.fail(err.at("envfile", ""))
	}
	l.envfile, l.envfilePath = variables, path
	for _, n := range notices {
		l.note("envfile", n.Origin, n.Message)
	}
}

func (l *loader) readConfvars() {
	path, given := l.flagPath("confvars")
	if !given {
		return
	}
	entries, errs := parseConfvars(path)
	for _, err := range errs {
		l.incomplete = true
		l.fail(err.at("confvars", "--confvars"))
	}
	l.confvars = entries
}

// flagPath returns the path that a flag of the command line gives.
func (l *loader) flagPath(name string) (string, bool) {
	path := strings.TrimSpace(l.src.Flags[name])
	if path == "" {
		return "", false
	}
	return l.absolute(strings.ReplaceAll(path, homeDir, l.src.Home)), true
}

func (l *loader) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.src.Dir, path)
}

// load finds an option's value and sets its field.
func (l *loader) load(o *option) {
	if o.ignored() {
		if _, given := l.src.Flags[o.name]; given {
			l.note(o.name, "--"+o.name, "the option has no meaning here and is ignored; the log goes to standard error")
		}
		return
	}
	value, err := l.value(o)
	if err != nil {
		l.fail(err.at(o.name, ""))
		return
	}
	if value.text == "" {
		if o.required && !l.incomplete && !l.cfg.Autosetup {
			l.fail(&Error{Option: o.name, Code: CodeMissing, Message: "there is no value; " + remedy(o)})
		}
		return
	}
	if err := o.kind.set(l.cfg, value.text); err != nil {
		err.Message = quote(value.text) + " " + err.Message
		if !value.shown || o.secret {
			err.Message = "the value is wrong; allowed is: " + o.kind.values
		}
		l.fail(err.at(o.name, value.origin))
	}
}

// remedy says how to give an option a value.
func remedy(o *option) string {
	return fmt.Sprintf("give --%s or set %s in the environment or an envfile, or run authnzrv --autosetup, which makes what a new server needs", o.name, o.env[0])
}

// value returns an option's value, ready to be parsed. Its text is "" if
// there is none.
func (l *loader) value(o *option) (found, *Error) {
	value := l.given(o)
	if entry, has := l.confvars[o.name]; has {
		var err *Error
		value, err = l.retrieve(o, entry, value)
		if err != nil {
			return found{}, err
		}
	}
	if blank(value.text) {
		value = found{text: o.def, origin: "default"}
	}
	if blank(value.text) {
		if o.name == "basedir" {
			return found{text: l.src.Dir}, nil
		}
		return found{}, nil
	}
	if o.kind.expand {
		value.text = l.substitute(value.text)
	}
	if o.kind.path && !(o.kind.none && isNone(value.text)) {
		value.text = l.absolute(strings.TrimSpace(value.text))
	}
	if o.fromFile && !value.final {
		return l.fileOrLiteral(o, value)
	}
	return value, nil
}

// given returns what the flag, the environment or the envfile gives, in this
// order.
func (l *loader) given(o *option) found {
	values := l.layers(o)
	if len(values) == 0 {
		return found{}
	}
	for _, other := range values[1:] {
		if strings.TrimSpace(other.text) != strings.TrimSpace(values[0].text) {
			l.note(o.name, "", fmt.Sprintf("%s and %s give different values; the one of %s counts", values[0].origin, other.origin, values[0].origin))
		}
	}
	return values[0]
}

// layers returns the values that aren't blank, at most one of the flag, the
// environment and the envfile each.
func (l *loader) layers(o *option) []found {
	var values []found
	if text := l.src.Flags[o.name]; !blank(text) {
		values = append(values, found{text: text, origin: "--" + o.name, shown: true})
	}
	names := slices.Concat(l.confvars[o.name].Env, o.env)
	if o.outdated != "" {
		names = append(names, o.outdated)
	}
	for _, name := range names {
		if text := l.environ[name]; !blank(text) {
			l.noteOutdated(o, name)
			values = append(values, found{text: text, origin: name, shown: true})
			break
		}
	}
	for _, name := range names {
		variable := l.envfile[strings.ToUpper(name)]
		if !blank(variable.Value) {
			l.noteOutdated(o, name)
			values = append(values, found{text: variable.Value, origin: l.envfileOrigin(name, variable), shown: true})
			break
		}
	}
	return values
}

func (l *loader) envfileOrigin(name string, v Variable) string {
	return fmt.Sprintf("%s in %s:%d", name, l.envfilePath, v.Line)
}

func (l *loader) noteOutdated(o *option, name string) {
	if o.outdated != "" && name == o.outdated {
		l.note(o.name, name, "the name of the variable is "+o.env[0]+" now; the old one still counts")
	}
}

// substitute replaces the placeholders that a value may hold.
func (l *loader) substitute(text string) string {
	return strings.NewReplacer(baseDir, cmp.Or(l.cfg.BaseDir, l.src.Dir), homeDir, l.src.Home, loginName, l.src.User).Replace(text)
}

// fileOrLiteral reads the file whose path the value is, if it is one.
func (l *loader) fileOrLiteral(o *option, value found) (found, *Error) {
	text := strings.TrimSpace(value.text)
	if keyShaped(text) {
		return value, nil
	}
	path := l.absolute(l.substitute(text))
	if _, err := os.Stat(path); err != nil {
		switch {
		case !looksLikePath(text):
			return value, nil
		case errors.Is(err, fs.ErrNotExist) && l.cfg.Autosetup:
			return found{}, nil // set-up makes the file
		}
		// The text may be a key after all, so that it must not be shown.
		return found{}, &Error{
			Origin: value.origin, Code: CodeNotFound, cause: err,
			Message: "the value looks like the path of a file, and there is no such file that can be reached; authnzrv keygen prints a new key for one",
		}
	}
	text, err := l.readText(o, path)
	if err != nil {
		return found{}, err.at("", value.origin)
	}
	return found{text: text, origin: path}, nil
}

// readText reads the text of a file. Line ends around it are dropped.
func (l *loader) readText(o *option, path string) (string, *Error) {
	data, mode, err := readFile(path)
	if err != nil {
		return "", err
	}
	text := strings.Trim(string(data), "\r\n")
	if blank(text) {
		return "", invalid(path + " is empty")
	}
	if o.secret && mode.Perm()&0o066 != 0 {
		l.note(o.name, path, fmt.Sprintf("the file holds a secret and others than its owner can open it (mode %04o); 0400 is right", mode.Perm()))
	}
	return text, nil
}

// finish checks what concerns more than one option, and reads what no option
// gives.
func (l *loader) finish(wanted []option) {
	c := l.cfg
	if !l.incomplete && (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		missing, given := "tlscertkey", "tlscertfile"
		if c.TLSCertFile == "" {
			missing, given = given, missing
		}
		// When the other one is wrong itself, that is already said.
		if !slices.ContainsFunc(l.errs, func(err *Error) bool { return err.Option == missing }) {
			l.fail(&Error{Option: missing, Code: CodeMissing, Message: "there is no value, but " + given + " has one; TLS needs both"})
		}
	}
	if c.Debug && slices.ContainsFunc(wanted, func(o option) bool { return o.name == "logging" }) && !l.has("logging") {
		c.LogLevel = slog.LevelDebug
	}
	if isNone(c.PIISalt) {
		l.note("piisalt", "", "the word none is a salt like any other; personal data in the log is always hashed")
	}
	c.AdminEmail, c.AdminPassword = strings.TrimSpace(l.environ[adminEmail]), l.environ[adminPassword]
	l.noteUnknown()
}

// has tells whether something else than the default gives an option's value.
func (l *loader) has(name string) bool {
	o, _ := lookup(name)
	_, entry := l.confvars[name]
	return entry || len(l.layers(&o)) > 0
}

// noteUnknown points at names that look like options and aren't.
func (l *loader) noteUnknown() {
	known := map[string]bool{
		adminEmail: true, adminPassword: true,
		envPrefix + "URL": true, // read by clients
	}
	for _, o := range options() {
		known[o.outdated] = true
		for _, name := range o.env {
			known[name] = true
		}
	}
	for _, entry := range l.confvars {
		for _, name := range entry.Env {
			known[name] = true
		}
	}
	const message = "there is no option of this name"
	for _, name := range slices.Sorted(maps.Keys(l.environ)) {
		if strings.HasPrefix(name, envPrefix) && !known[name] {
			l.note("", name, message)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.envfile)) {
		origin := l.envfileOrigin(name, l.envfile[name])
		switch {
		case name == adminEmail || name == adminPassword:
			l.note("", origin, "it is read from the process environment alone")
		case strings.HasPrefix(name, envPrefix) && !known[name]:
			l.note("", origin, message)
		}
	}
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }

// looksLikePath tells whether a text is meant as a path, whether or not there
// is such a file.
func looksLikePath(text string) bool {
	return !keyShaped(text) && strings.ContainsAny(text, `/`+string(filepath.Separator)) ||
		strings.HasPrefix(text, baseDir) || strings.HasPrefix(text, homeDir)
}

// keyShaped tells whether a text consists of keys in Fernet's form: 32 bytes
// in base64 of either alphabet, padded, one or several.
func keyShaped(text string) bool {
	keys := strings.FieldsFunc(unquote(text), func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
	for _, key := range keys {
		if !fernetKey.MatchString(key) {
			return false
		}
	}
	return len(keys) > 0
}

package config_test

import (
	"bytes"
	"strings"
	"testing"

	"authnzerver/internal/config"
	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// A cli has the shape of the program's command line.
type cli struct {
	Serve struct {
		kong.Plugins
	} `cmd:"" default:"withargs" help:"Serve."`
	Call struct {
		kong.Plugins
		Request string `arg:""`
		Body    string `arg:"" optional:""`
	} `cmd:"" help:"Call."`
}

// parse returns the command and the flags that were given to it.
func parse(t *testing.T, args ...string) (command string, given map[string]string, help string, err error) {
	t.Helper()
	var c cli
	var out bytes.Buffer
	serve, call := config.NewFlags(), config.NewFlags("envfile", "secret", "port", "listen")
	c.Serve.Plugins, c.Call.Plugins = serve.Plugins(), call.Plugins()
	parser, err := kong.New(&c, kong.Name("authnzrv"), kong.Writers(&out, &out), kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, err := parser.Parse(config.Normalize(args))
	if err != nil {
		return "", nil, out.String(), err
	}
	command, _, _ = strings.Cut(ctx.Command(), " ")
	if command == "call" {
		return command, call.Given(), c.Call.Body, nil
	}
	return command, serve.Given(), out.String(), nil
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args    string
		command string
		want    map[string]string
	}{
		{"", "serve", map[string]string{}},
		{"--port=13431", "serve", map[string]string{"port": "13431"}},
		{"--port 1", "serve", map[string]string{"port": "1"}},
		{"--port=1 --port=2", "serve", map[string]string{"port": "2"}},
		{"--port=", "serve", map[string]string{"port": ""}},
		{"-port=-1", "serve", map[string]string{"port": "-1"}},
		{"serve --autosetup", "serve", map[string]string{"autosetup": "true"}},
		{"--autosetup --basedir=/x", "serve", map[string]string{"autosetup": "true", "basedir": "/x"}},
		{"-autosetup=f", "serve", map[string]string{"autosetup": "f"}},
		{"--debugmode=1", "serve", map[string]string{"debugmode": "1"}},
		{"--secret=a=b,c --authdb=x://a:b@c/%20?d=e", "serve", map[string]string{"secret": "a=b,c", "authdb": "x://a:b@c/%20?d=e"}},
		{"--log_to_stderr --log-file-prefix=/x -log_rotate-mode=size", "serve", map[string]string{"log-to-stderr": "true", "log-file-prefix": "/x", "log-rotate-mode": "size"}},
		{"call user-list --port=5", "call", map[string]string{"port": "5"}},
		{"call -port=5 -- user-list -port=6", "call", map[string]string{"port": "5"}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			command, got, _, err := parse(t, strings.Fields(tt.args)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || command != tt.command {
				t.Errorf("command %s, flags (-want +got):\n%s", command, diff)
			}
		})
	}
}

func TestFlagErrors(t *testing.T) {
	t.Parallel()
	for args, part := range map[string]string{
		"--prot=1":                `did you mean "--port"`,
		"--port":                  "--port: the option needs a value",
		"--port --workers=1":      "--port: the option needs a value",
		"call user-list --authdb": "unknown flag --authdb",
	} {
		_, _, _, err := parse(t, strings.Fields(args)...)
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: error %v, want %q", args, err, part)
		}
	}
}

func TestFlagValuesArriveUnchanged(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"\xff\xfe", "a\nb", `{"a": 1}`, "${HOME}", " x ", "--", "a,b", "'q'"} {
		_, got, _, err := parse(t, "--secret="+value)
		if err != nil {
			t.Errorf("%q: %v", value, err)
		} else if got["secret"] != value {
			t.Errorf("%q arrives as %q", value, got["secret"])
		}
	}
}

func TestHelpNamesEveryOption(t *testing.T) {
	t.Parallel()
	_, _, help, err := parse(t, "serve", "-help")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"--port=NUMBER", "--autosetup", "--envfile=PATH", "--emailtls=", "AUTHNZERVER_PORT", "Users and limits", "13431"} {
		if !strings.Contains(help, part) {
			t.Errorf("the help doesn't contain %q:\n%s", part, help)
		}
	}
	if strings.Contains(help, "--log-file-prefix") {
		t.Error("the help shows an option without meaning")
	}
}

func TestNewFlagsKnowsItsOptions(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("NewFlags takes a name that is no option's")
		}
	}()
	config.NewFlags("prot")
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	in := []string{
		"-port=1", "--log_to_stderr", "-log_file_prefix=a_b-c=d", "-help", "-h", "-x=1", "--some_name=x", "-", "",
		`{"-port": 1}`, `-{"port": 1}`, "port=1", "---port=1", "--PORT=1", "-1", "--", "-port=1",
	}
	before := append([]string{}, in...)
	want := []string{
		"--port=1", "--log-to-stderr", "--log-file-prefix=a_b-c=d", "--help", "-h", "-x=1", "--some_name=x", "-", "",
		`{"-port": 1}`, `-{"port": 1}`, "port=1", "---port=1", "--PORT=1", "-1", "--", "-port=1",
	}
	if diff := cmp.Diff(want, config.Normalize(in)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(before, in); diff != "" {
		t.Errorf("the arguments themselves are changed:\n%s", diff)
	}
}

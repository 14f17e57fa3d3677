package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authnzerver/internal/config"
	"github.com/google/go-cmp/cmp"
)

func TestDefaults(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	got, notices := load(t, p.source(nil))
	want := &config.Config{
		AllowedHosts: []string{"localhost", "127.0.0.1"}, AuthDB: "sqlite:////a.sqlite",
		BaseDir: p.dir, CacheDir: filepath.Join(p.dir, ".authnzerver-cache"),
		Listen: "127.0.0.1", Port: 13431,
		Secret: key, PIISalt: "salt", MessageTTL: 5 * time.Minute,
		SessionExpiry: 30 * 24 * time.Hour, UserLockTries: 10, UserLockTime: time.Hour, MaxLoginWait: 40 * time.Second,
		PassPolicy:   "min_pass_length:12; max_unsafe_similarity:50; max_char_frequency:0.3; min_pwned_matches:25",
		PwnedURL:     "https://api.pwnedpasswords.com",
		RateLimits:   config.RateLimits{IPAddr: 720, User: 480, Session: 600, APIKey: 720, Burst: 150},
		APIKeyPrefix: "authnz", RefreshGrace: 30 * time.Second, EventRetention: 365 * 24 * time.Hour,
		LogSample: 100, LogEvery: 100, TraceSample: 1,
		Workers: 4, HashQueue: 64, Argon2: "m=65536,t=3,p=4", ShutdownTimeout: 5 * time.Second,
		EmailServer: "localhost", EmailPort: 25, EmailUser: "someone",
		EmailSender: "Authnzerver <authnzerver@localhost>", EmailTLS: "auto", EmailPace: time.Second,
		LogFormat: "auto",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if len(notices) > 0 {
		t.Errorf("notices: %v", notices)
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		flags   []string
		environ []string
		envfile string
		want    int
		notice  string
	}{
		{"flag first", []string{"port=1"}, []string{"AUTHNZERVER_PORT=2"}, "AUTHNZERVER_PORT=3", 1, "--port and AUTHNZERVER_PORT give different"},
		{"then the environment", nil, []string{"AUTHNZERVER_PORT=2"}, "AUTHNZERVER_PORT=3", 2, "AUTHNZERVER_PORT and AUTHNZERVER_PORT in "},
		{"then the envfile", nil, nil, "AUTHNZERVER_PORT=3", 3, ""},
		{"same values need no notice", []string{"port=2"}, []string{"AUTHNZERVER_PORT= 2 "}, "", 2, ""},
		{"a blank flag is absent", []string{"port= "}, []string{"AUTHNZERVER_PORT=2"}, "", 2, ""},
		{"a blank variable is absent", nil, []string{"AUTHNZERVER_PORT= "}, "AUTHNZERVER_PORT=3", 3, ""},
		{"a blank variable doesn't hide a flag", []string{"port=1"}, []string{"AUTHNZERVER_PORT="}, "", 1, ""},
		{"a blank line is absent", nil, nil, "AUTHNZERVER_PORT=", 13431, ""},
		{"AUTHNZERVER_PORT beats PORT", nil, []string{"PORT=5", "AUTHNZERVER_PORT=2"}, "", 2, ""},
		{"PORT counts", nil, []string{"PORT=5"}, "", 5, ""},
		{"PORT counts beside a blank AUTHNZERVER_PORT", nil, []string{"PORT=5", "AUTHNZERVER_PORT="}, "", 5, ""},
		{"PORT counts in an envfile", nil, nil, "PORT=5", 5, ""},
		{"letter case doesn't matter in an envfile", nil, nil, "authnzerver_port: 6", 6, ""},
		{"the envfile adds to the environment", nil, []string{"AUTHNZERVER_PORT=2"}, "AUTHNZERVER_WORKERS=3", 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			flags := append([]string{"envfile=" + p.file(".env", tt.envfile)}, tt.flags...)
			c, notices := load(t, p.source(flags, tt.environ...))
			if c.Port != tt.want {
				t.Errorf("port %d, want %d", c.Port, tt.want)
			}
			if tt.notice == "" {
				if len(notices) > 0 {
					t.Errorf("notices: %v", notices)
				}
				return
			}
			wantNotice(t, notices, "port", tt.notice)
		})
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	const dir = "/the/dir"
	for _, tt := range []struct {
		flag string
		got  func(*config.Config) any
		want any
	}{
		{"allowedhosts= a.example ;; b.example;", func(c *config.Config) any { return c.AllowedHosts }, []string{"a.example", "b.example"}},
		{"authdb=sqlite:///[[basedir]]/x [[homedir]]", func(c *config.Config) any { return c.AuthDB }, "sqlite:///" + dir + "/x /home/someone"},
		{"basedir=sub", func(c *config.Config) any { return c.BaseDir }, dir + "/sub"},
		{"basedir=[[homedir]]/auth", func(c *config.Config) any { return c.BaseDir }, "/home/someone/auth"},
		{"basedir=/base", func(c *config.Config) any { return c.CacheDir }, "/base/.authnzerver-cache"},
		{"cachedir=cache", func(c *config.Config) any { return c.CacheDir }, dir + "/cache"},
		{"cachedir=None", func(c *config.Config) any { return c.CacheDir }, ""},
		{"permissions=[[basedir]]/p.json", func(c *config.Config) any { return c.Permissions }, dir + "/p.json"},
		{"debugmode=1", func(c *config.Config) any { return c.Debug }, true},
		{"debugmode=True", func(c *config.Config) any { return c.LogLevel }, slog.LevelDebug},
		{"debugmode=False", func(c *config.Config) any { return c.Debug }, false},
		{"debugmode=0", func(c *config.Config) any { return c.LogLevel }, slog.LevelInfo},
		{"logging=WARNING", func(c *config.Config) any { return c.LogLevel }, slog.LevelWarn},
		{"logging=none", func(c *config.Config) any { return c.LogOff }, true},
		{"logformat=json", func(c *config.Config) any { return c.LogFormat }, "json"},
		{"listen=[::1]", func(c *config.Config) any { return c.Listen }, "::1"},
		{"listen=auth.example", func(c *config.Config) any { return c.Listen }, "auth.example"},
		{"port= 7 ", func(c *config.Config) any { return c.Port }, 7},
		{"port=1_000", func(c *config.Config) any { return c.Port }, 1000},
		{"port=0", func(c *config.Config) any { return c.Port }, 0},
		{"secret=" + slashKey, func(c *config.Config) any { return c.Secret }, slashKey},
		{"secret=\"" + slashKey + "\"", func(c *config.Config) any { return c.Secret }, slashKey},
		{"secret=" + key + "," + slashKey, func(c *config.Config) any { return c.Secret }, key + "," + slashKey},
		{"piisalt= a salt ", func(c *config.Config) any { return c.PIISalt }, " a salt "},
		{"piisalt=" + slashKey, func(c *config.Config) any { return c.PIISalt }, slashKey},
		{"emailpass=\n p/w \n", func(c *config.Config) any { return c.EmailPass }, " p/w "},
		{"emailtls=Require", func(c *config.Config) any { return c.EmailTLS }, "require"},
		{"messagettl=0", func(c *config.Config) any { return c.MessageTTL }, time.Duration(0)},
		{"pwnedurl=none", func(c *config.Config) any { return c.PwnedURL }, ""},
		{"pwnedurl=http://localhost:1/", func(c *config.Config) any { return c.PwnedURL }, "http://localhost:1"},
		{"logsample= 5 : 7", func(c *config.Config) any { return [2]int{c.LogSample, c.LogEvery} }, [2]int{5, 7}},
		{"logsample=none", func(c *config.Config) any { return [2]int{c.LogSample, c.LogEvery} }, [2]int{}},
		{"metricslisten=:0", func(c *config.Config) any { return c.MetricsListen }, ":0"},
		{"metricslisten=[::1]:9431", func(c *config.Config) any { return c.MetricsListen }, "[::1]:9431"},
		{"metricslisten=None", func(c *config.Config) any { return c.MetricsListen }, ""},
		{"tracesurl=http://localhost:4318/", func(c *config.Config) any { return c.TracesURL }, "http://localhost:4318"},
		{"tracesample=0.25", func(c *config.Config) any { return c.TraceSample }, 0.25},
		{"eventretention=7", func(c *config.Config) any { return c.EventRetention }, 7 * 24 * time.Hour},
		{"webhookurl=none", func(c *config.Config) any { return c.WebhookURL }, ""},
		{"ratelimits=user:1;", func(c *config.Config) any { return c.RateLimits.User }, 1},
		{"ratelimits=NONE", func(c *config.Config) any { return c.RateLimits }, config.RateLimits{Off: true}},
		{"autosetup=true", func(c *config.Config) any { return c.Autosetup }, true},
		{"autosetup=f", func(c *config.Config) any { return c.Autosetup }, false},
	} {
		t.Run(tt.flag, func(t *testing.T) {
			t.Parallel()
			src := newPlace(t).source([]string{tt.flag})
			src.Dir = dir
			c, _ := load(t, src)
			if diff := cmp.Diff(tt.want, tt.got(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestEveryNumberHasARange(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]string{
		"port": "0 to 65535", "messagettl": "0 to 86400", "sessionidle": "0 to 525600", "sessionexpiry": "0 to 36500", "userlocktries": "1 to 100000",
		"userlocktime": "1 to 31536000", "maxloginwait": "0 to 300", "workers": "1 to 1024", "hashqueue": "0 to 65536",
		"shutdowntimeout": "0 to 600", "emailport": "1 to 65535",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			low, high, _ := strings.Cut(limits, " to ")
			for _, fine := range []string{low, high, "+" + high} {
				load(t, p.source([]string{name + "=" + fine}))
			}
			for _, wrong := range []string{"-1", high + "0", "99999999999999999999999"} {
				wantError(t, p.source([]string{name + "=" + wrong}), name, config.CodeOutOfRange, "--"+name, wrong, "from "+limits)
			}
			for _, wrong := range []string{"7.0", "abc", "0x10", "1__0", "_1", "1 0", "५"} {
				wantError(t, p.source([]string{name + "=" + wrong}), name, config.CodeInvalid, "--"+name, wrong, "from "+limits)
			}
		})
	}
}

func TestInvalidValues(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for flag, part := range map[string]string{
		"allowedhosts=;":                     "no name",
		"debugmode=2":                        "true or false",
		"autosetup=maybe":                    "true or false",
		"listen=127.0.0.1:13431":             "port is an option",
		"listen=http://a":                    "not an IP address",
		"emailtls=starttls":                  "auto, require, implicit, insecure, off",
		"logging=loud":                       "debug, info",
		"logformat=xml":                      "auto, text, json",
		"pwnedurl=ftp://a":                   "http or https",
		"pwnedurl=https://":                  "http or https",
		"ratelimits=user":                    "not a pair",
		"logsample=100":                      "two numbers",
		"logsample=a:1":                      "from 1 to",
		"metricslisten=9431":                 "address and a port",
		"metricslisten=a:b":                  "from 0 to 65535",
		"tracesurl=localhost:4318":           "http or https",
		"tracesample=1.1":                    "from 0 to 1",
		"tracesample=NaN":                    "from 0 to 1",
		"listen=" + strings.Repeat("é:", 99): "…",
	} {
		name, _, _ := strings.Cut(flag, "=")
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			wantError(t, p.source([]string{flag}), name, config.CodeInvalid, "--"+name, part)
		})
	}
}

func TestRequiredOptions(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	src := p.source([]string{"port=x", "workers=0"})
	src.Environ = []string{"AUTHNZERVER_SECRET= "}
	all := loadErrors(t, src)
	var got []string
	for _, err := range all {
		got = append(got, err.Option+" "+string(err.Code))
	}
	want := []string{"authdb missing", "port invalid", "secret missing", "piisalt missing", "workers out_of_range"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	for _, part := range []string{"authdb", "--authdb", "AUTHNZERVER_AUTHDB", "authnzrv --autosetup"} {
		if !strings.Contains(all[0].Error(), part) {
			t.Errorf("error %q doesn't contain %q", all[0], part)
		}
	}
}

func TestAutosetupNeedsNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	src := p.source([]string{"autosetup=true", "secret=[[basedir]]/not-yet"})
	src.Environ = []string{"AUTHNZERVER_AUTHDB=postgresql://u@h/db"}
	c, _ := load(t, src)
	if !c.Autosetup || c.AuthDB != "postgresql://u@h/db" || c.Secret != "" || c.PIISalt != "" {
		t.Errorf("autosetup %t, authdb %q, secret %t, piisalt %t", c.Autosetup, c.AuthDB, c.Secret != "", c.PIISalt != "")
	}
}

func TestOnly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	src := p.source([]string{"log-to-stderr=true"}, "AUTHNZERVER_WORKERS=0", "AUTHNZERVER_PORT=9")
	src.Environ[0] = "AUTHNZERVER_AUTHDB="
	src.Only = []string{"secret", "port"}
	c, notices := load(t, src)
	want := &config.Config{BaseDir: p.dir, Secret: key, Port: 9}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantNotice(t, notices, "log-to-stderr", "ignored")
}

func TestSecretsInFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.file("key", "\r\n\n"+key+"\n"+slashKey+"\n\n")
	for _, value := range []string{"key", "./key", p.dir + "/key", "[[basedir]]/key", " key "} {
		c, notices := load(t, p.source([]string{"secret=" + value}))
		if c.Secret != key+"\n"+slashKey {
			t.Errorf("secret=%s: the secret isn't the file's text", value)
		}
		wantNotice(t, notices, "secret", "--secret and AUTHNZERVER_SECRET give different")
		if len(notices) != 1 {
			t.Errorf("secret=%s: %v", value, notices)
		}
	}
	if err := os.Chmod(p.dir+"/key", 0o640); err != nil {
		t.Fatal(err)
	}
	_, notices := load(t, p.source([]string{"secret=key"}))
	wantNotice(t, notices, "secret", p.dir+"/key", "0640")
}

func TestMistypedSecretFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.file("empty", "\n \n")
	p.file("huge", strings.Repeat("x", 1<<20+1))
	for _, name := range []string{"secret", "piisalt"} {
		for value, code := range map[string]config.Code{
			p.dir + "/missing": config.CodeNotFound,
			"./missing":        config.CodeNotFound,
			"[[basedir]]x":     config.CodeNotFound,
			"[[homedir]]":      config.CodeNotFound,
			"empty/x":          config.CodeNotFound,
			"pass/word":        config.CodeNotFound,
			"empty":            config.CodeInvalid,
			p.dir:              config.CodeUnreadable,
			"huge":             config.CodeUnreadable,
		} {
			wantError(t, p.source([]string{name + "=" + value}), name, code, "--"+name)
		}
	}
	_, _, err := config.Load(p.source([]string{"piisalt=" + p.dir + "/missing"}))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v is no fs.ErrNotExist", err)
	}
}

// A text that was meant as a key, not as a path, must not reach a log.
func TestNoSecretInErrorsAndNotices(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	src := p.source([]string{
		"secret=one/canary", "piisalt=two/canary", "authdb=postgresql://u:canary@h/db", "emailpass=canary", "port=x",
	}, "AUTHNZERVER_EMAILPASS=other/canary", "AUTHNZERVER_ADMIN_PASSWORD=canary")
	_, notices, err := config.Load(src)
	if err == nil {
		t.Fatal("Load succeeds")
	}
	if text := fmt.Sprint(err, notices); strings.Contains(text, "canary") {
		t.Errorf("a secret is shown: %s", text)
	}
	wantNotice(t, notices, "emailpass", "--emailpass", "AUTHNZERVER_EMAILPASS")
}

func TestConfigPrintsNothing(t *testing.T) {
	t.Parallel()
	c, _ := load(t, newPlace(t).source(nil, "AUTHNZERVER_EMAILPASS=canary"))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "config", c, "copy", *c)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s %d", *c, *c, c, c), log.String()} {
		if strings.Contains(text, "canary") || strings.Contains(text, key) {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

func TestOldNameOfTheSecret(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	src := p.source(nil, "AUTHNZERVER_SECRETKEY="+slashKey)
	c, notices := load(t, src)
	if c.Secret != key || len(notices) > 0 {
		t.Errorf("the old name counts beside the new one; notices %v", notices)
	}
	src.Environ[1] = "AUTHNZERVER_SECRET="
	c, notices = load(t, src)
	if c.Secret != slashKey {
		t.Error("the old name doesn't count")
	}
	wantNotice(t, notices, "secret", "AUTHNZERVER_SECRETKEY", "AUTHNZERVER_SECRET now")
}

func TestTLSNeedsBothFiles(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	wantError(t, p.source([]string{"tlscertfile=c.pem"}), "tlscertkey", config.CodeMissing, "tlscertfile")
	wantError(t, p.source([]string{"tlscertkey=k.pem"}), "tlscertfile", config.CodeMissing, "tlscertkey")
	c, _ := load(t, p.source([]string{"tlscertkey=k.pem", "tlscertfile=c.pem"}))
	if c.TLSKeyFile != p.dir+"/k.pem" || c.TLSCertFile != p.dir+"/c.pem" {
		t.Errorf("files %q and %q", c.TLSCertFile, c.TLSKeyFile)
	}
}

func TestAdminComesFromTheEnvironmentAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	envfile := p.file(".env", "AUTHNZERVER_ADMIN_EMAIL=file@x\nAUTHNZERVER_ADMIN_PASSWORD=file\n")
	c, notices := load(t, p.source([]string{"envfile=" + envfile}, "AUTHNZERVER_ADMIN_PASSWORD= word "))
	if c.AdminEmail != "" || c.AdminPassword != " word " {
		t.Errorf("admin %q, %q", c.AdminEmail, c.AdminPassword)
	}
	wantNotice(t, notices, "", envfile+":1", "environment alone")
}

func TestEnvfileProblems(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	src := p.source([]string{"envfile=missing.env"})
	src.Environ = nil
	// What is missing isn't known without the envfile.
	wantError(t, src, "envfile", config.CodeNotFound, p.dir+"/missing.env", "--envfile")
	wantError(t, p.source([]string{"envfile=" + p.dir}), "envfile", config.CodeUnreadable, "directory")
	path := p.file(".env", "PORT=1\nPORT=2\nnonsense\nAUTHNZERVER_EXTRA=1\n")
	all := loadErrors(t, p.source([]string{"envfile=.env", "port=x"}))
	if len(all) != 2 || all[0].Code != config.CodeSyntax || all[0].Origin != path+":3" || all[1].Option != "port" {
		t.Errorf("errors: %v", all)
	}
	path = p.file(".env", "PORT=1\nPORT=2\nAUTHNZERVER_EXTRA=1\n")
	_, notices := load(t, p.source([]string{"envfile=.env"}))
	wantNotice(t, notices, "envfile", path+":2", "line 1")
	wantNotice(t, notices, "", "AUTHNZERVER_EXTRA", path+":3")
	p.file(".env", "AUTHNZERVER_PORT=x")
	wantError(t, p.source([]string{"envfile=.env"}), "port", config.CodeInvalid, "AUTHNZERVER_PORT in "+path+":1", `"x"`)
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	_, notices := load(t, newPlace(t).source(nil, "AUTHNZERVER_PROT=1", "AUTHNZERVER_URL=x", "AUTHNZERVER_CACHEDIR=/x"))
	wantNotice(t, notices, "", "AUTHNZERVER_PROT")
	if len(notices) != 1 {
		t.Errorf("notices: %v", notices)
	}
}

func TestWordNoneIsASalt(t *testing.T) {
	t.Parallel()
	src := newPlace(t).source(nil)
	src.Environ[2] = "AUTHNZERVER_PIISALT=none"
	c, notices := load(t, src)
	if c.PIISalt != "none" {
		t.Errorf("piisalt %q", c.PIISalt)
	}
	wantNotice(t, notices, "piisalt", "always hashed")
}

func TestSystem(t *testing.T) {
	t.Setenv("AUTHNZERVER_PORT", "77")
	src, err := config.System(map[string]string{"workers": "2"})
	if err != nil {
		t.Fatal(err)
	}
	src.Only = []string{"port", "workers", "basedir"}
	c, _ := load(t, src)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if c.Port != 77 || c.Workers != 2 || c.BaseDir != dir {
		t.Errorf("port %d, workers %d, basedir %q", c.Port, c.Workers, c.BaseDir)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"port (--port): no": &config.Error{Option: "port", Origin: "--port", Message: "no"},
		"port: no":          &config.Error{Option: "port", Message: "no"},
		"/x/.env:3: no":     &config.Error{Origin: "/x/.env:3", Message: "no"},
		"no":                &config.Error{Message: "no"},
	} {
		if err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

package config_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"authnzerver/internal/config"
	"github.com/google/go-cmp/cmp"
)

// with returns a source with a confvars file of the given text.
func (p place) with(confvars string, flags []string, environ ...string) config.Source {
	p.t.Helper()
	path := p.file("confvars.json", confvars)
	return p.source(append([]string{"confvars=" + path}, flags...), environ...)
}

func TestConfvarsFromFilesAndVariables(t *testing.T) {
	t.Parallel()
	encoded := base64.RawURLEncoding.EncodeToString([]byte("  sÿlt?>  "))
	for _, tt := range []struct {
		name     string
		confvars string
		flags    []string
		environ  []string
		got      func(*config.Config) any
		want     any
	}{
		{"file", `{"port": {"file": "port"}}`, nil, nil, port, 81},
		{"file in basedir", `{"port": {"file": "[[basedir]]/port"}}`, nil, nil, port, 81},
		{"file whose path a variable gives", `{"port": {"file": "[[WHERE]]"}}`, nil, []string{"WHERE=port"}, port, 81},
		{"the environment beats a file", `{"port": {"file": "missing"}}`, nil, []string{"PORT=82"}, port, 82},
		{"a flag beats a file", `{"port": {"file": "missing"}}`, []string{"port=83"}, nil, port, 83},
		{"JSON path", `{"port": {"file": "a.json", "json_path": "a.b.0.port"}}`, nil, nil, port, 84},
		{"JSON path as the Python server writes it", `{"port": {"file": "a.json", "json_path": "a.b._arr_0.port"}}`, nil, nil, port, 84},
		{"name that looks like a position", `{"port": {"file": "a.json", "json_path": "c._arr_0.1"}}`, nil, nil, port, 85},
		{"boolean", `{"debugmode": {"file": "a.json", "json_path": "d"}}`, nil, nil, func(c *config.Config) any { return c.Debug }, true},
		{"own variable", `{"port": {"env": ["MY_PORT", "OTHER"]}}`, nil, []string{"OTHER=86", "MY_PORT= ", "PORT=1"}, port, 86},
		{"the option's own variable still counts", `{"port": {"env": ["MY_PORT"]}}`, nil, []string{"PORT=87"}, port, 87},
		{"default", `{"port": {"default": "88"}}`, nil, nil, port, 88},
		{"default that is a number", `{"port": {"default": 89}}`, nil, nil, port, 89},
		{"a variable beats a default", `{"port": {"default": 89}}`, nil, []string{"PORT=90"}, port, 90},
		{"empty entry", `{"port": {}}`, nil, nil, port, 13431},
		{"the value is a path", `{"port": {"from": "value"}}`, []string{"port=port"}, nil, port, 81},
		{"the default is a path", `{"port": {"from": "value", "default": "port"}}`, nil, nil, port, 81},
		{"no value is no path", `{"port": {"from": "value"}}`, nil, nil, port, 13431},
		{"JSON in a variable", `{"port": {"env": ["ALL"], "json_path": "p"}}`, nil, []string{`ALL={"p": 91}`}, port, 91},
		{"base64", `{"piisalt": {"env": ["B"], "decode": "base64"}}`, nil, []string{"B=" + encoded, "AUTHNZERVER_PIISALT="}, salt, "  sÿlt?>  "},
		{"base64, then trim", `{"piisalt": {"env": ["B"], "decode": ["base64", "trim"]}}`, nil, []string{"B=" + encoded + "=="}, salt, "sÿlt?>"},
		{"what was found in a file isn't a path", `{"piisalt": {"file": "salt"}}`, nil, []string{"AUTHNZERVER_PIISALT="}, salt, "a/b"},
		{"a path is made absolute", `{"tlscertfile": {"default": "x"}, "tlscertkey": {"default": "/y"}}`, nil, nil, func(c *config.Config) any { return c.TLSKeyFile }, "/y"},
		{"the base directory itself", `{"basedir": {"default": "/base"}}`, nil, nil, func(c *config.Config) any { return c.CacheDir }, "/base/.authnzerver-cache"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.file("port", "\n81\n")
			p.file("salt", "a/b\n")
			p.file("a.json", `{"a": {"b": [{"port": 84}]}, "c": {"_arr_0": ["x", "85"]}, "d": true}`)
			c, _ := load(t, p.with(tt.confvars, tt.flags, tt.environ...))
			if diff := cmp.Diff(tt.want, tt.got(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func port(c *config.Config) any { return c.Port }
func salt(c *config.Config) any { return c.PIISalt }

func TestConfvarsMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		confvars, option string
		code             config.Code
		part             string
	}{
		{`{"port": {}`, "confvars", config.CodeSyntax, "confvars.json:1"},
		{"{\n\"port\": {},\n\"port\": {}}", "confvars", config.CodeSyntax, "confvars.json:3): a name stands twice in one object: port"},
		{`[]`, "confvars", config.CodeSyntax, "isn't a JSON object"},
		{`{"prot": {}}`, "confvars", config.CodeUnknown, ": prot): there is no option"},
		{`{"envfile": {}}`, "confvars", config.CodeUnknown, "command line alone"},
		{`{"port": {"flie": "x"}}`, "port", config.CodeUnknown, ": port.flie): there is no member"},
		{`{"port": {"http": {"url": "http://x", "Url": "y"}}}`, "port", config.CodeUnknown, "port.http.Url"},
		{`{"port": {"file": 1}}`, "port", config.CodeInvalid, ": port.file): the value has the wrong type"},
		{`{"port": {"http": {"url": "http://x", "headers": {"A": 1}}}}`, "port", config.CodeInvalid, "port.http.headers.A"},
		{`{"port": 5}`, "port", config.CodeInvalid, ": port): the value has the wrong type"},
		{`{"port": {"env": ["A B"]}}`, "port", config.CodeInvalid, "port.env.0"},
		{`{"port": {"default": [1]}}`, "port", config.CodeInvalid, "port.default"},
		{`{"port": {"from": "file"}}`, "port", config.CodeInvalid, "port.from"},
		{`{"port": {"from": "value", "file": "x"}}`, "port", config.CodeInvalid, "port.file"},
		{`{"port": {"file": "x", "http": {"url": "http://x"}}}`, "port", config.CodeInvalid, "port.file"},
		{`{"port": {"file": "x", "default": 1}}`, "port", config.CodeInvalid, "port.default"},
		{`{"port": {"from": "value", "http": {"url": "http://x"}}}`, "port", config.CodeInvalid, "port.http.url"},
		{`{"port": {"http": {}}}`, "port", config.CodeInvalid, "port.http.url"},
		{`{"port": {"http": {"url": "file:///x"}}}`, "port", config.CodeInvalid, "port.http.url"},
		{`{"port": {"http": {"url": "http://x", "method": "PUT"}}}`, "port", config.CodeInvalid, "port.http.method"},
		{`{"port": {"http": {"url": "http://x", "method": "get", "form": {}}}}`, "port", config.CodeInvalid, "port.http.method"},
		{`{"port": {"http": {"url": "http://x", "body": "", "form": {}}}}`, "port", config.CodeInvalid, "port.http.form"},
		{`{"port": {"http": {"url": "http://x", "timeout": "5"}}}`, "port", config.CodeInvalid, "port.http.timeout"},
		{`{"port": {"http": {"url": "http://x", "timeout": "61s"}}}`, "port", config.CodeInvalid, "port.http.timeout"},
		{`{"port": {"json_path": "a..b"}}`, "port", config.CodeInvalid, "port.json_path"},
		{`{"port": {"decode": "rot13"}}`, "port", config.CodeInvalid, "rot13"},
		{`{"port": {"decode": [1]}}`, "port", config.CodeInvalid, "port.decode"},
		{`{"port": {"file": "missing"}}`, "port", config.CodeNotFound, "/missing doesn't exist"},
		{`{"port": {"file": "[[NO_SUCH]]"}}`, "port", config.CodeNotFound, "[[NO_SUCH]] stands for a variable"},
		{`{"port": {"from": "value", "default": "missing"}}`, "port", config.CodeNotFound, "/missing doesn't exist"},
		{`{"port": {"file": "empty"}}`, "port", config.CodeInvalid, "/empty is empty"},
		{`{"port": {"file": "."}}`, "port", config.CodeUnreadable, "is a directory"},
		{`{"port": {"file": "text"}}`, "port", config.CodeInvalid, "/text): the value is wrong; allowed is: 0 to 65535"},
		{`{"port": {"file": "number"}}`, "port", config.CodeOutOfRange, "/number): the value is wrong; allowed is: 0 to 65535"},
		{`{"port": {"default": "abc"}}`, "port", config.CodeInvalid, `"abc" is not a whole number`},
		{`{"ratelimits": {"file": "text"}}`, "ratelimits", config.CodeInvalid, "name:number pairs"},
		{`{"port": {"file": "text", "json_path": "a"}}`, "port", config.CodeInvalid, "isn't valid JSON"},
		{`{"port": {"file": "json", "json_path": "a.c.d"}}`, "port", config.CodeNotFound, "nothing at a.c"},
		{`{"port": {"file": "json", "json_path": "a.b.1"}}`, "port", config.CodeNotFound, "nothing at a.b.1"},
		{`{"port": {"file": "json", "json_path": "a.b.x"}}`, "port", config.CodeNotFound, "nothing at a.b.x"},
		{`{"port": {"file": "json", "json_path": "a.b.0.c"}}`, "port", config.CodeNotFound, "nothing at a.b.0.c"},
		{`{"port": {"file": "json", "json_path": "a"}}`, "port", config.CodeInvalid, "not a string, a number or a boolean"},
		{`{"port": {"file": "json", "json_path": "n"}}`, "port", config.CodeInvalid, "not a string, a number or a boolean"},
		{`{"port": {"file": "json", "json_path": "blank"}}`, "port", config.CodeInvalid, "blank"},
		{`{"emailpass": {"default": "!", "decode": "base64"}}`, "emailpass", config.CodeInvalid, "isn't base64"},
		{`{"emailpass": {"default": "/w==", "decode": "base64"}}`, "emailpass", config.CodeInvalid, "isn't text"},
	} {
		t.Run(tt.confvars, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.file("empty", "\n")
			p.file("text", "canary")
			p.file("number", "99999")
			p.file("json", `{"a": {"b": ["canary"]}, "n": null, "blank": " "}`)
			src := p.with(tt.confvars, nil)
			wantError(t, src, tt.option, tt.code, tt.part)
			if _, _, err := config.Load(src); strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows what a file holds: %v", err)
			}
		})
	}
}

func TestConfvarsReportsAllMistakes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	all := loadErrors(t, p.with(`{"prot": {}, "port": {"from": "x", "decode": "y"}, "workers": {"file": "missing"}}`, []string{"logging=x"}))
	var got []string
	for _, err := range all {
		got = append(got, err.Option)
	}
	if diff := cmp.Diff([]string{"port", "port", "confvars", "workers", "logging"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestPythonConfvarsFilesAreExplained(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.file("confvars.py", "CONF = {}")
	wantError(t, p.source([]string{"confvars=confvars.py"}), "confvars", config.CodeInvalid, "JSON", "json_path", "decode")
	wantError(t, p.source([]string{"confvars=missing.json"}), "confvars", config.CodeNotFound, p.dir+"/missing.json")
}

// A vault is a server that keeps values, and notes what it is asked.
func vault(t *testing.T) (base string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/auth", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("X-Vault-Token") != "the token" {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprintf(w, `{"data": {"port": "91", "salt": "canary", "keys": [%q]}}`, base64.StdEncoding.EncodeToString([]byte(key)))
	})
	mux.HandleFunc("/text", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\n92\n") })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body)
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20+1)) })
	mux.HandleFunc("/near", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/text", http.StatusFound) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	mux.HandleFunc("/far", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.2:1/?canary", http.StatusFound)
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			fmt.Fprint(conn, "canary\r\n\r\n")
			conn.Close()
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL, asked
}

func TestConfvarsFromURLs(t *testing.T) {
	t.Parallel()
	base, asked := vault(t)
	p := newPlace(t)
	request := `"http": {"url": "` + base + `/v1/auth", "headers": {"X-Vault-Token": "the [[TOKEN]]"}}`
	src := p.with(`{
		"secret":    {`+request+`, "json_path": "data.keys._arr_0", "decode": "base64"},
		"port":      {`+request+`, "json_path": "data.port"},
		"piisalt":   {`+request+`, "json_path": "data.salt"},
		"workers":   {"http": {"url": "`+base+`/text"}},
		"hashqueue": {"from": "value"},
		"messagettl": {"http": {"url": "`+base+`/near"}}
	}`, []string{"envfile=" + p.file(".env", "TOKEN=token")}, "AUTHNZERVER_HASHQUEUE="+base+"/text?x=y")
	src.Environ[1], src.Environ[2] = "", ""
	c, notices := load(t, src)
	if c.Secret != key || c.PIISalt != "canary" || c.Port != 91 || c.Workers != 92 || c.HashQueue != 92 || c.MessageTTL.Seconds() != 92 {
		t.Errorf("port %d, workers %d, hashqueue %d, messagettl %s", c.Port, c.Workers, c.HashQueue, c.MessageTTL)
	}
	if asked.Load() != 1 {
		t.Errorf("the same request is sent %d times", asked.Load())
	}
	if len(notices) > 0 {
		t.Errorf("notices: %v", notices)
	}
}

func TestConfvarsRequests(t *testing.T) {
	t.Parallel()
	base, _ := vault(t)
	for members, want := range map[string]string{
		``:                   "GET /echo",
		`, "method": "post"`: "POST /echo",
		`?a=b", "query": {"c": "[[V]]"}, "method": "GET`:                       "GET /echo?a=b&c=v%26+v",
		`, "form": {"c": "[[V]]", "a": "[[basedir]]"}`:                         "POST /echo application/x-www-form-urlencoded a=%2Fdir&c=v%26+v",
		`, "body": "raw [[V]]"`:                                                "POST /echo text/plain; charset=utf-8 raw v& v",
		`, "body": {"b": ["[[V]]", 1, null], "[[V]]": "\""}`:                   `POST /echo application/json {"[[V]]":"\"","b":["v& v",1,null]}`,
		`, "body": {"x": 1}, "headers": {"content-type": "application/vnd.x"}`: `POST /echo application/vnd.x {"x":1}`,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			entry := `{"emailsender": {"http": {"url": "` + base + `/echo"` + members + `}}}`
			if strings.HasPrefix(members, "?") {
				entry = `{"emailsender": {"http": {"url": "` + base + `/echo` + members + `"}}}`
			}
			src := newPlace(t).with(entry, nil, "V=v& v", "AUTHNZERVER_BASEDIR=/dir")
			c, _ := load(t, src)
			if got := strings.Join(strings.Fields(c.EmailSender), " "); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestConfvarsURLMistakes(t *testing.T) {
	t.Parallel()
	base, _ := vault(t)
	credentials := strings.Replace(base, "http://", "http://user:canary@", 1)
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	plainOnTLS := strings.Replace(base, "http://", "https://", 1)
	for _, tt := range []struct {
		http, tail string
		code       config.Code
		parts      []string
	}{
		{`{"url": "` + credentials + `/v1/auth?canary=1#canary"}`, "", config.CodeUnavailable, []string{base + "/v1/auth", "403 Forbidden"}},
		{`{"url": "` + base + `/none"}`, "", config.CodeUnavailable, []string{"404 Not Found"}},
		{`{"url": "` + base + `/slow", "timeout": "20ms"}`, "", config.CodeUnavailable, []string{base + "/slow", "no answer within 20ms"}},
		{`{"url": "` + base + `/huge"}`, "", config.CodeUnavailable, []string{"1048576 bytes"}},
		{`{"url": "` + base + `/far"}`, "", config.CodeUnavailable, []string{"redirect to another server"}},
		{`{"url": "` + base + `/loop"}`, "", config.CodeUnavailable, []string{"/loop"}},
		{`{"url": "` + base + `/broken"}`, "", config.CodeUnavailable, []string{"doesn't speak HTTP"}},
		{`{"url": "` + tlsServer.URL + `/x"}`, "", config.CodeUnavailable, []string{"certificate"}},
		{`{"url": "` + plainOnTLS + `/x"}`, "", config.CodeUnavailable, []string{"doesn't speak HTTP"}},
		{`{"url": "http://127.0.0.1:1/x?canary"}`, "", config.CodeUnavailable, []string{"http://127.0.0.1:1/x", "refused"}},
		{`{"url": "http://user:ca?nary@x/"}`, "", config.CodeInvalid, []string{"isn't a URL"}},
		{`{"url": "http://[[NO_SUCH]]/x"}`, "", config.CodeNotFound, []string{"NO_SUCH"}},
		{`{"url": "` + base + `/text", "headers": {"A": "[[NO_SUCH]]"}}`, "", config.CodeNotFound, []string{base + "/text", "NO_SUCH"}},
		{`{"url": "` + base + `/text", "query": {"A": "[[NO_SUCH]]"}}`, "", config.CodeNotFound, []string{"NO_SUCH"}},
		{`{"url": "` + base + `/text", "form": {"A": "[[NO_SUCH]]"}}`, "", config.CodeNotFound, []string{"NO_SUCH"}},
		{`{"url": "` + base + `/text", "body": "[[NO_SUCH]]"}`, "", config.CodeNotFound, []string{"NO_SUCH"}},
		{`{"url": "` + base + `/text", "body": [{"a": ["[[NO_SUCH]]"]}]}`, "", config.CodeNotFound, []string{"NO_SUCH"}},
		{`{"url": "` + base + `/text", "headers": {"A": "[[BLANK]]"}}`, "", config.CodeNotFound, []string{"BLANK"}},
		{`{"url": "` + base + `/text", "headers": {"A": "[[LINES]]"}}`, "", config.CodeUnavailable, []string{base + "/text"}},
		{`{"url": "` + base + `/text"}`, `, "json_path": "data"`, config.CodeNotFound, []string{base + "/text", "nothing at data"}},
		{`{"url": "` + base + `/echo"}`, `, "json_path": "data"`, config.CodeInvalid, []string{base + "/echo", "isn't valid JSON"}},
		{`{"url": "` + base + `/echo"}`, "", config.CodeInvalid, []string{base + "/echo", "allowed is: 0 to 65535"}},
	} {
		t.Run(tt.http, func(t *testing.T) {
			t.Parallel()
			src := newPlace(t).with(`{"port": {"http": `+tt.http+tt.tail+`}}`, nil, "BLANK= ", "LINES=canary\r\nB: c")
			wantError(t, src, "port", tt.code, tt.parts...)
			if _, _, err := config.Load(src); strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

// Two options that share a request that fails have an error each.
func TestConfvarsSharedFailure(t *testing.T) {
	t.Parallel()
	base, asked := vault(t)
	entry := `{"http": {"url": "` + base + `/v1/auth"}}`
	all := loadErrors(t, newPlace(t).with(`{"port": `+entry+`, "workers": `+entry+`}`, nil))
	var got []string
	for _, err := range all {
		got = append(got, err.Option)
	}
	if diff := cmp.Diff([]string{"port", "workers"}, got); diff != "" || asked.Load() != 1 {
		t.Errorf("asked %d times; errors (-want +got):\n%s", asked.Load(), diff)
	}
}

func TestConfvarsSecretFileModes(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := p.file("pass", "word")
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	_, notices := load(t, p.with(`{"emailpass": {"file": "pass"}, "fqdn": {"file": "pass"}}`, nil))
	wantNotice(t, notices, "emailpass", path, "0604")
	if slices.ContainsFunc(notices, func(n config.Notice) bool { return n.Option == "fqdn" }) {
		t.Errorf("a notice about an option that is no secret: %v", notices)
	}
}

// FuzzConfvars checks that no confvars file makes Load panic, or report
// anything but an *Error. Both options have a flag, so that no other file is
// read and no URL asked.
func FuzzConfvars(f *testing.F) {
	seeds := map[string]string{
		`{"port": {"default": 1, "json_path": "a.b", "decode": ["base64"]}}`:       "x",
		`{"piisalt": {"env": ["X"], "json_path": "a._arr_0.1", "decode": "trim"}}`: `{"a": [["1", 2]]}`,
		`{"piisalt": {"from": "value"}, "prot": {}}`:                               "x",
		`{"port": {"http": {"url": "http://x/[[NO]]", "body": {"a": 1}}}}`:         "x",
	}
	for _, confvars := range slices.Sorted(maps.Keys(seeds)) {
		f.Add(confvars, seeds[confvars])
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, confvars, value string) {
		if strings.TrimSpace(value) == "" || strings.Contains(value, "/") {
			t.Skip("the value would not be found, or be a path or a URL")
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.json", os.Getpid()))
		if err := os.WriteFile(path, []byte(confvars), 0o600); err != nil {
			t.Fatal(err)
		}
		src := config.Source{
			Flags: map[string]string{"confvars": path, "port": "1", "piisalt": value},
			Dir:   dir,
			Only:  []string{"port", "piisalt"},
		}
		if _, _, err := config.Load(src); err != nil {
			loadErrors(t, src)
		}
	})
}

// Package deps holds the test that keeps the layers apart.
package deps

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "authnzerver/"

// allowed tells for every package which others of the module it may import,
// from the lowest layer to the highest. A request goes down only: the edge
// (httpd, wire, dispatch) calls the rules (action), which call the store. The
// helpers beside them call no layer.
var allowed = map[string]string{
	// What other programs import as well.
	"api":    "internal/jsonobject",
	"docs":   "",
	"client": "api internal/wire",

	// Helpers.
	"internal/config":     "",
	"internal/dburl":      "",
	"internal/identity":   "",
	"internal/jsonobject": "",
	"internal/limit":      "",
	"internal/memory":     "",
	"internal/metrics":    "",
	"internal/passpolicy": "internal/passwd internal/tracing",
	"internal/passwd":     "",
	"internal/pii":        "",
	"internal/policy":     "",
	"internal/token":      "",
	"internal/tracing":    "",
	"internal/wire":       "",
	"internal/event":      "internal/pii",
	"internal/hashproc":   "internal/passwd",
	"internal/limitstore": "internal/limit internal/tracing",
	"internal/mail":       "internal/identity",
	"internal/webhook":    "",

	// The layers.
	"internal/store":    "internal/dburl internal/token internal/tracing",
	"internal/action":   "api internal/event internal/identity internal/limit internal/mail internal/passpolicy internal/passwd internal/policy internal/store internal/token",
	"internal/dispatch": "api internal/action internal/config internal/event internal/identity internal/jsonobject internal/limit",
	"internal/httpd":    "internal/dispatch internal/event internal/pii internal/tracing internal/wire",

	// What measures.
	"internal/load":  "api internal/wire",
	"internal/bench": "api client internal/load internal/passwd internal/store internal/wire",

	// What puts them together.
	"internal/setup": "internal/config internal/identity internal/passwd internal/policy internal/store internal/wire",
	"internal/app": "api internal/action internal/config internal/dispatch internal/event internal/httpd internal/identity internal/limit internal/limitstore internal/mail internal/memory internal/metrics " +
		"internal/passpolicy internal/passwd internal/pii internal/policy internal/setup internal/store internal/token internal/tracing internal/webhook internal/wire",
	"cmd/authnzrv": "api client docs internal/action internal/app internal/bench internal/config internal/hashproc internal/identity internal/mail internal/memory internal/passwd internal/policy internal/setup internal/store internal/wire",

	"internal/deps": "",
}

// reserved tells which packages of the module may import a package from
// elsewhere, or one whose path it begins; nobody when there is none.
var reserved = map[string]string{
	// The world outside.
	"net":          "cmd/authnzrv internal/app internal/config internal/dburl internal/httpd internal/load internal/mail internal/store",
	"net/http":     "client cmd/authnzrv internal/app internal/config internal/httpd internal/load internal/metrics internal/passpolicy internal/tracing internal/webhook",
	"os":           "cmd/authnzrv internal/app internal/bench internal/config internal/hashproc internal/identity internal/load internal/mail internal/memory internal/setup internal/store",
	"os/signal":    "cmd/authnzrv",
	"os/exec":      "internal/hashproc internal/load",
	"syscall":      "cmd/authnzrv internal/app internal/hashproc internal/load",
	"crypto/tls":   "cmd/authnzrv internal/app internal/config internal/mail internal/store",
	"database/sql": "internal/store",
	"log/slog": "api cmd/authnzrv internal/app internal/config internal/event internal/httpd internal/limitstore internal/setup " +
		"internal/store", // api for the types that hide their values
	"log": "",

	// What is easily misused.
	"encoding/gob":                       "internal/hashproc",
	"encoding/json":                      "", // takes duplicate names and any letter case
	"math/rand":                          "",
	"math/rand/v2":                       "internal/app internal/limitstore internal/store", // when to purge, to look and to try again
	"unsafe":                             "",
	"plugin":                             "",
	"reflect":                            "api internal/config",
	"net/http/pprof":                     "",
	"expvar":                             "",
	"html/template":                      "internal/mail",
	"text/template":                      "internal/mail",
	"crypto/aes":                         "internal/wire",
	"crypto/cipher":                      "internal/wire",
	"crypto/hmac":                        "internal/limit internal/token internal/wire",
	"crypto/sha1":                        "internal/passpolicy", // the list of breached passwords wants it
	"crypto/md5":                         "",
	"golang.org/x/crypto/argon2":         "internal/passwd",
	"github.com/go-crypt/x":              "internal/passwd",
	"github.com/minio/blake2b-simd":      "internal/pii",
	"github.com/valkey-io":               "internal/limitstore",
	"github.com/wneessen/go-mail":        "internal/mail",
	"github.com/VictoriaMetrics/metrics": "internal/metrics",
	"go.opentelemetry.io/otel":           "internal/tracing",
	"github.com/standard-webhooks":       "internal/webhook",
	"github.com/alecthomas/kong":         "cmd/authnzrv internal/config",
	"golang.org/x/sys":                   "internal/hashproc",
	"golang.org/x/term":                  "cmd/authnzrv",
	"modernc.org":                        "internal/store",
	"github.com/jackc/pgx":               "internal/store",
	"github.com/go-sql-driver/mysql":     "internal/store",
	"github.com/pressly/goose":           "internal/store",
	"github.com/maypok86/otter":          "internal/store",
	"github.com/mileusna/useragent":      "internal/action",
	"github.com/rogpeppe/go-internal":    "",
	"pgregory.net/rapid":                 "",
	"github.com/google/go-cmp":           "",
	"testing":                            "",
}

// A goPackage is what go list says about a package.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

// packages returns the module's packages by their path within it, without the
// tests of the whole program, which may import anything.
func packages(t *testing.T) map[string]goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	list.Stderr = t.Output()
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]goPackage{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(p.ImportPath, module)
		if path != "test" && !strings.HasPrefix(path, "test/") {
			found[path] = p
		}
	}
}

func TestLayers(t *testing.T) {
	found := packages(t)
	for path, p := range found {
		list, known := allowed[path]
		if !known {
			t.Errorf("%s is not in the table of this test: say which packages it may import", path)
			continue
		}
		for _, imported := range p.Imports {
			own, inside := strings.CutPrefix(imported, module)
			switch {
			case inside && !slices.Contains(strings.Fields(list), own):
				t.Errorf("%s must not import %s", path, own)
			case !inside:
				for name, users := range reserved {
					if matches(imported, name) && !slices.Contains(strings.Fields(users), path) {
						t.Errorf("%s must not import %s", path, imported)
					}
				}
			}
		}
		// A test may use what its package may not, but no test of a part
		// needs the whole. Only a client needs a server to talk to.
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			own := strings.TrimPrefix(imported, module)
			if (own == "internal/app" || strings.HasPrefix(own, "cmd/")) && own != path && path != "client" {
				t.Errorf("the tests of %s must not import %s", path, own)
			}
		}
	}
	for path := range allowed {
		if _, exists := found[path]; !exists {
			t.Errorf("%s is in the table of this test and nowhere else", path)
		}
	}
}

// matches tells whether a path is that of a reserved package, or, when that is
// in a module of somebody else's, of one in it.
func matches(path, name string) bool {
	return path == name || strings.Contains(name, ".") && strings.HasPrefix(path, name+"/")
}

// TestTable keeps the tables themselves from forgetting the layers: what may be
// imported stands further down.
func TestTable(t *testing.T) {
	layers := [][]string{
		{"internal/store"},
		{"internal/action"},
		{"internal/dispatch", "internal/wire"},
		{"internal/httpd"},
		{"internal/load", "internal/setup", "internal/app"},
		{"internal/bench"},
		{"cmd/authnzrv"},
	}
	level := map[string]int{}
	for i, names := range layers {
		for _, name := range names {
			level[name] = i + 1 // helpers are at 0
		}
	}
	for _, path := range slices.Sorted(maps.Keys(allowed)) {
		for _, below := range strings.Fields(allowed[path]) {
			sealing := path == "client" && below == "internal/wire" // a client seals what the server opens
			if level[below] > level[path] && !sealing {
				t.Errorf("the table lets %s import %s, which is above it", path, below)
			}
		}
	}
	for name, users := range reserved {
		for _, user := range strings.Fields(users) {
			if _, known := allowed[user]; !known {
				t.Errorf("the table reserves %s for %s, which there is not", name, user)
			}
		}
	}
	for _, pure := range []string{"internal/jsonobject", "internal/policy", "internal/token", "internal/wire", "internal/identity", "internal/passwd", "internal/pii"} {
		if allowed[pure] != "" {
			t.Errorf("the table lets %s, which is a helper, import %s", pure, allowed[pure])
		}
	}
}

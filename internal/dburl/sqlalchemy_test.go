package dburl_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/dburl"
)

// TestSQLAlchemy compares what comes of random URLs with what SQLAlchemy, which is in
// the Python server, makes of them.
func TestSQLAlchemy(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	mixed := func(pieces ...string) (text string) {
		for range random.IntN(6) {
			text += one(pieces...)
		}
		return text
	}
	texts := make([]string, 5000)
	var input bytes.Buffer
	for i := range texts {
		var text string
		switch scheme := one("sqlite", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "mariadb"); scheme {
		case "sqlite":
			text = scheme + "://" + one("/", "//", "") + mixed("a", "B", "/", ".", "%20", " ", ":", "@", "#", "ü", "+", "[") + one("", ".sqlite")
		default:
			user := mixed("u", "%40", "%2F", "+", ".", "ä", "%3A", "%C3%A4", "#", " ")
			password := mixed("p", "%40", "/", ":", "+", "ß", "%25", "?", "#", "&", "=", " ", "[", "]")
			text = scheme + "://" + one("", user+"@", user+":"+password+"@") + one("", "h", "db.example.org", "127.0.0.1", "[::1]", "[fe80::1]") +
				one("", ":5433") + "/" + one("auth", "a-b", "ä", "a b", "a:b", "a/b", "a#b") + mixed("x", "@", "+")
			if strings.HasPrefix(scheme, "postgresql") {
				text += one("", "?application_name="+mixed("a", "+", "%20", "%2B", "ä"))
			}
		}
		texts[i] = text
		line, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		input.Write(append(line, '\n'))
	}
	cmd := exec.Command("/usr/bin/python3", "testdata/make_url.py")
	cmd.Stdin = &input
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run scripts/test-requirements, which installs SQLAlchemy: %v\n%s", err, complaints.Bytes())
	}
	// A null leaves the zero value.
	type parts struct {
		User     string `json:"user"`
		Password string `json:"password"`
		Host     string `json:"host"`
		Port     uint16 `json:"port"`
		Database string `json:"database"`
		Name     string `json:"name"`
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(texts) {
		t.Fatalf("%d answers to %d URLs", len(lines), len(texts))
	}
	accepted := map[dburl.Dialect]int{}
	for i, text := range texts {
		var theirs *parts
		err := json.Unmarshal([]byte(lines[i]), &theirs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := dburl.Parse(text)
		if err != nil {
			continue // what it says is tested elsewhere
		}
		if theirs == nil {
			t.Errorf("%q: SQLAlchemy refuses it", text)
			continue
		}
		accepted[got.Dialect]++
		want := dburl.URL{Dialect: got.Dialect}
		if got.Dialect == dburl.SQLite {
			want.Path = filepath.Clean(theirs.Database)
		} else {
			want = dburl.URL{
				Dialect: got.Dialect, Network: "tcp", Host: theirs.Host, Port: theirs.Port, User: theirs.User,
				Password: theirs.Password, Database: theirs.Database, TLS: got.TLS, Parameters: map[string]string{},
			}
			if want.Host == "" {
				want.Host = "localhost"
			}
			if want.Port == 0 {
				want.Port = map[dburl.Dialect]uint16{dburl.PostgreSQL: 5432, dburl.MySQL: 3306}[got.Dialect]
			}
			if name := theirs.Name; name != "" {
				want.Parameters["application_name"] = name
			}
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%q (-SQLAlchemy +ours):\n%s", text, diff)
		}
	}
	for dialect, least := range map[dburl.Dialect]int{dburl.SQLite: 200, dburl.PostgreSQL: 1000, dburl.MySQL: 1000} {
		if accepted[dialect] < least {
			t.Errorf("only %d %s URLs were compared", accepted[dialect], dialect)
		}
	}
}

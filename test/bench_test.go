package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"authnzerver/test/databases"
)

// TestBenchCommand measures for a moment, on each kind of database.
func TestBenchCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"bench", "--duration=200ms", "--connections=4", "--login-time=1ms", "--argon2=m=7168,t=1,p=1", "--folder=" + dir, "--json", "--out=" + filepath.Join(dir, "figures")}
	if kind != databases.SQLite {
		args = append(args, "--authdb="+databaseOf(t, dir))
	}
	// Options of a server that stand in the environment are not for this one.
	r := authnzrv(t, dir, "", []string{"AUTHNZERVER_PORT=1", "AUTHNZERVER_SECRET=x"}, args...)
	if r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	type figure struct {
		Name    string  `json:"name"`
		Rate    float64 `json:"per_second"`
		P50     float64 `json:"p50_ms"`
		P99     float64 `json:"p99_ms"`
		HalfP50 float64 `json:"half_p50_ms"`
		HalfP99 float64 `json:"half_p99_ms"`
	}
	var report struct {
		Figures []figure `json:"figures"`
		Hashing struct {
			Rate        float64 `json:"per_second"`
			Recommended string  `json:"recommended"`
		} `json:"hashing"`
		Database string `json:"database"`
	}
	err := json.Unmarshal([]byte(r.stdout), &report)
	if err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	if got := read(t, filepath.Join(dir, "figures")); got != r.stdout {
		t.Errorf("the file differs from what was printed:\n%s", got)
	}
	names := map[string]bool{}
	for _, f := range report.Figures {
		names[strings.FieldsFunc(f.Name, func(c rune) bool { return c == ' ' || c == ',' })[0]] = true
		if f.Rate <= 0 || f.P50 <= 0 || f.P99 < f.P50 || f.HalfP50 <= 0 || f.HalfP99 < f.HalfP50 {
			t.Errorf("impossible figures: %+v", f)
		}
	}
	for _, want := range []string{
		"session-exists", "user-check-access", "user-check-limit", "user-count-limit", "apikey-verify", "apikey-verify-nosession", "check", "session-new", "user-login",
	} {
		if !names[want] {
			t.Errorf("%s was not measured", want)
		}
	}
	if report.Hashing.Rate <= 0 || report.Hashing.Recommended != "m=19456,t=2,p=1" || report.Database == "" {
		t.Errorf("hashing %+v, database %q", report.Hashing, report.Database)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// Nobody's database is filled with sessions by mistake.
	used := start(t)
	r = authnzrv(t, dir, "", nil, "bench", "--authdb="+databaseOf(t, used.dir))
	if r.status == 0 || !strings.Contains(r.stderr, "the database is not empty") {
		t.Errorf("a used database: status %d: %s", r.status, r.stderr)
	}
	for args, want := range map[string]string{
		"--duration=1ms":    "--duration=1ms: from 100ms to 1h",
		"--connections=0":   "--connections=0: from 1 to 1000",
		"--login-time=2h":   "--login-time=2h0m0s: from 1ms to 1m",
		"--authdb=nonsense": "database URL has no scheme",
		"--folder=/nowhere": "/nowhere",
	} {
		r := authnzrv(t, dir, "", nil, "bench", args)
		if r.status == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: status %d: %s", args, r.status, r.stderr)
		}
	}
}

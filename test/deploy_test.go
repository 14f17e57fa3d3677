package test

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"authnzerver/test/databases"
	"authnzerver/test/redis"
)

// TestCompose starts a node with the settings of deploy/compose.yaml, with secrets of
// deploy/secrets, on another PostgreSQL and another store.
func TestCompose(t *testing.T) {
	if kind != databases.PostgreSQL {
		return // the compose file has that
	}
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secrets"), read(t, "../deploy/secrets"))
	makeSecrets := func() {
		t.Helper()
		out, err := exec.Command("sh", filepath.Join(dir, "secrets")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	makeSecrets()
	secrets := read(t, filepath.Join(dir, ".env"))
	makeSecrets()
	if read(t, filepath.Join(dir, ".env")) != secrets {
		t.Error("secrets replaces secrets")
	}
	info, err := os.Stat(filepath.Join(dir, ".env"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of .env is %v, %v", info.Mode(), err)
	}
	values := map[string]string{}
	for line := range strings.Lines(secrets) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = value
	}

	// What compose and the image put into the environment.
	set := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^ +(AUTHNZERVER_\w+): (.*)$`).FindAllStringSubmatch(read(t, "../deploy/compose.yaml"), -1) {
		set[found[1]] = regexp.MustCompile(`\$\{(\w+):\?[^}]*\}`).ReplaceAllStringFunc(found[2], func(name string) string {
			name = name[2:strings.IndexByte(name, ':')]
			if values[name] == "" {
				t.Errorf("secrets makes no %s", name)
			}
			return values[name]
		})
	}
	for _, found := range regexp.MustCompile(`(AUTHNZERVER_\w+)=(\S+)`).FindAllStringSubmatch(read(t, "../Dockerfile"), -1) {
		set[found[1]] = found[2]
	}
	if len(set) < 6 {
		t.Fatalf("the files have only %d settings", len(set))
	}

	// Elsewhere.
	own, err := url.Parse(databaseOf(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	db := openDatabase(t, databaseOf(t, dir))
	for _, statement := range []string{
		"CREATE ROLE authnzerver LOGIN", "ALTER DATABASE " + own.Path[1:] + " OWNER TO authnzerver", "GRANT ALL ON SCHEMA public TO authnzerver",
	} {
		_, err := db.Exec(statement)
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		_, err := db.Exec("REASSIGN OWNED BY authnzerver TO CURRENT_USER; DROP OWNED BY authnzerver; DROP ROLE authnzerver")
		if err != nil {
			t.Error(err)
		}
	})
	store := redis.Start(t, redis.Options{TCP: true, Password: values["VALKEY_PASSWORD"]})
	there, err := url.Parse(store.URL)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(name, old, replacement string) {
		t.Helper()
		if !strings.HasSuffix(set[name], old) {
			t.Errorf("%s does not end with %s", name, old)
		}
		set[name] = strings.TrimSuffix(set[name], old) + replacement
	}
	replace("AUTHNZERVER_AUTHDB", "@database/authnzerver", "@:"+own.Port()+own.Path+"?"+own.RawQuery)
	replace("AUTHNZERVER_LIMITSTORE", "@store:6379/0", "@"+there.Host+"/0")
	set["AUTHNZERVER_BASEDIR"] = dir
	set["AUTHNZERVER_PORT"] = "0"
	set["AUTHNZERVER_LOGFORMAT"] = "json"
	set["AUTHNZERVER_PWNEDURL"] = "none"
	cmd := exec.Command("authnzrv")
	cmd.Env = environment()
	for name, value := range set {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	s := launch(t, cmd, dir, set["AUTHNZERVER_SECRET"])
	s.url = strings.Replace(s.url, "[::]", "localhost", 1)
	s.hide(values["POSTGRES_PASSWORD"], values["VALKEY_PASSWORD"], values["AUTHNZERVER_SECRET"], values["AUTHNZERVER_PIISALT"])
	if !s.storeOK() {
		t.Error("the node does not use the store")
	}
	email, password := credentials(t, filepath.Join(dir, ".authnzerver-admin-credentials"))
	s.login(email, password).ok()
}

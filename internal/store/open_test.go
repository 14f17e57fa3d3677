package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"authnzerver/internal/store"
	"authnzerver/internal/token"
	"authnzerver/test/databases"
)

func open(t testing.TB, url string) (*store.Store, error) {
	t.Helper()
	return store.Open(t.Context(), store.Options{URL: url, NormalizeEmail: strings.ToLower})
}

// secret is a password in a database URL, which no error may show.
const secret = "hunter2-Tr0ub4dor"

func TestOpenRefusesURLs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"", "no scheme"},
		{secret, "no scheme"},
		{"/var/lib/auth.sqlite", "no scheme"},
		{"sqlite:auth.sqlite", "no scheme"},
		{"sqlite:/var/lib/" + secret, "no scheme"},
		{"://user:" + secret + "@host/db", "no scheme"},
		{"postgresql:/user:" + secret + "@host/db?next=://", "no scheme"},
		{"user:" + secret + "@host/postgresql://db", "no scheme"},
		{secret + "@://x", "no scheme"},
		{"postgresql://user:" + secret + "@127.0.0.1:1/db", "database unavailable"},
		{"postgresql+psycopg2://user:" + secret + "@127.0.0.1:1/db?sslmode=on", "it must be one of"},
		{"mysql+pymysql://user:" + secret + "@127.0.0.1:1/db", "database unavailable"},
		{"oracle://user:" + secret + "@host/db", `"oracle" databases are not supported`},
		{"sqlite://", "names no file"},
		{"sqlite:///", "names no file"},
		{"sqlite:///:memory:", "names no file"},
		{"sqlite://auth.sqlite", "names no file"},
		{"sqlite://user:" + secret + "@host/db", "names no file"},
		{"sqlite:///auth.sqlite?mode=memory&key=" + secret, "no query options"},
		{"sqlite+pysqlcipher://:" + secret + "@/auth.sqlite?cipher=aes", "no query options"},
		{"sqlite+pysqlcipher://:" + secret + "@/auth.sqlite", "names no file"},
		{"sqlite:///file:auth.sqlite", "plain path"},
		{"sqlite:///auth\x00.sqlite", "U+0000"},
	} {
		s, err := open(t, tt.url)
		if err == nil {
			t.Errorf("Open(%q) succeeded: %v", tt.url, s.Close())
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Open(%q): error %q, want %q in it", tt.url, err, tt.want)
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("Open(%q): the error shows the password: %v", tt.url, err)
		}
	}
}

// FuzzOpen checks that no error about a URL shows what may be a password:
// what stands between the last colon before an @, and that @.
func FuzzOpen(f *testing.F) {
	for _, url := range []string{
		"postgresql://user:%s@host/db", "sqlite://user:%s@host/db", "user:%s@host://db", "sqlite:///a?key=:%s@", "a+b://:%s@", "%s://", "sqlite:///%s",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		before, after, ok := strings.Cut(url, "%s")
		if !ok || strings.HasPrefix(before, "sqlite") && strings.Contains(before, ":///") && !strings.Contains(before, "?") {
			t.Skip() // no place for a password, or the path of a file, which errors show
		}
		// The place of a password in a URL: after a colon, before an @.
		url = before + ":" + secret + "@" + after
		s, err := open(t, url)
		if err == nil {
			t.Fatalf("Open(%q) succeeded: %v", url, s.Close())
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("Open(%q): the error shows the password: %v", url, err)
		}
	})
}

// The path in a URL is taken as it is: nothing in it is an escape.
func TestOpenPaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, tt := range []struct{ url, path string }{
		{"sqlite:///relative.sqlite", "relative.sqlite"},
		{"sqlite:///./dotted.sqlite", "dotted.sqlite"},
		{"sqlite+pysqlite:///driver.sqlite", "driver.sqlite"},
		{"sqlite:///" + filepath.Join(dir, "absolute.sqlite"), "absolute.sqlite"},
		{"sqlite:////" + filepath.Join(dir, "slashes.sqlite"), "slashes.sqlite"},
		{"sqlite:///with space.sqlite", "with space.sqlite"},
		{"sqlite:///with#hash.sqlite", "with#hash.sqlite"},
		{"sqlite:///percent%20%zz%41.sqlite", "percent%20%zz%41.sqlite"},
		{"sqlite:///ünï.sqlite", "ünï.sqlite"},
		{"sqlite:///with:colon&and=more;.sqlite", "with:colon&and=more;.sqlite"},
		{"sqlite:///-dash", "-dash"},
	} {
		for range 2 { // a new file, then an existing one
			s, err := open(t, tt.url)
			if err != nil {
				t.Errorf("Open(%q): %v", tt.url, err)
				continue
			}
			info, err := os.Stat(filepath.Join(dir, tt.path))
			if err != nil || info.Size() == 0 {
				t.Errorf("Open(%q) did not use %s: %v", tt.url, tt.path, err)
			}
			err = s.Close()
			if err != nil {
				t.Error(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "files in the folder", len(entries), 11) // no log, no backup is left
}

func TestOpenRefusesFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, []byte(content), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	err := syscall.Mkfifo(pipe, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"a text", write("text", strings.Repeat("This is not a database. ", 100)), "not a database"},
		{"a short text", write("short", "x"), "not a database"},
		{"a damaged database", write("damaged", "SQLite format 3\x00"+strings.Repeat("\xff", 5000)), "not a database"},
		{"a folder", dir, "directory"},
		{"a pipe", pipe, "not a regular file"},
		{"a device", os.DevNull, "not a regular file"},
		{"a file in no folder", filepath.Join(dir, "missing", "auth.sqlite"), "no such file"},
		{"a file below a file", filepath.Join(dir, "text", "auth.sqlite"), "not a directory"},
	} {
		s, err := open(t, sqliteURL(tt.path))
		if err == nil {
			t.Errorf("%s: Open succeeded: %v", tt.name, s.Close())
			continue
		}
		for _, want := range []string{tt.want, tt.path} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q, want %q in it", tt.name, err, want)
			}
		}
	}
	if got := readFile(t, filepath.Join(dir, "text")); got != strings.Repeat("This is not a database. ", 100) {
		t.Error("the text was changed")
	}
}

func TestOpenSetsTheMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []os.FileMode{0o600, 0o644, 0o666, 0o400, 0o777, 0o000} {
		t.Run(fmt.Sprintf("%03o", mode), func(t *testing.T) {
			t.Parallel()
			if os.Getuid() != 0 && mode&0o600 != 0o600 {
				t.Skip("only root opens such a file")
			}
			path := filepath.Join(t.TempDir(), "auth.sqlite")
			s, err := open(t, sqliteURL(path))
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(s.Close(), os.Chmod(path, mode))
			if err != nil {
				t.Fatal(err)
			}
			f := openFixture(t, sqliteURL(path))
			f.initialize()
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Stat(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "mode of the file"+suffix, info.Mode(), 0o600)
			}
		})
	}
}

func TestNewFilesAreTheOwners(t *testing.T) {
	t.Parallel()
	_, path := newFile(t)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "mode of the new file"+suffix, info.Mode(), 0o600)
	}
	equal(t, "backups of nothing", len(backups(t, path)), 0)
}

// A database that a later version has converted is left alone.
func TestOpenRefusesANewerSchema(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		raw := f.raw()
		mustExec(t, raw, "INSERT INTO authnzerver_migrations (version_id, is_applied) VALUES (9000, true)")
		for _, statement := range []string{"UPDATE schema_compatibility SET oldest_version = 9000", "DROP TABLE schema_compatibility"} {
			mustExec(t, raw, statement)
			s, err := open(t, f.url)
			if err == nil {
				t.Fatalf("Open succeeded: %v", s.Close())
			}
			wantErr(t, "a newer schema", err, store.ErrSchema)
			for _, want := range []string{"9000", "newer"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
			equal(t, "applied", one[int](t, raw, "SELECT count(*) FROM authnzerver_migrations WHERE version_id = 9000"), 1)
			if path, ok := strings.CutPrefix(f.url, "sqlite:///"); ok {
				equal(t, "backups", len(backups(t, path)), 0)
			}
		}
	})
}

// During an upgrade, servers of the old version work with what one of the new version
// has made of the database, those that run and those that start.
func TestOpenTakesACompatibleSchema(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		before := f.insertUser("before")
		raw := f.raw()
		moment := "TIMESTAMP"
		if f.kind == databases.MariaDB {
			moment = "DATETIME(6)"
		}
		for _, statement := range []string{
			"ALTER TABLE users ADD COLUMN first_new " + moment,
			"ALTER TABLE sessions ADD COLUMN second_new VARCHAR(20) NOT NULL DEFAULT 'x'",
			"CREATE TABLE third_new (user_id INTEGER NOT NULL PRIMARY KEY, FOREIGN KEY (user_id) REFERENCES users (user_id) ON DELETE CASCADE)",
			"INSERT INTO third_new (user_id) VALUES (" + fmt.Sprint(before.ID) + ")",
			"CREATE INDEX fourth_new ON users (first_new)",
			"INSERT INTO authnzerver_migrations (version_id, is_applied) VALUES (9000, true)",
		} {
			mustExec(t, raw, statement)
		}
		for i, s := range []*fixture{f, openFixture(t, f.url)} {
			user := s.insertUser(fmt.Sprint("after", i))
			s.insertSession(fmt.Sprint("session ", i), user.ID)
			s.update(func(ctx context.Context, tx *store.Tx) error {
				name := "New Name"
				user.FullName = &name
				return tx.UpdateUser(ctx, user)
			})
			_, _, err := s.Session(t.Context(), token.Sum(fmt.Sprint("session ", i)))
			wantErr(t, "read a session", err, nil)
		}
		f.update(func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.DeleteUser(ctx, before.ID)
			return err
		})
		equal(t, "rows of the new table", one[int](t, raw, "SELECT count(*) FROM third_new"), 0)
		equal(t, "rows with the new default", one[int](t, raw, "SELECT count(*) FROM sessions WHERE second_new = 'x'"), 2)
	})
}

// nobody is the id of a user without rights.
const nobody = 65534

// runUnprivileged is a child that gives up the rights of root, opens the
// database and prints the error.
func runUnprivileged() int {
	err := errors.Join(syscall.Setgid(nobody), syscall.Setuid(nobody))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := store.Open(context.Background(), store.Options{URL: os.Getenv(childURL), NormalizeEmail: strings.ToLower})
	if err == nil {
		err = s.Close()
		fmt.Println("opened", err)
		return 0
	}
	fmt.Println(err)
	return 0
}

func TestOpenWithoutRights(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	base := t.TempDir()
	// The folder above belongs to the test alone, and others must get
	// through it.
	for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		err := os.Chmod(dir, 0o755)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name         string
		folder, file os.FileMode
		owner        int
		want         string
	}{
		{"a folder that is closed", 0o700, 0o666, 0, "permission denied"},
		{"a file that is closed", 0o755, 0o600, 0, "permission denied"},
		{"a file that is read-only", 0o777, 0o444, 0, "permission denied"},
		{"a file of another user", 0o777, 0o666, 0, "operation not permitted"},
		{"a folder without place for the log", 0o555, 0o600, nobody, "readonly database"},
		{"everything as it should be", 0o777, 0o600, nobody, "opened <nil>"},
	} {
		dir := filepath.Join(base, strings.ReplaceAll(tt.name, " ", "-"))
		path := filepath.Join(dir, "auth.sqlite")
		err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(path, nil, 0o600),
			os.Chmod(path, tt.file), os.Chown(path, tt.owner, -1), os.Chmod(dir, tt.folder))
		if err != nil {
			t.Fatal(err)
		}
		c := startChild(t, childUnprivileged, sqliteURL(path))
		err = c.cmd.Wait()
		if err != nil {
			t.Fatalf("child: %v: %s", err, c.stderr.String())
		}
		printed := c.stdout.text.String()
		if !strings.Contains(printed, tt.want) {
			t.Errorf("%s: %q, want %q in it", tt.name, printed, tt.want)
		}
		if !strings.HasPrefix(printed, "opened") && !strings.Contains(printed, path) {
			t.Errorf("%s: %q does not name the file", tt.name, printed)
		}
	}
}

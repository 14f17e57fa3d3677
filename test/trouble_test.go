package test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"authnzerver/test/daemon"
	"authnzerver/test/databases"
	"authnzerver/test/mariadb"
	"authnzerver/test/postgres"
)

// A databaseServer is one of a test's own, to be mistreated.
type databaseServer struct {
	*daemon.Daemon
	url string
	// admin runs a statement on a connection of its own that always can.
	admin func(statement string) error
}

// ownDatabase starts a server with an empty database for this test alone.
func ownDatabase(t *testing.T, settings ...string) *databaseServer {
	t.Helper()
	var s *databaseServer
	var create func(context.Context, string) (string, error)
	switch kind {
	case databases.PostgreSQL:
		server, err := postgres.New(settings...)
		if err != nil {
			t.Fatal(err)
		}
		s = &databaseServer{Daemon: &server.Daemon, admin: func(statement string) error {
			return server.Exec(context.Background(), "postgres", statement)
		}}
		create = server.Create
	case databases.MariaDB:
		server, err := mariadb.New(settings...)
		if err != nil {
			t.Fatal(err)
		}
		s = &databaseServer{Daemon: &server.Daemon, admin: func(statement string) error {
			return server.Exec(context.Background(), "", statement)
		}}
		create = server.Create
	}
	t.Cleanup(func() {
		err := s.Close()
		if err != nil {
			t.Errorf("end the database server: %v", err)
		}
	})
	err := s.Start()
	if err == nil {
		s.url, err = create(context.Background(), "own")
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// try does something with the database server.
func try(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// healthy asks /health.
func (s *server) healthy() bool {
	s.t.Helper()
	status, _, answer := s.send(http.MethodGet, "health", "")
	if status != http.StatusOK && status != http.StatusInternalServerError {
		s.t.Fatalf("health: status %d: %s", status, answer)
	}
	return status == http.StatusOK
}

// fewRestarts is how often TestDatabaseRestarts kills the database, unless it is to take
// longer.
const fewRestarts = 3

var (
	restarts     = flag.Int("restarts", fewRestarts, "how often TestDatabaseRestarts kills the database; when that is more often, it also looks for late failures")
	restartEvery = flag.Duration("restartevery", 2*time.Second, "the time between two restarts of the database")
)

// mostRecovery is how long after the database is back, and before it is gone, requests
// are sent that may fail.
const mostRecovery = 2 * time.Second

// TestDatabaseRestarts kills the database server under load, again and again: no
// answer is wrong, nothing is lost, and two nodes go on without a restart. Health
// tells when the database is gone and when it is back.
func TestDatabaseRestarts(t *testing.T) {
	if kind == databases.SQLite {
		return // there is no server
	}
	d := ownDatabase(t)
	key := newKey()
	var urls []string
	var nodes []*server
	for range 2 {
		node := start(t, "authdb="+d.url, "secret="+key)
		nodes, urls = append(nodes, node), append(urls, node.url)
	}
	b := newBook()
	stop := b.load(newFrontend(key, urls...), 8)
	type outage struct{ begin, end time.Time }
	var outages []outage
	for i := range *restarts {
		time.Sleep(*restartEvery)
		begin := time.Now()
		try(t, "kill the database", d.Kill())
		for _, node := range nodes {
			node.wait("health to tell that the database is gone", func() bool { return !node.healthy() })
		}
		if i == fewRestarts-1 { // longer than requests wait for it
			waitFor(t, "a request to fail", func() (failed bool) {
				b.write(func() { failed = len(b.failed) > 0 })
				return failed
			})
		}
		try(t, "start the database", d.Start())
		for _, node := range nodes {
			node.wait("health to tell that the database is back", node.healthy)
		}
		outages = append(outages, outage{begin, time.Now()})
	}
	time.Sleep(*restartEvery)
	stop()
	if *restarts > fewRestarts { // the others share the machine with other tests
		for _, try := range b.failed {
			if try.code == "server_busy" {
				continue // no worker was free to hash a password
			}
			if !slices.ContainsFunc(outages, func(o outage) bool {
				return try.sent.After(o.begin.Add(-mostRecovery)) && try.sent.Before(o.end.Add(mostRecovery))
			}) {
				t.Errorf("a request failed (%q) that was sent at %v, when the database was well", try.code, try.sent)
			}
		}
	}
	for _, wrong := range b.check(t, key, urls, d.url) {
		t.Error(wrong)
	}
	b.control(t, key, urls, d.url)
}

// TestDatabaseHangs has the database server answer nothing any more while its
// connections stay: requests end in time with a failure that may pass, and all is
// well when it goes on.
func TestDatabaseHangs(t *testing.T) {
	if kind == databases.SQLite {
		return // there is no server
	}
	t.Parallel()
	d := ownDatabase(t)
	s := start(t, "authdb="+d.url)
	u := s.newUser()
	session := s.session(u.id)
	try(t, "pause the database", d.Pause())
	// Longer than nothing is answered from memory unconfirmed.
	time.Sleep(othersKnow)
	replies := make(chan *reply)
	const n = 40 // more than there are connections
	for i := range n {
		go func() {
			if i%2 == 0 {
				replies <- s.call("session-exists", params{"session_token": session})
			} else {
				replies <- s.call("session-new", newSession())
			}
		}()
	}
	for range n {
		r := (<-replies)
		if r.Code != "unknown_outcome" { // of a change that was being committed
			r.failed("db_error")
		}
	}
	if s.healthy() {
		t.Error("health says that a database is well that does not answer")
	}
	try(t, "let the database go on", d.Resume())
	s.wait("health to tell that the database is back", s.healthy)
	s.call("session-exists", params{"session_token": session}).ok()
	s.login(u.email, u.password).ok()
}

// TestDatabaseIsFull gives the database no more room: what is there can be read,
// changes fail with a failure that may pass, health tells, and when there is room
// again, all is well without a restart.
func TestDatabaseIsFull(t *testing.T) {
	t.Parallel()
	s, fill, empty := smallDisk(t)
	u := s.newUser()
	session := s.session(u.id)
	fill(u.id)
	s.wait("the room that is left to be used up", func() bool {
		r := s.call("session-new", newSession())
		if !r.Success {
			r.failed("db_error")
		}
		return !r.Success
	})
	if s.healthy() {
		t.Error("health says that a database is well that takes no change")
	}
	s.call("session-exists", params{"session_token": session}).ok()
	s.call("user-lookup-email", params{"email": u.email}).ok()
	empty()
	s.wait("health to tell that there is room", s.healthy)
	s.call("session-new", newSession()).ok()
	s.login(u.email, u.password).ok()
}

// smallDisk starts a server whose database has little room, and returns what uses
// that up and what gives more.
func smallDisk(t *testing.T) (s *server, fill func(user int), empty func()) {
	if kind == databases.SQLite {
		return smallDiskOfSQLite(t)
	}
	// More than the files have that are there at the start.
	most, settings := int64(2<<20), []string(nil)
	if kind == databases.MariaDB {
		most, settings = 16<<20, []string{"innodb-log-file-size=4M"}
	}
	d := ownDatabase(t, settings...)
	s = start(t, "authdb="+d.url)
	fill = func(user int) {
		try(t, "limit the files", d.LimitFiles(most))
		db := openDatabase(t, d.url)
		for i := range 100 {
			err := addSessions(db, user, i)
			if err != nil {
				t.Logf("full: %v", err)
				return
			}
		}
		t.Fatal("the table takes more than it has room for")
	}
	return s, fill, func() { try(t, "lift the limit of the files", d.LimitFiles(0)) }
}

// smallDiskOfSQLite has the server see a disk that nobody else sees, so that no
// privilege is needed.
func smallDiskOfSQLite(t *testing.T) (s *server, fill func(user int), empty func()) {
	dir := t.TempDir()
	set := settings(t, dir)
	disk := filepath.Join(dir, "disk")
	try(t, "make a folder", os.Mkdir(disk, 0o700))
	set["authdb"] = "sqlite:///" + filepath.Join(disk, "auth.sqlite")
	cmd := exec.Command("unshare", "--map-root-user", "--mount",
		"sh", "-c", `mount -t tmpfs -o size=8m none "$0" && exec authnzrv "$@"`, disk)
	for name, value := range set {
		cmd.Args = append(cmd.Args, "--"+name+"="+value)
	}
	cmd.Env = environment("AUTHNZERVER_ADMIN_EMAIL="+adminEmail, "AUTHNZERVER_ADMIN_PASSWORD="+adminPassword)
	s = launch(t, cmd, dir, set["secret"])
	ballast := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "root", disk, "ballast")
	fill = func(int) {
		err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
	}
	return s, fill, func() { try(t, "free the disk", os.Remove(ballast)) }
}

// addSessions adds a thousand sessions of a user, and fails when there is no room for
// them.
func addSessions(db *sql.DB, user, round int) error {
	values := make([]string, 1000)
	for i := range values {
		values[i] = fmt.Sprintf("('%032d%032d', '%[1]d-%[2]d', '192.0.2.1', '%[3]s', %[4]d, '2026-01-01 00:00:00', '2099-01-01 00:00:00', '{\"a\": \"%[5]s\"}')",
			round, i, strings.Repeat("x", 280), user, strings.Repeat("y", 3000))
	}
	_, err := db.Exec("INSERT INTO sessions (session_token, session_id, ip_address, user_agent, user_id, created, expires, extra_info_json) VALUES " +
		strings.Join(values, ", "))
	return err
}

// TestDatabaseIsReadOnly makes the database read-only, as that of a standby is.
func TestDatabaseIsReadOnly(t *testing.T) {
	if kind == databases.SQLite {
		return // there is no server
	}
	t.Parallel()
	d := ownDatabase(t)
	where := d.url
	set := func(to string) {
		t.Helper()
		try(t, "set", d.admin("ALTER SYSTEM SET default_transaction_read_only = "+to))
		try(t, "reload", d.admin("SELECT pg_reload_conf()"))
	}
	if kind == databases.MariaDB {
		// Only those without privileges are kept from writing.
		admin := openDatabase(t, d.url)
		admin.SetMaxOpenConns(1)
		run := func(statement string) {
			t.Helper()
			_, err := admin.Exec(statement)
			try(t, statement, err)
		}
		run("FLUSH PRIVILEGES") // the server begins to look at them
		run("CREATE USER authnz@localhost IDENTIFIED BY ''")
		run("GRANT ALL ON own.* TO authnz@localhost")
		where = strings.Replace(d.url, "root@", "authnz@", 1)
		set = func(to string) {
			t.Helper()
			run("SET GLOBAL read_only = " + to)
		}
	}
	s := start(t, "authdb="+where)
	u := s.newUser()
	session := s.session(u.id)
	set("on")
	var refused *reply
	// PostgreSQL tells its processes of a new setting after it has said that it did.
	s.wait("a change to be refused", func() bool {
		refused = s.call("session-new", newSession())
		return !refused.Success
	})
	refused.failed("db_error")
	if s.healthy() {
		t.Error("health says that a database is well that takes no change")
	}
	s.call("session-exists", params{"session_token": session}).ok()
	s.call("user-lookup-email", params{"email": u.email}).ok()
	set("off")
	s.wait("health to tell that changes are taken", s.healthy)
	s.call("session-new", newSession()).ok()
}

// TestDatabaseHasNoConnection leaves the server no connection.
func TestDatabaseHasNoConnection(t *testing.T) {
	if kind == databases.SQLite {
		return // there is no server
	}
	t.Parallel()
	d := ownDatabase(t, "max_connections=20")
	s := start(t, "authdb="+d.url)
	u := s.newUser()
	session := s.session(u.id)
	db := openDatabase(t, d.url)
	var all []*sql.Conn
	take := func() (more bool) {
		conn, err := db.Conn(t.Context())
		if err == nil {
			all = append(all, conn)
		}
		return err == nil
	}
	processes := rows(t, db, map[databases.Kind]string{
		databases.PostgreSQL: "SELECT pid FROM pg_stat_activity WHERE application_name = 'authnzerver'",
		databases.MariaDB:    "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND command = 'Sleep'",
	}[kind])
	take() // the one that was just used
	for _, process := range processes {
		_, err := all[0].ExecContext(t.Context(), map[databases.Kind]string{
			databases.PostgreSQL: "SELECT pg_terminate_backend(" + process[0] + ", 10000)",
			databases.MariaDB:    "KILL " + process[0],
		}[kind])
		try(t, "end a connection", err)
	}
	for end := time.Now().Add(othersKnow); take() || time.Now().Before(end); {
		continue
	}
	s.call("session-new", newSession()).failed("db_error")
	s.call("session-exists", params{"session_token": session}).failed("db_error")
	if s.healthy() {
		t.Error("health says that a database is well that takes no connection")
	}
	for _, conn := range all {
		if err := conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
			t.Errorf("give a connection back: %v", err)
		}
	}
	s.wait("health to tell that there are connections", s.healthy)
	s.call("session-exists", params{"session_token": session}).ok()
	s.call("session-new", newSession()).ok()
}

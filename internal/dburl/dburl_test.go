package dburl_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"authnzerver/internal/dburl"
)

// none are the parameters of a URL that sets none.
var none = map[string]string{}

func TestParse(t *testing.T) {
	for text, want := range map[string]dburl.URL{
		"sqlite:///relative.sqlite":           {Dialect: dburl.SQLite, Path: "relative.sqlite"},
		"sqlite:////var/lib/a.sqlite":         {Dialect: dburl.SQLite, Path: "/var/lib/a.sqlite"},
		"sqlite+pysqlite:///a/../b c%20#.db?": {Dialect: dburl.SQLite, Path: "b c%20#.db"},
		"postgresql://h/auth": {
			Dialect: dburl.PostgreSQL, Network: "tcp", Host: "h", Port: 5432, Database: "auth",
			TLS: dburl.TLS{Mode: "prefer"}, Parameters: none,
		},
		// Passwords are unescaped, a plus sign is itself, a slash and a colon need no escape.
		"postgresql+psycopg2://u%40x:p%40a/+:%C3%A4@[::1]:5433/auth?sslmode=verify-full&sslrootcert=/ca.pem&application_name=a+b&empty_is_dropped=": {},
		"postgresql+psycopg2://u%40x:p%40a/+:%C3%A4@[::1]:5433/auth?sslmode=verify-full&sslrootcert=/ca.pem&application_name=a+b": {
			Dialect: dburl.PostgreSQL, Network: "tcp", Host: "::1", Port: 5433, User: "u@x", Password: "p@a/+:ä", Database: "auth",
			TLS: dburl.TLS{Mode: "verify-full", RootCert: "/ca.pem"}, Parameters: map[string]string{"application_name": "a b"},
		},
		"postgresql:///auth?host=/run/postgresql&port=5433&user=me&password=x&connect_timeout=10&prepared_statements=false&sslmode=": {
			Dialect: dburl.PostgreSQL, Network: "unix", Host: "/run/postgresql", Port: 5433, User: "me", Password: "x", Database: "auth",
			TLS: dburl.TLS{Mode: "prefer"}, ConnectTimeout: 10 * time.Second, NoPrepare: true, Parameters: none,
		},
		"postgresql://h/auth?options=-csearch_path%3Dauth%20-c%20statement_timeout%3D1s%20--work_mem%3D1%5C%20MB": {
			Dialect: dburl.PostgreSQL, Network: "tcp", Host: "h", Port: 5432, Database: "auth", TLS: dburl.TLS{Mode: "prefer"},
			Parameters: map[string]string{"search_path": "auth", "statement_timeout": "1s", "work_mem": "1 MB"},
		},
		"mysql+pymysql://u:@h/auth?charset=utf8mb4": {
			Dialect: dburl.MySQL, Network: "tcp", Host: "h", Port: 3306, User: "u", Database: "auth",
			TLS: dburl.TLS{Mode: "prefer"}, Parameters: none,
		},
		"mariadb://u:p@/auth?unix_socket=/run/mysqld/mysqld.sock": {
			Dialect: dburl.MySQL, Network: "unix", Host: "/run/mysqld/mysqld.sock", Port: 3306, User: "u", Password: "p", Database: "auth",
			TLS: dburl.TLS{Mode: "prefer"}, Parameters: none,
		},
		"mysql://h/auth?ssl_ca=/ca.pem&ssl_check_hostname=true&ssl_cert=/c.pem&ssl_key=/k.pem": {
			Dialect: dburl.MySQL, Network: "tcp", Host: "h", Port: 3306, Database: "auth",
			TLS: dburl.TLS{Mode: "verify-full", RootCert: "/ca.pem", Cert: "/c.pem", Key: "/k.pem"}, Parameters: none,
		},
	} {
		got, err := dburl.Parse(text)
		if want.Dialect == "" {
			if err == nil {
				t.Errorf("%s: no error", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", text, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                  "no scheme",
		"/var/lib/a.sqlite":                                 "no scheme",
		"p4ss word://h/db":                                  "no scheme",
		"oracle://h/db":                                     `"oracle" databases are not supported`,
		"sqlite://":                                         "names no file",
		"sqlite:///":                                        "names no file",
		"sqlite:///:memory:":                                "names no file",
		"sqlite:///file:a.db":                               "plain path",
		"sqlite:///a.db?mode=ro":                            "take no query options",
		"sqlite:///a\x00.db":                                "U+0000",
		"postgresql://h":                                    "names no database",
		"postgresql://h/":                                   "names no database",
		"postgresql://u:se@cret@h/db":                       "write one in a user name, a password or an option as %40",
		"postgresql://u@h:5433/d@b":                         "write one in a user name, a password or an option as %40",
		"postgresql://u:100%secret@h/db":                    "the password has a percent sign",
		"postgresql://u%zz@h/db":                            "the user name has a percent sign",
		"postgresql://h:port/db":                            "the port must be a number",
		"postgresql://h:0/db":                               "the port must be a number",
		"postgresql://h:65536/db":                           "the port must be a number",
		"postgresql://h:/db":                                "a colon for a port, but no port",
		"postgresql://h/d%20b":                              "the name of the database has a percent sign",
		"postgresql://h/db?a;b":                             "not of the form name=value",
		"postgresql://h/db?search_path=x":                   `the option "search_path" is not supported for postgresql`,
		"postgresql://h/db?host=a,b":                        "the option host: several hosts",
		"postgresql://h/db?sslmode=on":                      "the option sslmode: it must be one of disable, allow",
		"postgresql://h/db?sslcert=/c":                      "a certificate of the client needs its key",
		"postgresql://h/db?connect_timeout=x":               "the option connect_timeout: it must be whole seconds from 0 to 300",
		"postgresql://h/db?options=-d":                      "the option options: only settings",
		"postgresql://h/db?options=-c%20a%5C":               "the option options: a backslash ends it",
		"postgresql://h/db?sslmode=require&sslmode=disable": "the option sslmode is given more than once",
		"postgresql://h/db?client_encoding=latin1":          "the option client_encoding: only utf8",
		"mysql://h/db?charset=latin1":                       "the option charset: only utf8mb4",
		"mysql://h/db?unix_socket=relative":                 "absolute path",
		"mysql://h/db?read_default_file=/etc/my.cnf":        `the option "read_default_file" is not supported for mysql`,
		"mysql://h/db?ssl_mode=YES":                         "the option ssl_mode: it must be DISABLED",
		"mysql://h/db?ssl=maybe":                            "the option ssl: it must be true or false",
	} {
		_, err := dburl.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		for _, secret := range []string{"secret", "p4ss"} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error shows a password: %v", text, err)
			}
		}
	}
}

func TestString(t *testing.T) {
	for text, want := range map[string]string{
		"sqlite:////var/a.db":                        "/var/a.db",
		"postgresql://u:secret@[::1]:99/db":          "postgresql database db at [::1]:99",
		"mysql://u:secret@/db?unix_socket=/run/sock": "mysql database db at /run/sock",
	} {
		u, err := dburl.Parse(text)
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, u, err, want)
		}
	}
}

// FuzzParse looks for texts that crash it, and for errors that show a password.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"sqlite:////a.db", "postgresql+psycopg2://u:p%40@[::1]:5432/db?sslmode=require&options=-c%20a%3Db", "mariadb://h:3306/db?ssl=true",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := dburl.Parse(text)
		switch {
		case err != nil:
			if !strings.HasPrefix(err.Error(), "database URL") {
				t.Errorf("%v", err)
			}
		case u.Dialect == dburl.SQLite:
			if u.Path == "" {
				t.Error("there is no path")
			}
		case u.Host == "" || u.Port == 0 || u.Database == "" || u.TLS.Mode == "":
			t.Errorf("something is missing: %+v", u)
		}
	})
}

// Package dburl reads database URLs in the form of SQLAlchemy, which the Python
// server takes: dialect+driver://user:password@host:port/database?option=value.
package dburl

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Dialect is a kind of database.
type Dialect string

// The dialects.
const (
	SQLite     Dialect = "sqlite"
	PostgreSQL Dialect = "postgresql"
	MySQL      Dialect = "mysql" // and MariaDB
)

// A URL names a database. Which fields are set depends on the dialect.
type URL struct {
	Dialect Dialect

	// Path is the file of an SQLite database.
	Path string

	// Network is tcp, or unix for a socket in the file system. Then Host is the
	// path of the socket; for PostgreSQL that of its directory, and the name of
	// the socket ends with Port.
	Network, Host string
	Port          uint16
	User          string
	Password      string // must not be logged
	Database      string
	// TLS says how the connection is secured.
	TLS TLS
	// ConnectTimeout bounds making a connection; 0 leaves it to the server's
	// own bounds.
	ConnectTimeout time.Duration
	// Parameters are settings of the session (PostgreSQL only), for example
	// search_path, and application_name.
	Parameters map[string]string
	// NoPrepare keeps statements from being prepared on the server, as poolers
	// need that share connections among transactions (PostgreSQL only).
	NoPrepare bool
}

// TLS says how a connection to a server is secured.
type TLS struct {
	// Mode is disable, allow, prefer, require, verify-ca or verify-full, as
	// libpq has them (PostgreSQL 15 manual, 34.19.3). MySQL's options are put
	// into these words.
	Mode string
	// RootCert, Cert and Key name PEM files.
	RootCert, Cert, Key string
}

// Ports of the databases when the URL has none.
const (
	portPostgreSQL = 5432
	portMySQL      = 3306
)

// pattern is the grammar of SQLAlchemy 1.4, which is not that of RFC 3986: a user
// name has no colon or slash, a password no at sign, and names of databases are
// not escaped.
var pattern = regexp.MustCompile(`^(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?` +
	`(?:(?:\[(?P<ipv6>[^/?\]]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?)?` +
	`(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?$`)

// schemePattern is a dialect of SQLAlchemy, and a driver after a plus sign.
var schemePattern = regexp.MustCompile(`^\w+(\+\w+)?$`)

// dialects are the names that SQLAlchemy has for the dialects.
var dialects = map[string]Dialect{
	"sqlite": SQLite, "postgresql": PostgreSQL, "postgres": PostgreSQL, "mysql": MySQL, "mariadb": MySQL,
}

// Parse reads a URL. Its errors name what is wrong and show no part that may
// hold a password.
func Parse(text string) (*URL, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || !schemePattern.MatchString(scheme) {
		return nil, errors.New("database URL has no scheme; write for example sqlite:////var/lib/authnzerver/auth.sqlite")
	}
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("database URL: it contains U+0000")
	}
	name, _, _ := strings.Cut(scheme, "+") // the driver is a matter of Python's
	dialect, ok := dialects[name]
	if !ok {
		return nil, fmt.Errorf("database URL: %q databases are not supported; use sqlite, postgresql, mysql or mariadb", name)
	}
	var u *URL
	var err error
	if dialect == SQLite {
		u, err = parseFile(rest)
	} else {
		u, err = parseServer(dialect, rest)
	}
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	return u, nil
}

// parseFile reads what follows sqlite://. Three slashes in all start a relative
// path, four an absolute one.
func parseFile(rest string) (*URL, error) {
	path, query, _ := strings.Cut(rest, "?")
	if query != "" {
		return nil, errors.New("sqlite URLs take no query options")
	}
	path, ok := strings.CutPrefix(path, "/")
	if !ok || path == "" || path == ":memory:" {
		return nil, errors.New("it names no file; write sqlite:///relative.sqlite or sqlite:////absolute/path.sqlite")
	}
	if strings.HasPrefix(path, "file:") {
		return nil, errors.New("SQLite URIs are not supported; write a plain path")
	}
	return &URL{Dialect: SQLite, Path: filepath.Clean(path)}, nil
}

func parseServer(dialect Dialect, rest string) (*URL, error) {
	match := pattern.FindStringSubmatch(rest)
	if match == nil {
		return nil, errors.New("it is not of the form dialect://user:password@host:port/database?options")
	}
	part := func(name string) string { return match[pattern.SubexpIndex(name)] }
	before, after, _ := strings.Cut(rest, "@")
	last := strings.LastIndex(after, "@")
	// With no password, SQLAlchemy takes what is between a colon behind the host and a
	// later at sign for it.
	if strings.Contains(part("host"), "@") || last >= 0 && !strings.Contains(before, ":") && strings.Contains(after[:last], ":") {
		return nil, errors.New("there are two at signs; write one in a user name, a password or an option as %40")
	}
	u := &URL{Dialect: dialect, Network: "tcp", Host: part("host"), Database: part("database"), Parameters: map[string]string{}}
	if v6 := part("ipv6"); v6 != "" {
		u.Host = v6
	}
	var err error
	u.User, err = url.PathUnescape(part("user"))
	if err != nil {
		return nil, errors.New("the user name has a percent sign that starts no escape; write it as %25")
	}
	u.Password, err = url.PathUnescape(part("password"))
	if err != nil {
		return nil, errors.New("the password has a percent sign that starts no escape; write it as %25")
	}
	if port := part("port"); port != "" {
		err = u.setPort(port)
		if err != nil {
			return nil, err
		}
	} else if strings.HasSuffix(strings.SplitN(rest, "/", 2)[0], ":") {
		return nil, errors.New("there is a colon for a port, but no port")
	}
	if u.Database == "" {
		return nil, errors.New("it names no database; write it behind the host, as in postgresql://host/database")
	}
	if strings.Contains(u.Database, "%") {
		return nil, errors.New("the name of the database has a percent sign; escapes are not read there, as in SQLAlchemy")
	}
	options, err := url.ParseQuery(part("query"))
	if err != nil {
		return nil, errors.New("the options behind the question mark are not of the form name=value&name=value")
	}
	err = u.setOptions(options)
	if err != nil {
		return nil, err
	}
	u.setDefaults()
	return u, nil
}

func (u *URL) setPort(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return errors.New("the port must be a number from 1 to 65535")
	}
	u.Port = uint16(port)
	return nil
}

func (u *URL) setDefaults() {
	if u.Host == "" {
		u.Host = "localhost"
	}
	if strings.HasPrefix(u.Host, "/") {
		u.Network = "unix"
	}
	switch {
	case u.Port != 0:
	case u.Dialect == PostgreSQL:
		u.Port = portPostgreSQL
	default:
		u.Port = portMySQL
	}
	if u.TLS.Mode == "" {
		u.TLS.Mode = "prefer"
	}
}

// An option is what an option of a URL does.
type option func(u *URL, value string) error

// ignored is an option that has no meaning here.
func ignored(*URL, string) error { return nil }

// must is an option that may only say what is so anyway.
func must(values ...string) option {
	return func(_ *URL, value string) error {
		if !slices.Contains(values, strings.ToLower(value)) {
			return fmt.Errorf("only %s is supported", strings.Join(values, " or "))
		}
		return nil
	}
}

func file(field func(*TLS) *string) option {
	return func(u *URL, value string) error {
		*field(&u.TLS) = value
		return nil
	}
}

func parameter(name string) option {
	return func(u *URL, value string) error {
		u.Parameters[name] = value
		return nil
	}
}

func host(u *URL, value string) error {
	if strings.Contains(value, ",") {
		return errors.New("several hosts are not supported; put a proxy or a virtual address before them")
	}
	u.Host = value
	return nil
}

func socket(u *URL, value string) error {
	if !strings.HasPrefix(value, "/") {
		return errors.New("it must be the absolute path of a socket")
	}
	u.Host = value
	return nil
}

// maxConnectTimeout is as long as a start may take at most to find out that there
// is no database.
const maxConnectTimeout = 5 * time.Minute

func connectTimeout(u *URL, value string) error {
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err != nil || time.Duration(seconds)*time.Second > maxConnectTimeout {
		return fmt.Errorf("it must be whole seconds from 0 to %.0f", maxConnectTimeout.Seconds())
	}
	u.ConnectTimeout = time.Duration(seconds) * time.Second
	return nil
}

func sslMode(u *URL, value string) error {
	modes := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	if !slices.Contains(modes, value) {
		return fmt.Errorf("it must be one of %s", strings.Join(modes, ", "))
	}
	u.TLS.Mode = value
	return nil
}

// sessionOptions reads libpq's options: settings of the session, "-c name=value",
// with a backslash before each blank in them.
func sessionOptions(u *URL, value string) error {
	words, err := splitWords(value)
	if err != nil {
		return err
	}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		setting, ok := strings.CutPrefix(word, "--")
		if !ok {
			setting, ok = strings.CutPrefix(word, "-c")
			if ok && setting == "" && len(words) > 0 {
				setting, words = words[0], words[1:]
			}
		}
		name, set, hasValue := strings.Cut(setting, "=")
		if !ok || !hasValue || name == "" {
			return errors.New("only settings are supported there, as in options=-csearch_path%3Dauth")
		}
		u.Parameters[name] = set
	}
	return nil
}

// splitWords splits a text at blanks that have no backslash before them.
func splitWords(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	inside, escaped := false, false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\':
			inside, escaped = true, true
		case r == ' ' || r == '\t' || r == '\n':
			if inside {
				words = append(words, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if escaped {
		return nil, errors.New("a backslash ends it")
	}
	if inside {
		words = append(words, word.String())
	}
	return words, nil
}

func preparedStatements(u *URL, value string) error {
	switch value {
	case "true", "false":
		u.NoPrepare = value == "false"
		return nil
	default:
		return errors.New("it must be true or false")
	}
}

// sslSwitch sets a mode of TLS when the option is true.
func sslSwitch(whenTrue, whenFalse string) option {
	return func(u *URL, value string) error {
		switch strings.ToLower(value) {
		case "true", "1", "yes", "on":
			u.TLS.Mode = stricter(u.TLS.Mode, whenTrue)
		case "false", "0", "no", "off":
			u.TLS.Mode = stricter(u.TLS.Mode, whenFalse)
		default:
			return errors.New("it must be true or false")
		}
		return nil
	}
}

// stricter returns the mode that asks for more. One of disable stays.
func stricter(a, b string) string {
	order := []string{"", "prefer", "require", "verify-ca", "verify-full", "disable"}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

// options are those that have a meaning here, by dialect: of libpq and psycopg2,
// and of the drivers PyMySQL, mysqlclient and MariaDB Connector/Python.
var options = map[Dialect]map[string]option{
	PostgreSQL: {
		"host":                         host,
		"port":                         (*URL).setPort,
		"user":                         func(u *URL, value string) error { u.User = value; return nil },
		"password":                     func(u *URL, value string) error { u.Password = value; return nil },
		"dbname":                       func(u *URL, value string) error { u.Database = value; return nil },
		"sslmode":                      sslMode,
		"sslrootcert":                  file(func(t *TLS) *string { return &t.RootCert }),
		"sslcert":                      file(func(t *TLS) *string { return &t.Cert }),
		"sslkey":                       file(func(t *TLS) *string { return &t.Key }),
		"connect_timeout":              connectTimeout,
		"application_name":             parameter("application_name"),
		"options":                      sessionOptions,
		"client_encoding":              must("utf8", "utf-8"),
		"target_session_attrs":         must("any", "read-write", "primary"),
		"prepared_statements":          preparedStatements,
		"keepalives":                   ignored,
		"keepalives_idle":              ignored,
		"keepalives_interval":          ignored,
		"keepalives_count":             ignored,
		"executemany_mode":             ignored,
		"executemany_batch_page_size":  ignored,
		"executemany_values_page_size": ignored,
	},
	MySQL: {
		"unix_socket":         socket,
		"charset":             must("utf8mb4"),
		"use_unicode":         must("1", "true"),
		"ssl":                 sslSwitch("require", "disable"),
		"ssl_mode":            mysqlSSLMode,
		"ssl_disabled":        sslSwitch("disable", ""),
		"ssl_ca":              mysqlCA,
		"ssl_cert":            file(func(t *TLS) *string { return &t.Cert }),
		"ssl_key":             file(func(t *TLS) *string { return &t.Key }),
		"ssl_verify_cert":     sslSwitch("verify-ca", ""),
		"ssl_check_hostname":  sslSwitch("verify-full", ""),
		"ssl_verify_identity": sslSwitch("verify-full", ""),
		"connect_timeout":     connectTimeout,
		"local_infile":        must("0", "false"),
		"binary_prefix":       ignored,
	},
}

func mysqlCA(u *URL, value string) error {
	u.TLS.RootCert = value
	u.TLS.Mode = stricter(u.TLS.Mode, "verify-ca")
	return nil
}

func mysqlSSLMode(u *URL, value string) error {
	modes := map[string]string{
		"DISABLED": "disable", "PREFERRED": "prefer", "REQUIRED": "require", "VERIFY_CA": "verify-ca", "VERIFY_IDENTITY": "verify-full",
	}
	mode, ok := modes[strings.ToUpper(value)]
	if !ok {
		return errors.New("it must be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY")
	}
	u.TLS.Mode = stricter(u.TLS.Mode, mode)
	return nil
}

func (u *URL) setOptions(given url.Values) error {
	known := options[u.Dialect]
	names := make([]string, 0, len(given))
	for name := range given {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		set, ok := known[name]
		if !ok {
			return fmt.Errorf("the option %.40q is not supported for %s databases", name, u.Dialect)
		}
		if len(given[name]) > 1 {
			return fmt.Errorf("the option %s is given more than once", name)
		}
		if given[name][0] == "" {
			continue // SQLAlchemy drops it
		}
		err := set(u, given[name][0])
		if err != nil {
			return fmt.Errorf("the option %s: %w", name, err)
		}
	}
	if (u.TLS.Cert == "") != (u.TLS.Key == "") {
		return errors.New("a certificate of the client needs its key, and the other way round")
	}
	return nil
}

// String names the database for people, without user and password.
func (u *URL) String() string {
	switch {
	case u.Dialect == SQLite:
		return u.Path
	case u.Network == "unix":
		return fmt.Sprintf("%s database %s at %s", u.Dialect, u.Database, u.Host)
	default:
		return fmt.Sprintf("%s database %s at %s", u.Dialect, u.Database, net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port))))
	}
}

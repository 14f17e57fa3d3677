package limitstore

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// errURL tells no part of the URL: where one is malformed, any part may be one
// of the password.
var errURL = errors.New("the URL of the shared store has to be like redis://user:password@host:6379/0 " +
	"(or rediss, valkey, valkeys) or unix://user:password@/path/of/socket?db=0, with %XX for special characters in the password; " +
	"its parameters may be db, client_name and protocol")

// parameters are those of the library that have a meaning here; the others
// would be overridden, or are for kinds of servers that are not supported.
var parameters = []string{"db", "client_name", "protocol"}

// parse returns the connection that a URL describes.
func parse(text string) (valkey.ClientOption, error) {
	u, err := url.Parse(text)
	if err != nil || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return valkey.ClientOption{}, errURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return valkey.ClientOption{}, errURL
	}
	for name := range query {
		if !slices.Contains(parameters, name) {
			return valkey.ClientOption{}, errURL
		}
	}
	if u.Scheme == "unix" && (u.Host != "" || len(u.Path) < 2) || u.Scheme != "unix" && u.Hostname() == "" {
		return valkey.ClientOption{}, errURL
	}
	if u.Path == "/" {
		u.Path = "" // the library wants a number after a slash
	}
	option, err := valkey.ParseURL(u.String())
	if err != nil {
		return valkey.ClientOption{}, errURL
	}
	if option.SelectDB < 0 {
		return valkey.ClientOption{}, errURL
	}
	return option, nil
}

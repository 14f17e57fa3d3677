package config

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// RateLimits are the limits of calls, in calls a minute.
type RateLimits struct {
	// Off is set when no limit applies; the other fields are then zero.
	Off bool
	// IPAddr holds for every request that has no limit of its own.
	IPAddr int
	// User, Session and APIKey hold for the requests of their family.
	User, Session, APIKey int
	// Burst is how many calls pass at once before a group's limit counts.
	Burst int
	// Requests are limits of single requests, by request name.
	Requests map[string]int
}

const (
	// defaultRateLimits are the Python server's.
	defaultRateLimits = "ipaddr:720; user:480; session:600; apikey:720; burst:150"
	// maxRateLimit is far above what one server can answer in a minute.
	maxRateLimit = 1_000_000
)

// requestName is the shape of a request's name: family and verb. Whether
// there is such a request isn't known here.
var requestName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)

// ParseRateLimits reads limits as the option ratelimits gives them: pairs of
// a name and a whole number from 1 to 1,000,000, such as "user:480;
// user-login:20". A name is a group (ipaddr, user, session, apikey, burst) or
// a request's name. Groups that aren't named keep their defaults. A blank
// text gives the defaults, and the word none turns limits off.
func ParseRateLimits(text string) (RateLimits, error) {
	var limits RateLimits
	if isNone(text) {
		limits.Off = true
		return limits, nil
	}
	given, err := parsePairs(text)
	if err != nil {
		return RateLimits{}, err
	}
	values, err := parsePairs(defaultRateLimits)
	if err != nil {
		panic("config: default rate limits: " + err.Error()) // unreachable: a constant
	}
	maps.Copy(values, given)
	for name, value := range values {
		if group := limits.group(name); group != nil {
			*group = value
			continue
		}
		if limits.Requests == nil {
			limits.Requests = map[string]int{}
		}
		limits.Requests[name] = value
	}
	return limits, nil
}

func (l *RateLimits) group(name string) *int {
	switch name {
	case "ipaddr":
		return &l.IPAddr
	case "user":
		return &l.User
	case "session":
		return &l.Session
	case "apikey":
		return &l.APIKey
	case "burst":
		return &l.Burst
	default:
		return nil
	}
}

// parsePairs reads name:number pairs, separated by semicolons. One more
// semicolon may end the text.
func parsePairs(text string) (map[string]int, error) {
	pairs := map[string]int{}
	text = strings.TrimSpace(text)
	text = strings.TrimSuffix(text, ";")
	if strings.TrimSpace(text) == "" {
		return pairs, nil
	}
	for piece := range strings.SplitSeq(text, ";") {
		name, number, found := strings.Cut(piece, ":")
		name = strings.TrimSpace(name)
		if !found {
			return nil, fmt.Errorf("%s is not a pair of a name and a number such as user:480", quote(piece))
		}
		if new(RateLimits).group(name) == nil && !requestName.MatchString(name) {
			return nil, fmt.Errorf("%s is neither a group (ipaddr, user, session, apikey, burst) nor a request's name such as user-login", quote(name))
		}
		if _, twice := pairs[name]; twice {
			return nil, fmt.Errorf("%s is given twice", name)
		}
		value, err := parseInt(number)
		if err != nil || value < 1 || value > maxRateLimit {
			return nil, fmt.Errorf("the limit %s of %s is not a whole number from 1 to %d", quote(number), name, maxRateLimit)
		}
		pairs[name] = int(value)
	}
	return pairs, nil
}

package test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A jumper is a server whose clock can be set.
type jumper struct {
	*server
	file string
	jump time.Duration
}

// jumpingServer builds the server once with a clock that can be set, beside the one that
// all tests use, and returns its path.
var jumpingServer = sync.OnceValues(func() (string, error) {
	program, err := exec.LookPath("authnzrv")
	if err != nil {
		return "", err
	}
	program += "-chaos"
	args := []string{"build", "-tags", "chaos", "-o", program}
	if raceDetector {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "authnzerver/cmd/authnzrv")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

// startJumper starts a server whose clock is right.
func startJumper(t *testing.T, options ...string) *jumper {
	t.Helper()
	dir := t.TempDir()
	program, err := jumpingServer()
	try(t, "build a server whose clock can be set", err)
	j := &jumper{file: filepath.Join(dir, "clock")}
	write(t, j.file, "0s")
	cmd, key := serve(t, dir, []string{program}, options...)
	cmd.Env = append(cmd.Env, "AUTHNZERVER_CLOCK_FILE="+j.file)
	j.server = launch(t, cmd, dir, key)
	return j
}

// set has the server's clock be off by so much.
func (j *jumper) set(jump time.Duration) {
	j.t.Helper()
	j.jump = jump
	write(j.t, j.file+".new", jump.String())
	try(j.t, "set the clock", os.Rename(j.file+".new", j.file)) // the server reads it at any time
}

// now is the time of day by the server's clock.
func (j *jumper) now() time.Time { return time.Now().Add(j.jump) }

// body returns a sealed request, made at the server's time.
func (j *jumper) body(name string, body params) string {
	j.t.Helper()
	return seal(j.key, envelope(name, text(j.t, body), `"clock"`), j.now())
}

// tell sends a request that was made at the server's time, and returns the reply.
func (j *jumper) tell(name string, body params) *reply {
	j.t.Helper()
	return j.sent(name, j.body(name, body))
}

// sent sends a sealed request, and returns the reply.
func (j *jumper) sent(name, sealed string) *reply {
	j.t.Helper()
	status, _, answer := j.post(sealed)
	if status != http.StatusOK {
		j.t.Fatalf("%s: status %d", name, status)
	}
	opened, _, err := unseal(j.key, answer)
	try(j.t, "open the reply", err)
	return j.parse(name, opened)
}

// refused sends a sealed request, which must not be accepted.
func (j *jumper) refused(what, sealed string) {
	j.t.Helper()
	if status, _, _ := j.post(sealed); status != http.StatusUnauthorized {
		j.t.Errorf("%s: status %d", what, status)
	}
}

// TestClockJumps sets the clock of a server an hour or a day forwards or back while it runs,
// and then right again.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, time.Second, -time.Second} {
		t.Run(jump.String(), func(t *testing.T) { jumped(t, jump) })
	}
}

func jumped(t *testing.T, jump time.Duration) {
	j := startJumper(t, "userlocktries=5", "userlocktime=1200")
	session := func(user any, in time.Duration) string {
		expires := time.Now().Add(in).UTC().Format("2006-01-02T15:04:05.000000")
		return j.tell("session-new", newSession().with(params{"user_id": user, "expires": expires})).ok().text("session_token")
	}
	exists := func(token string) bool { return j.tell("session-exists", params{"session_token": token}).Success }
	signUp := func(name string) *user {
		u := &user{email: name + "@mail.example.com", password: "Vivid-lantern-7-meadow"}
		u.id = j.tell("user-new", params{"full_name": "Clock " + name, "email": u.email, "password": u.password}).ok().id("user_id")
		j.tell("user-set-emailverified", params{"email": u.email}).ok()
		return u
	}
	lockedOut := func(u *user) bool {
		return j.tell("user-passcheck-nosession", params{"email": u.email, "password": u.password}).Code == "too_many_failures"
	}
	lockOut := func(u *user) {
		t.Helper()
		for range 6 {
			j.tell("user-passcheck-nosession", params{"email": u.email, "password": "wrong"})
		}
		if !lockedOut(u) {
			t.Fatal("the account is not locked out")
		}
	}
	u, v := signUp("ada"), signUp("bob")
	const half, day = 30 * time.Minute, 23 * time.Hour // how long sessions last
	short, long, ended, endedLater := session(u.id, half), session(u.id, day), session(u.id, day), session(u.id, day)
	j.tell("session-delete", params{"session_token": ended}).ok()
	lockOut(u)
	captured := j.body("session-exists", params{"session_token": long})
	j.sent("session-exists", captured).ok()
	j.refused("a repeated message", captured)

	j.set(jump)
	j.refused("after the jump, a message from before", captured)
	if jump.Abs() > time.Minute { // more than clocks may differ, or messages may be ahead
		straight := seal(j.key, envelope("session-exists", `{"session_token": "x"}`, "1"), time.Now())
		j.refused("after the jump, a message of a frontend whose clock did not jump", straight)
	}
	for name, test := range map[string]struct {
		token string
		want  bool
	}{"half an hour": {short, jump < half}, "23 hours": {long, jump < day}} {
		if exists(test.token) != test.want {
			t.Errorf("after the jump, the session of %s exists: %v", name, !test.want)
		}
	}
	if got, want := lockedOut(u), jump < 20*time.Minute; got != want {
		t.Errorf("after the jump, the lock of twenty minutes holds: %v", got)
	}
	if jump < day {
		j.tell("session-delete", params{"session_token": endedLater}).ok()
	}
	lockOut(v)
	if exists(ended) {
		t.Error("after the jump, a session that was ended is back")
	}
	if status, _, _ := j.send(http.MethodGet, "health", ""); status != http.StatusOK {
		t.Error("after the jump, the server is not healthy")
	}

	// Of a second that the server has forgotten, it takes no other message.
	time.Sleep(time.Second)
	j.set(0)
	j.refused("when the clock is right again, a message from the start", captured)
	for name, token := range map[string]string{"before": ended, "after": endedLater} {
		if exists(token) && (name == "before" || jump < day) {
			t.Errorf("when the clock is right again, a session is back that was ended %s the jump", name)
		}
	}
	if !exists(long) {
		t.Error("when the clock is right again, a session has ended too soon")
	}
	// A lock of twenty minutes from an hour ago is over; one from an hour ahead goes on.
	if got, want := lockedOut(v), jump > -20*time.Minute; got != want {
		t.Errorf("when the clock is right again, a lock from after the jump holds: %v", got)
	}
	fresh := signUp("cleo")
	j.tell("user-passcheck-nosession", params{"email": fresh.email, "password": fresh.password}).ok()
	j.refused("in the end, a message from the start", captured)
}

// TestIdleSessions: a session that nobody uses ends, one that is used does not.
func TestIdleSessions(t *testing.T) {
	t.Parallel()
	j := startJumper(t, "sessionidle=30")
	u := j.tell("user-new", params{"full_name": "Idle", "email": "idle@mail.example.com", "password": "Vivid-lantern-7-meadow"}).ok().id("user_id")
	tomorrow := time.Now().AddDate(0, 0, 1).UTC().Format("2006-01-02T15:04:05.000000")
	session := func() params {
		return params{"session_token": j.tell("session-new", newSession().with(params{"user_id": u, "expires": tomorrow})).ok().text("session_token")}
	}
	used, unused := session(), session()
	for passed := time.Duration(0); passed < 2*time.Hour; passed += 29 * time.Minute {
		j.set(passed)
		j.tell("session-exists", used).ok()
	}
	j.tell("session-exists", unused).failed("session_not_found")
	if sessions := j.tell("session-list", used).ok().Response["sessions"].([]any); len(sessions) != 1 {
		t.Errorf("%d sessions are listed, want the one that is used", len(sessions))
	}
	j.set(j.jump + 33*time.Minute)
	j.tell("session-list", used).failed("session_not_found")
}

// TestClockJumpsAndLimits sets the clock to and fro: no limit lets through more for that.
func TestClockJumpsAndLimits(t *testing.T) {
	t.Parallel()
	j := startJumper(t, "ratelimits=session:30; burst:20", "messagettl=0")
	let := 0
	began := time.Now()
	for i := range 120 {
		j.set([]time.Duration{0, time.Hour, -time.Hour, 24 * time.Hour}[i/3%4])
		if status, _, _ := j.post(j.body("session-exists", params{"session_token": "x"})); status == http.StatusOK {
			let++
		}
	}
	most := 30 + int(time.Since(began).Minutes()*30)
	if let < 20 || let > most {
		t.Errorf("%d of 120 requests passed, want 20 to %d", let, most)
	}
}

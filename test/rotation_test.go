package test

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"authnzerver/test/figures"
)

var rotations = flag.Int("rotations", 1, "how often TestRotation replaces the key between frontends and servers")

// sealedWith sends a request that is sealed with a key, and returns the status.
func sealedWith(t *testing.T, url, key string) int {
	t.Helper()
	text := fmt.Sprintf(`{"request": "session-exists", "body": {"session_token": "none"}, "reqid": %q, "client_ipaddr": "192.0.2.81"}`, newReqID())
	response, err := http.Post(url, "text/plain", strings.NewReader(seal(key, text, time.Now())))
	try(t, "send a request", err)
	_ = response.Body.Close()
	return response.StatusCode
}

// TestRotation replaces the key between frontends and servers as docs/running.md says, while
// people live on the nodes: each is restarted with both keys, the frontends get the new one,
// and each is restarted without the old one. Nothing is lost or wrong, and with several nodes
// behind a proxy, no request that is sent again once fails. A key opens nothing before it is
// there nor after it is gone.
func TestRotation(t *testing.T) {
	c := newCluster(t, 2)
	f := newFrontend(c.key, c.proxy())
	b := newBook()
	stop := b.load(f, 4)
	restart := func(secret string) {
		c.options = append(c.options, "secret="+secret)
		for i := range c.nodes {
			c.nodes[i].stop()
			c.start(i)
			waitFor(t, "the proxy to use the node again", func() bool { return c.nodes[i].record("request") != nil })
		}
	}
	status := func(key string, want int) {
		t.Helper()
		for i, url := range c.urls() {
			if got := sealedWith(t, url, key); got != want {
				t.Errorf("node %d answers with %d, want %d", i, got, want)
			}
		}
	}
	for range *rotations {
		old, next := c.key, newKey()
		status(next, http.StatusUnauthorized)
		restart(old + "," + next)
		status(old, http.StatusOK)
		f.use(next)
		c.key = next
		time.Sleep(100 * time.Millisecond) // what was sealed with the old one is on its way
		restart(next)
		status(next, http.StatusOK)
		status(old, http.StatusUnauthorized)
	}
	stop()
	for _, wrong := range b.check(t, c.key, c.urls(), databaseOf(t, c.dir)) {
		t.Error(wrong)
	}
	twice := 0
	for _, failed := range b.failed {
		if failed.again && failed.code == "" {
			twice++
		}
	}
	if len(c.nodes) > 1 && twice > 0 {
		t.Errorf("%d requests got no answer when they were sent again once", twice)
	}
	b.control(t, c.key, c.urls(), databaseOf(t, c.dir))
	found(t, figures.Figure{
		Name: "keys are replaced and nodes restarted under load", Value: float64(twice), Unit: "requests that fail when they are sent again once", Target: "0 with several nodes",
		Control: float64(len(b.failed)), Note: fmt.Sprintf("%d keys, %d nodes, %d people; %d tries were sent again", *rotations, len(c.nodes), len(b.users), len(b.failed)),
	})
}

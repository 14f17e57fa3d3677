package test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// manyUsers are too many to be sent in one piece.
const manyUsers = 3000

// addUsers adds users beside those of the server, who must be stopped or new.
func addUsers(t *testing.T, url string) {
	t.Helper()
	db := openDatabase(t, url)
	for part := range manyUsers / 1000 {
		values := make([]string, 1000)
		for i := range values {
			id := 1000*part + i + 10
			values[i] = fmt.Sprintf("(%d, 'system-%[1]d', 'none', 'user-%[1]d@mail.example.com', 'user-%[1]d@mail.example.com', %v, true, "+
				"'2026-01-01 00:00:00', '2026-01-01 00:00:00', 'authenticated', '{\"team\": \"%[3]d\", \"text\": \"%[4]s\"}')", id, id%2 == 0, id%7, strings.Repeat("x", 200))
		}
		_, err := db.Exec("INSERT INTO users (user_id, system_id, password, email, email_normalized, email_verified, is_active, created_on, last_updated, user_role, extra_info) VALUES " +
			strings.Join(values, ", "))
		try(t, "add users", err)
	}
}

// ids returns the ids of the users of a list.
func ids(r *reply) (found []int) {
	r.ok()
	users, _ := r.Response["user_info"].([]any)
	for _, user := range users {
		id, _ := user.(map[string]any)["user_id"].(float64)
		found = append(found, int(id))
	}
	return found
}

// TestLists lists many users, whole and by pages.
func TestLists(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	addUsers(t, databaseOf(t, dir))
	all := ids(s.call("user-list", params{"user_id": nil}))
	want := []int{1, 2, 3}
	for i := range manyUsers {
		want = append(want, i+10)
	}
	if !slices.Equal(all, want) {
		t.Errorf("the list has %d users, want %d", len(all), len(want))
	}
	paged := func(name string, body params, limit int) (found []int) {
		t.Helper()
		body = body.with(params{"limit": limit})
		for {
			r := s.call(name, body).ok()
			page := ids(r)
			found = append(found, page...)
			next, more := r.Response["next"].(float64)
			if !more {
				return found
			}
			if len(page) != limit || int(next) != page[limit-1] {
				t.Fatalf("%s: a page of %d users, limit %d, next %v", name, len(page), limit, next)
			}
			body["after"] = int(next)
		}
	}
	for _, limit := range []int{1000, 617, 1} {
		body, want := params{"user_id": nil}, all
		if limit == 1 {
			body["after"] = manyUsers
			want = all[slices.Index(all, manyUsers)+1:]
		}
		if got := paged("user-list", body, limit); !slices.Equal(got, want) {
			t.Errorf("pages of %d have %d users, want %d", limit, len(got), len(want))
		}
	}
	verified := params{"by": "email_verified", "match": true}
	team := params{"by": "extra_info", "match": params{"team": "3"}}
	for _, match := range []params{verified, team} {
		whole := ids(s.call("user-lookup-match", match))
		if len(whole) < manyUsers/8 || len(whole) > manyUsers*2/3 {
			t.Errorf("%v: %d users", match, len(whole))
		}
		if got := paged("user-lookup-match", match, 100); !slices.Equal(got, whole) {
			t.Errorf("%v: pages have %d users, want %d", match, len(got), len(whole))
		}
	}
	for _, wrong := range []params{{"limit": 0}, {"limit": 1001}, {"limit": "5"}, {"limit": nil}, {"after": -1}, {"after": nil}} {
		s.call("user-list", params{"user_id": nil}.with(wrong)).failed("invalid_request_params")
	}
	if _, present := s.call("user-list", params{"user_id": 1}).ok().Response["next"]; present {
		t.Error("a list that is no page has next")
	}
}

// TestOwnLists lists the sessions and the keys of a user, whole and by pages.
func TestOwnLists(t *testing.T) {
	t.Parallel()
	s := start(t)
	u := s.newUser()
	const many = 23
	var token string
	for range many {
		token = s.session(u.id)
		s.call("apikey-new-nosession", newSessionlessKey(u.id)).ok()
		body := newSessionlessKey(u.id).with(params{
			"expires_days": 1, "user_agent": sessionAgent, "ip_address": sessionAddress, "session_token": token,
		})
		s.call("apikey-new", body).ok()
	}
	for _, list := range []struct { // keys first, as the end of a session is that of its key
		request, entries, id, deletion string
		body                           params
		n                              int
	}{
		{"apikey-list", "apikeys", "key_id", "apikey-revoke", params{"user_id": u.id, "user_role": "authenticated"}, 2 * many},
		{"session-list", "sessions", "session_id", "session-delete", params{"session_token": token}, many},
	} {
		idsOf := func(r *reply) (found []string) {
			entries, _ := r.ok().Response[list.entries].([]any)
			for _, entry := range entries {
				id, _ := entry.(map[string]any)[list.id].(string)
				found = append(found, id)
			}
			return found
		}
		r := s.call(list.request, list.body)
		all := idsOf(r)
		if _, more := r.Response["next"]; more || len(all) != list.n {
			t.Errorf("%s: %d entries, want %d and no more", list.request, len(all), list.n)
		}
		for _, limit := range []int{1, 7, list.n - 1, list.n, 1000} {
			var found []string
			for body := list.body.with(params{"limit": limit}); ; {
				r := s.call(list.request, body)
				page := idsOf(r)
				found = append(found, page...)
				next, more := r.Response["next"].(string)
				if !more {
					break
				}
				if len(page) != limit {
					t.Fatalf("%s: a page of %d, limit %d, has a next one", list.request, len(page), limit)
				}
				body["after"] = next
			}
			if !slices.Equal(found, all) {
				t.Errorf("%s: pages of %d have %v, want %v", list.request, limit, found, all)
			}
		}
		// A page begins where the one before ended, also when what was there is gone.
		first := s.call(list.request, list.body.with(params{"limit": 2})).ok()
		gone := idsOf(first)[1]
		s.call(list.deletion, list.body.with(params{list.id: gone})).ok()
		second := s.call(list.request, list.body.with(params{"limit": 1000, "after": first.text("next")}))
		if got := idsOf(second); !slices.Equal(got, all[2:]) {
			t.Errorf("%s after an entry that is gone: %v, want %v", list.request, got, all[2:])
		}
		for _, wrong := range []params{
			{"limit": 0},
			{"limit": 1001},
			{"limit": nil},
			{"after": 1},
			{"after": nil},
			{"after": "x"},
			{"after": "x.y"},
			{"after": "-1.y"},
			{"after": "99999999999999999999.y"},
			{"after": "253402300800000000.y"},
		} {
			s.call(list.request, list.body.with(wrong)).failed("invalid_request_params")
		}
	}
}

// TestListIsCut has clients that go away in the middle of a long list.
func TestListIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir)
	addUsers(t, databaseOf(t, dir))
	ask := func() *http.Response {
		text := seal(s.key, fmt.Sprintf(`{"request": "user-list", "reqid": %q, "body": {"user_id": null}}`, newReqID()), time.Now())
		response, err := s.http.Post(s.url, "text/plain", bytes.NewReader([]byte(text)))
		try(t, "ask", err)
		return response
	}
	for range 5 {
		response := ask()
		if response.ContentLength != -1 || !reflect.DeepEqual(response.TransferEncoding, []string{"chunked"}) {
			t.Errorf("a list of %d users has a length: %d, %v", manyUsers, response.ContentLength, response.TransferEncoding)
		}
		_, err := io.ReadFull(response.Body, make([]byte, 100))
		try(t, "read the beginning", err)
		try(t, "go", response.Body.Close())
	}
	response := ask()
	_, err := io.Copy(io.Discard, response.Body)
	try(t, "read all", err)
	s.session(nil)
}

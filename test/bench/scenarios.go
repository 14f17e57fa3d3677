//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"authnzerver/internal/store"
	"authnzerver/test/databases"
)

const (
	benchAddress = "192.0.2.7"
	benchAgent   = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	// pageSize is how many users a page of a list has.
	pageSize = 100
)

// An account is a user with what is known about it.
type account struct {
	id                    int
	name, email, password string
}

// filled returns the i-th of the users that the database was filled with, in an order
// that leads through all of them, and none who is locked.
func (s *side) filled(i int) account {
	k := i * stride % s.users
	if k%50 == 0 {
		k++
	}
	return account{databases.FirstUser + k, "", fmt.Sprintf("user%d@example.org", k), databases.FillerPassword}
}

// newcomer signs a user up.
func (s *side) newcomer(ctx context.Context) account {
	s.count++
	a := account{name: fmt.Sprint("Newcomer ", s.count), email: fmt.Sprintf("newcomer%d@example.org", s.count), password: userPassword}
	id, _ := s.ask(ctx, "user-new", params{"full_name": a.name, "email": a.email, "password": a.password})["user_id"].(float64)
	a.id = int(id)
	return a
}

// member signs a user up and verifies the address.
func (s *side) member(ctx context.Context) account {
	a := s.newcomer(ctx)
	s.ask(ctx, "user-set-emailverified", params{"email": a.email})
	return a
}

func sessionOf(userID any) params {
	return params{
		"ip_address": benchAddress, "user_agent": benchAgent, "user_id": userID, "extra_info_json": nil,
		"expires": time.Now().Add(24 * time.Hour).UTC().Format("2006-01-02T15:04:05.000000"),
	}
}

// session makes a session of a user, or of nobody when the id is nil, and returns its
// token.
func (s *side) session(ctx context.Context, userID any) string {
	token, _ := s.ask(ctx, "session-new", sessionOf(userID))["session_token"].(string)
	return token
}

// visitor makes a session of nobody.
func (s *side) visitor(ctx context.Context) string { return s.session(ctx, nil) }

func keyOf(userID int) params {
	return params{
		"user_id": userID, "user_role": "authenticated", "issuer": "bench", "audience": "bench", "subject": "bench", "apiversion": 1,
		"not_valid_before": 0, "ip_address": benchAddress,
	}
}

func with(body, more params) params {
	for name, value := range more {
		body[name] = value
	}
	return body
}

var refreshable = params{"expires_seconds": 3600, "refresh_expires": 86400, "refresh_nbf": 0}

// tiedKey returns the parameters that make a key of a user with a session.
func (s *side) tiedKey(ctx context.Context, i int) params {
	id := s.filled(i).id
	return with(keyOf(id), params{"expires_days": 1, "user_agent": benchAgent, "session_token": s.session(ctx, id)})
}

// presented makes an API key with the request named, and returns the parameters that
// present it.
func (s *side) presented(ctx context.Context, request string, body params) params {
	made := s.ask(ctx, request, body)
	text, _ := made["apikey"].(string)
	var key params
	if s.err == nil {
		s.err = json.Unmarshal([]byte(text), &key)
	}
	shown := params{"apikey_dict": key, "user_id": body["user_id"], "user_role": "authenticated"}
	if token, ok := made["refresh_token"]; ok {
		return with(with(shown, refreshable), params{"refresh_token": token, "ip_address": benchAddress, "not_valid_before": 0})
	}
	return with(shown, params{"ip_address": benchAddress, "user_agent": benchAgent, "session_token": body["session_token"]})
}

// tied presents a key that is tied to a session, free one that is not.
func (s *side) tied(ctx context.Context, i int) params {
	return s.presented(ctx, "apikey-new", s.tiedKey(ctx, i))
}

func (s *side) free(ctx context.Context, i int) params {
	return s.presented(ctx, "apikey-new-nosession", with(keyOf(s.filled(i).id), refreshable))
}

func (s *side) asAdmin(body params) params {
	return with(body, params{"user_id": store.SuperuserID, "user_role": "superuser", "session_token": s.admin})
}

// mailing are the parameters of all mails.
func mailing(more params) params {
	return with(params{
		"server_name": "Bench", "server_baseurl": "https://bench.example.org", "verification_token": nil, "verification_expiry": 900,
	}, more)
}

func change(a account) params {
	return params{
		"user_id": a.id, "full_name": a.name, "email": a.email, "current_password": a.password, "new_password": "Renewed-" + userPassword,
	}
}

// scenarios are all requests, and some more than once. Users are those that the
// database was filled with, unless a request changes them.
var scenarios = []scenario{
	{"session-new", "", func(_ context.Context, s *side, i int) params { return sessionOf(s.filled(i).id) }},
	{"session-exists", "", func(ctx context.Context, s *side, i int) params {
		return params{"session_token": s.session(ctx, s.filled(i).id)}
	}},
	{"session-list", "", func(ctx context.Context, s *side, i int) params {
		return params{"session_token": s.session(ctx, s.filled(i).id)}
	}},
	{"session-delete", "", func(ctx context.Context, s *side, i int) params {
		return params{"session_token": s.session(ctx, s.filled(i).id)}
	}},
	{"session-delete-userid", "", func(ctx context.Context, s *side, i int) params {
		id := s.filled(i).id
		return params{"session_token": s.session(ctx, id), "user_id": id, "keep_current_session": true}
	}},
	{"internal-session-edit", "", func(ctx context.Context, s *side, i int) params {
		return params{"target_session_token": s.session(ctx, s.filled(i).id), "update_dict": params{"theme": "dark"}}
	}},
	{"session-setinfo", "", func(ctx context.Context, s *side, i int) params {
		return params{"session_token": s.session(ctx, s.filled(i).id), "extra_info": params{"theme": "dark"}}
	}},

	{"event-list", "", func(ctx context.Context, s *side, i int) params {
		return params{"session_token": s.session(ctx, s.filled(i).id)}
	}},
	{"user-login", "", func(ctx context.Context, s *side, i int) params {
		a := s.filled(i)
		return params{"session_token": s.visitor(ctx), "email": a.email, "password": a.password}
	}},
	{"user-logout", "", func(ctx context.Context, s *side, i int) params {
		id := s.filled(i).id
		return params{"session_token": s.session(ctx, id), "user_id": id}
	}},
	{"user-passcheck", "", func(ctx context.Context, s *side, i int) params {
		a := s.filled(i)
		return params{"session_token": s.session(ctx, a.id), "password": a.password}
	}},
	{"user-passcheck-nosession", "", func(_ context.Context, s *side, i int) params {
		a := s.filled(i)
		return params{"email": a.email, "password": a.password}
	}},
	{"user-validatepass", "", func(_ context.Context, s *side, i int) params {
		return params{"password": userPassword, "email": s.filled(i).email, "full_name": "Somebody"}
	}},
	{"user-changepass", "", func(ctx context.Context, s *side, _ int) params {
		a := s.member(ctx)
		return with(change(a), params{"session_token": s.session(ctx, a.id)})
	}},
	{"user-changepass-nosession", "", func(ctx context.Context, s *side, _ int) params { return change(s.member(ctx)) }},
	{"user-resetpass", "", func(ctx context.Context, s *side, _ int) params {
		return params{"email_address": s.member(ctx).email, "new_password": "Renewed-" + userPassword, "session_token": s.visitor(ctx)}
	}},
	{"user-resetpass-nosession", "", func(ctx context.Context, s *side, _ int) params {
		return params{"email_address": s.member(ctx).email, "new_password": "Renewed-" + userPassword, "required_active": true}
	}},

	{"user-new", "", func(_ context.Context, s *side, i int) params {
		return params{"full_name": "Somebody New", "email": fmt.Sprintf("somebody%d@example.org", i), "password": userPassword}
	}},
	{"user-delete", "", func(ctx context.Context, s *side, _ int) params {
		a := s.member(ctx)
		return params{"email": a.email, "user_id": a.id, "password": a.password}
	}},
	{"user-list", "of one", func(_ context.Context, s *side, i int) params { return params{"user_id": s.filled(i).id} }},
	{"user-list", "a page", func(_ context.Context, s *side, i int) params {
		after := databases.FirstUser + i*stride%(s.users-2*pageSize)
		return params{"user_id": nil, "limit": pageSize, "after": after}
	}},
	{"user-lookup-email", "", func(_ context.Context, s *side, i int) params { return params{"email": s.filled(i).email} }},
	{"user-lookup-match", "by name", func(_ context.Context, s *side, i int) params {
		k := i * stride % s.users
		return params{"by": "full_name", "match": fmt.Sprint("User ", k-k%3+1)}
	}},
	{"user-lookup-match", "by role, a page", func(_ context.Context, s *side, i int) params {
		return params{"by": "user_role", "match": "authenticated", "limit": pageSize, "after": databases.FirstUser + i*stride%(s.users-2*pageSize)}
	}},
	{"user-edit", "", func(ctx context.Context, s *side, i int) params {
		id := s.filled(i).id
		return params{
			"user_id": id, "user_role": "authenticated", "session_token": s.session(ctx, id), "target_userid": id,
			"update_dict": params{"full_name": "Somebody Else"},
		}
	}},
	{"user-lock", "", func(ctx context.Context, s *side, _ int) params {
		return s.asAdmin(params{"target_userid": s.member(ctx).id, "action": "lock"})
	}},
	{"internal-user-lock", "", func(ctx context.Context, s *side, _ int) params {
		return params{"target_userid": s.member(ctx).id, "action": "lock"}
	}},
	{"internal-user-edit", "", func(_ context.Context, s *side, i int) params {
		return params{"target_userid": s.filled(i).id, "update_dict": params{"full_name": "Somebody Else"}}
	}},
	{"internal-user-delete", "", func(ctx context.Context, s *side, _ int) params { return params{"target_userid": s.member(ctx).id} }},

	{"user-check-access", "", func(_ context.Context, s *side, i int) params {
		id := s.filled(i).id
		return params{
			"user_id": id, "user_role": "authenticated", "action": "view", "target_name": "dataset", "target_owner": id,
			"target_visibility": "private", "target_sharedwith": fmt.Sprint(s.filled(i + 1).id),
		}
	}},
	{"user-check-limit", "", func(_ context.Context, s *side, i int) params {
		return params{"user_id": s.filled(i).id, "user_role": "authenticated", "limit_name": "max_requests_per_minute", "value_to_check": 5}
	}},
	{"user-count-limit", "", func(_ context.Context, s *side, i int) params {
		return params{"user_id": s.filled(i).id, "user_role": "authenticated", "limit_name": "max_requests_per_minute", "cost": 1}
	}},
	{"check", "", func(_ context.Context, s *side, i int) params {
		id := s.filled(i).id
		view := params{"action": "view", "target_name": "dataset", "target_owner": id, "target_visibility": "private"}
		return params{"user_id": id, "access": []any{view}, "limits": []any{params{"limit_name": "max_requests_per_minute"}}}
	}},

	{"apikey-new", "", func(ctx context.Context, s *side, i int) params { return s.tiedKey(ctx, i) }},
	{"apikey-verify", "", func(ctx context.Context, s *side, i int) params { return s.tied(ctx, i) }},
	{"apikey-revoke", "", func(ctx context.Context, s *side, i int) params { return s.tied(ctx, i) }},
	{"apikey-list", "", func(_ context.Context, s *side, i int) params {
		return params{"user_id": s.filled(i).id, "user_role": "authenticated"}
	}},
	{"apikey-new-nosession", "", func(_ context.Context, s *side, i int) params { return with(keyOf(s.filled(i).id), refreshable) }},
	{"apikey-verify-nosession", "", func(ctx context.Context, s *side, i int) params { return s.free(ctx, i) }},
	{"apikey-revoke-nosession", "", func(ctx context.Context, s *side, i int) params { return s.free(ctx, i) }},
	{"apikey-revokeall-nosession", "", func(ctx context.Context, s *side, i int) params { return s.free(ctx, i) }},
	{"apikey-refresh-nosession", "", func(ctx context.Context, s *side, i int) params { return s.free(ctx, i) }},

	{"user-sendemail-signup", "", func(ctx context.Context, s *side, _ int) params {
		a := s.newcomer(ctx)
		return mailing(params{
			"email_address": a.email, "session_token": s.visitor(ctx), "account_verify_url": "/verify",
			"created_info": params{"send_verification": true, "user_id": a.id},
		})
	}},
	{"user-sendemail-forgotpass", "", func(ctx context.Context, s *side, _ int) params {
		return mailing(params{"email_address": s.member(ctx).email, "session_token": s.visitor(ctx), "password_forgot_url": "/forgot"})
	}},
	{"user-new-emailtoken", "", func(_ context.Context, s *side, i int) params {
		return params{"email": s.filled(i).email, "purpose": "forgotpass"}
	}},
	{"user-check-emailtoken", "", func(ctx context.Context, s *side, i int) params {
		body := params{"email": s.filled(i).email, "purpose": "forgotpass"}
		return with(body, params{"verification_token": s.ask(ctx, "user-new-emailtoken", body)["verification_token"]})
	}},
	{"user-set-emailverified", "", func(ctx context.Context, s *side, _ int) params { return params{"email": s.newcomer(ctx).email} }},
	{"user-set-emailsent", "", func(_ context.Context, s *side, i int) params {
		return params{"email": s.filled(i).email, "email_type": "forgotpass"}
	}},
}

package test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"authnzerver/test/figures"
)

var (
	modelSteps = flag.Int("modelsteps", 600, "how many requests TestModel sends")
	modelSeed  = flag.Uint64("modelseed", 0, "the seed of TestModel; 0 for another one each time")
)

// A model is what a server must be like, kept in memory and written from the description of
// the requests. It shares nothing with the server's code.
type model struct {
	random   *rand.Rand
	lastID   int
	users    map[int]*modelUser
	gone     []int // ids of users who were deleted
	sessions map[string]int
	ended    []string
	keys     map[string]modelKey
	revoked  []string
}

type modelUser struct {
	id                    int
	email, password, name string
	role                  string
	active, verified      bool
	first                 bool // was verified or active once
	before                []string
}

type modelKey struct {
	user int
	role string
}

// A step is a request with what must come of it.
type step struct {
	name string
	body params
	// code is the failure code, empty for a success.
	code string
	// response are members that the response must have.
	response params
	// learn notes what the model cannot know before.
	learn func(*reply)
}

func (m *model) user(id int) *modelUser { return m.users[id] }

// anyUser returns the id of a user, of one who is gone, or of nobody.
func (m *model) anyUser() int {
	ids := append(slices.Sorted(maps.Keys(m.users)), m.gone...)
	if len(ids) == 0 || m.random.IntN(20) == 0 {
		return 654_321
	}
	return ids[m.random.IntN(len(ids))]
}

// someone returns a user, or one who is not, without an id.
func (m *model) someone() *modelUser {
	if u := m.users[m.anyUser()]; u != nil {
		return u
	}
	return &modelUser{id: 654_321, email: "nobody@mail.example.com", password: "nobody's password", role: "authenticated"}
}

func (m *model) byEmail(email string) *modelUser {
	for _, u := range m.users {
		if u.email == email {
			return u
		}
	}
	return nil
}

// pick returns one of the tokens, of those that are gone, or one that never was.
func pick[V any](m *model, tokens map[string]V, gone []string) string {
	all := append(slices.Sorted(maps.Keys(tokens)), gone[max(0, len(gone)-5):]...)
	if len(all) == 0 || m.random.IntN(20) == 0 {
		return "x0NoneOfThemHasThisToken0000000000000000000"
	}
	return all[m.random.IntN(len(all))]
}

// endSessions ends the sessions of a user, all but one.
func (m *model) endSessions(id int, except string) (n int) {
	for token, user := range m.sessions {
		if user == id && token != except {
			delete(m.sessions, token)
			m.ended = append(m.ended, token)
			n++
		}
	}
	return n
}

func (m *model) revokeKeys(id int) {
	for token, key := range m.keys {
		if key.user == id {
			delete(m.keys, token)
			m.revoked = append(m.revoked, token)
		}
	}
}

func (m *model) remove(id int) {
	m.endSessions(id, "")
	m.revokeKeys(id)
	delete(m.users, id)
	m.gone = append(m.gone, id)
}

// guessOf returns a password for a user, right in two of three cases.
func (m *model) guessOf(u *modelUser) string {
	if m.random.IntN(3) == 0 {
		return "not the password of anybody"
	}
	return u.password
}

// newPassword returns a password that the policy takes.
func (m *model) newPassword() string {
	return fmt.Sprintf("Vivid-lantern-%d-meadow", m.random.IntN(1_000_000_000))
}

// next returns a request, and changes the model as the server has to change.
func (m *model) next() step {
	steps := []func() step{
		m.signUp, m.signUp, m.verifyEmail, m.verifyEmail, m.newSession, m.newSession, m.sessionExists, m.sessionExists, m.endSession, m.endOthers,
		m.login, m.login, m.login, m.logout, m.passcheck, m.passcheckNoSession, m.changePassword, m.resetPassword, m.lock, m.lock, m.edit, m.edit,
		m.deleteUser, m.internalDelete, m.lookUp, m.newKey, m.newKey, m.verifyKey, m.verifyKey, m.revokeKey, m.checkAccess, m.checkAccess,
	}
	return steps[m.random.IntN(len(steps))]()
}

func (m *model) signUp() step {
	u := &modelUser{
		email: fmt.Sprintf("model-%d@mail.example.com", m.random.IntN(30)), password: m.newPassword(), role: "locked",
		name: fmt.Sprintf("Model %d", m.random.IntN(1000)),
	}
	s := step{name: "user-new", body: params{"full_name": u.name, "email": u.email, "password": u.password}}
	if old := m.byEmail(u.email); old != nil {
		s.code, s.response = "user_exists", params{"user_id": old.id, "send_verification": false}
		return s
	}
	m.lastID++
	u.id = m.lastID
	m.users[u.id] = u
	s.response = params{"user_id": u.id, "user_email": u.email, "send_verification": true}
	return s
}

func (m *model) verifyEmail() step {
	u := m.someone()
	s := step{name: "user-set-emailverified", body: params{"email": u.email}}
	if m.user(u.id) == nil {
		s.code = "user_not_found"
		return s
	}
	switch {
	case !u.first:
		u.active, u.verified, u.first = true, true, true
		if u.role == "locked" {
			u.role = "authenticated"
		}
	case u.active && !u.verified:
		u.verified = true
	}
	s.response = params{"user_id": u.id, "is_active": u.active, "user_role": u.role}
	return s
}

func (m *model) newSession() step {
	user := any(nil)
	id := 2 // the anonymous user
	if m.random.IntN(3) > 0 {
		id = m.anyUser()
		user = id
	}
	s := step{name: "session-new", body: newSession().with(params{"user_id": user})}
	if id != 2 && m.user(id) == nil {
		s.code = "session_create_failed"
		return s
	}
	s.learn = func(r *reply) { m.sessions[r.text("session_token")] = id }
	return s
}

func (m *model) sessionExists() step {
	token := pick(m, m.sessions, m.ended)
	s := step{name: "session-exists", body: params{"session_token": token}}
	id, found := m.sessions[token]
	if !found {
		s.code = "session_not_found"
		return s
	}
	info := params{"user_id": id, "session_token": token}
	if u := m.user(id); u != nil {
		info["email"], info["user_role"], info["is_active"], info["full_name"] = u.email, u.role, u.active, u.name
	}
	s.response = params{"session_info": info}
	return s
}

func (m *model) endSession() step {
	token := pick(m, m.sessions, m.ended)
	s := step{name: "session-delete", body: params{"session_token": token}}
	if _, found := m.sessions[token]; !found {
		s.code = "session_not_found"
		return s
	}
	delete(m.sessions, token)
	m.ended = append(m.ended, token)
	return s
}

func (m *model) endOthers() step {
	token, id := pick(m, m.sessions, m.ended), m.anyUser()
	keep := m.random.IntN(2) == 0
	s := step{name: "session-delete-userid", body: params{"session_token": token, "user_id": id, "keep_current_session": keep}}
	if !keep {
		token = ""
	}
	if m.endSessions(id, token) == 0 {
		s.code = "no_sessions_deleted"
	}
	return s
}

func (m *model) login() step {
	token, u := pick(m, m.sessions, m.ended), m.someone()
	password := m.guessOf(u)
	s := step{name: "user-login", body: params{"session_token": token, "email": u.email, "password": password}}
	if _, found := m.sessions[token]; !found {
		s.code = "session_not_found"
		return s
	}
	delete(m.sessions, token)
	m.ended = append(m.ended, token)
	switch {
	case m.user(u.id) == nil, password != u.password, !u.active, !u.verified:
		s.code = "invalid_credentials"
	case u.role == "locked":
		s.code = "user_locked"
	default:
		s.response = params{"user_id": u.id, "user_role": u.role}
	}
	return s
}

func (m *model) logout() step {
	token, id := pick(m, m.sessions, m.ended), m.anyUser()
	owner, found := m.sessions[token]
	if m.random.IntN(2) == 0 && found {
		id = owner
	}
	s := step{name: "user-logout", body: params{"session_token": token, "user_id": id}, response: params{"user_id": id}}
	switch {
	case !found:
		s.code = "session_not_found"
	case owner != id:
		s.code = "session_user_mismatch"
	default:
		delete(m.sessions, token)
		m.ended = append(m.ended, token)
	}
	return s
}

// checked is what comes of a password of a user.
func (m *model) checked(s *step, u *modelUser, password string) {
	switch {
	case u == nil || password != u.password:
		s.code = "invalid_credentials"
	case !u.active || u.role == "locked":
		s.code, s.response = "user_locked", params{"user_id": u.id}
	default:
		s.response = params{"user_id": u.id, "user_role": u.role}
	}
}

func (m *model) passcheck() step {
	token := pick(m, m.sessions, m.ended)
	id, found := m.sessions[token]
	u := m.user(id)
	password := "not the password of anybody"
	if u != nil {
		password = m.guessOf(u)
	}
	s := step{name: "user-passcheck", body: params{"session_token": token, "password": password}}
	if !found {
		s.code = "session_not_found"
		return s
	}
	m.checked(&s, u, password)
	return s
}

func (m *model) passcheckNoSession() step {
	u := m.someone()
	password := m.guessOf(u)
	s := step{name: "user-passcheck-nosession", body: params{"email": u.email, "password": password}}
	m.checked(&s, m.user(u.id), password)
	return s
}

func (m *model) changePassword() step {
	u := m.someone()
	password, changed := m.guessOf(u), m.newPassword()
	if m.random.IntN(5) == 0 {
		changed = password
	}
	email := u.email
	if m.random.IntN(8) == 0 {
		email = "somebody-else@mail.example.com"
	}
	s := step{name: "user-changepass-nosession", body: params{
		"user_id": u.id, "full_name": u.name, "email": email, "current_password": password, "new_password": changed,
	}}
	switch {
	case m.user(u.id) == nil, email != u.email, !u.active:
		s.code = "user_not_found"
	case password != u.password:
		s.code = "current_password_wrong"
	case changed == password:
		s.code = "password_unchanged"
	default:
		u.password = changed
		m.endSessions(u.id, "")
		m.revokeKeys(u.id)
	}
	return s
}

func (m *model) resetPassword() step {
	u := m.someone()
	token, changed := pick(m, m.sessions, m.ended), m.newPassword()
	s := step{name: "user-resetpass", body: params{"session_token": token, "email_address": u.email, "new_password": changed}}
	_, found := m.sessions[token]
	switch {
	case !found:
		s.code = "session_not_found"
	case m.user(u.id) == nil, !u.active:
		s.code = "user_not_found"
	default:
		u.password = changed
		m.endSessions(u.id, "")
		m.revokeKeys(u.id)
	}
	return s
}

func (m *model) lock() step {
	u := m.someone()
	action := []string{"lock", "unlock", "unlock", "lock", "jail"}[m.random.IntN(5)]
	s := step{name: "internal-user-lock", body: params{"target_userid": u.id, "action": action}}
	switch {
	case action == "jail":
		s.code = "invalid_action"
	case m.user(u.id) == nil:
		s.code = "lock_failed"
	case action == "lock" && u.role != "locked":
		u.before = append(u.before, u.role)
		u.role, u.active = "locked", false
		m.endSessions(u.id, "")
	case action == "unlock" && u.role == "locked" && u.first:
		u.active, u.role = true, "authenticated"
		if len(u.before) > 0 && u.before[len(u.before)-1] != "locked" {
			u.role = u.before[len(u.before)-1]
		}
	}
	if s.code == "" {
		s.response = params{"user_info": u.info()}
	}
	return s
}

// info are members of what a reply tells about the user.
func (u *modelUser) info() params {
	return params{"user_id": u.id, "email": u.email, "full_name": u.name, "user_role": u.role, "is_active": u.active, "email_verified": u.verified}
}

func (m *model) edit() step {
	u := m.someone()
	update := params{}
	s := step{name: "internal-user-edit", body: params{"target_userid": u.id, "update_dict": update}}
	role := []string{"", "", "staff", "authenticated", "pope"}[m.random.IntN(5)]
	name := fmt.Sprintf("Edited %d", m.random.IntN(1000))
	if role == "" || m.random.IntN(2) == 0 {
		update["full_name"] = name
	}
	if role != "" {
		update["user_role"] = role
	}
	switch {
	case m.user(u.id) == nil:
		s.code = "user_not_found"
	case role == "pope":
		s.code = "unknown_role"
	default:
		if update["full_name"] != nil {
			u.name = name
		}
		if role != "" {
			u.role = role
		}
		s.response = params{"user_info": u.info()}
	}
	return s
}

func (m *model) deleteUser() step {
	u := m.someone()
	password := m.guessOf(u)
	s := step{name: "user-delete", body: params{"user_id": u.id, "email": u.email, "password": password}}
	switch {
	case m.user(u.id) == nil:
		s.code = "user_not_found"
	case password != u.password:
		s.code = "invalid_password"
	default:
		m.remove(u.id)
	}
	return s
}

func (m *model) internalDelete() step {
	id := m.anyUser()
	if m.random.IntN(2) == 0 {
		id = 654_321
	}
	if m.user(id) != nil {
		m.remove(id)
	}
	return step{name: "internal-user-delete", body: params{"target_user_id": id, "target_userid": id}}
}

func (m *model) lookUp() step {
	u := m.someone()
	s := step{name: "user-lookup-email", body: params{"email": u.email}}
	if m.user(u.id) == nil {
		s.code = "user_not_found"
		return s
	}
	s.response = params{"user_info": u.info()}
	return s
}

// mayUseKeys reports whether a user in a role may do something with the user's own keys.
func (m *model) mayUseKeys(u *modelUser, role string) bool {
	return m.user(u.id) != nil && u.active && u.role == role && role != "locked"
}

func (m *model) newKey() step {
	u := m.someone()
	role := u.role
	if m.random.IntN(6) == 0 {
		role = "staff"
	}
	s := step{name: "apikey-new-nosession", body: newSessionlessKey(u.id).with(params{"user_role": role})}
	if !m.mayUseKeys(u, role) {
		s.code = "not_allowed_to_issue"
		return s
	}
	s.learn = func(r *reply) {
		m.keys[r.keyToken()] = modelKey{u.id, role}
	}
	return s
}

// presented returns a key and the user who presents it, in the user's role now.
func (m *model) presented() (token string, u *modelUser, body params) {
	token = pick(m, m.keys, m.revoked)
	u = m.someone()
	if key, found := m.keys[token]; found && m.random.IntN(6) > 0 {
		u = m.user(key.user)
	}
	return token, u, params{"user_id": u.id, "user_role": u.role, "apikey_dict": params{"uid": u.id, "rol": u.role, "tkn": token}}
}

func (m *model) verifyKey() step {
	token, u, body := m.presented()
	s := step{name: "apikey-verify-nosession", body: body}
	key, found := m.keys[token]
	switch {
	case u.role == "locked", len(token) > 43 && !m.mayUseKeys(u, u.role):
		s.code = "not_allowed_on_key"
	case !found || key != (modelKey{u.id, u.role}):
		s.code = "key_not_valid"
	}
	return s
}

func (m *model) revokeKey() step {
	token, u, body := m.presented()
	s := step{name: "apikey-revoke-nosession", body: body}
	key, found := m.keys[token]
	switch {
	case !m.mayUseKeys(u, u.role):
		s.code = "not_allowed_on_key"
	case !found || key != (modelKey{u.id, u.role}):
		s.code = "key_not_found"
	default:
		delete(m.keys, token)
		m.revoked = append(m.revoked, token)
	}
	return s
}

// mayDo says what the built-in policy lets roles do with items of the kind "dataset".
var mayDo = map[string]map[string][]string{
	"authenticated": {
		"own": {"list", "view", "create", "delete", "edit", "change_visibility"}, "public": {"list", "view"}, "private": nil,
	},
	"staff": {
		"own":    {"list", "view", "create", "delete", "edit", "change_visibility", "change_owner"},
		"public": {"list", "view", "delete", "edit", "change_visibility", "change_owner"}, "private": {"list"},
	},
	"locked": {},
}

func (m *model) checkAccess() step {
	u, owner := m.someone(), m.someone()
	if m.random.IntN(3) == 0 {
		owner = u
	}
	visibility := []string{"public", "private"}[m.random.IntN(2)]
	action := []string{"list", "view", "edit", "delete", "change_owner"}[m.random.IntN(5)]
	s := step{name: "user-check-access", body: params{
		"user_id": u.id, "user_role": u.role, "action": action, "target_name": "dataset", "target_owner": owner.id, "target_visibility": visibility,
		"target_sharedwith": nil,
	}}
	rights := visibility
	if u.id == owner.id {
		rights = "own"
	}
	switch {
	case m.user(u.id) == nil || !u.active:
		s.code = "user_not_valid"
	case m.user(owner.id) == nil || !owner.active:
		s.code = "related_users_not_found"
	case !slices.Contains(mayDo[u.role][rights], action):
		s.code = "action_not_permitted"
	}
	return s
}

// lacks says what a response lacks of what it must have; "" for nothing.
func lacks(response map[string]any, want params) string {
	for name, value := range want {
		if nested, ok := value.(params); ok {
			inner, _ := response[name].(map[string]any)
			if problem := lacks(inner, nested); problem != "" {
				return name + "." + problem
			}
			continue
		}
		if fmt.Sprint(response[name]) != fmt.Sprint(value) {
			return fmt.Sprintf("%s is %v, want %v", name, response[name], value)
		}
	}
	return ""
}

// newModel returns the model of a new server.
func newModel(seed uint64) *model {
	return &model{
		random: rand.New(rand.NewPCG(seed, 0)), lastID: 3, users: map[int]*modelUser{}, sessions: map[string]int{}, keys: map[string]modelKey{},
	}
}

// ask sends a request to the server, and says how the answer is another one than it should
// be, "" when it is not. Nobody else changes anything.
func (m *model) ask(s *server) (name, code, problem string) {
	next := m.next()
	r := s.callWhenFree(next.name, next.body)
	switch {
	case r.Code != next.code:
		problem = fmt.Sprintf("the code is %q, want %q", r.Code, next.code)
	default:
		problem = lacks(r.Response, next.response)
	}
	if problem != "" {
		return next.name, r.Code, fmt.Sprintf("%s %v: %s\n%v", next.name, next.body, problem, r.Response)
	}
	if next.learn != nil {
		next.learn(r)
	}
	return next.name, r.Code, ""
}

// TestModel sends a random sequence of requests, many of which must fail, and compares the
// answers with those of a model.
func TestModel(t *testing.T) {
	t.Parallel()
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the seed is %d", seed)
	s := start(t, "logging=info", "logsample=1:1000")
	m := newModel(seed)
	codes := map[string]int{}
	for i := range *modelSteps {
		asked, code, problem := m.ask(s)
		if problem != "" {
			t.Fatalf("request %d, %s", i+1, problem)
		}
		codes[asked+" "+code]++
	}
	if *modelSteps >= 600 && len(codes) < 40 {
		t.Errorf("the requests ended in %d ways only: %v", len(codes), codes)
	}
	// The control: a model that has missed a change does not agree.
	planted := 0
	for _, u := range m.users {
		u.name += " and more"
		r := s.call("user-lookup-email", params{"email": u.email})
		if lacks(r.Response, params{"user_info": u.info()}) == "" {
			t.Error("the model does not find another name")
		}
		planted++
	}
	found(t, figures.Figure{
		Name: "the server against a model", Unit: "different answers", Target: "0", Control: float64(planted), Seed: seed,
		Note: fmt.Sprintf("%d requests ended in %d ways; the control is names that the model does not know", *modelSteps, len(codes)),
	})
}

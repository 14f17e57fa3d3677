package test

import (
	"bufio"
	"crypto/aes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// maxBody is the longest body that is read, in bytes.
const maxBody = 1 << 20

// envelope returns the text of a request of the second generation.
func envelope(name, body, reqid string) string {
	return fmt.Sprintf(`{"request": %q, "body": %s, "reqid": %s, "client_ipaddr": "192.0.2.4"}`, name, body, reqid)
}

// A small request that fails in the same way every time.
var absent = envelope("session-exists", `{"session_token": "no such session"}`, "7")

// TestStatus goes through what can be wrong with a message: the status tells
// how far it came.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := start(t)
	at := time.Now()
	iv := make([]byte, aes.BlockSize)
	sealed := func(text string) string { return seal(s.key, text, at) }
	rows := []struct {
		name   string
		body   string
		status int
	}{
		{"empty body", "", 401},
		{"a blank", " ", 401},
		{"not base64", "{}", 401},
		{"a form", "request=session-exists&reqid=7", 401},
		{"one layer of base64", token(s.key, iv, pad(absent), at), 401},
		{"another key", seal(newKey(), absent, at), 401},
		{"a changed byte", outer(strings.Replace(token(s.key, iv, pad(absent), at), "A", "B", 20)), 401},
		{"cut off", sealed(absent)[:100], 401},
		{"padding that ends in 0", outer(token(s.key, iv, append(pad(absent), make([]byte, 16)...), at)), 401},
		{"padding of many values", outer(token(s.key, iv, append(pad(absent), "123456789012345\x05"...), at)), 401},
		{"no text", sealed(""), 401},
		{"not JSON", sealed("request"), 401},
		{"half of JSON", sealed(absent[:40]), 401},
		{"more after the JSON", sealed(absent + "{}"), 401},
		{"NaN", sealed(`NaN`), 401},

		{"empty object", sealed("{}"), 401},
		{"empty object with blanks", sealed(" { } "), 401},
		{"empty array", sealed("[]"), 401},
		{"zero", sealed("0"), 401},
		{"zero with a fraction", sealed("-0.0"), 401},
		{"empty string", sealed(`""`), 401},
		{"null", sealed("null"), 401},
		{"false", sealed("false"), 401},

		{"true", sealed("true"), 400},
		{"array", sealed("[1]"), 400},
		{"number", sealed("5"), 400},
		{"string", sealed(`"user-list"`), 400},

		{"no request", sealed(`{"body": {}, "reqid": 1}`), 400},
		{"request is null", sealed(`{"request": null, "body": {}, "reqid": 1}`), 400},
		{"request is a number", sealed(`{"request": 1, "body": {}, "reqid": 1}`), 400},
		{"request is an array", sealed(`{"request": ["user-list"], "body": {}, "reqid": 1}`), 400},
		{"request is an object", sealed(`{"request": {}, "body": {}, "reqid": 1}`), 400},
		{"request is empty", sealed(`{"request": "", "body": {}, "reqid": 1}`), 400},
		{"request is unknown", sealed(`{"request": "user-lists", "body": {"user_id": null}, "reqid": 1}`), 400},
		{"request in another letter case", sealed(`{"request": "User-List", "body": {"user_id": null}, "reqid": 1}`), 400},
		{"request with a blank", sealed(`{"request": "user-list ", "body": {"user_id": null}, "reqid": 1}`), 400},
		{"request is echo", sealed(`{"request": "echo", "body": {}, "reqid": 1}`), 400},
		{"request twice", sealed(`{"request": "user-list", "request": "user-list", "body": {"user_id": null}, "reqid": 1}`), 400},
		{"member in another letter case", sealed(`{"request": "user-list", "Request": "user-list", "body": {"user_id": null}, "reqid": 1}`), 400},
		{"no reqid", sealed(`{"request": "user-list", "body": {"user_id": null}}`), 400},
		{"reqid is null", sealed(`{"request": "user-list", "body": {"user_id": null}, "reqid": null}`), 400},
		{"no body", sealed(`{"request": "user-list", "reqid": 1}`), 400},
		{"body is null", sealed(`{"request": "user-list", "body": null, "reqid": 1}`), 400},
		{"body is an array", sealed(`{"request": "user-list", "body": [], "reqid": 1}`), 400},
		{"body is a string", sealed(`{"request": "user-list", "body": "{}", "reqid": 1}`), 400},
		{"body is a number", sealed(`{"request": "user-list", "body": 1, "reqid": 1}`), 400},

		{"a failure", sealed(absent), 200},
		{"a failed validation", sealed(envelope("session-exists", `{}`, "1")), 200},
		{"a success", sealed(envelope("user-list", `{"user_id": null}`, "1")), 200},
		{"blanks around the message", " \r\n\t" + sealed(absent) + "\n", 200},
		{"quotes around the message", `"` + sealed(absent) + `"`, 200},
		{"line breaks in the message", strings.Join(inLines(sealed(absent), 76), "\r\n"), 200},
		{"blanks around the JSON", sealed("\r\n " + absent + " \t"), 200},
		{"other members", sealed(`{"request": "user-list", "body": {"user_id": null, "pii_salt": "x", "reqid": 3}, "reqid": 1, "priority": [1]}`), 200},
		{"no client_ipaddr", sealed(`{"request": "user-list", "body": {"user_id": 1}, "reqid": 1}`), 200},
		{"client_ipaddr is null", sealed(`{"request": "user-list", "body": {"user_id": 1}, "reqid": 1, "client_ipaddr": null}`), 200},
		{"client_ipaddr is empty", sealed(`{"request": "user-list", "body": {"user_id": 1}, "reqid": 1, "client_ipaddr": ""}`), 200},
		{"client_ipaddr is no address", sealed(`{"request": "user-list", "body": {"user_id": 1}, "reqid": 1, "client_ipaddr": "zzz"}`), 200},
		{"client_ipaddr is a number", sealed(`{"request": "user-list", "body": {"user_id": 1}, "reqid": 1, "client_ipaddr": 5}`), 200},
	}
	for _, row := range rows {
		status, header, answer := s.post(row.body)
		if status != row.status {
			t.Errorf("%s: status %d, want %d", row.name, status, row.status)
		}
		if status == http.StatusOK {
			continue
		}
		if got := header.Get("Content-Type"); got != "text/plain; charset=UTF-8" {
			t.Errorf("%s: Content-Type %q", row.name, got)
		}
		if want := fmt.Sprintf("HTTP %d:", status); !strings.HasPrefix(answer, want) || len(answer) > 200 {
			t.Errorf("%s: the answer is %q, want one sentence that begins with %q", row.name, answer, want)
		}
	}
}

func inLines(text string, width int) []string {
	var lines []string
	for part := range slices.Chunk([]byte(text), width) {
		lines = append(lines, string(part))
	}
	return lines
}

// dialog sends bytes as they are over a connection of its own, and returns
// where the answers can be read from.
func (s *server) dialog(text string) (*bufio.Reader, *net.TCPConn) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err == nil {
		s.t.Cleanup(func() { _ = conn.Close() }) // it may be closed already
		err = conn.SetDeadline(time.Now().Add(patience))
	}
	if err == nil {
		_, err = io.WriteString(conn, text)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return bufio.NewReader(conn), conn.(*net.TCPConn)
}

// answer reads one HTTP answer.
func answer(t testing.TB, from *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	response, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	return response, string(body)
}

// closed tells whether the server has closed the connection.
func closed(from *bufio.Reader) bool {
	_, err := from.ReadByte()
	return err != nil && !os.IsTimeout(err)
}

// rawPost returns the bytes of POST / with headers of one's own choice, which
// end in line breaks.
func rawPost(headers, body string) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", headers, len(body), body)
}

func TestRouting(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, row := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/", 405, "POST"},
		{"HEAD", "/", 405, "POST"},
		{"PUT", "/", 405, "POST"},
		{"DELETE", "/", 405, "POST"},
		{"OPTIONS", "/", 405, "POST"},
		{"PATCH", "/", 405, "POST"},
		{"TRACE", "/", 405, "POST"},
		{"BREW", "/", 405, "POST"},
		{"post", "/", 405, "POST"},
		{"GET", "/?request=user-list", 405, "POST"},
		{"POST", "/health", 405, "GET"},
		{"HEAD", "/health", 405, "GET"},
		{"OPTIONS", "/health", 405, "GET"},
		{"GET", "/health", 200, ""},
		{"GET", "/health?verbose=1", 200, ""},
		{"GET", "/health/", 404, ""},
		{"GET", "/Health", 404, ""},
		{"GET", "//health", 404, ""},
		{"GET", "/x/../health", 404, ""},
		{"POST", "//", 404, ""},
		{"POST", "/.", 404, ""},
		{"POST", "/index.html", 404, ""},
		{"POST", "/echo", 404, ""},
		{"GET", "/metrics", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
		{"OPTIONS", "*", 404, ""},
		{"CONNECT", "localhost:80", 404, ""},
	} {
		from, conn := s.dialog(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", row.method, row.target))
		response, _ := answer(t, from, row.method)
		if response.StatusCode != row.status || response.Header.Get("Allow") != row.allow {
			t.Errorf("%s %s: status %d, Allow %q; want %d, %q",
				row.method, row.target, response.StatusCode, response.Header.Get("Allow"), row.status, row.allow)
		}
		for _, name := range []string{"Server", "Set-Cookie", "Access-Control-Allow-Origin", "X-Powered-By", "Content-Encoding"} {
			if value := response.Header.Get(name); value != "" {
				t.Errorf("%s %s: header %s: %s", row.method, row.target, name, value)
			}
		}
		_ = conn.Close() // so that the many connections do not pile up
	}
	for _, query := range []string{"?", "?a=b", "?request=echo&reqid=1", "?%zz;"} {
		from, _ := s.dialog(strings.Replace(rawPost("Host: localhost\r\n", seal(s.key, absent, time.Now())), "POST / ", "POST /"+query+" ", 1))
		if response, _ := answer(t, from, "POST"); response.StatusCode != 200 {
			t.Errorf("POST /%s: status %d, want 200", query, response.StatusCode)
		}
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	usual := start(t)
	own := start(t, "allowedhosts= Auth.Example ;; [::1];auth-2")
	for _, row := range []struct {
		server  *server
		headers string
		version string
		status  int
	}{
		{usual, "Host: localhost\r\n", "1.1", 200},
		{usual, "Host: LocalHost\r\n", "1.1", 200},
		{usual, "Host: 127.0.0.1\r\n", "1.1", 200},
		{usual, "Host: 127.0.0.1:1\r\n", "1.1", 200},
		{usual, "Host: localhost:99999999\r\n", "1.1", 200},
		{usual, "Host:   localhost  \r\n", "1.1", 200},
		{usual, "Host: localhost:\r\n", "1.1", 200},
		{usual, "Host: localhost.\r\n", "1.1", 404},
		{usual, "Host: localhost:http\r\n", "1.1", 404},
		{usual, "Host: localhost:80:80\r\n", "1.1", 404},
		{usual, "Host: [::1]\r\n", "1.1", 404},
		{usual, "Host: 127.0.0.2\r\n", "1.1", 404},
		{usual, "Host: evil.example\r\n", "1.1", 404},
		{usual, "Host: localhost.evil.example\r\n", "1.1", 404},
		{usual, "Host: evil.example\r\nX-Forwarded-Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n", "1.1", 404},
		{usual, "Host:\r\n", "1.1", 404},
		{usual, "", "1.1", 400},
		{usual, "Host: localhost\r\nHost: localhost\r\n", "1.1", 400},
		{usual, "", "1.0", 404},
		{usual, "Host: localhost\r\n", "1.0", 200},
		{own, "Host: auth.example\r\n", "1.1", 200},
		{own, "Host: AUTH.EXAMPLE:13431\r\n", "1.1", 200},
		{own, "Host: [::1]\r\n", "1.1", 200},
		{own, "Host: [::1]:13431\r\n", "1.1", 200},
		{own, "Host: auth-2\r\n", "1.1", 200},
		{own, "Host: ::1\r\n", "1.1", 404},
		{own, "Host: localhost\r\n", "1.1", 404},
		{own, "Host: authxexample\r\n", "1.1", 404},
	} {
		s := row.server
		post := strings.Replace(rawPost(row.headers, seal(s.key, absent, time.Now())), "HTTP/1.1", "HTTP/"+row.version, 1)
		from, _ := s.dialog(post)
		response, _ := answer(t, from, "POST")
		if response.StatusCode != row.status {
			t.Errorf("HTTP/%s with %q: status %d, want %d", row.version, row.headers, response.StatusCode, row.status)
		}
		if row.version == "1.0" && !closed(from) {
			t.Errorf("HTTP/1.0: the connection stays open")
		}
	}
	// The host comes before the path, the method and the key.
	for _, line := range []string{"GET /health", "GET /", "BREW /nowhere", "POST /"} {
		from, _ := usual.dialog(line + " HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n")
		if response, _ := answer(t, from, "GET"); response.StatusCode != 404 || response.Header.Get("Allow") != "" {
			t.Errorf("%s for another host: status %d, Allow %q; want 404 alone", line, response.StatusCode, response.Header.Get("Allow"))
		}
	}
	// A target with a host counts instead of the header (RFC 9112, §3.2.2).
	from, _ := usual.dialog("GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if response, _ := answer(t, from, "GET"); response.StatusCode != 404 {
		t.Errorf("a target with another host: status %d, want 404", response.StatusCode)
	}
}

// TestHeaders sends the headers that other clients send; none matters.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, headers := range []string{
		"",
		"Content-Type: text/plain; charset=UTF-8\r\n",
		"Content-Type: application/x-www-form-urlencoded\r\n",
		"Content-Type: multipart/form-data; boundary=x\r\n",
		"Content-Type: application/json\r\n",
		"Content-Type: \r\n",
		"Content-Type: ;;;\r\n",
		"Content-Encoding: gzip\r\n",
		"Accept-Encoding: gzip, br\r\n",
		"Accept: text/html\r\n",
		"Authorization: Basic eDp4\r\n",
		"Cookie: a=b\r\n",
		"Origin: http://evil.example\r\n",
		"X-Http-Method-Override: DELETE\r\n",
		"X-Forwarded-For: 203.0.113.9\r\n",
		"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
		"If-None-Match: *\r\n",
		"Range: bytes=0-1\r\n",
	} {
		from, _ := s.dialog(rawPost("Host: localhost\r\n"+headers, seal(s.key, absent, time.Now())))
		response, body := answer(t, from, "POST")
		if response.StatusCode != 200 || response.Header.Get("Content-Encoding") != "" {
			t.Errorf("%q: status %d, Content-Encoding %q", headers, response.StatusCode, response.Header.Get("Content-Encoding"))
			continue
		}
		text, _, err := unseal(s.key, body)
		if err != nil {
			t.Errorf("%q: %v", headers, err)
			continue
		}
		s.parse("session-exists", text).failed("session_not_found")
	}
	// A header of any size is not read.
	from, _ := s.dialog(rawPost("Host: localhost\r\nX-Long: "+strings.Repeat("x", 100_000)+"\r\n", ""))
	if response, _ := answer(t, from, "POST"); response.StatusCode != 431 {
		t.Errorf("a header of 100 kB: status %d, want 431", response.StatusCode)
	}
	for _, text := range []string{
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\r\n\r\n", "POST /\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost : localhost\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
	} {
		from, conn := s.dialog(text)
		_ = conn.CloseWrite() // half a line is waited for otherwise
		status, err := from.ReadString('\n')
		if err == nil && !strings.HasPrefix(status, "HTTP/1.1 4") && !strings.HasPrefix(status, "HTTP/1.1 5") {
			t.Errorf("%q was answered with %q", text, status)
		}
		if err == nil {
			_, err = io.Copy(io.Discard, from)
		}
		if err != nil && os.IsTimeout(err) {
			t.Errorf("%q: the connection stays open", text)
		}
	}
}

func chunked(headers, body string, size int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s\r\n", headers)
	for part := range slices.Chunk([]byte(body), size) {
		fmt.Fprintf(&text, "%X;name=value\r\n%s\r\n", len(part), part)
	}
	return text.String() + "0\r\nTrailer: x\r\n\r\n"
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	s := start(t)
	status := func(from *bufio.Reader) int {
		t.Helper()
		response, _ := answer(t, from, "POST")
		return response.StatusCode
	}
	const host = "Host: localhost\r\n"
	body := func() string { return seal(s.key, absent, time.Now()) }

	from, conn := s.dialog(chunked("", body(), 50))
	if got := status(from); got != 200 {
		t.Errorf("chunked: status %d", got)
	}
	// The connection goes on, and is used for two requests at once.
	first, second := envelope("session-exists", `{}`, `"one"`), envelope("session-exists", `{}`, `"two"`)
	_, err := io.WriteString(conn, rawPost(host, seal(s.key, first, time.Now()))+chunked("", seal(s.key, second, time.Now()), 1000))
	if err != nil {
		t.Fatal(err)
	}
	for _, reqid := range []string{`"one"`, `"two"`} {
		_, sealed := answer(t, from, "POST")
		text, _, err := unseal(s.key, sealed)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.parse("session-exists", text).ReqID; string(got) != reqid {
			t.Errorf("pipelined: the answer to %s has reqid %s", reqid, got)
		}
	}

	from, conn = s.dialog(fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body())))
	if got := status(from); got != 100 {
		t.Errorf("Expect: 100-continue: status %d", got)
	}
	_, err = io.WriteString(conn, body())
	if err != nil {
		t.Fatal(err)
	}
	if got := status(from); got != 200 {
		t.Errorf("after 100 Continue: status %d", got)
	}
	from, _ = s.dialog(fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", maxBody+1))
	if got := status(from); got != 413 {
		t.Errorf("Expect: 100-continue for too much: status %d, want 413 at once", got)
	}

	from, _ = s.dialog(rawPost(host+"Connection: close\r\n", body()))
	if got := status(from); got != 200 || !closed(from) {
		t.Errorf("Connection: close: status %d, or the connection stays open", got)
	}
	from, _ = s.dialog(strings.Replace(rawPost(host+"Connection: keep-alive\r\n", body()), "HTTP/1.1", "HTTP/1.0", 1) + rawPost(host, body()))
	if one, two := status(from), status(from); one != 200 || two != 200 {
		t.Errorf("HTTP/1.0 with keep-alive: status %d and %d", one, two)
	}

	from, conn = s.dialog("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n" + body()[:100])
	err = conn.CloseWrite()
	if err != nil {
		t.Fatal(err)
	}
	if got := status(from); got != 400 {
		t.Errorf("half a body: status %d, want 400", got)
	}
	from, _ = s.dialog("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
	if got := status(from); got != 400 {
		t.Errorf("malformed chunks: status %d, want 400", got)
	}
	// A refused request leaves the connection in order.
	from, _ = s.dialog(rawPost(host, "nonsense") + rawPost(host, body()))
	if one, two := status(from), status(from); one != 401 || two != 200 {
		t.Errorf("a refused request and another one: status %d and %d, want 401 and 200", one, two)
	}
}

func TestBodySize(t *testing.T) {
	t.Parallel()
	s := start(t)
	// The largest text whose envelope fits, made one byte short of too long
	// with the blanks that may stand around an envelope.
	long := func(size int) string {
		text := envelope("session-exists", `{"session_token": "`+strings.Repeat("x", 585_000)+`"}`, "7")
		sealed := seal(s.key, text, time.Now())
		return sealed + strings.Repeat("\n", size-len(sealed))
	}
	for _, row := range []struct {
		name   string
		text   string
		status int
	}{
		{"1 MiB", rawPost("Host: localhost\r\n", long(maxBody)), 200},
		{"1 MiB in chunks", chunked("", long(maxBody), 100_000), 200},
		{"a byte more", rawPost("Host: localhost\r\n", long(maxBody+1)), 413},
		{"a byte more in chunks", chunked("", long(maxBody+1), 100_000), 413},
		{"a byte more is declared", fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", maxBody+1), 413},
		{"exabytes are declared", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9223372036854775807\r\n\r\n", 413},
	} {
		// The server answers before it has read everything, and closes.
		from, conn := s.dialog("")
		go func() { _, _ = io.WriteString(conn, row.text) }()
		response, _ := answer(t, from, "POST")
		if response.StatusCode != row.status {
			t.Errorf("%s: status %d, want %d", row.name, response.StatusCode, row.status)
		}
		if row.status == 413 && !response.Close {
			t.Errorf("%s: the connection is to be used again", row.name)
		}
		_ = conn.Close()
	}
}

// isTime is the wire's form of a moment.
var isTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?$`)

// TestTimes goes through the forms in which moments come and go.
func TestTimes(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, row := range []struct{ sent, kept string }{
		{"2090-01-31T23:59:58.123456", "2090-01-31T23:59:58.123456"},
		{"2090-01-31T23:59:58.5", "2090-01-31T23:59:58.500000"},
		{"2090-01-31T23:59:58", "2090-01-31T23:59:58.000000"},
		{"2090-01-31T23:59:58Z", "2090-01-31T23:59:58.000000"},
		{"2090-01-31T23:59:58.000001Z", "2090-01-31T23:59:58.000001"},
		{"2090-01-31T23:59:58.123456789", "2090-01-31T23:59:58.123456"},
		{"2090-01-31T23:59:58+01:00", "2090-01-31T22:59:58.000000"},
		{"2090-01-31T23:59:58.25-0330", "2090-02-01T03:29:58.250000"},
		{"2090-01-31T23:59:58-08:00", "2090-02-01T07:59:58.000000"},
		{"2092-02-29T00:00:00", "2092-02-29T00:00:00.000000"},
		{"9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"},
		{"2090-02-29T00:00:00", ""},
		{"2090-13-01T00:00:00", ""},
		{"2090-01-01T24:00:01", ""},
		{"2090-01-01T00:00:61", ""},
		{"2090-01-01", ""},
		{"2090-01-01 00:00:00.5", ""},
		{"10000-01-01T00:00:00.5", ""},
		{"tomorrow", ""},
		{"1900000000", ""},
		{"", ""},
		{" 2090-01-01T00:00:00.5", ""},
	} {
		r := s.call("session-new", params{
			"ip_address": "2001:DB8::1", "user_agent": "", "user_id": nil, "expires": row.sent, "extra_info_json": nil,
		})
		if row.kept == "" {
			r.failed("invalid_expires")
			has(t, r.Response, map[string]any{"session_token": nil, "expires": nil})
			continue
		}
		if got := r.ok().text("expires"); got != row.kept {
			t.Errorf("expires %q comes back as %q, want %q", row.sent, got, row.kept)
		}
		info := s.call("session-exists", params{"session_token": r.text("session_token")}).ok().object("session_info")
		has(t, info, map[string]any{"expires": row.kept, "ip_address": "2001:db8::1", "user_agent": "", "extra_info_json": nil})
		for _, key := range []string{"created", "created_on"} {
			if value, _ := info[key].(string); !isTime.MatchString(value) {
				t.Errorf("%s is %v, want a time without a zone", key, info[key])
			}
		}
		for _, key := range []string{"last_login_try", "last_login_success", "emailverify_sent_datetime"} {
			if value, present := info[key]; !present || value != nil {
				t.Errorf("%s is %v, want null", key, value)
			}
		}
	}
	// An expiry in the past is taken, and the session is not there.
	r := s.call("session-new", params{
		"ip_address": "192.0.2.1", "user_agent": "", "user_id": nil, "expires": "2001-01-01T00:00:00.000001", "extra_info_json": nil,
	}).ok()
	s.call("session-exists", params{"session_token": r.text("session_token")}).failed("session_not_found")
}

// TestTypes holds the rules about types that clients met with the Python
// server, and those that were mended.
func TestTypes(t *testing.T) {
	t.Parallel()
	s := start(t)
	session := func(userID string) string {
		return fmt.Sprintf(`{"ip_address": "192.0.2.1", "user_agent": "x", "user_id": %s, "expires": %q, "extra_info_json": null}`, userID, later())
	}
	list := func(userID string) string { return fmt.Sprintf(`{"user_id": %s}`, userID) }
	remove := func(userID string) string { return fmt.Sprintf(`{"target_userid": %s}`, userID) }
	for _, row := range []struct{ request, body, code string }{
		{"session-new", session("null"), ""},
		{"session-new", session("0"), ""},
		{"session-new", session("1"), ""},
		{"session-new", session(`"1"`), ""},
		{"session-new", session("4711"), "session_create_failed"},
		{"session-new", session("true"), "invalid_request_params"},
		{"session-new", session("1.0"), "invalid_request_params"},
		{"session-new", session("1e0"), "invalid_request_params"},
		{"session-new", session(`"one"`), "invalid_request_params"},
		{"session-new", session(`[1]`), "invalid_request_params"},
		{"user-list", list("null"), ""},
		{"user-list", list("1"), ""},
		{"user-list", list(`"1"`), ""},
		{"user-list", list("4711"), ""},
		{"user-list", list("false"), "invalid_request_params"},
		{"user-list", list("9007199254740992"), "invalid_request_params"},
		{"internal-user-delete", remove("4711"), ""},
		{"internal-user-delete", remove(`"4711"`), "invalid_request_params"},
		{"internal-user-delete", remove("null"), "invalid_request_params"},
		{"internal-user-delete", remove("true"), "invalid_request_params"},
	} {
		r := s.exchangeText(row.request, envelope(row.request, row.body, "1"), "1")
		if r.Code != row.code {
			t.Errorf("%s %s: code %q, want %q", row.request, row.body, r.Code, row.code)
		}
	}
	// A failed validation names all problems, in the place where the Python
	// server has them.
	r := s.call("session-delete-userid", params{"session_token": 5, "keep_current_session": 0}).failed("invalid_request_params")
	nested, _ := r.Response["response"].(map[string]any)
	want := []any{
		map[string]any{"param": "session_token", "problem": "incorrect type", "required_type": "str", "required_param": true},
		map[string]any{"param": "user_id", "problem": "missing", "required_type": "int", "required_param": true},
		map[string]any{"param": "keep_current_session", "problem": "incorrect type", "required_type": "bool", "required_param": true},
	}
	has(t, nested, map[string]any{"problems": want, "failure_code": "invalid_request_params", "failure_reason": "invalid request parameters"})
	r = s.call("session-new", params{}).failed("invalid_request_params")
	nested, _ = r.Response["response"].(map[string]any)
	problems, _ := nested["problems"].([]any)
	if len(problems) != 5 {
		t.Fatalf("problems of an empty session-new: %v", problems)
	}
	has(t, problems[2].(map[string]any), map[string]any{"param": "user_id", "required_type": []any{"int", "None"}})
}

// TestReqID checks that a request's id comes back byte by byte.
func TestReqID(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, reqid := range []string{
		`0`, `-0`, `7`, `1.0`, `1E+2`, `1e400`, `123456789012345678901234567890`, `-0.000`, `false`, `true`, `""`, `"x"`,
		`"\u00e9\/\ud83d\ude00"`, `"é😀 <>&` + "\u2028" + `"`, `"\"\\\n\u0000"`, `[]`, `[1,  2.50 , "a"]`, `{}`,
		`{"b": 1, "a": {"c":[null]} }`, `"` + strings.Repeat("long ", 20_000) + `"`,
	} {
		s.exchangeText("session-exists", envelope("session-exists", `{"session_token": "x"}`, reqid), reqid).failed("session_not_found")
		// The id of a request that fails earlier, and one that comes again.
		s.exchangeText("session-exists", envelope("session-exists", `{}`, reqid), reqid).failed("invalid_request_params")
		s.exchangeText("user-list", envelope("user-list", `{"user_id": 1, "reqid": 99}`, reqid), reqid).ok()
	}
	for _, reqid := range []string{`{"a": 1, "a": 2}`, `"` + "\xff" + `"`, `"\ud800"`} {
		if got := s.status(envelope("session-exists", `{"session_token": "x"}`, reqid)); got != 400 {
			t.Errorf("reqid %q, which could not be sent back: status %d, want 400", reqid, got)
		}
	}
}

// TestClientAddr checks whose address a request counts as: what the log shows
// of it is a hash, which is equal for equal addresses.
func TestClientAddr(t *testing.T) {
	t.Parallel()
	s := start(t)
	client := func(outer, inner string) any {
		t.Helper()
		reqid := newReqID()
		text := fmt.Sprintf(`{"request": "session-exists", "body": {"session_token": "x"%s}, "reqid": %q%s}`, inner, reqid, outer)
		s.exchangeText("session-exists", text, `"`+reqid+`"`)
		var hash any
		s.wait("the log line", func() bool {
			for _, record := range s.records("request") {
				if record["reqid"] == `"`+reqid+`"` {
					hash = record["client"]
					return true
				}
			}
			return false
		})
		return hash
	}
	s.hide("203.0.113.99")
	one, peer := client(`, "client_ipaddr": "203.0.113.99"`, ""), client(`, "client_ipaddr": "127.0.0.1"`, "")
	if one == nil || peer == nil || one == peer {
		t.Fatalf("the log shows %v and %v for two clients", one, peer)
	}
	for _, row := range []struct {
		name, outer, inner string
		want               any
	}{
		{"body's client_ipaddr", "", `, "client_ipaddr": "203.0.113.99"`, one},
		{"body's ip_address", "", `, "ip_address": "203.0.113.99"`, one},
		{"null, body's ip_address", `, "client_ipaddr": null`, `, "ip_address": "203.0.113.99"`, one},
		{"empty, body's ip_address", `, "client_ipaddr": ""`, `, "client_ipaddr": null, "ip_address": "203.0.113.99"`, one},
		{"the outer one first", `, "client_ipaddr": "203.0.113.99"`, `, "client_ipaddr": "203.0.113.1", "ip_address": "203.0.113.2"`, one},
		{"the body's client_ipaddr next", "", `, "client_ipaddr": "203.0.113.99", "ip_address": "203.0.113.2"`, one},
		{"another spelling", `, "client_ipaddr": "::ffff:203.0.113.99"`, "", one},
		{"none", "", "", peer},
		{"null", `, "client_ipaddr": null`, "", peer},
	} {
		if got := client(row.outer, row.inner); got != row.want {
			t.Errorf("%s: the log shows client %v, want %v", row.name, got, row.want)
		}
	}
}

// TestKeys checks that clients with an old and with a new key work at once.
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := []string{newKey(), newKey(), newKey()}
	file := dir + "/keys"
	err := os.WriteFile(file, []byte(strings.Join(keys, "\n")+"\n"), 0o400)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"list": keys[0] + ", " + keys[1] + "," + keys[2], "file": file} {
		s := start(t, "secret="+secret)
		for i, key := range keys {
			status, _, body := s.post(seal(key, absent, time.Now()))
			text, made, err := unseal(key, body)
			if status != 200 || err != nil {
				t.Errorf("%s: key %d: status %d, %v", name, i, status, err)
				continue
			}
			s.parse("session-exists", text).failed("session_not_found")
			if age := time.Since(made); age < -2*time.Second || age > patience {
				t.Errorf("%s: the reply is stamped %v", name, made)
			}
		}
		if status, _, _ := s.post(seal(newKey(), absent, time.Now())); status != 401 {
			t.Errorf("%s: another key: status %d, want 401", name, status)
		}
	}
}

// refusals returns what the log says about refused requests.
func (s *server) refusals() []string {
	var found []string
	for _, record := range s.records("request") {
		if text, ok := record["refused"].(string); ok {
			found = append(found, text)
		}
	}
	return found
}

func TestReplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := newKey()
	s := startIn(t, dir, "secret="+key)
	now := time.Now()
	status := func(s *server, body string) int {
		t.Helper()
		status, _, _ := s.post(body)
		return status
	}
	once := seal(key, absent, now)
	for _, row := range []struct {
		name, body string
		status     int
		log        string
	}{
		{"first", once, 200, ""},
		{"again", once, 401, "sent before"},
		{"again in quotes", `"` + once + `"`, 401, "sent before"},
		{"again in lines", strings.Join(inLines(once, 60), "\n"), 401, "sent before"},
		{"again without padding", strings.TrimRight(once, "="), 401, ""},
		{"another with the same text", seal(key, absent, now), 200, ""},
		{"nearly too old", seal(key, absent, now.Add(-270*time.Second)), 200, ""},
		{"too old", seal(key, absent, now.Add(-302*time.Second)), 401, "too old"},
		{"of 1970", seal(key, absent, time.Unix(0, 0)), 401, "too old"},
		{"a fast clock", seal(key, absent, now.Add(55*time.Second)), 200, ""},
		{"a too fast clock", seal(key, absent, now.Add(patience+65*time.Second)), 401, "future"},
		{"of 2096", seal(key, absent, time.Unix(4_000_000_000, 0)), 401, "future"},
	} {
		before := len(s.refusals())
		if got := status(s, row.body); got != row.status {
			t.Errorf("%s: status %d, want %d", row.name, got, row.status)
		}
		if row.log == "" {
			continue
		}
		s.wait("the log line", func() bool { return len(s.refusals()) > before })
		if got := s.refusals()[before]; !strings.Contains(got, row.log) || !strings.Contains(got, "age") {
			t.Errorf("%s: the log says %q, want it to say %q and the age", row.name, got, row.log)
		}
	}

	// Of many at once, one passes.
	body := seal(key, absent, time.Now())
	var mu sync.Mutex
	passed := 0
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if status(s, body) == 200 {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if passed != 1 {
		t.Errorf("a message passed %d times", passed)
	}

	// The next run knows the messages of the last one.
	s.stop()
	s = startIn(t, dir, "secret="+key)
	for _, old := range []string{once, body} {
		if got := status(s, old); got != 401 {
			t.Errorf("again after a restart: status %d, want 401", got)
		}
	}
	if got := status(s, seal(key, absent, time.Now())); got != 200 {
		t.Errorf("a new one after a restart: status %d, want 200", got)
	}
}

func TestReplayOptions(t *testing.T) {
	t.Parallel()
	off := start(t, "messagettl=0")
	for _, at := range []time.Time{time.Unix(0, 0), time.Now(), time.Unix(4_000_000_000, 0)} {
		body := seal(off.key, absent, at)
		for range 2 {
			if status, _, _ := off.post(body); status != 200 {
				t.Errorf("messagettl=0: a message of %v: status %d, want 200", at, status)
			}
		}
	}
	short := start(t, "messagettl=20")
	for age, want := range map[time.Duration]int{10 * time.Second: 200, 25 * time.Second: 401} {
		if status, _, _ := short.post(seal(short.key, absent, time.Now().Add(-age))); status != want {
			t.Errorf("messagettl=20: a message of %v ago: status %d, want %d", age, status, want)
		}
	}
	// A damaged window is not trusted, and the server starts.
	dir := t.TempDir()
	old := time.Now()
	err := os.WriteFile(dir+"/replay-window", []byte("nonsense"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, "cachedir="+dir)
	if s.record(notSaved) == nil {
		t.Error("the log does not say that the window was damaged")
	}
	if status, _, _ := s.post(seal(s.key, absent, old)); status != 401 {
		t.Errorf("a message from before the start: status %d, want 401", status)
	}
}

// notSaved is what the log says after a run that did not end cleanly.
const notSaved = "the last run did not save what it had accepted; messages from before this start are refused"

// TestReplayAfterCrash kills the server, which then cannot know what it had
// accepted.
func TestReplayAfterCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := newKey()
	s := startIn(t, dir, "secret="+key)
	once := seal(key, absent, time.Now())
	if status, _, _ := s.post(once); status != 200 {
		t.Fatalf("first: status %d, want 200", status)
	}
	s.kill()
	s = startIn(t, dir, "secret="+key)
	if s.record(notSaved) == nil {
		t.Error("the log does not say that the last run was killed")
	}
	if status, _, _ := s.post(once); status != 401 {
		t.Errorf("again, after the crash: status %d, want 401", status)
	}
	if status, _, _ := s.post(seal(key, absent, time.Now())); status != 200 {
		t.Errorf("a new one: status %d, want 200", status)
	}
	s.stop()
	s = startIn(t, dir, "secret="+key)
	if s.record(notSaved) != nil {
		t.Error("the log of a start after a clean stop speaks of a crash")
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t, "workers=3")
	status, header, text := s.send("GET", "health", "")
	if status != 200 || header.Get("Content-Type") != "application/json; charset=UTF-8" {
		t.Errorf("status %d, Content-Type %q", status, header.Get("Content-Type"))
	}
	var health map[string]any
	err := json.Unmarshal([]byte(text), &health)
	if err != nil {
		t.Fatal(err)
	}
	workers, _ := health["Workers"].(map[string]any)
	for name, state := range workers {
		if !strings.HasPrefix(name, "Authnzrv-Worker-") || state != "ok" {
			t.Errorf("worker %s is %v", name, state)
		}
	}
	if took, isNumber := health["Check-Time"].(float64); !isNumber || took < 0 || took > 5 {
		t.Errorf("Check-Time is %v", health["Check-Time"])
	}
	has(t, health, map[string]any{"Expected-Workers": 3, "Health-Ok": true})
	if len(workers) != 3 {
		t.Errorf("Workers has %d, want 3", len(workers))
	}
	for range 200 { // more than any limit on calls admits
		if status, _, _ := s.send("GET", "health", ""); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
}

// TestHealthBroken takes the database away under the server.
func TestHealthBroken(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.breakDatabase()
	status, _, text := s.send("GET", "health", "")
	var health map[string]any
	err := json.Unmarshal([]byte(text), &health)
	if err != nil {
		t.Fatalf("status %d: %v: %s", status, err, text)
	}
	if status != 500 || health["Health-Ok"] != false {
		t.Errorf("status %d, Health-Ok %v; want 500 and false", status, health["Health-Ok"])
	}
	workers, _ := health["Workers"].(map[string]any)
	for name, state := range workers {
		if state == "ok" {
			t.Errorf("worker %s is ok", name)
		}
	}
	// Requests say so too, in a reply.
	s.call("user-list", params{"user_id": nil}).failed("db_error")
	s.kill() // what it says about the database when it ends does not matter
}

func TestEcho(t *testing.T) {
	t.Parallel()
	s := start(t, "debugmode=1", "logging=info")
	request := `{"request": "echo", "body": {"a": [1.50, "é"]}, "reqid": 1e2, "dbtest": "mine"}`
	status, _, body := s.send("POST", "echo", seal(s.key, request, time.Now()))
	text, _, err := unseal(s.key, body)
	if status != 200 || err != nil {
		t.Fatalf("status %d, %v", status, err)
	}
	var echoed map[string]json.RawMessage
	err = json.Unmarshal([]byte(text), &echoed)
	if err != nil {
		t.Fatal(err)
	}
	if string(echoed["reqid"]) != "1e2" || string(echoed["request"]) != `"echo"` || !strings.Contains(string(echoed["body"]), "1.50") {
		t.Errorf("echoed %s", text)
	}
	var roles []struct{ Name, Desc string }
	err = json.Unmarshal(echoed["dbtest"], &roles)
	if err != nil || len(roles) != 5 {
		t.Errorf("dbtest is %s", echoed["dbtest"])
	}
	for _, role := range roles {
		if role.Desc != "Role with "+role.Name+" privileges" {
			t.Errorf("role %+v", role)
		}
	}
	if len(echoed) != 4 {
		t.Errorf("echoed %d members: %s", len(echoed), text)
	}
	for _, row := range []struct {
		body   string
		status int
	}{
		{"", 401},
		{seal(newKey(), request, time.Now()), 401},
		{seal(s.key, "{}", time.Now()), 401},
		{seal(s.key, `{"request": "user-list"}`, time.Now()), 400},
		{seal(s.key, `{"reqid": 1}`, time.Now()), 400},
		{seal(s.key, `[1]`, time.Now()), 400},
		{seal(s.key, `{"request": "echo"}`, time.Now()), 200},
	} {
		if status, _, _ := s.send("POST", "echo", row.body); status != row.status {
			t.Errorf("%.30q: status %d, want %d", row.body, status, row.status)
		}
	}
	if status, _, _ := s.send("GET", "echo", ""); status != 405 {
		t.Errorf("GET /echo: status %d, want 405", status)
	}
}

package test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writeCertificate makes a certificate for this machine that it has signed
// itself, writes it and its key as PEM files into dir, and returns their paths
// and the clients' trust in it.
func writeCertificate(t testing.TB, dir string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authnzerver under test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile = write("cert.pem", "CERTIFICATE", certificate), write("key.pem", "PRIVATE KEY", secret)
	roots = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	return certFile, keyFile, roots
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile, roots := writeCertificate(t, t.TempDir())
	s := start(t, "tlscertfile="+certFile, "tlscertkey="+keyFile)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("the server is ready at %s", s.url)
	}
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	s.call("session-exists", params{"session_token": "x"}).failed("session_not_found")
	if status, _, _ := s.send("GET", "health", ""); status != 200 {
		t.Errorf("health: status %d", status)
	}

	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		conn, err := tls.Dial("tcp", s.addr, &tls.Config{
			RootCAs: roots, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"},
		})
		name := tls.VersionName(version)
		if old := version < tls.VersionTLS12; old != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if state := conn.ConnectionState(); state.NegotiatedProtocol == "h2" {
			t.Errorf("%s: the server speaks HTTP/2", name)
		}
		_ = conn.Close() // only the handshake matters
	}

	// Call trusts the certificate that the server's settings name.
	_, port, _ := strings.Cut(s.addr, ":")
	call := authnzrv(t, s.dir, "", nil, "call", "--secret="+s.key, "--port="+port, "--tlscertfile="+certFile, "--tlscertkey="+keyFile,
		"user-list", `{"user_id": 1}`)
	if call.status != 0 {
		t.Errorf("call: status %d: %s", call.status, call.stderr)
	}
	call = authnzrv(t, s.dir, "", nil, "call", "--secret="+s.key, "--url="+s.url, "user-list", `{"user_id": 1}`)
	if call.status != 1 || !strings.Contains(call.stderr, "certificate") {
		t.Errorf("call that knows no certificate: status %d: %s", call.status, call.stderr)
	}

	// Nothing is served in the clear.
	from, _ := s.dialog(rawPost("Host: localhost\r\n", seal(s.key, absent, time.Now())))
	response, err := http.ReadResponse(from, nil)
	if err == nil && response.StatusCode != http.StatusBadRequest {
		t.Errorf("a request without TLS: status %d", response.StatusCode)
	}
}

// TestTLSHangs checks that a client that never finishes its handshake holds up
// nobody.
func TestTLSHangs(t *testing.T) {
	t.Parallel()
	certFile, keyFile, roots := writeCertificate(t, t.TempDir())
	s := start(t, "tlscertfile="+certFile, "tlscertkey="+keyFile)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	var hanging []*bufio.Reader
	for i := range 20 {
		from, _ := s.dialog(fmt.Sprintf("\x16\x03\x01%c", i))
		hanging = append(hanging, from)
	}
	began := time.Now()
	s.call("session-exists", params{"session_token": "x"}).failed("session_not_found")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("a request took %v beside hanging handshakes", took)
	}
	for _, from := range hanging {
		if !closed(from) {
			t.Fatal("the server keeps a handshake that goes nowhere")
		}
	}
}

// TestCertificateReload replaces the certificate under a server that is busy, and its key a
// moment later.
func TestCertificateReload(t *testing.T) {
	t.Parallel()
	dir, next := t.TempDir(), t.TempDir()
	certFile, keyFile, roots := writeCertificate(t, dir)
	newCert, newKey, newRoots := writeCertificate(t, next)
	s := start(t, "tlscertfile="+certFile, "tlscertkey="+keyFile)
	both := roots.Clone()
	both.AppendCertsFromPEM([]byte(read(t, newCert)))
	// Every request has a connection of its own.
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: both}, DisableKeepAlives: true}}
	var stop atomic.Bool
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop.Store(true)
	for range 4 {
		busy.Go(func() {
			for !stop.Load() {
				if r := s.call("session-exists", params{"session_token": "x"}); r.Code != "session_not_found" {
					t.Errorf("under load: %s", r.Code)
					return
				}
			}
		})
	}
	trusted := func(by *x509.CertPool) bool {
		conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: by})
		if err == nil {
			_ = conn.Close() // only the handshake matters
		}
		return err == nil
	}
	refused := func() int { return len(s.records("the certificate was not reloaded; the one before stays in force")) }
	write(t, certFile, read(t, newCert))
	s.wait("the certificate without its key to be refused", func() bool { return refused() == 1 })
	if !trusted(roots) || trusted(newRoots) {
		t.Error("the certificate before is not in force")
	}
	write(t, keyFile, read(t, newKey))
	s.wait("the new certificate", func() bool { return trusted(newRoots) })
	if trusted(roots) {
		t.Error("the certificate before is still in force")
	}
	if reloaded := s.record("the certificate was reloaded"); reloaded == nil || reloaded["expires"] == "" || refused() != 1 {
		t.Errorf("the log has %v, and %d refusals", reloaded, refused())
	}
	write(t, certFile, "not a certificate")
	s.wait("what is no certificate to be refused", func() bool { return refused() == 2 })
	if !trusted(newRoots) {
		t.Error("the certificate before is not in force")
	}
}

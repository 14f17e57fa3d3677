package smtpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificates are a certificate authority and a server's certificate, in PEM
// form.
type certificates struct {
	roots                *x509.CertPool // the authority
	ca, certificate, key []byte
}

// newCertificates makes a certificate of the kind named as in
// Options.Certificate.
func newCertificates(kind string, now time.Time) (certificates, error) {
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "smtpd test CA"},
		NotBefore:             now.Add(-48 * time.Hour),
		NotAfter:              now.Add(48 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "smtpd test server"},
		NotBefore:    now.Add(-24 * time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificates{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificates{}, err
	}
	issuer, issuerKey := authority, caKey
	switch kind {
	case "good":
	case "expired":
		server.NotAfter = now.Add(-time.Hour)
	case "wrong-name":
		server.DNSNames, server.IPAddresses = []string{"mail.example"}, nil
	case "self-signed":
		issuer, issuerKey = server, key
	default:
		return certificates{}, fmt.Errorf(`option Certificate is %q, want "good", "expired", "wrong-name" or "self-signed"`, kind)
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, caKey.Public(), caKey)
	if err != nil {
		return certificates{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, server, issuer, key.Public(), issuerKey)
	if err != nil {
		return certificates{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificates{}, err
	}
	made := certificates{
		roots:       x509.NewCertPool(),
		ca:          pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
	made.roots.AppendCertsFromPEM(made.ca)
	return made, nil
}

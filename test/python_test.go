package test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// python is the interpreter for which scripts/test-requirements installs the
// package cryptography.
const python = "/usr/bin/python3"

// TestPythonClients runs a whole visit through the way in which the clients of
// either published generation work, with the Fernet implementation that they
// use.
func TestPythonClients(t *testing.T) {
	t.Parallel()
	version, err := exec.Command(python, "-c", "import cryptography; print(cryptography.__version__)").CombinedOutput()
	if err != nil {
		t.Fatalf("%s has no package cryptography; run scripts/test-requirements: %v\n%s", python, err, version)
	}
	for _, generation := range []string{"0.1.3", "development-line"} {
		t.Run(generation, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.hide("Ada.Lovelace@analytical.example.com", "ada.lovelace@analytical.example.com", "note G computes Bernoulli", "Ada Lovelace", "203.0.113.44")
			client := exec.Command(python, "testdata/python_client.py", generation)
			client.Env = environment("AUTHNZERVER_URL=\""+s.url+"\"", "AUTHNZERVER_SECRET=\""+s.key+"\"", "PYTHONDONTWRITEBYTECODE=1")
			var complaints bytes.Buffer
			client.Stderr = &complaints
			out, err := client.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, complaints.String())
			}
			if done := strings.TrimSpace(string(out)); done != "25 requests were answered as expected" {
				t.Errorf("the client says %q", done)
			}
		})
	}
}

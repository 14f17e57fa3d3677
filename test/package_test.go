package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authnzerver/test/databases"
	"authnzerver/test/parts"
)

// output runs a command and returns what it prints.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out, errors.Bytes())
	}
	return string(out)
}

// printedBy returns what the program prints.
func printedBy(t testing.TB, args ...string) string {
	t.Helper()
	return output(t, exec.Command("authnzrv", args...))
}

// mostExposure is how exposed the service may be, in tenths: systemd calls less than 2 "OK",
// its best but one word, which a service that talks to a network does not get below.
const mostExposure = "15"

// TestUnit has systemd judge the unit.
func TestUnit(t *testing.T) {
	t.Parallel()
	text := output(t, exec.Command("systemd-analyze", "security", "--offline=true", "--threshold="+mostExposure, "../deploy/authnzerver.service"))
	text = strings.TrimSpace(text)
	t.Log(text[strings.LastIndex(text, "\n")+1:])
	// Its programs are elsewhere here.
	unit := read(t, "../deploy/authnzerver.service")
	program, err := exec.LookPath("authnzrv")
	try(t, "find the program", err)
	program, err = filepath.Abs(program)
	try(t, "find the program", err)
	dir := t.TempDir()
	file := filepath.Join(dir, "authnzerver.service")
	write(t, file, strings.NewReplacer("/usr/bin/authnzrv", program, "Documentation=man:authnzrv(8)\n", "").Replace(unit))
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), file) {
		t.Errorf("systemd objects (%v):\n%s", err, out)
	}
	// A negative control: without its hardening it does not pass.
	open := regexp.MustCompile(`(?m)^(Protect|Private|Restrict|SystemCall|Capability|NoNew).*\n`).ReplaceAllString(unit, "")
	write(t, file, open)
	err = exec.Command("systemd-analyze", "security", "--offline=true", "--threshold="+mostExposure, file).Run()
	if err == nil {
		t.Error("a unit that hardens nothing passes")
	}
}

// TestManualPage has groff judge the manual page, which has every command and every option.
func TestManualPage(t *testing.T) {
	t.Parallel()
	page := printedBy(t, "man")
	groff := exec.Command("groff", "-man", "-ww", "-Tutf8")
	groff.Stdin = strings.NewReader(page)
	var problems bytes.Buffer
	groff.Stderr = &problems
	text, err := groff.Output()
	if err != nil || problems.Len() > 0 {
		t.Fatalf("groff objects (%v):\n%s", err, problems.Bytes())
	}
	plain := regexp.MustCompile("\x1b\\[[0-9;]*m|.\b").ReplaceAllString(string(text), "")
	for _, want := range []string{"authnzrv serve", "authnzrv db move", "authnzrv events tail", "--authdb", "--webhookurl", "/var/lib/authnzerver/.env"} {
		if !strings.Contains(plain, want) {
			t.Errorf("the manual page lacks %s", want)
		}
	}
	for flag := range strings.SplitSeq(printedBy(t, "serve", "--help"), "\n") {
		name := regexp.MustCompile(`^  (?:-., )?(--[a-z0-9]+)`).FindStringSubmatch(flag)
		if name != nil && !strings.Contains(plain, name[1]) {
			t.Errorf("the manual page lacks %s", name[1])
		}
	}
}

// TestCompletion completes command lines in Bash and Fish, and has Zsh read its script.
func TestCompletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		write(t, filepath.Join(dir, shell), printedBy(t, "completion", shell))
	}
	shell := func(part, program string, args ...string) *exec.Cmd {
		path, lib, err := parts.Find(part, program)
		try(t, "find "+part, err)
		cmd := exec.Command(path, args...)
		cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LD_LIBRARY_PATH=" + lib}
		return cmd
	}
	output(t, shell("zsh", "usr/bin/zsh", "-n", filepath.Join(dir, "zsh")))
	for _, test := range []struct {
		line []string // the last word is to be completed
		want []string
	}{
		{[]string{"db", "m"}, []string{"migrate", "move"}},
		{[]string{"call", "user-log"}, []string{"user-login", "user-logout"}},
		{[]string{"events", "tail", "--fo"}, []string{"--follow"}},
		{[]string{"completion", ""}, []string{"bash", "fish", "zsh"}},
		{[]string{"--webhook"}, []string{"--webhooksecret", "--webhookurl"}},
		{[]string{"call", "--webhook"}, nil},
	} {
		script := `source "$0"; COMP_WORDS=(authnzrv "$@"); COMP_CWORD=$#; compopt() { :; }; _authnzrv; printf '%s\n' "${COMPREPLY[@]}"`
		got := strings.Fields(output(t, exec.Command("bash", append([]string{"-c", script, filepath.Join(dir, "bash")}, test.line...)...)))
		slices.Sort(got)
		if !slices.Equal(got, test.want) {
			t.Errorf("in Bash, %q is completed with %q, want %q", test.line, got, test.want)
		}
		if test.want == nil {
			continue // Fish offers files then
		}
		got = nil
		text := output(t, shell("fish", "usr/bin/fish", "-c", "source "+filepath.Join(dir, "fish")+"; complete -C 'authnzrv "+strings.Join(test.line, " ")+"'"))
		for line := range strings.Lines(text) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		slices.Sort(got)
		for _, want := range test.want {
			if !slices.Contains(got, want) {
				t.Errorf("in Fish, %q is completed with %q, want %q", test.line, got, test.want)
			}
		}
	}
}

// TestHealthCommand asks a server whether it is ready, as the container does.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startIn(t, dir, "allowedhosts=auth.example.org;127.0.0.1")
	_, port, _ := strings.Cut(s.addr, ":")
	ask := func(args ...string) result {
		return authnzrv(t, dir, "", []string{"AUTHNZERVER_PORT=" + port, "AUTHNZERVER_ALLOWEDHOSTS=auth.example.org"}, append([]string{"health"}, args...)...)
	}
	if got := ask(); got.status != 0 || got.stdout != "ready\n" {
		t.Errorf("ready: %+v", got)
	}
	if got := ask("--live"); got.status != 0 || got.stdout != "live\n" {
		t.Errorf("live: %+v", got)
	}
	s.stop()
	if got := ask(); got.status != 1 || !strings.Contains(got.stderr, "connection refused") {
		t.Errorf("stopped: %+v", got)
	}
}

// TestRelease builds a release twice, in two places, and uses its package as the unit does.
func TestRelease(t *testing.T) {
	t.Parallel()
	if kind != databases.SQLite {
		return // it is the same for all of them
	}
	release := func(change ...string) (dir string) {
		t.Helper()
		dir = t.TempDir()
		source := filepath.Join(dir, "source")
		output(t, exec.Command("git", "clone", "--quiet", "..", source))
		if change != nil {
			cmd := exec.Command(change[0], change[1:]...)
			cmd.Dir = source
			output(t, cmd)
		}
		cmd := exec.Command("scripts/release", filepath.Join(dir, "dist"))
		cmd.Dir, cmd.Env = source, append(os.Environ(), "PLATFORMS=linux/amd64", "VERSION=1.2.3")
		output(t, cmd)
		return filepath.Join(dir, "dist")
	}
	first, second := release(), release()
	sums := read(t, filepath.Join(first, "SHA256SUMS"))
	if again := read(t, filepath.Join(second, "SHA256SUMS")); again != sums {
		t.Errorf("two builds differ:\n%s\n%s", sums, again)
	}
	// The control: another commit, which changes no file.
	other := release("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "commit", "--quiet", "--allow-empty", "--message=Nothing")
	if again := read(t, filepath.Join(other, "SHA256SUMS")); again == sums {
		t.Error("a build of another commit does not differ: nothing is compared")
	}
	if strings.Count(sums, "\n") != 4 {
		t.Errorf("the release has:\n%s", sums)
	}
	check := exec.Command("sha256sum", "--check", "--quiet", "SHA256SUMS")
	check.Dir = first
	output(t, check)
	only := func(pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(first, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		return found[0]
	}

	root := t.TempDir()
	output(t, exec.Command("dpkg-deb", "--extract", only("*.deb"), root))
	program := filepath.Join(root, "usr/bin/authnzrv")
	for _, path := range []string{
		"usr/lib/systemd/system/authnzerver.service", "etc/authnzerver/authnzerver.env", "usr/share/man/man8/authnzrv.8.gz",
		"usr/share/bash-completion/completions/authnzrv", "usr/share/doc/authnzerver/copyright",
	} {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			t.Error(err)
		}
	}
	version := output(t, exec.Command(program, "--version"))
	if !strings.HasPrefix(version, "authnzrv v") || strings.Contains(version, "with changes") {
		t.Errorf("the version is %s", version)
	}
	// What the unit does before it starts the server.
	state := filepath.Join(root, "var/lib/authnzerver")
	setUp := exec.Command(program, "--autosetup", "--basedir="+state)
	setUp.Env = environment()
	output(t, setUp)
	if _, err := os.Stat(filepath.Join(state, ".env")); err != nil {
		t.Error(err)
	}

	// The list of what is in it names every module that Go says is.
	var sbom struct {
		BOMFormat  string
		Components []struct{ Name, Version string }
	}
	try(t, "read the SBOM", json.Unmarshal([]byte(read(t, only("*.sbom.json"))), &sbom))
	named := map[string]bool{}
	for _, c := range sbom.Components {
		named[c.Name+" "+c.Version] = true
	}
	modules := 0
	for line := range strings.Lines(output(t, exec.Command("go", "version", "-m", program))) {
		fields := strings.Fields(line)
		if len(fields) >= 3 && fields[0] == "dep" {
			modules++
			if !named[fields[1]+" "+fields[2]] {
				t.Errorf("the SBOM lacks %s %s", fields[1], fields[2])
			}
		}
	}
	if sbom.BOMFormat != "CycloneDX" || modules < 10 {
		t.Errorf("the SBOM is %s with %d components, for %d modules", sbom.BOMFormat, len(sbom.Components), modules)
	}
}

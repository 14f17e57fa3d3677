package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudo-terminal with a program on it.
type terminal struct {
	t      testing.TB
	master *os.File
	shown  *buffer
	cmd    *exec.Cmd
	exited chan struct{}
}

// openTerminal runs a command on a terminal of its own.
func openTerminal(t testing.TB, cmd *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() }) // nothing was buffered
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = errors.Join(cmd.Start(), slave.Close())
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, shown: &buffer{}, cmd: cmd, exited: make(chan struct{})}
	go func() {
		part := make([]byte, 4096)
		for {
			n, err := master.Read(part)
			_, _ = term.shown.Write(part[:n]) // a buffer takes everything
			if err != nil {
				break // the program has ended
			}
		}
		_ = cmd.Wait() // its outcome is in cmd.ProcessState
		close(term.exited)
	}()
	return term
}

// expect waits until the terminal shows a text.
func (term *terminal) expect(text string) {
	term.t.Helper()
	waitFor(term.t, fmt.Sprintf("%q on the terminal", text), func() bool { return strings.Contains(term.shown.String(), text) })
}

// echoes tells whether the terminal shows what is typed.
func (term *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(term.master.Fd()), unix.TCGETS)
	return err == nil && state.Lflag&unix.ECHO != 0
}

// press types keys.
func (term *terminal) press(keys string) {
	term.t.Helper()
	_, err := term.master.WriteString(keys)
	if err != nil {
		term.t.Fatal(err)
	}
}

// await waits for the end of the program and returns its exit status.
func (term *terminal) await() int {
	term.t.Helper()
	waitFor(term.t, "the program to end", func() bool {
		select {
		case <-term.exited:
			return true
		default:
			return false
		}
	})
	return term.cmd.ProcessState.ExitCode()
}

func setUpOnTerminal(t *testing.T) (term *terminal, dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.Command("authnzrv", "--autosetup", "--basedir="+dir, "--argon2=m=7168,t=1,p=1")
	cmd.Env = environment()
	term = openTerminal(t, cmd)
	term.expect("Auth DB URL [default: auto generated]: ")
	term.press("\n")
	term.expect("Permission JSON path [default: included permissions JSON]: ")
	term.press("\n")
	term.expect("Admin email address [default: somebody@localhost]: ")
	term.press("person@auth.example.com\n")
	term.expect("Admin password [default: randomly generated]: ")
	waitFor(t, "the terminal to hide what is typed", func() bool { return !term.echoes() })
	return term, dir
}

// TestAutosetupTerminal answers the questions on a terminal, which does not
// show the password.
func TestAutosetupTerminal(t *testing.T) {
	t.Parallel()
	const password = "typed without an audience"
	term, dir := setUpOnTerminal(t)
	term.press(password + "\n")
	if status := term.await(); status != 0 {
		t.Fatalf("status %d:\n%s", status, term.shown)
	}
	shown := term.shown.String()
	if strings.Contains(shown, password) || !strings.Contains(shown, "person@auth.example.com\r\n") {
		t.Errorf("the terminal shows the password, or not what else was typed:\n%s", shown)
	}
	email, written := credentials(t, dir+"/.authnzerver-admin-credentials")
	if email != "person@auth.example.com" || written != "password-was-user-generated" {
		t.Error("the credentials file does not hold the address and the note that a person chose the password")
	}
	s := startLine(t, dir, result{stdout: strings.ReplaceAll(shown, "\r\n", "\n")}, dir+"/.authnzerver-secret-key")
	s.hide(password)
	s.login(email, password).ok()
}

// TestAutosetupInterrupted leaves the set-up at the question for the password:
// nothing is made, and the terminal is as it was.
func TestAutosetupInterrupted(t *testing.T) {
	t.Parallel()
	term, dir := setUpOnTerminal(t)
	term.press("half a pass\x03")
	if status := term.await(); status != 1 {
		t.Errorf("status %d, want 1:\n%s", status, term.shown)
	}
	if !term.echoes() {
		t.Error("the terminal still hides what is typed")
	}
	if strings.Contains(term.shown.String(), "half a pass") {
		t.Error("the terminal shows the password")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%d files were made, %v", len(entries), err)
	}
}

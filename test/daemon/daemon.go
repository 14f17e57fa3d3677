// Package daemon runs servers for tests, which end with the test's process
// however that ends.
package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// patience bounds every wait for a server.
	patience = 30 * time.Second
	// watch is the shell script that starts the server $3 and tells its process
	// id. When pipe 3 is closed, as it is however the test's process ends, it sends
	// the server the signal $2 and removes the folder $1 if that is wanted: not
	// when "keep" was said. It complains to nobody, as the test may be gone.
	//
	// When a process group with a paused process loses its parent, all in it get
	// SIGHUP, which the shell must outlive. A file that is too large is an error for
	// the server and not its end.
	watch = `
trap '' HUP XFSZ
dir=$1
signal=$2
shift 2
"$@" 3<&- 4>&- >>"$dir/log" 2>&1 &
echo "$!" >&4
exec 4>&-
read -r word <&3
exec >/dev/null 2>&1
kill -s "$signal" "$!"
kill -s CONT "$!"
wait
[ "$word" = keep ] || rm -rf "$dir"
`
)

// A Daemon is a server with a folder of its own. Its methods are for one
// goroutine at a time.
type Daemon struct {
	// Dir is where it keeps everything. It writes its log to the file "log" there.
	Dir string
	// Command is the program with its arguments.
	Command []string
	// Lib is a folder of libraries for it, empty for those of the machine.
	Lib string
	// Probe reports whether it takes connections.
	Probe func() error
	// End is the signal that ends it as a power cut does: KILL when empty, QUIT
	// for a server that has to end its own processes.
	End string
	// Unprivileged is set for a server that root cannot start. Then Dir must
	// belong to [Account].
	Unprivileged bool

	shell   *exec.Cmd
	end     *os.File    // closed, it ends the process
	process *os.Process // nil while the server is killed
}

// Account returns the user and group that an unprivileged server runs as: the
// caller, or nobody when that is root.
func Account() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid(), nil
	}
	account, err := user.Lookup("nobody")
	if err != nil {
		return 0, 0, err
	}
	uid, err = strconv.Atoi(account.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(account.Gid)
	return uid, gid, err
}

// TempDir makes a folder for an unprivileged server. Its path is short: that of a
// socket may have 107 bytes.
func TempDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return "", err
	}
	uid, gid, err := Account()
	if err == nil {
		err = os.Chown(dir, uid, gid)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// Readable returns the path of a tree of files that an unprivileged server can
// read: the given one, or when root keeps others from it, a copy in dir.
func Readable(tree, dir string) (string, error) {
	if os.Getuid() != 0 {
		return tree, nil
	}
	for above := tree; ; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err != nil {
			return "", err
		}
		if info.Mode()&0o001 == 0 {
			break
		}
		if above == filepath.Dir(above) {
			return tree, nil
		}
	}
	to := filepath.Join(dir, "program")
	err := os.CopyFS(to, os.DirFS(tree))
	if err != nil {
		return "", err
	}
	return to, os.Chmod(to, 0o755)
}

// FreePort returns a port of 127.0.0.1 that nobody uses now.
func FreePort() (int, error) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// Own gives a tree of files to the account of unprivileged servers.
func Own(dir string) error {
	uid, gid, err := Account()
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// Run runs a program as the account of unprivileged servers, with what it reads
// from its standard input.
func (d *Daemon) Run(stdin io.Reader, command ...string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Env = "/", stdin, d.environment()
	attributes, err := d.attributes()
	if err != nil {
		return err
	}
	cmd.SysProcAttr = attributes
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", command[0], err, said)
	}
	return nil
}

func (d *Daemon) environment() []string {
	if d.Lib == "" {
		return os.Environ()
	}
	return append(os.Environ(), "LD_LIBRARY_PATH="+d.Lib)
}

func (d *Daemon) attributes() (*syscall.SysProcAttr, error) {
	// What a terminal sends to the test's process group, the server must outlive.
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if !d.Unprivileged || os.Getuid() != 0 {
		return attributes, nil
	}
	uid, gid, err := Account()
	if err != nil {
		return nil, err
	}
	attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attributes, nil
}

// Start starts the server, also again after Kill. It returns when the server
// takes connections.
func (d *Daemon) Start() error {
	err := d.launch()
	if err != nil {
		return fmt.Errorf("start %s: %w", d.Command[0], err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err = d.Probe()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", d.Command[0], err, d.Log())
		}
	}
}

func (d *Daemon) launch() error {
	ended, end, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ended.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		return errors.Join(err, end.Close())
	}
	defer told.Close()
	signal := d.End
	if signal == "" {
		signal = "KILL"
	}
	d.shell = exec.Command("/bin/sh", append([]string{"-c", watch, "sh", d.Dir, signal}, d.Command...)...)
	d.shell.Dir = "/" // not the folder, which the shell removes
	d.shell.Env = d.environment()
	d.shell.ExtraFiles = []*os.File{ended, tell}
	d.shell.SysProcAttr, err = d.attributes()
	if err == nil {
		err = d.shell.Start()
	}
	closed := tell.Close() // the shell has a copy
	if err != nil {
		return errors.Join(err, closed, end.Close())
	}
	d.end = end
	line, err := bufio.NewReader(told).ReadString('\n')
	if err != nil {
		return fmt.Errorf("its shell: %w", err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	d.process, err = os.FindProcess(id)
	return err
}

// Log returns what the server has said.
func (d *Daemon) Log() []byte {
	log, _ := os.ReadFile(filepath.Join(d.Dir, "log")) // there is none if nothing was said
	return log
}

// Kill ends the server at once, as a power cut does. Its folder stays.
func (d *Daemon) Kill() error {
	if d.process == nil {
		return errors.New("the server is not there")
	}
	d.finish("keep\n")
	return nil
}

// Close ends the server, if it is there, and removes its folder.
func (d *Daemon) Close() error {
	if d.process != nil {
		_ = d.Resume() // it may not be paused, or be gone
	}
	d.finish("")
	return os.RemoveAll(d.Dir)
}

// finish ends the server, if it is there, and waits for its end. The word says
// whether its folder stays.
func (d *Daemon) finish(word string) {
	if d.end == nil {
		return
	}
	_, _ = io.WriteString(d.end, word) // the shell may be gone
	_ = d.end.Close()
	_ = d.shell.Wait() // its status is that of what it killed
	d.end, d.process = nil, nil
}

// Pause stops the server with its processes: connections stay, new ones are made
// by the kernel, and nothing is answered until Resume.
func (d *Daemon) Pause() error { return d.signal(syscall.SIGSTOP) }

// Resume ends what Pause began.
func (d *Daemon) Resume() error { return d.signal(syscall.SIGCONT) }

// Signal sends the server a signal, not its processes.
func (d *Daemon) Signal(signal os.Signal) error {
	if d.process == nil {
		return errors.New("the server is not there")
	}
	return d.process.Signal(signal)
}

func (d *Daemon) signal(signal syscall.Signal) error {
	ids, err := d.processes()
	if err != nil {
		return err
	}
	for _, id := range ids {
		err = syscall.Kill(id, signal)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // it has ended
			return err
		}
	}
	return nil
}

// LimitFiles limits the size of the files that the server and its processes write,
// in bytes, as a disk that is full does; 0 lifts the limit.
func (d *Daemon) LimitFiles(most int64) error {
	ids, err := d.processes()
	if err != nil {
		return err
	}
	limit := "unlimited"
	if most > 0 {
		limit = strconv.FormatInt(most, 10)
	}
	for _, id := range ids {
		// The limit that a process sets itself, not that above it.
		err := d.Run(nil, "prlimit", "--pid", strconv.Itoa(id), "--fsize="+limit+":")
		if err != nil && syscall.Kill(id, 0) == nil {
			return err
		}
	}
	return nil
}

// processes returns the ids of the server and its processes.
func (d *Daemon) processes() ([]int, error) {
	if d.process == nil {
		return nil, errors.New("the server is not there")
	}
	ids := []int{d.process.Pid}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", d.process.Pid))
	if err != nil {
		return nil, err
	}
	for _, child := range strings.Fields(string(children)) {
		id, err := strconv.Atoi(child)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

package load

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// each calls do with the folders of the process and of those that it started,
// in the /proc file system.
func (p *Process) each(do func(folder string) error) error {
	folder := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	err := do(folder)
	if err != nil {
		return err
	}
	threads, err := filepath.Glob(folder + "/task/*/children")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a thread may end
		}
		if err != nil {
			return err
		}
		for pid := range bytes.FieldsSeq(text) {
			err := do("/proc/" + string(pid))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Memory returns the resident memory in bytes, with that of the processes that
// it started. What they share counts once.
func (p *Process) Memory() (float64, error) {
	sum := 0.0
	err := p.each(func(folder string) error {
		bytes, err := proportional(folder)
		sum += bytes
		return err
	})
	return sum, err
}

// proportional returns the proportional set size of a process in bytes
// (proc_pid_smaps(5)).
func proportional(folder string) (float64, error) {
	text, err := os.ReadFile(folder + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	return kibibytes(folder+"/smaps_rollup", text, "Pss:")
}

// kibibytes returns the number of bytes that a line of a file gives in KiB.
func kibibytes(file string, text []byte, label string) (float64, error) {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte(label)); ok {
			kib, err := strconv.ParseFloat(string(bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte("kB")))), 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no line %q", file, label)
}

// PeakMemory returns the most memory in bytes that the process itself has had so far
// (VmHWM of proc_pid_status(5)).
func (p *Process) PeakMemory() (float64, error) {
	file := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return kibibytes(file, text, "VmHWM:")
}

// ticks is how many units of CPU time the kernel shows for a second
// (USER_HZ, which is 100 on every architecture that Go runs on).
const ticks = 100

// CPUTime returns the CPU time that the process has taken, with those that it
// started.
func (p *Process) CPUTime() (time.Duration, error) {
	var sum time.Duration
	err := p.each(func(folder string) error {
		taken, err := cpuTime(folder)
		sum += taken
		return err
	})
	return sum, err
}

func cpuTime(folder string) (time.Duration, error) {
	text, err := os.ReadFile(folder + "/stat")
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold blanks. utime and stime are the 14th
	// and 15th field (proc_pid_stat(5)), the state behind the name the 3rd.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var sum int64
	for _, field := range fields[14-3 : 16-3] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks, nil
}

package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Process is a server that was started here.
type Process struct {
	cmd *exec.Cmd
	// Address is where it listens.
	Address string
	// Took is the time from its start to its first healthy answer.
	Took time.Duration
}

// startTime bounds how long a server may take to answer.
const startTime = 10 * time.Second

// Start starts a server, with arguments that make it listen on the address
// given, and waits until it answers. Its log goes to the file. It has this process's
// environment, without the options of a server, and the variables given.
func Start(ctx context.Context, log *os.File, env []string, program string, args func(host, port string) []string) (*Process, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.CommandContext(ctx, program, args(host, port)...), Address: address}
	p.cmd.Env = append(cleanEnvironment(), env...)
	p.cmd.Stderr = log
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = startTime
	started := time.Now()
	err = p.cmd.Start()
	if err != nil {
		return nil, err
	}
	for !p.healthy() {
		if time.Since(started) > startTime {
			text, err := os.ReadFile(log.Name())
			return nil, errors.Join(fmt.Errorf("%s did not answer within %v; its log:\n%s", program, startTime, text), err, p.Stop())
		}
		time.Sleep(time.Millisecond)
	}
	p.Took = time.Since(started)
	return p, nil
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func (p *Process) healthy() bool {
	response, err := http.Get("http://" + p.Address + "/health")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Stop ends the process and waits for it.
func (p *Process) Stop() error {
	http.DefaultClient.CloseIdleConnections()
	return errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait())
}

// cleanEnvironment is the environment of this process without options of a server.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "AUTHNZERVER_") })
}

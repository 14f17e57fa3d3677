package smtpd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"

	"authnzerver/test/parts"
)

// eximUser is the user whose name is compiled into Debian's Exim.
const eximUser = "Debian-exim"

// configFile is the name of Exim's configuration in its folder.
const configFile = "exim.conf"

// exim is an Exim program.
type exim struct {
	path string
	// lib is the folder of the libraries that scripts/test-requirements has
	// unpacked for it; empty for an Exim that is installed.
	lib string
}

// findExim returns the Exim unpacked by scripts/test-requirements, or else, for
// root, the one installed: started with another configuration than the machine's,
// that gives up the right to become eximUser, but ends when it cannot.
func findExim() (exim, error) {
	path, lib, err := parts.Find("exim4", "usr/sbin/exim4")
	if err == nil {
		return exim{path, lib}, nil
	}
	if os.Getuid() == 0 {
		for _, name := range []string{"/usr/sbin/exim4", "exim4"} {
			path, err = exec.LookPath(name)
			if err == nil {
				return exim{path: path}, nil
			}
		}
	}
	return exim{}, errors.New("there is no Exim that this user can start; run make test, or scripts/test-requirements")
}

// account returns the user and group Exim runs as: the caller, or an
// unprivileged user when that is root, as whom Exim refuses to deliver.
func (e exim) account() (uid, gid int, err error) {
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid(), nil
	}
	name := eximUser
	if e.lib != "" {
		name = "nobody"
	}
	account, err := user.Lookup(name)
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

// prepare writes the files and makes the folders that Exim needs into dir, all
// its own.
func (e exim) prepare(dir string, files map[string][]byte) error {
	uid, gid, err := e.account()
	if err != nil {
		return err
	}
	// The only ones the unpacked Exim knows, so that it finds its user.
	files["passwd"] = fmt.Appendf(nil, "root:x:0:0::/:/bin/sh\n%s:x:%d:%d::/:/bin/sh\n", eximUser, uid, gid)
	files["group"] = fmt.Appendf(nil, "root:x:0:\n%s:x:%d:\n", eximUser, gid)
	own := []string{dir}
	for name, content := range files {
		path := filepath.Join(dir, name)
		err = os.WriteFile(path, content, 0o600)
		if err != nil {
			return err
		}
		if name != configFile { // Exim wants that to be root's
			own = append(own, path)
		}
	}
	for _, name := range []string{"log", "mail", "spool"} {
		path := filepath.Join(dir, name)
		err = os.Mkdir(path, 0o700)
		if err != nil {
			return err
		}
		own = append(own, path)
	}
	for _, path := range own {
		err = os.Chown(path, uid, gid)
		if err != nil {
			return err
		}
	}
	return nil
}

// environment returns the environment of the Exim that works in dir. The
// unpacked one finds its libraries there, and, by nss_wrapper
// (https://cwrap.org/nss_wrapper.html), its user.
func (e exim) environment(dir string) []string {
	if e.lib == "" {
		return nil
	}
	return append(os.Environ(),
		"LD_LIBRARY_PATH="+e.lib,
		"LD_PRELOAD="+filepath.Join(e.lib, "libnss_wrapper.so"),
		"NSS_WRAPPER_PASSWD="+filepath.Join(dir, "passwd"),
		"NSS_WRAPPER_GROUP="+filepath.Join(dir, "group"))
}

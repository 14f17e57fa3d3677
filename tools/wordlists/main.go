// Wordlists regenerates the word lists that the server embeds: the common
// passwords of internal/passpolicy and the disposable e-mail domains of
// internal/identity. It is a module of its own so that the server does not
// depend on where the lists come from.
//
// Run "go generate ./internal/passpolicy ./internal/identity" in the
// repository's root, or here:
//
//	go run . [-common-passwords FILE] [-disposable-domains FILE]
//
// The lists come from npm packages, which "npm pack" downloads. Their versions
// and digests are constants below. Whoever changes a version also updates the
// README.md and the LICENSES beside the list.
//
// Each list is written with one entry a line, sorted by bytes and without
// duplicates, so that the server can search it where it lies.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
)

const (
	// The digests are the registry's "integrity" of the packages.
	passwordsPackage = "@zxcvbn-ts/language-common@4.1.3"
	passwordsDigest  = "sha512-g2bg4skmlJG9aJqC/nWziZzgYpSe/f3rKeGobrkdFiOrfZVFqqzUgC6BUQWuX54Sua9j0Jxxt+1bf4f/Mal1Kg=="
	domainsPackage   = "disposable-email-domains@1.0.62"
	domainsDigest    = "sha512-LBQvhRw7mznQTPoyZbsmYeNOZt1pN5aCsx4BAU/3siVFuiM9f2oyKzUaB8v1jbxFjE3aYqYiMo63kAL4pHgfWQ=="

	// maxFile bounds each file read from a package, in bytes.
	maxFile = 64 << 20
)

func main() {
	passwords := flag.String("common-passwords", "", "write the common passwords to `FILE`")
	domains := flag.String("disposable-domains", "", "write the disposable e-mail domains to `FILE`")
	flag.Parse()
	if err := run(*passwords, *domains); err != nil {
		fmt.Fprintln(os.Stderr, "wordlists:", err)
		os.Exit(1)
	}
}

func run(passwordFile, domainFile string) error {
	if passwordFile == "" && domainFile == "" {
		return errors.New("nothing to do: name a file to write")
	}
	if passwordFile != "" {
		list, err := commonPasswords()
		if err != nil {
			return fmt.Errorf("common passwords: %w", err)
		}
		if err := write(passwordFile, list); err != nil {
			return err
		}
	}
	if domainFile != "" {
		list, err := disposableDomains()
		if err != nil {
			return fmt.Errorf("disposable domains: %w", err)
		}
		if err := write(domainFile, list); err != nil {
			return err
		}
	}
	return nil
}

// commonPasswords returns the passwords that the npm package lists,
// case-folded.
func commonPasswords() ([]string, error) {
	archive, err := download(passwordsPackage, passwordsDigest)
	if err != nil {
		return nil, err
	}
	list, err := readList(archive, "package/src/passwords.json")
	if err != nil {
		return nil, err
	}
	fold := cases.Fold()
	for i, password := range list {
		list[i] = fold.String(password)
	}
	for _, known := range []string{"password", "passw0rd", "123456", "qwerty"} {
		if !slices.Contains(list, known) {
			return nil, fmt.Errorf("the source lacks %q: has its form changed?", known)
		}
	}
	return list, nil
}

// disposableDomains returns the domains that the npm package lists, both
// alone and with all their sub-domains, in their ASCII form.
func disposableDomains() ([]string, error) {
	archive, err := download(domainsPackage, domainsDigest)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, name := range []string{"package/index.json", "package/wildcard.json"} {
		domains, err := readList(archive, name)
		if err != nil {
			return nil, err
		}
		for _, domain := range domains {
			ascii, err := idna.Lookup.ToASCII(domain)
			if err != nil {
				return nil, fmt.Errorf("domain %q: %w", domain, err)
			}
			list = append(list, ascii)
		}
	}
	return list, nil
}

// download returns the archive of an npm package after checking its digest.
func download(spec, digest string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "wordlists")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	pack := exec.Command("npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", dir, spec)
	pack.Stderr = os.Stderr
	if err := pack.Run(); err != nil {
		return nil, fmt.Errorf("npm pack %s: %w", spec, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("npm pack %s: made %d archives, want one", spec, len(files))
	}
	archive, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	sum := sha512.Sum512(archive)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != digest {
		return nil, fmt.Errorf("npm pack %s: digest is %s, want %s", spec, got, digest)
	}
	return archive, nil
}

// readList returns the strings of a JSON array, which is a file of an archive.
func readList(archive []byte, name string) ([]string, error) {
	text, err := unpack(archive, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var list []string
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return list, nil
}

// unpack returns one file of a compressed tar archive.
func unpack(archive []byte, name string) ([]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	files := tar.NewReader(unzipped)
	for {
		header, err := files.Next()
		if err != nil {
			return nil, err
		}
		if header.Name == name {
			return io.ReadAll(io.LimitReader(files, maxFile))
		}
	}
}

// write sorts a list, drops its duplicates and replaces the file with it.
func write(file string, list []string) error {
	slices.Sort(list)
	list = slices.Compact(list)
	for _, entry := range list {
		if entry == "" || strings.ContainsAny(entry, "\r\n") {
			return fmt.Errorf("%s: %q is not an entry", file, entry)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(list, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %d entries\n", file, len(list))
	return nil
}

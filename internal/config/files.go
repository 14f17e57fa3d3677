package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
)

// fernetKey is the form of a key in the Fernet specification: 32 bytes in
// padded base64.
var fernetKey = regexp.MustCompile(`^[A-Za-z0-9+/_-]{43}=$`)

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, fs.FileMode, *Error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	if info.IsDir() {
		return nil, 0, &Error{Code: CodeUnreadable, Message: path + " is a directory"}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, fileError(path, err)
	}
	if len(data) > maxFile {
		return nil, 0, &Error{Code: CodeUnreadable, Message: fmt.Sprintf("%s has more than %d bytes", path, maxFile)}
	}
	return data, info.Mode(), nil
}

func fileError(path string, err error) *Error {
	e := &Error{Code: CodeUnreadable, Message: path + " can't be read: " + err.Error(), cause: err}
	var pathErr *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Code, e.Message = CodeNotFound, path+" doesn't exist"
	case errors.As(err, &pathErr):
		e.Message = path + " can't be read: " + pathErr.Err.Error()
	}
	return e
}

func joinErrors(errs []*Error) error {
	all := make([]error, len(errs))
	for i, err := range errs {
		all[i] = err
	}
	return errors.Join(all...)
}

// splitErrors undoes joinErrors.
func splitErrors(err error) []*Error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	var errs []*Error
	for _, err := range joined.Unwrap() {
		var e *Error
		if errors.As(err, &e) {
			errs = append(errs, e)
		}
	}
	return errs
}

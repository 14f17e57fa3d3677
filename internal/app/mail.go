package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"authnzerver/internal/config"
	"authnzerver/internal/mail"
)

// mailFolder is where in the base directory the operator's templates are.
const mailFolder = "mail"

// OpenMail returns what sends e-mail, nil when the configuration has no mail
// server, and what makes the messages, with notices for the operator about the
// templates. It opens no connection. trace is told the lines of conversations
// when it is not nil. Errors are [*config.Error].
func OpenMail(cfg *config.Config, trace func(line string)) (*mail.Sender, *mail.Templates, []string, error) {
	folder := filepath.Join(cfg.BaseDir, mailFolder)
	templates, notices, err := mail.LoadTemplates(existing(folder))
	if err != nil {
		return nil, nil, nil, &config.Error{
			Option: "basedir", Code: config.CodeInvalid, Message: "the templates of messages in " + folder + ": " + err.Error(),
		}
	}
	if cfg.EmailServer == "" {
		return nil, templates, notices, nil
	}
	sender, err := mail.New(mail.Options{
		Host: cfg.EmailServer, Port: cfg.EmailPort, User: cfg.EmailUser, Password: cfg.EmailPass, From: cfg.EmailSender,
		HelloName: cfg.FQDN, TLS: mail.TLSMode(cfg.EmailTLS), Trace: trace,
	})
	if err != nil {
		return nil, nil, nil, mailErrors(err)
	}
	return sender, templates, notices, nil
}

// existing returns a folder, nil when there is none of this name.
func existing(folder string) fs.FS {
	_, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return os.DirFS(folder)
}

// mailErrors returns the errors of the options as those of the configuration.
func mailErrors(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err // unreachable: mail.New joins what it found
	}
	var errs []error
	for _, err := range joined.Unwrap() {
		var wrong *mail.OptionError
		if errors.As(err, &wrong) {
			err = &config.Error{Option: wrong.Option, Code: config.CodeInvalid, Message: wrong.Message}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

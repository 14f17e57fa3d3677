package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"authnzerver/internal/config"
)

// secretOptions are those whose values no error may show.
var secretOptions = []string{"authdb", "secret", "piisalt", "limitstore", "emailpass", "webhookurl", "webhooksecret", "tracesurl"}

// FuzzOption gives any value to any option. It is taken, or there is an error that names
// the option and shows no secret.
func FuzzOption(f *testing.F) {
	names := config.Names()
	for i := range names {
		for _, text := range []string{"", "none", "1", "-1", "0.5", "true", "a", "a:1; b:2", "127.0.0.1:1", "http://localhost:1/", "[[basedir]]/x", "m=65536,t=3,p=4", key} {
			f.Add(uint8(i), text)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		name := names[int(which)%len(names)]
		c, _, err := config.Load(config.Source{
			Flags: map[string]string{name: text}, Environ: required, Dir: dir, Home: "/home/someone", User: "someone",
		})
		if err == nil {
			if c == nil {
				t.Error("there is no configuration")
			}
			return
		}
		var wrong *config.Error
		pair := strings.HasPrefix(name, "tlscert") && err != nil && errors.As(err, &wrong) && strings.HasPrefix(wrong.Option, "tlscert") // one needs the other
		if !errors.As(err, &wrong) || wrong.Option != name && !pair {
			t.Errorf("%s=%q: %v", name, text, err)
		}
		if slices.Contains(secretOptions, name) && len(strings.TrimSpace(text)) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the secret: %v", err)
		}
	})
}

//go:build chaos

package main

import (
	"os"
	"strings"
	"time"
)

// now is the time of day of a clock that jumps: the true one and the duration in the file
// that AUTHNZERVER_CLOCK_FILE names, such as -1h. Only the tests build it.
func now() time.Time {
	text, err := os.ReadFile(os.Getenv("AUTHNZERVER_CLOCK_FILE"))
	if err != nil {
		panic(err)
	}
	jump, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		panic(err)
	}
	return time.Now().Round(0).Add(jump)
}

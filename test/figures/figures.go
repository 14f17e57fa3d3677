// Package figures has the results of the scorecard, which programs and tests write in one
// form: a JSON object a line, so that a release can be compared with the one before.
package figures

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/go-json-experiment/json"
)

// A Figure is something that was measured.
type Figure struct {
	// Name says what, and Value how much, in Unit. Target is what it is to be, in words.
	Name   string  `json:"figure"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target string  `json:"target"`
	Pass   bool    `json:"pass"`
	// Control is what the same measurement found where it had to find something.
	Control float64 `json:"control"`
	// Seed is that of what was drawn by lot; 0 when nothing was.
	Seed uint64 `json:"seed"`
	// Commit is what was measured.
	Commit string `json:"commit"`
	Note   string `json:"note,omitzero"`
}

// Commit names the commit of the folder that the process runs in.
func Commit() (string, error) {
	name, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "", fmt.Errorf("find the commit: %w", err)
	}
	return strings.TrimSpace(string(name)), nil
}

// Line returns the figure as a line.
func (f *Figure) Line() (string, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("write down %s: %w", f.Name, err)
	}
	return string(text) + "\n", nil
}

// Append adds the figure to a file, which it makes when there is none.
func (f *Figure) Append(path string) (err error) {
	line, err := f.Line()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write down %s: %w", f.Name, err)
	}
	_, err = file.WriteString(line)
	return errors.Join(err, file.Close())
}

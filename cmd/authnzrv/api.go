package main

import (
	"fmt"

	"authnzerver/docs"
	"authnzerver/internal/wire"
)

// An apiCommand prints the reference of all requests.
type apiCommand struct {
	JSON bool `help:"Print JSON for programs instead of Markdown."`
}

// Run implements the command.
func (c *apiCommand) Run(p *process) error {
	text := docs.API
	if c.JSON {
		text = docs.APIJSON
	}
	_, err := p.stdout.Write(text)
	return err
}

// A keygenCommand prints a new key for the option secret or piisalt.
type keygenCommand struct{}

// Run implements the command.
func (c *keygenCommand) Run(p *process) error {
	_, err := fmt.Fprintln(p.stdout, wire.NewKey())
	return err
}

package main

import (
	"errors"
	"fmt"
	"os"

	"authnzerver/internal/policy"
)

type policyCommand struct {
	Check   policyCheckCommand   `cmd:"" help:"Report every error of a policy file with the place where it is."`
	Explain policyExplainCommand `cmd:"" help:"Say which rule decides a question, and what is missing when the answer is no."`
	Show    policyShowCommand    `cmd:"" help:"Print the built-in policy."`
}

// A policyCheckCommand checks a policy file.
type policyCheckCommand struct {
	File string `arg:"" help:"The policy file."`
}

// Run implements the command.
func (c *policyCheckCommand) Run(p *process) error {
	rules, err := readPolicy(c.File)
	var invalid *policy.InvalidError
	switch {
	case errors.As(err, &invalid):
		for _, problem := range invalid.Problems {
			_, err := fmt.Fprintf(p.stdout, "%s: %s\n", c.File, problem)
			if err != nil {
				return err
			}
		}
		return fmt.Errorf("%s is not a valid policy; mistakes: %d", c.File, len(invalid.Problems))
	case err != nil:
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "%s is a valid policy with %d roles.\n", c.File, len(rules.Roles()))
	return err
}

// A policyExplainCommand answers one question about a policy.
type policyExplainCommand struct {
	File       string `arg:"" optional:"" help:"The policy file; the built-in policy when left out."`
	Role       string `required:"" help:"The role of the user who wants to act."`
	Action     string `required:"" help:"The action, for example view."`
	Item       string `required:"" help:"The kind of item, for example dataset."`
	Visibility string `required:"" help:"The item's visibility: public, unlisted, private or shared."`
	Owner      string `enum:"self,other" default:"other" help:"Whether the user owns the item: self or other."`
	Shared     string `enum:"yes,no" default:"no" help:"Whether the item is shared with the user: yes or no."`
}

// Run implements the command.
func (c *policyExplainCommand) Run(p *process) error {
	rules := policy.Default()
	if c.File != "" {
		var err error
		rules, err = readPolicy(c.File)
		if err != nil {
			return err
		}
	}
	const user, somebodyElse = 1001, 1002
	q := &policy.Question{
		UserID: user, Role: c.Role, Action: c.Action, Item: c.Item, Owner: somebodyElse, Visibility: c.Visibility,
	}
	if c.Owner == "self" {
		q.Owner = user
	}
	if c.Shared == "yes" {
		q.SharedWith = []int64{user}
	}
	_, err := fmt.Fprint(p.stdout, rules.Explain(q).Text())
	return err
}

// A policyShowCommand prints the built-in policy, from which to make an own.
type policyShowCommand struct{}

// Run implements the command.
func (c *policyShowCommand) Run(p *process) error {
	_, err := p.stdout.Write(policy.DefaultJSON())
	return err
}

func readPolicy(path string) (*policy.Policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rules, err := policy.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rules, nil
}

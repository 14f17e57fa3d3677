package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// A manCommand prints the manual page.
type manCommand struct{}

// Run implements the command.
func (c *manCommand) Run(p *process, k *kong.Kong) error {
	_, err := io.WriteString(p.stdout, manual(k.Model))
	return err
}

// roff escapes a text for roff.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "’", "'").Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// manual returns the manual page in the macros of man(7).
func manual(model *kong.Application) string {
	var b strings.Builder
	about, rest, _ := strings.Cut(model.Help, "\n\n")
	b.WriteString(".TH AUTHNZRV 8 \"\" authnzerver \"System administration\"\n.SH NAME\nauthnzrv \\- ")
	b.WriteString(roff(strings.ToLower(about[:1]) + strings.TrimSuffix(about[1:], ".")))
	b.WriteString("\n.SH SYNOPSIS\n.B authnzrv\n.RI [ command ]\n.RI [ flags ]\n.SH DESCRIPTION\n")
	b.WriteString(roff(about) + "\n.PP\n" + roff(rest) + "\n")
	b.WriteString(".SH COMMANDS\n")
	var flags []*kong.Flag
	for _, leaf := range model.Leaves(true) {
		if leaf.Name == "serve" {
			flags = leaf.Flags
		}
	}
	visit(model.Node, nil, func(path []string, node *kong.Node) {
		fmt.Fprintf(&b, ".SS %s\n%s\n", roff(usage(path, node)), roff(node.Help))
		for _, flag := range node.Flags {
			if node.Name != "serve" && !flag.Hidden && !slices.ContainsFunc(flags, func(of *kong.Flag) bool { return of.Name == flag.Name }) {
				writeFlag(&b, flag)
			}
		}
	})
	b.WriteString(".SH OPTIONS OF THE SERVER\nOther commands take those that they need to find the server or its database.\n")
	for _, flag := range flags {
		if !flag.Hidden {
			writeFlag(&b, flag)
		}
	}
	b.WriteString(`.SH FILES
.TP
.I /var/lib/authnzerver/.env
The configuration that set\-up writes: KEY=VALUE lines, with the names in the environment as keys.
.TP
.I /etc/authnzerver/authnzerver.env
What the systemd unit adds to the environment; it wins over the former.
.SH EXIT STATUS
0 when all went well, 1 when it did not, as a message on the standard error says; of
.BR "authnzrv call" ,
1 also when the request failed.
.SH SIGNALS
SIGTERM and SIGINT stop the server after the requests that are under way; a second one at once.
`)
	return b.String()
}

// visit calls do for every command that can be given, with the words that give it.
func visit(node *kong.Node, path []string, do func([]string, *kong.Node)) {
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		words := append(slices.Clone(path), child.Name)
		if child.Leaf() {
			do(words, child)
		}
		visit(child, words, do)
	}
}

// usage returns the words of a command with its arguments.
func usage(path []string, node *kong.Node) string {
	words := append([]string{"authnzrv"}, path...)
	for _, argument := range node.Positional {
		words = append(words, argument.Summary())
	}
	return strings.Join(words, " ")
}

func writeFlag(b *strings.Builder, flag *kong.Flag) {
	name := "--" + flag.Name
	if flag.Short != 0 {
		name = "-" + string(flag.Short) + ", " + name
	}
	fmt.Fprintf(b, ".TP\n\\fB%s\\fR", roff(name))
	if !flag.IsBool() {
		fmt.Fprintf(b, "=\\fI%s\\fR", roff(flag.FormatPlaceHolder()))
	}
	b.WriteString("\n" + roff(flag.Help) + "\n")
}

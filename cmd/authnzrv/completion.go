package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"authnzerver/api"
)

// A completionCommand prints what completes this program's command lines in a shell.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run implements the command.
func (c *completionCommand) Run(p *process, k *kong.Kong) error {
	words := map[string]func(io.Writer, []completion) error{"bash": bash, "zsh": zsh, "fish": fish}
	return words[c.Shell](p.stdout, completions(k.Model))
}

// A completion is what can follow some words of a command line.
type completion struct {
	// path are the words, such as "db move".
	path  string
	words []completionWord
}

// A completionWord is a command, a flag or an argument.
type completionWord struct{ text, help string }

// completions returns what can follow each command. The flags of the server, which is the
// command when none is given, follow the bare name, too.
func completions(model *kong.Application) []completion {
	var all []completion
	var visit func(path []string, node *kong.Node)
	visit = func(path []string, node *kong.Node) {
		c := completion{path: strings.Join(path, " ")}
		for _, child := range node.Children {
			if child.Hidden {
				continue
			}
			c.words = append(c.words, completionWord{child.Name, child.Help})
			visit(append(slices.Clone(path), child.Name), child)
		}
		nodes := []*kong.Node{node}
		if node.DefaultCmd != nil {
			nodes = append(nodes, node.DefaultCmd)
		}
		for _, node := range nodes {
			for _, flag := range node.Flags {
				if !flag.Hidden {
					c.words = append(c.words, completionWord{"--" + flag.Name, flag.Help})
				}
			}
		}
		for _, argument := range node.Positional {
			switch {
			case argument.Enum != "":
				for word := range strings.SplitSeq(argument.Enum, ",") {
					c.words = append(c.words, completionWord{word, argument.Help})
				}
			case argument.Name == "request":
				for _, spec := range api.All() {
					c.words = append(c.words, completionWord{spec.Name, "Send this request."})
				}
			}
		}
		all = append(all, c)
	}
	visit(nil, model.Node)
	slices.SortFunc(all, func(a, b completion) int { return cmp.Compare(a.path, b.path) })
	return all
}

// quoteShell quotes a text for a shell.
func quoteShell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// texts returns the words alone, in one line.
func (c *completion) texts() string {
	texts := make([]string, len(c.words))
	for i, word := range c.words {
		texts[i] = word.text
	}
	return strings.Join(texts, " ")
}

// bash prints a script for Bash, to be put into the folder bash-completion/completions.
func bash(out io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString(`# Completes command lines of authnzrv in Bash.

_authnzrv() {
	local path='' word words='' i
	local current=${COMP_WORDS[COMP_CWORD]}
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case "${path:+$path }$word" in
`)
	for _, c := range all {
		if c.path != "" {
			fmt.Fprintf(&b, "		%s) path=%s ;;\n", quoteShell(c.path), quoteShell(c.path))
		}
	}
	b.WriteString("		esac\n	done\n	case $path in\n")
	for _, c := range all {
		fmt.Fprintf(&b, "	%s) words=%s ;;\n", quoteShell(c.path), quoteShell(c.texts()))
	}
	b.WriteString(`	esac
	COMPREPLY=($(compgen -W "$words" -- "$current"))
	if [[ ${#COMPREPLY[@]} -eq 0 ]]; then
		compopt -o default
	fi
}
complete -F _authnzrv authnzrv
`)
	_, err := io.WriteString(out, b.String())
	return err
}

// zsh prints a function for Zsh, to be put as _authnzrv into a folder of $fpath.
func zsh(out io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString(`#compdef authnzrv
# Completes command lines of authnzrv in Zsh.

_authnzrv() {
	local path='' word
	local -a described
	for word in "${(@)words[2,CURRENT-1]}"; do
		case "${path:+$path }$word" in
`)
	b.WriteString("		(")
	first := true
	for _, c := range all {
		if c.path == "" {
			continue
		}
		if !first {
			b.WriteString("|")
		}
		first = false
		b.WriteString(quoteShell(c.path))
	}
	b.WriteString(") path=\"${path:+$path }$word\" ;;\n		esac\n	done\n	case $path in\n")
	for _, c := range all {
		fmt.Fprintf(&b, "	%s) described=(", quoteShell(c.path))
		for _, word := range c.words {
			b.WriteString("\n		" + quoteShell(word.text+":"+word.help))
		}
		b.WriteString(") ;;\n")
	}
	b.WriteString(`	esac
	_describe -o 'authnzrv' described || _files
}

_authnzrv "$@"
`)
	_, err := io.WriteString(out, b.String())
	return err
}

// fish prints commands for Fish, to be put as authnzrv.fish into a folder of
// $fish_complete_path.
func fish(out io.Writer, all []completion) error {
	var b strings.Builder
	b.WriteString(`# Completes command lines of authnzrv in Fish.

function __authnzrv_path
	set -l path ''
	for word in (commandline -opc)[2..-1]
		switch (string trim "$path $word")
`)
	for _, c := range all {
		if c.path != "" {
			fmt.Fprintf(&b, "			case %s\n				set path %s\n", quoteFish(c.path), quoteFish(c.path))
		}
	}
	b.WriteString(`		end
	end
	test "$path" = "$argv"
end

`)
	for _, c := range all {
		for _, word := range c.words {
			condition := "-n " + quoteFish("__authnzrv_path "+quoteFish(c.path))
			if flag, ok := strings.CutPrefix(word.text, "--"); ok {
				fmt.Fprintf(&b, "complete -c authnzrv %s -l %s -d %s\n", condition, flag, quoteFish(word.help))
			} else {
				fmt.Fprintf(&b, "complete -c authnzrv %s -f -a %s -d %s\n", condition, word.text, quoteFish(word.help))
			}
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// quoteFish quotes a text for Fish.
func quoteFish(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

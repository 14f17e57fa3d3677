package config

import (
	"fmt"
	"reflect"
	"strings"
)

// defaultText shows an option's default to a reader.
func (o *option) defaultText() string {
	if o.def == loginName {
		return "the login name"
	}
	return o.def
}

// Reference returns the options as Markdown, one table for each group.
func Reference() string {
	var b strings.Builder
	heading := group("")
	var without []string
	for _, o := range options() {
		if o.ignored() {
			without = append(without, "`--"+o.name+"`")
			continue
		}
		if o.group != heading {
			if heading != "" {
				b.WriteString("\n")
			}
			heading = o.group
			fmt.Fprintf(&b, "### %s\n\n", heading)
			b.WriteString("| Option | Environment | Default | Values | Meaning |\n|---|---|---|---|---|\n")
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s | %s |\n", o.name, o.envCell(), o.defaultCell(), cell(o.kind.values), cell(o.help))
	}
	fmt.Fprintf(&b, "\nThese flags of the Python server are taken and ignored, with a notice: %s.\n", strings.Join(without, ", "))
	return b.String()
}

func (o *option) envCell() string {
	if len(o.env) == 0 {
		return "—"
	}
	text := "`" + strings.Join(o.env, "`, else `") + "`"
	if o.outdated != "" {
		text += ", once `" + o.outdated + "`"
	}
	return text
}

func (o *option) defaultCell() string {
	switch {
	case o.required:
		return "required"
	case o.def == "":
		return "—"
	case o.def == loginName:
		return o.defaultText()
	default:
		return "`" + cell(o.def) + "`"
	}
}

// SourcesReference returns the members of a confvars file as Markdown.
func SourcesReference() string {
	var b strings.Builder
	b.WriteString("Each entry has the name of an option. Its members, all of which may be absent:\n\n")
	members(&b, reflect.TypeFor[Entry]())
	b.WriteString("\nMembers of `http`:\n\n")
	members(&b, reflect.TypeFor[Request]())
	b.WriteString("\nIn `file` and in every string of `http`, `[[basedir]]` and `[[homedir]]` stand for the directories, " +
		"and `[[NAME]]` for the variable NAME of the environment or the envfile, which must have a value.\n")
	return b.String()
}

// members writes the fields of a struct of a confvars file as a table.
func members(b *strings.Builder, typ reflect.Type) {
	b.WriteString("| Member | Meaning |\n|---|---|\n")
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fmt.Fprintf(b, "| `%s` | %s |\n", name, cell(field.Tag.Get("help")))
	}
}

// cell writes text into a table's cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

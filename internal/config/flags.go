package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Flags are the options as flags of one command. A command embeds
// kong.Plugins, which is set from Plugins before kong parses the command
// line.
type Flags struct {
	names  []string
	target reflect.Value // pointer to a struct with one field for each name
}

// NewFlags returns flags for the options with the given names, or for all of
// them. It panics if there is no such option.
func NewFlags(names ...string) *Flags {
	if len(names) == 0 {
		for _, o := range options() {
			names = append(names, o.name)
		}
	}
	fields := make([]reflect.StructField, len(names))
	for i, name := range names {
		o, known := lookup(name)
		if !known {
			panic("config: there is no option " + name)
		}
		fields[i] = o.field()
	}
	return &Flags{names: names, target: reflect.New(reflect.StructOf(fields))}
}

// Plugins returns the flags in the form that kong embeds in a command.
func (f *Flags) Plugins() kong.Plugins { return kong.Plugins{f.target.Interface()} }

// Given returns the text of every flag that the command line gave, by option
// name.
func (f *Flags) Given() map[string]string {
	given := map[string]string{}
	for i, name := range f.names {
		switch value := f.target.Elem().Field(i).Interface().(type) {
		case *textFlag:
			if value != nil {
				given[name] = string(*value)
			}
		case *switchFlag:
			if value != nil {
				given[name] = string(*value)
			}
		}
	}
	return given
}

// field describes the option to kong. Its value is a nil pointer until the
// flag is given.
func (o *option) field() reflect.StructField {
	typ := reflect.TypeFor[*textFlag]()
	if o.kind.bare {
		typ = reflect.TypeFor[*switchFlag]()
	}
	tags := []string{tag("name", o.name), tag("help", o.flagHelp()), tag("placeholder", o.kind.placeholder)}
	if o.ignored() {
		tags = append(tags, tag("hidden", ""))
	} else {
		tags = append(tags, tag("group", string(o.group)))
	}
	return reflect.StructField{
		Name: "Flag_" + strings.ReplaceAll(o.name, "-", "_"),
		Type: typ,
		Tag:  reflect.StructTag(strings.Join(tags, " ")),
	}
}

func tag(key, value string) string { return key + ":" + strconv.Quote(value) }

func (o *option) flagHelp() string {
	help := o.help
	if o.def != "" {
		help += " Default: " + o.defaultText() + "."
	}
	if !o.bootstrap() {
		help += " Environment: " + strings.Join(o.env, ", ") + "."
	}
	return help
}

// A textFlag is the text of a flag that needs a value.
type textFlag string

// Decode takes the flag's value from the command line.
func (f *textFlag) Decode(ctx *kong.DecodeContext) error {
	token, err := ctx.Scan.PopValue("text")
	if err != nil {
		return fmt.Errorf("the option needs a value: %w", err)
	}
	*f = textFlag(token.String())
	return nil
}

// A switchFlag is the text of a flag that means true without a value.
type switchFlag string

// Decode takes the flag's value, if it has one, from the command line.
func (f *switchFlag) Decode(ctx *kong.DecodeContext) error {
	*f = "true"
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		*f = switchFlag(ctx.Scan.Pop().String())
	}
	return nil
}

// IsBool tells kong that the flag needs no value.
func (f *switchFlag) IsBool() bool { return true }

// Normalize rewrites the forms of flags that the Python server takes besides
// the usual ones: one dash instead of two, and underscores in names. Only
// names of options are touched, and nothing after "--".
func Normalize(args []string) []string {
	known := map[string]bool{"help": true}
	for _, o := range options() {
		known[o.name] = true
	}
	normal := make([]string, len(args))
	copy(normal, args)
	for i, arg := range normal {
		if arg == "--" {
			break
		}
		name, value, hasValue := strings.Cut(arg, "=")
		bare := strings.TrimPrefix(strings.TrimPrefix(name, "-"), "-")
		canonical := strings.ReplaceAll(bare, "_", "-")
		if bare == name || !known[canonical] {
			continue
		}
		normal[i] = "--" + canonical
		if hasValue {
			normal[i] += "=" + value
		}
	}
	return normal
}

package config

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Variable is a line of an envfile, with the lines that continue it.
type Variable struct {
	Value string
	// Line is the number of its first line, counted from 1.
	Line int
}

const (
	// maxFile is the largest file, and the largest answer of a URL, that is
	// read as configuration, in bytes.
	maxFile = 1 << 20
	// maxValue is the largest value after expansion, in bytes. Names may
	// stand for names, so that a short file could make a huge value.
	maxValue = 64 << 10
)

// variableName is the form of a variable's name; POSIX.1-2024 §8.1 has no
// dots and dashes, but the Python server's files may.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// ParseEnvfile reads the text of an envfile. The result has the names in
// upper case; letter case doesn't matter in the file. The path is used in
// errors and notices only.
//
// A line is NAME=VALUE or NAME: VALUE, the first of the two signs counts, and
// white space around both parts is dropped. The word export may stand before
// the name. One pair of equal quotes around the value is dropped. Lines that
// begin with # or ; are comments; after a value there are none. An indented
// line adds a line to the value above it. %(NAME)s stands for the value of
// another name of the file, %% for a per cent sign, and any other per cent
// sign for itself. The last of several lines with one name counts. Lines of
// the form [section] are skipped.
func ParseEnvfile(path string, data []byte) (map[string]Variable, []Notice, error) {
	p := envfileParser{path: path, variables: map[string]Variable{}, state: map[string]expansion{}}
	p.parse(data)
	names := slices.SortedFunc(maps.Keys(p.variables), func(a, b string) int {
		return cmp.Compare(p.variables[a].Line, p.variables[b].Line)
	})
	for _, name := range names {
		p.expand(name)
	}
	return p.variables, p.notices, joinErrors(p.errs)
}

type envfileParser struct {
	path      string
	variables map[string]Variable
	state     map[string]expansion
	notices   []Notice
	errs      []*Error
}

// An expansion is how far the expansion of a variable has come.
type expansion int

const (
	untouched expansion = iota
	running
	finished
)

func (p *envfileParser) origin(line int) string { return p.path + ":" + strconv.Itoa(line) }

func (p *envfileParser) fail(line int, message string) {
	p.errs = append(p.errs, &Error{Origin: p.origin(line), Code: CodeSyntax, Message: message})
}

func (p *envfileParser) note(line int, message string) {
	p.notices = append(p.notices, Notice{Origin: p.origin(line), Message: message})
}

func (p *envfileParser) parse(data []byte) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	name := "" // of the value that an indented line continues
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.ContainsRune(line, 0):
			p.fail(number, "the line holds a NUL byte")
			name = ""
		case trimmed == "":
			name = ""
		case trimmed[0] == '#' || trimmed[0] == ';':
		case name != "" && (line[0] == ' ' || line[0] == '\t'):
			p.continueValue(name, trimmed, number)
		case trimmed[0] == '[' && trimmed[len(trimmed)-1] == ']':
			p.note(number, "the section line is ignored; names below it count as any others")
			name = ""
		default:
			name = p.assign(trimmed, number)
		}
	}
	for name, variable := range p.variables {
		variable.Value = unquote(variable.Value)
		p.variables[name] = variable
	}
}

// assign takes a line with a name and returns the name.
func (p *envfileParser) assign(line string, number int) string {
	rest, exported := strings.CutPrefix(line, "export")
	if exported && rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
		line = strings.TrimSpace(rest)
	}
	end := strings.IndexAny(line, "=:")
	if end < 0 {
		p.fail(number, "the line is not of the form NAME=VALUE")
		return ""
	}
	name := strings.TrimSpace(line[:end])
	if !variableName.MatchString(name) {
		p.fail(number, "what stands before the first = or : is not a name")
		return ""
	}
	name = strings.ToUpper(name)
	if earlier, twice := p.variables[name]; twice {
		p.note(number, fmt.Sprintf("%s stands in line %d too; the last one counts", name, earlier.Line))
	}
	p.variables[name] = Variable{Value: strings.TrimSpace(line[end+1:]), Line: number}
	return name
}

func (p *envfileParser) continueValue(name, line string, number int) {
	variable := p.variables[name]
	variable.Value += "\n" + line
	p.variables[name] = variable
	if strings.HasPrefix(line, envPrefix) {
		p.note(number, "the indented line belongs to the value of "+name+"; without the indent it would be a line of its own")
	}
}

// expand replaces the names in a variable's value by their values. Each
// variable is expanded once, so that the work is bounded by the size of the
// file and the largest value.
func (p *envfileParser) expand(name string) {
	variable := p.variables[name]
	p.state[name] = running
	var b strings.Builder
	rest := variable.Value
	for found := true; found; {
		var before string
		before, rest, found = strings.Cut(rest, "%")
		b.WriteString(before)
		if found {
			rest = p.expandOne(&b, rest, variable.Line)
		}
		if b.Len() > maxValue {
			p.fail(variable.Line, fmt.Sprintf("the value of %s has more than %d bytes", name, maxValue))
			break
		}
	}
	variable.Value = b.String()
	p.variables[name] = variable
	p.state[name] = finished
}

// expandOne writes what a per cent sign stands for that the given text
// follows, and returns what is left of the text.
func (p *envfileParser) expandOne(b *strings.Builder, text string, line int) string {
	if rest, double := strings.CutPrefix(text, "%"); double {
		b.WriteByte('%')
		return rest
	}
	name, rest, ok := reference(text)
	if _, known := p.variables[name]; !ok || !known {
		b.WriteByte('%')
		return text
	}
	switch p.state[name] {
	case running:
		p.fail(line, "the value stands for itself by way of "+name)
		return rest
	case untouched:
		p.expand(name)
	case finished:
	}
	b.WriteString(p.variables[name].Value)
	return rest
}

// reference splits what follows a per cent sign into the name in parentheses
// and the rest.
func reference(text string) (name, rest string, ok bool) {
	text, open := strings.CutPrefix(text, "(")
	name, rest, closed := strings.Cut(text, ")s")
	return strings.ToUpper(name), rest, open && closed
}

// Keepable returns those of the given flags that an envfile can hold. What
// others read from a file of its own, secret and piisalt, is not among them.
func Keepable(given map[string]string) map[string]string {
	kept := map[string]string{}
	for name, value := range given {
		o, known := lookup(name)
		if known && !o.bootstrap() && !o.ignored() && !o.fromFile && !blank(value) {
			kept[name] = value
		}
	}
	return kept
}

// WriteEnvfile writes an envfile with the given values, by option name. The
// other options stand in it as comments with their defaults. What it writes
// is read back as it was given.
//
// It refuses values that don't fit on a line, options that only the command
// line can give, and a secret or a salt that isn't the path of a file: an
// envfile is copied and shown too easily.
func WriteEnvfile(w io.Writer, values map[string]string) error {
	var errs []*Error
	for name, value := range values {
		if message := refuseValue(name, value); message != "" {
			errs = append(errs, invalid(message).at(name, ""))
		}
	}
	if len(errs) > 0 {
		return joinErrors(errs)
	}
	b := bufio.NewWriter(w)
	heading := group("")
	for _, o := range options() {
		if o.bootstrap() {
			continue
		}
		if o.group != heading {
			if heading != "" {
				fmt.Fprintln(b)
			}
			heading = o.group
			fmt.Fprintf(b, "# ---- %s\n", heading)
		}
		fmt.Fprintf(b, "\n# %s\n", o.help)
		if value, given := values[o.name]; given {
			fmt.Fprintf(b, "%s=%s\n", o.env[0], envfileValue(value))
		} else {
			fmt.Fprintf(b, "#%s=%s\n", o.env[0], o.def)
		}
	}
	return b.Flush()
}

// refuseValue says why a value can't be written, or nothing.
func refuseValue(name, value string) string {
	o, known := lookup(name)
	switch {
	case !known:
		return "there is no such option"
	case o.bootstrap():
		return "only the command line can give it"
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return "the value holds control characters; put it in a file"
	case len(value) > maxValue:
		return fmt.Sprintf("the value has more than %d bytes", maxValue)
	case o.fromFile && value != "" && !looksLikePath(value):
		return "the value isn't the path of a file"
	default:
		return ""
	}
}

// envfileValue writes a value so that ParseEnvfile reads it back. It changes
// as little as possible, since other programs read such files too and know no
// quotes (Docker) or no doubled per cent signs (systemd).
func envfileValue(value string) string {
	if value != strings.TrimSpace(value) || value != unquote(value) {
		value = `"` + value + `"`
	}
	if strings.Contains(value, "%%") || strings.Contains(value, "%(") {
		value = strings.ReplaceAll(value, "%", "%%")
	}
	return value
}

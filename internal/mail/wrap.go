package mail

import (
	"slices"
	"strings"
	"unicode"
)

// wrapWidth is the most characters of a line of a wrapped token.
const wrapWidth = 70

// Wrap breaks a token without white space into lines of at most 70 characters,
// as the Python server does with its textwrap module: preferably after a hyphen
// that stands between letters, else anywhere. Joining the lines gives the
// token; an empty token has none.
func Wrap(token string) []string {
	chunks := chunksOf([]rune(token))
	var lines []string
	for len(chunks) > 0 {
		var line []rune
		for len(chunks) > 0 && len(line)+len(chunks[0]) <= wrapWidth {
			line = append(line, chunks[0]...)
			chunks = chunks[1:]
		}
		if len(chunks) > 0 && len(chunks[0]) > wrapWidth {
			n := breakOf(chunks[0], wrapWidth-len(line))
			line = append(line, chunks[0][:n]...)
			chunks[0] = chunks[0][n:]
		}
		lines = append(lines, string(line))
	}
	return lines
}

// breakOf returns where to break a chunk that is longer than a line, so that
// the part before fits into a space: after the last hyphen there when something
// else stands before that.
func breakOf(chunk []rune, space int) int {
	for i := space - 1; i > 0; i-- {
		if chunk[i] != '-' {
			continue
		}
		if slices.ContainsFunc(chunk[:i], func(r rune) bool { return r != '-' }) {
			return i + 1
		}
		break
	}
	return space
}

// chunksOf cuts a token where a line may end: after a hyphen between letters,
// and on either side of two or more dashes between words. These are the rules
// of textwrap's wordsep_re. The time is linear in the length.
func chunksOf(token []rune) [][]rune {
	var chunks [][]rune
	start := 0
	cut := func(end int) {
		if start < end {
			chunks = append(chunks, token[start:end])
			start = end
		}
	}
	for i := 0; i < len(token); {
		n := dashes(token[i:])
		switch {
		case n == 0:
			i++
			continue
		case n == 1 && isHyphen(token, i):
			cut(i + 1)
		case n > 1 && isEmDash(token, i, n):
			cut(i)
			cut(i + n)
		}
		i += n
	}
	cut(len(token))
	return chunks
}

// dashes returns how many dashes a text begins with.
func dashes(text []rune) int {
	n := slices.IndexFunc(text, func(r rune) bool { return r != '-' })
	if n < 0 {
		return len(text)
	}
	return n
}

// isHyphen reports whether the dash token[i] joins two words: two letters, or
// two that have a hyphen between them, stand on either side.
func isHyphen(token []rune, i int) bool {
	letter := func(i int) bool { return i >= 0 && i < len(token) && isLetter(token[i]) }
	hyphen := func(i int) bool { return i >= 0 && i < len(token) && token[i] == '-' }
	return letter(i-1) && (letter(i-2) || hyphen(i-2) && letter(i-3)) &&
		letter(i+1) && (letter(i+2) || hyphen(i+2) && letter(i+3))
}

// isEmDash reports whether the n dashes from token[i] on stand between words.
func isEmDash(token []rune, i, n int) bool {
	return i > 0 && i+n < len(token) && isWord(token[i+n]) &&
		(isWord(token[i-1]) || strings.ContainsRune("!\"'&.,?", token[i-1]))
}

// isLetter is Python's [^\d\W], isWord its \w.
func isLetter(r rune) bool { return r == '_' || unicode.IsLetter(r) }

func isWord(r rune) bool { return isLetter(r) || unicode.IsNumber(r) }

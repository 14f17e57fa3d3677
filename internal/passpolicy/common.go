package passpolicy

import (
	_ "embed"
	"strings"
)

//go:generate go run -C ../../tools/wordlists . -common-passwords ../../internal/passpolicy/data/common-passwords.txt

// commonPasswords holds case-folded passwords, one a line, sorted by bytes. It
// is searched in the program's own image and takes no heap.
//
//go:embed data/common-passwords.txt
var commonPasswords string

// listed reports whether word is a line of list. The lines are sorted by bytes
// and each ends in a line feed.
func listed(list, word string) bool {
	low, high := 0, len(list) // where lines start, or the end
	for low < high {
		middle := low + (high-low)/2
		start := low + strings.LastIndexByte(list[low:middle], '\n') + 1
		length := strings.IndexByte(list[start:], '\n')
		line := list[start : start+length]
		switch strings.Compare(line, word) {
		case 0:
			return true
		case -1:
			low = start + length + 1
		default:
			high = start
		}
	}
	return false
}

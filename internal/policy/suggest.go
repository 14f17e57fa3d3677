package policy

import (
	"fmt"
	"strings"
)

// suggestion returns the end of a sentence about an unknown name: a question
// that holds the known name that is most like it, or nothing.
func suggestion(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// nearest returns the known name that the fewest slips of the keyboard turn
// into name, letter case aside. More than one slip in three characters, or
// more than three at all, make another name: then it returns "".
func nearest(name string, known []string) string {
	from := []rune(strings.ToLower(name))
	if len(from) > maxName {
		return ""
	}
	best, fewest := "", min(max(len(from)/3, 1), 3)+1
	for _, candidate := range known {
		if d := slips([]rune(strings.ToLower(candidate)), from, fewest); d < fewest {
			best, fewest = candidate, d
		}
	}
	return best
}

// slips returns the optimal string alignment distance: how many characters
// must be added, left out, changed or swapped with their neighbour to turn a
// into b. It gives up at limit, which it returns then.
func slips(a, b []rune, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}

package passpolicy

import "slices"

// Similarity returns how much a password resembles a target, in percent from
// 0 to 100, by the method of Ratcliff and Obershelp: the share of characters
// that lie in common blocks. It is not symmetric. Two empty texts are 100 %
// similar. The caller prepares the texts; Similarity compares them as they
// are.
//
// The results equal those of ratio in Python's difflib, times 100, including
// its rule for targets of 200 characters or more.
//
// The work is bounded: with p characters in the password and t in the target,
// it looks at p·t²/2 pairs of characters at most when t is less than 200, and
// at p·min(p,t)·(t/100+1) otherwise. These are 20 and 12 million pairs for a
// password of 1,024 characters and a target of 199 or 1,024.
func Similarity(password, target string) float64 {
	return similarity([]rune(password), []rune(target))
}

func similarity(a, b []rune) float64 {
	total := len(a) + len(b)
	if total == 0 {
		return 100
	}
	return 2.0 * float64(matched(a, b)) / float64(total) * 100.0
}

// A block is a run of size equal characters, at a in the one text and at b in
// the other.
type block struct{ a, b, size int }

// A region is a part of each of the two texts. The upper ends are excluded.
type region struct{ aLow, aHigh, bLow, bHigh int }

// matched returns the number of characters in common blocks: those of the
// longest block, plus those found in the same way on either side of it.
func matched(a, b []rune) int {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	m := newMatcher(a, b)
	sum := 0
	rest := []region{{0, len(a), 0, len(b)}}
	for len(rest) > 0 {
		r := rest[len(rest)-1]
		rest = rest[:len(rest)-1]
		found := m.longest(r)
		if found.size == 0 {
			continue
		}
		sum += found.size
		if r.aLow < found.a && r.bLow < found.b {
			rest = append(rest, region{r.aLow, found.a, r.bLow, found.b})
		}
		aEnd, bEnd := found.a+found.size, found.b+found.size
		if aEnd < r.aHigh && bEnd < r.bHigh {
			rest = append(rest, region{aEnd, r.aHigh, bEnd, r.bHigh})
		}
	}
	return sum
}

// A matcher finds common blocks of two texts.
type matcher struct {
	a, b []rune
	// where holds, for each index of a, the ascending indices of its
	// character in b, none when the character is popular.
	where [][]int
	// previous and current hold, for two consecutive indices of a, the size
	// of the common block that ends there and just before each index of b.
	// They are all zero between searches.
	previous, current []int
}

// longTarget is the length from which on difflib takes frequent characters of
// the target for too popular to begin a block with.
const longTarget = 200

func newMatcher(a, b []rune) *matcher {
	positions := make(map[rune][]int)
	for j, r := range b {
		positions[r] = append(positions[r], j)
	}
	if len(b) >= longTarget {
		for r, js := range positions {
			if len(js) > len(b)/100+1 {
				delete(positions, r)
			}
		}
	}
	m := &matcher{
		a: a, b: b,
		where:    make([][]int, len(a)),
		previous: make([]int, len(b)+1),
		current:  make([]int, len(b)+1),
	}
	for i, r := range a {
		m.where[i] = positions[r]
	}
	return m
}

// longest returns the longest common block in a region that is empty in
// neither text, the earliest in a and then in b among equally long ones.
func (m *matcher) longest(r region) block {
	best := block{r.aLow, r.bLow, 0}
	for i := r.aLow; i < r.aHigh; i++ {
		for _, j := range m.within(r, i) {
			size := m.previous[j] + 1
			m.current[j+1] = size
			if size > best.size {
				best = block{i - size + 1, j - size + 1, size}
			}
		}
		if i > r.aLow {
			m.clear(r, i-1)
		}
		m.previous, m.current = m.current, m.previous
	}
	m.clear(r, r.aHigh-1)

	// Popular characters begin no block but may extend one.
	for best.a > r.aLow && best.b > r.bLow && m.a[best.a-1] == m.b[best.b-1] {
		best = block{best.a - 1, best.b - 1, best.size + 1}
	}
	for best.a+best.size < r.aHigh && best.b+best.size < r.bHigh && m.a[best.a+best.size] == m.b[best.b+best.size] {
		best.size++
	}
	return best
}

// within returns the part of where[i] that lies in a region.
func (m *matcher) within(r region, i int) []int {
	js := m.where[i]
	low, _ := slices.BinarySearch(js, r.bLow)
	high, _ := slices.BinarySearch(js, r.bHigh)
	return js[low:high]
}

// clear resets what index i of a has left in previous.
func (m *matcher) clear(r region, i int) {
	for _, j := range m.within(r, i) {
		m.previous[j+1] = 0
	}
}

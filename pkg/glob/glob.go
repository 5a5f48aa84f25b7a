// Package glob matches object keys against patterns, and tells whether two
// sets of patterns have a key in common. The configuration needs the second to
// refuse two sources of the same object, the fetcher's intake the first to find
// the one source of an object.
//
//   - any characters but '/'
//     **   any characters; **/ at the start of a folder also none, so that a/**/b
//     matches a/b as well as a/x/y/b
//     ?    one character but '/'
//
// Every other character stands for itself; one after a backslash does, too.
package glob

import (
	"errors"
	"slices"
	"strings"
)

// kind of what one step of a pattern takes.
type kind uint8

const (
	literal kind = iota // its own character, once
	one                 // any but '/', once
	some                // any but '/', any number of times
	all                 // any, any number of times
)

type step struct {
	kind kind
	char rune
	// folders: all that begins a folder and is followed by a slash. Both together
	// may take nothing.
	folders bool
}

// Pattern is a compiled pattern. The zero one matches the empty text only.
type Pattern struct{ steps []step }

// Compile reads a pattern.
func Compile(text string) (Pattern, error) {
	var p Pattern
	escaped := false
	for _, char := range text {
		last := len(p.steps) - 1
		switch {
		case escaped:
			p.steps, escaped = append(p.steps, step{kind: literal, char: char}), false
		case char == '\\':
			escaped = true
		case char == '*' && last >= 0 && p.steps[last].kind == some:
			p.steps[last].kind = all
		case char == '*' && last >= 0 && p.steps[last].kind == all:
			// ** and more are the same
		case char == '*':
			p.steps = append(p.steps, step{kind: some})
		case char == '?':
			p.steps = append(p.steps, step{kind: one})
		default:
			if char == '/' && last >= 0 && p.steps[last].kind == all && (last == 0 || p.steps[last-1].isSlash()) {
				p.steps[last].folders = true
			}
			p.steps = append(p.steps, step{kind: literal, char: char})
		}
	}
	if escaped {
		return p, errors.New("ends in a backslash, which says nothing of what follows")
	}
	return p, nil
}

// Prefix matches what begins with the text.
func Prefix(text string) Pattern { return Pattern{append(literals(text), step{kind: all})} }

// Suffix matches what ends with the text.
func Suffix(text string) Pattern { return Pattern{append([]step{{kind: all}}, literals(text)...)} }

func literals(text string) []step {
	steps := make([]step, 0, len(text)+1)
	for _, char := range text {
		steps = append(steps, step{kind: literal, char: char})
	}
	return steps
}

// takes tells whether the step can take the character.
func (s step) takes(char rune) bool {
	switch s.kind {
	case literal:
		return s.char == char
	case all:
		return true
	default:
		return char != '/'
	}
}

func (s step) isSlash() bool { return s.kind == literal && s.char == '/' }

func (s step) repeats() bool { return s.kind == some || s.kind == all }

// Match tells whether the pattern matches the whole text. Its time is at most
// that of the two lengths multiplied.
func (p Pattern) Match(text string) bool {
	state := p.begin()
	for _, char := range text {
		if state = p.after(state, char); len(state) == 0 {
			return false
		}
	}
	return p.accepts(state)
}

// A state is the set of steps, in ascending order, that may take the next
// character; len(steps) among them is the end of the pattern.
type state []int

func (p Pattern) begin() state { return p.closure(nil, 0) }

// closure adds a position, and those behind steps that may take nothing.
func (p Pattern) closure(s state, at int) state {
	for {
		s = s.with(at)
		if at == len(p.steps) || !p.steps[at].repeats() {
			return s
		}
		if p.steps[at].folders {
			s = p.closure(s, at+2)
		}
		at++
	}
}

func (s state) with(at int) state {
	if i, found := slices.BinarySearch(s, at); !found {
		s = slices.Insert(s, i, at)
	}
	return s
}

func (p Pattern) after(s state, char rune) state {
	var next state
	for _, at := range s {
		switch {
		case at == len(p.steps) || !p.steps[at].takes(char):
		case p.steps[at].repeats():
			// What has taken something is no longer none with the slash behind it.
			next = p.closure(next.with(at), at+1)
		default:
			next = p.closure(next, at+1)
		}
	}
	return next
}

func (p Pattern) accepts(s state) bool { return len(s) > 0 && s[len(s)-1] == len(p.steps) }

// mostStates bounds the search of Overlap.
const mostStates = 50_000

// ErrTooComplex is the answer of Overlap when it can't tell.
var ErrTooComplex = errors.New("the patterns are too complex to compare")

// Overlap gives a text that every pattern matches, if there is one.
func Overlap(patterns ...Pattern) (example string, found bool, err error) {
	type place struct {
		states []state
		text   []rune
	}
	start := place{states: make([]state, len(patterns))}
	for i, p := range patterns {
		start.states[i] = p.begin()
	}
	seen := map[string]bool{name(start.states): true}
	alphabet := alphabetOf(patterns)
	// Breadth first, so that the example is a shortest one.
	for places := []place{start}; len(places) > 0; places = places[1:] {
		here := places[0]
		accepted := true
		for i, p := range patterns {
			accepted = accepted && p.accepts(here.states[i])
		}
		if accepted && len(here.text) > 0 { // no key is empty
			return string(here.text), true, nil
		}
		for _, char := range alphabet {
			next := place{states: make([]state, len(patterns))}
			possible := true
			for i, p := range patterns {
				next.states[i] = p.after(here.states[i], char)
				possible = possible && len(next.states[i]) > 0
			}
			// Where the start is left and come to again is not the same as the start:
			// the text is not empty then.
			known := name(next.states)
			if !possible || seen[known] && !(accepted && len(here.text) == 0) {
				continue
			}
			if len(seen) >= mostStates {
				return "", false, ErrTooComplex
			}
			seen[known] = true
			next.text = append(slices.Clone(here.text), char)
			places = append(places, next)
		}
	}
	return "", false, nil
}

func name(states []state) string {
	var text strings.Builder
	for _, s := range states {
		for _, at := range s {
			text.WriteRune(rune(at))
		}
		text.WriteRune(-1) // becomes U+FFFD, which is no position of a key's pattern
	}
	return text.String()
}

// alphabetOf is what texts have to be made of to tell the patterns apart: their
// characters, '/', and one that stands for all others.
func alphabetOf(patterns []Pattern) []rune {
	others := []rune("x0yzwv_")
	alphabet := []rune{'/'}
	for _, p := range patterns {
		for _, s := range p.steps {
			if s.kind == literal && !slices.Contains(alphabet, s.char) {
				alphabet = append(alphabet, s.char)
			}
		}
	}
	for other := rune('a'); ; other++ {
		if len(others) > 0 {
			other, others = others[0], others[1:]
		}
		if !slices.Contains(alphabet, other) {
			return append([]rune{other}, alphabet...)
		}
	}
}

// Package digits writes counts as all commands show them to people: with a comma
// at every thousand. Offsets, lines and what else is put into another command
// are written as they are.
package digits

import "fmt"

// Count is a number of something.
type Count interface{ int | int64 | uint64 }

// Group writes a count.
func Group[C Count](n C) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Of writes a count with what is counted, in the plural where it is not one.
func Of[C Count](n C, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return Group(n) + " " + thing
}

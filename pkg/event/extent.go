package event

import "fmt"

// Extent says which of a line's events are meant. It differs from WholeLine
// only where a line is done again for the sake of events that were set aside,
// each of which must get the id that it would have had.
type Extent uint8

const (
	// WholeLine means all events of the line.
	WholeLine Extent = iota
	// OneEvent means the event of a given number, among all of the line.
	OneEvent
	// RestOfLine means the event of a given number and all after it.
	RestOfLine
	// PartOfLine says that the bytes are not the line but what one event was
	// found in, which has a given number.
	PartOfLine
)

var extents = [...]string{"line", "event", "rest", "part"}

// String is the extent as records name it.
func (e Extent) String() string {
	if int(e) < len(extents) {
		return extents[e]
	}
	return fmt.Sprintf("extent %d", uint8(e))
}

// ParseExtent is the inverse of String.
func ParseExtent(text string) (Extent, error) {
	for i, name := range extents {
		if text == name {
			return Extent(i), nil //nolint:gosec // one of a few
		}
	}
	return 0, fmt.Errorf("extent %.20q is not known to this version", text)
}

// Wants says whether the event of a number is meant, when wanted is the one given.
func (e Extent) Wants(number, wanted int) bool {
	switch e {
	case OneEvent:
		return number == wanted
	case RestOfLine:
		return number >= wanted
	case WholeLine, PartOfLine:
	}
	return true
}

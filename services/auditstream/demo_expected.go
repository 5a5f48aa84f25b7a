package main

import (
	"fmt"
	"strings"

	"github.com/auditstream/auditstream/pkg/identity"
)

// outcome is what must become, or has become, of one event of a line.
type outcome uint8

const (
	outcomeSkip    outcome = iota // neither row nor dead letter
	outcomeRow                    // one row
	outcomeDead                   // one dead letter
	outcomeSeveral                // the line holds several events: see expectedObject.several
)

// expectedObject is one object put into the bucket and what must become of its lines.
type expectedObject struct {
	key     string
	lines   []outcome           // of line 1, 2, …; of one that breaks off, of those before that
	several map[int64][]outcome // line → its events
	// unreadable: the object breaks off or can't be decompressed. It ends in a
	// dead letter of its own; the lines before the break may come or not.
	unreadable bool

	seen        []uint8 // of each line, how often something came of it
	seenSeveral map[string]int
	deadLetters int // of the whole object
}

// expected is the set of what must be there in the end, and the tally of what is.
type expected struct {
	objects map[string]*expectedObject // by object id

	events, bad, skips int // over all readable objects
	unreadable         int
	// What comes of unreadable objects before they break off.
	brokenRows, brokenDead int

	rows, deadLetters   int // found
	doubled, unexpected int
	examples            []string // of what is wrong, a few
}

const maxExamples = 10

func newExpected() *expected { return &expected{objects: make(map[string]*expectedObject)} }

// add takes an object in, once its ETag and so its id is known.
func (e *expected) add(id string, object *expectedObject) {
	object.seen = make([]uint8, len(object.lines))
	e.objects[id] = object
	rows, dead, skips := &e.events, &e.bad, &e.skips
	if object.unreadable {
		e.unreadable++
		rows, dead, skips = &e.brokenRows, &e.brokenDead, new(int)
	}
	count := func(o outcome) {
		switch o {
		case outcomeSkip:
			*skips++
		case outcomeRow:
			*rows++
		case outcomeDead:
			*dead++
		case outcomeSeveral:
		}
	}
	for i, o := range object.lines {
		count(o)
		if o == outcomeSeveral {
			for _, each := range object.several[int64(i)+1] {
				count(each)
			}
		}
	}
}

func (e *expected) lines() int {
	total := 0
	for _, object := range e.objects {
		total += len(object.lines)
	}
	return total
}

// complete tells whether as much is there as there must be, by numbers alone.
func (e *expected) complete(rows, deadLetters int) bool {
	return rows >= e.events+e.brokenRows && deadLetters >= e.bad+e.brokenDead+e.unreadable
}

// row takes in a row that ClickHouse has.
func (e *expected) row(id string) {
	e.rows++
	object, line, event, err := identity.ParseRowID(id)
	if err != nil {
		e.wrong(&e.unexpected, "row with a bad id: "+err.Error())
		return
	}
	e.found(outcomeRow, object, line, event, "row "+id)
}

// deadLetter takes in a dead letter; line 0 means the whole object.
func (e *expected) deadLetter(object string, line int64, event int, reason string) {
	e.deadLetters++
	what := fmt.Sprintf("dead letter (%s) of object %s line %d event %d", reason, object, line, event)
	known := e.objects[object]
	if known != nil && known.unreadable && strings.HasPrefix(reason, "object-") {
		known.deadLetters++
		if known.deadLetters > 1 {
			e.wrong(&e.doubled, what)
		}
		return
	}
	e.found(outcomeDead, object, line, event, what)
}

func (e *expected) found(o outcome, id string, line int64, event int, what string) {
	object := e.objects[id]
	if object == nil || line < 1 || line > int64(len(object.lines)) {
		e.wrong(&e.unexpected, what)
		return
	}
	want := object.lines[line-1]
	if want == outcomeSeveral {
		events := object.several[line]
		if event >= len(events) || events[event] != o {
			e.wrong(&e.unexpected, what)
			return
		}
		if object.seenSeveral == nil {
			object.seenSeveral = make(map[string]int)
		}
		place := severalPlace(line, event)
		object.seenSeveral[place]++
		if object.seenSeveral[place] > 1 {
			e.wrong(&e.doubled, what)
		}
		return
	}
	if event != 0 || want != o {
		e.wrong(&e.unexpected, what)
		return
	}
	if object.seen[line-1] > 0 {
		e.wrong(&e.doubled, what)
		return
	}
	object.seen[line-1] = 1
}

func severalPlace(line int64, event int) string { return fmt.Sprintf("%d.%d", line, event) }

// lost is what should be there and isn't.
func (e *expected) lost() (rows, deadLetters int) {
	missing := func(o outcome, object *expectedObject, line int64) {
		what := "row"
		if o == outcomeDead {
			deadLetters++
			what = "dead letter"
		} else {
			rows++
		}
		if len(e.examples) < maxExamples {
			e.examples = append(e.examples, fmt.Sprintf("no %s of %s line %d", what, object.key, line))
		}
	}
	for _, object := range e.objects {
		if object.unreadable {
			if object.deadLetters == 0 {
				missing(outcomeDead, object, 0)
			}
			continue
		}
		for i, o := range object.lines {
			line := int64(i) + 1
			switch o {
			case outcomeSkip:
			case outcomeRow, outcomeDead:
				if object.seen[i] == 0 {
					missing(o, object, line)
				}
			case outcomeSeveral:
				for event, each := range object.several[line] {
					if each != outcomeSkip && object.seenSeveral[severalPlace(line, event)] == 0 {
						missing(each, object, line)
					}
				}
			}
		}
	}
	return rows, deadLetters
}

func (e *expected) wrong(counter *int, what string) {
	*counter++
	if len(e.examples) < maxExamples {
		e.examples = append(e.examples, what)
	}
}

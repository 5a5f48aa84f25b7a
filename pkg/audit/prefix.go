package audit

import "bytes"

// prefix is what stands before the JSON in formats that are not JSON as a
// whole.
type prefix struct {
	time, stream string
	piece        piece
}

// maxPrefixTime is longer than any time in such a prefix.
const maxPrefixTime = 48

// cutPrefix takes the prefix off a text:
//
//	time TAB tag TAB {…}      Fluentd's files, also in S3
//	time stdout F {…}         a container's log file (CRI)
//	time {…}                  an export from CloudWatch Logs
func cutPrefix(text []byte) (before prefix, rest []byte, found bool) {
	if len(text) < 12 || text[0]-'0' > 9 {
		return prefix{}, nil, false
	}
	head := text[:min(len(text), maxPrefixTime)]
	if tab := bytes.IndexByte(head, '\t'); tab > 0 {
		rest = text[tab+1:]
		if tag := bytes.IndexByte(rest, '\t'); tag >= 0 {
			rest = rest[tag+1:]
		}
		before.time = view(text[:tab])
	} else {
		space := bytes.IndexByte(head, ' ')
		if space < 0 {
			return prefix{}, nil, false
		}
		before.time, rest = view(text[:space]), text[space+1:]
		before.takeStream(&rest)
	}
	if _, ok := parseTime(before.time); !ok {
		return prefix{}, nil, false
	}
	start := skipSpace(rest, 0)
	return before, rest, start < len(rest) && rest[start] == '{'
}

// takeStream takes "stdout F " or "stderr P " off the text.
func (p *prefix) takeStream(text *[]byte) {
	for _, stream := range [...]string{"stdout", "stderr"} {
		rest, found := bytes.CutPrefix(*text, []byte(stream))
		if !found || len(rest) < 3 || rest[0] != ' ' {
			continue
		}
		flags, rest, found := bytes.Cut(rest[1:], []byte(" "))
		if !found {
			return
		}
		switch {
		case bytes.HasPrefix(flags, []byte("P")):
			p.piece = pieceNotLast
		case bytes.HasPrefix(flags, []byte("F")):
			p.piece = pieceLast
		default:
			return
		}
		p.stream, *text = stream, rest
		return
	}
}

// fill gives the wrapper what it does not say itself.
func (p *prefix) fill(w *wrapper) {
	orElse(&w.time, p.time)
	orElse(&w.stream, p.stream)
}

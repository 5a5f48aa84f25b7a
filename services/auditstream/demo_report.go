package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/auditstream/auditstream/pkg/delay"
	"github.com/auditstream/auditstream/services/auditstream/digits"
	"github.com/auditstream/auditstream/topics"
)

// settleTimeout is for how long the check waits for dead letters that are
// committed but not yet read.
const settleTimeout = 15 * time.Second

// compare holds the ids in ClickHouse and of the dead letters against those
// expected, as sets.
func (d *demo) compare(ctx context.Context) (bool, error) {
	letters, err := d.settledDeadLetters(ctx)
	if err != nil {
		return false, err
	}
	var count, distinct int
	if err := d.queries.numbers(ctx, "SELECT count(), uniqExact(id) FROM {table}", &count, &distinct); err != nil {
		return false, err
	}
	e := d.expected
	if err := d.queries.ids(ctx, e.row); err != nil {
		return false, err
	}
	reasons := make(map[topics.Reason]int)
	for _, letter := range letters {
		reasons[letter.Reason]++
		e.deadLetter(letter.Object, letter.Line, letter.Event, string(letter.Reason))
	}
	lostRows, lostLetters := e.lost()
	ok := lostRows+lostLetters+e.doubled+e.unexpected == 0 && count == distinct

	d.say("\nEvery line, by its id\n")
	d.say("  put in         %s lines of %s objects: %s events, %s bad lines, %s blank, %s unreadable objects\n",
		digits.Group(e.lines()), digits.Group(len(e.objects)), digits.Group(e.events), digits.Group(e.bad), digits.Group(e.skips), digits.Group(e.unreadable))
	d.say("  in ClickHouse  count() %s, uniqExact(id) %s, expected %s\n", digits.Group(count), digits.Group(distinct), d.expectedRows())
	d.say("  dead letters   %s, expected %s%s\n", digits.Group(len(letters)), digits.Group(e.bad+e.unreadable), reasonText(reasons))
	d.say("  lost           %s rows, %s dead letters\n", digits.Group(lostRows), digits.Group(lostLetters))
	d.say("  doubled        %s\n", digits.Group(e.doubled))
	d.say("  unexpected     %s\n", digits.Group(e.unexpected))
	for _, example := range e.examples {
		d.say("    %s\n", example)
	}
	if ok {
		d.say("  every line is there, once\n")
	} else {
		d.say("  NOT what was put in\n")
	}
	return ok, nil
}

// expectedRows is a number, or a range when objects break off.
func (d *demo) expectedRows() string {
	most := d.expected.events
	for _, object := range d.expected.objects {
		if object.unreadable {
			most += len(object.lines)
		}
	}
	if most == d.expected.events {
		return digits.Group(most)
	}
	return fmt.Sprintf("%s, and up to %s more from objects that break off", digits.Group(d.expected.events), digits.Group(most-d.expected.events))
}

func (d *demo) settledDeadLetters(ctx context.Context) ([]topics.DeadLetterRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		letters, complete, err := d.dead.all(ctx)
		if err != nil || complete {
			return slices.Clone(letters), err
		}
		if !delay.For(ctx, 50*time.Millisecond) {
			return nil, fmt.Errorf("read the dead letters: %w", ctx.Err())
		}
	}
}

func reasonText(reasons map[topics.Reason]int) string {
	if len(reasons) == 0 {
		return ""
	}
	var parts []string
	for reason, count := range reasons {
		parts = append(parts, fmt.Sprintf("%s %s", reason, digits.Group(count)))
	}
	slices.Sort(parts)
	return " (" + strings.Join(parts, ", ") + ")"
}

// questions are what a security engineer asks first. One request is logged at
// several stages: where requests are counted, only the last one is.
var questions = []struct{ title, query string }{
	{"Top actors", `
SELECT actor['type'] AS type, actor['username'] AS username, count() AS requests, countIf(NOT readOnly) AS writes, uniq(srcIP) AS addresses
FROM {table} WHERE stage = 'ResponseComplete' GROUP BY type, username ORDER BY requests DESC, username LIMIT 8`},
	{"Denied requests, by user", `
SELECT actor['username'] AS username, count() AS denied, arrayStringConcat(topK(3)(eventName), ', ') AS mostly, max(eventTime) AS last
FROM {table} WHERE ` + "`annotations.authorization.k8s.io.decision`" + ` = 'forbid' GROUP BY username ORDER BY denied DESC, username LIMIT 8`},
	{"The last execs into pods", `
SELECT eventTime, actor['username'] AS username, srcIP, srcASCountryCode AS country, ` + "`objectRef.namespace`" + ` AS namespace, ` + "`objectRef.name`" + ` AS pod,
       decodeURLFormComponent(arrayStringConcat(extractAll(requestURI, 'command=([^&]*)'), ' ')) AS command, ` + "`responseStatus.code`" + ` AS code
FROM {table} WHERE eventName LIKE '%pods/exec' AND stage = 'ResponseComplete' ORDER BY eventTime DESC LIMIT 6`},
	{"Who read secrets", `
SELECT actor['username'] AS username, countIf(verb = 'get') AS got, countIf(verb = 'list') AS listed, uniqExact(` + "`objectRef.namespace`" + `) AS namespaces, countIf(` + "`responseStatus.code`" + ` = 403) AS denied
FROM {table} WHERE eventName IN ('get secrets', 'list secrets') AND actor['type'] = 'user' GROUP BY username ORDER BY got + listed DESC, username LIMIT 6`},
	{"Where requests come from", `
SELECT srcASCountryCode AS country, srcCity AS city, srcASNumber AS asn, srcASOrganization AS organization, count() AS requests, uniqExact(actor['username']) AS actors
FROM {table} WHERE srcASCountryCode != '' AND stage = 'ResponseComplete' GROUP BY ALL ORDER BY requests DESC LIMIT 8`},
	{"Requests without credentials", `
SELECT eventName, ` + "`responseStatus.code`" + ` AS code, count() AS requests, uniqExact(srcIP) AS addresses, arrayStringConcat(groupUniqArrayIf(tags['srcAnonymous'], tags['srcAnonymous'] != ''), ' ') AS networks
FROM {table} WHERE actor['type'] = 'anonymous' AND stage = 'ResponseComplete' GROUP BY ALL ORDER BY requests DESC, eventName LIMIT 8`},
}

// report prints the answers. A question that can't be asked is said and passed
// over: it says nothing of what is there.
func (d *demo) report(ctx context.Context) error {
	for _, question := range questions {
		text, err := d.queries.text(ctx, question.query+" FORMAT PrettyCompactMonoBlock")
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			text = err.Error() + "\n"
		}
		if strings.TrimSpace(text) == "" {
			text = "  none\n"
		}
		d.say("\n%s\n%s", question.title, text)
	}
	return nil
}

func (d *demo) goOn() {
	d.say(`
Go on
  go tool task demo -- --data DIR     the same with your own audit logs
  go tool task up                     the pipeline here, until Ctrl-C; put logs into its bucket and ask:

    curl 'http://127.0.0.1:18123/' --data-binary \
      "SELECT eventTime, eventName, actor['username'], srcIP FROM audit_events WHERE NOT readOnly ORDER BY eventTime DESC LIMIT 20 FORMAT PrettyCompact"
`)
	if d.keep {
		d.say("\n  AUDITSTREAM_EMBEDDED_DIRECTORY=%s auditstream up\n                                      goes on with the data of this demo\n", d.directory)
	}
}

package config

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with the configuration.
type Problem struct {
	// Key as the user typed it: "sources[1].ttlDays", or with the variable that
	// set it, "kafka.brokers (AUDITSTREAM_KAFKA_BROKERS)".
	Key  string
	Text string
}

func (p Problem) String() string { return p.Key + ": " + p.Text }

// ProblemsError is all that is wrong with the configuration, at once.
type ProblemsError struct {
	Problems []Problem
}

func (e *ProblemsError) Error() string {
	var text strings.Builder
	if len(e.Problems) == 1 {
		text.WriteString("the configuration has a problem:")
	} else {
		fmt.Fprintf(&text, "the configuration has %d problems:", len(e.Problems))
	}
	for _, problem := range e.Problems {
		text.WriteString("\n  ")
		text.WriteString(problem.String())
	}
	return text.String()
}

// checker collects problems.
type checker struct {
	problems []Problem
}

func (c *checker) problem(key, format string, args ...any) {
	c.problems = append(c.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

// about tells whether there already is a problem with key or with what holds it.
func (c *checker) about(key string) bool {
	return slices.ContainsFunc(c.problems, func(p Problem) bool {
		rest, found := strings.CutPrefix(key, p.Key)
		return found && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// err is nil without problems. origins names the environment variable that set a key.
func (c *checker) err(origins map[string]string) error {
	if len(c.problems) == 0 {
		return nil
	}
	problems := slices.Clone(c.problems)
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	problems = slices.Compact(problems)
	for i, problem := range problems {
		if variable, ok := origins[problem.Key]; ok {
			problems[i].Key = problem.Key + " (" + variable + ")"
		}
	}
	return &ProblemsError{Problems: problems}
}

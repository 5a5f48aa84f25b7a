package main

import (
	"fmt"
	"strings"
	"time"
)

// parseTimes reads the flags --since and --until.
func parseTimes(since, until string, now time.Time) (from, to time.Time, err error) {
	if from, err = parseTime(since, now); err != nil {
		return from, to, usageProblem("--since", err.Error())
	}
	if to, err = parseTime(until, now); err != nil {
		return from, to, usageProblem("--until", err.Error())
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return from, to, usageProblem("--since", "is not before --until")
	}
	return from, to, nil
}

// parseTime takes a date, a time or an age; nothing is no time.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01-02T15:04:05", time.DateTime} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	age := text
	days, isDays := strings.CutSuffix(text, "d")
	if isDays {
		age = days + "h"
	}
	duration, err := time.ParseDuration(age)
	if err != nil || duration < 0 {
		return time.Time{}, fmt.Errorf("%q is no time; write it like 2026-01-31, 2026-01-31T12:00:00Z, 36h or 30d", text)
	}
	if isDays {
		duration *= 24
	}
	return now.Add(-duration).UTC().Truncate(time.Second), nil
}

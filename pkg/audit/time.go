package audit

import (
	"math"
	"strconv"
	"strings"
)

// maxDateTime is the last second that ClickHouse's DateTime holds.
const maxDateTime = math.MaxUint32

// clampSeconds brings a time into the range of DateTime.
func clampSeconds(seconds int64) (clamped uint32, outside bool) {
	switch {
	case seconds < 0:
		return 0, true
	case seconds > maxDateTime:
		return maxDateTime, true
	}
	return uint32(seconds), false
}

// maxTimeText is longer than any time is written. What a wrapper calls its time
// is read again for each event inside.
const maxTimeText = 64

// parseTime reads what shippers write as a time, as seconds since 1970:
// RFC 3339 and its relatives (a space for the T, any number of decimals, no
// zone, +0000), and epoch numbers in seconds, milliseconds, micro- or
// nanoseconds, also with an exponent.
func parseTime(text string) (seconds int64, ok bool) {
	if len(text) > maxTimeText {
		return 0, false
	}
	if len(text) >= 10 && text[4] == '-' && text[7] == '-' {
		return parseCalendar(text)
	}
	return parseEpoch(text)
}

func parseCalendar(text string) (seconds int64, ok bool) {
	year, ok1 := digits(text[0:4])
	month, ok2 := digits(text[5:7])
	day, ok3 := digits(text[8:10])
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	seconds = daysSinceEpoch(year, month, day) * 86_400
	if len(text) == 10 {
		return seconds, true
	}
	rest := text[10:]
	if len(rest) < 9 || (rest[0] != 'T' && rest[0] != 't' && rest[0] != ' ') || rest[3] != ':' || rest[6] != ':' {
		return 0, false
	}
	hour, ok1 := digits(rest[1:3])
	minute, ok2 := digits(rest[4:6])
	second, ok3 := digits(rest[7:9])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 60 {
		return 0, false
	}
	seconds += int64(hour*3600 + minute*60 + second)
	rest = rest[9:]
	if len(rest) > 0 && (rest[0] == '.' || rest[0] == ',') {
		n := 1
		for n < len(rest) && rest[n]-'0' <= 9 {
			n++
		}
		if n == 1 {
			return 0, false
		}
		rest = rest[n:]
	}
	offset, ok := parseZone(rest)
	return seconds - offset, ok
}

// parseZone reads "", "Z", "+02:00", "+0200", "+02" and these after a space.
func parseZone(text string) (seconds int64, ok bool) {
	if len(text) > 0 && text[0] == ' ' {
		text = text[1:]
	}
	switch text {
	case "", "Z", "z", "UTC", "+00:00":
		return 0, true
	}
	if text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	var hourText, minuteText string
	switch {
	case len(text) == 3:
		hourText, minuteText = text[1:3], "00"
	case len(text) == 5:
		hourText, minuteText = text[1:3], text[3:5]
	case len(text) == 6 && text[3] == ':':
		hourText, minuteText = text[1:3], text[4:6]
	default:
		return 0, false
	}
	hour, ok1 := digits(hourText)
	minute, ok2 := digits(minuteText)
	if !ok1 || !ok2 || hour > 23 || minute > 59 {
		return 0, false
	}
	seconds = int64(hour*3600 + minute*60)
	if text[0] == '-' {
		seconds = -seconds
	}
	return seconds, true
}

// Epoch numbers of this size and more are in a smaller unit: in seconds they
// would lie thousands of years ahead, outside DateTime in any case.
const (
	fromMillis = 1e11
	fromMicros = 1e14
	fromNanos  = 1e17
)

func parseEpoch(text string) (seconds int64, ok bool) {
	if text == "" || (text[0]-'0' > 9 && text[0] != '-') {
		return 0, false
	}
	if whole, ok := wholeNumber(text); ok {
		return wholeEpoch(whole), true
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(number, 0) || math.IsNaN(number) {
		return 0, false
	}
	size := math.Abs(number)
	switch {
	case size >= fromNanos:
		number /= 1e9
	case size >= fromMicros:
		number /= 1e6
	case size >= fromMillis:
		number /= 1e3
	}
	number = math.Floor(number)
	switch {
	case number > maxDateTime:
		return maxDateTime + 1, true
	case number < 0:
		return -1, true
	}
	return int64(number), true
}

// wholeNumber reads digits with or without decimals, dropping these as text: as
// a float64 a number of today may round up into the next second.
func wholeNumber(text string) (number int64, ok bool) {
	whole, decimals, _ := strings.Cut(text, ".")
	if len(whole) == 0 || len(whole) > 19 || whole[0] == '-' {
		return 0, false
	}
	if _, ok := digits(decimals); !ok {
		return 0, false
	}
	number, err := strconv.ParseInt(whole, 10, 64)
	return number, err == nil
}

func wholeEpoch(number int64) (seconds int64) {
	switch {
	case number >= fromNanos:
		return number / 1e9
	case number >= fromMicros:
		return number / 1e6
	case number >= fromMillis:
		return number / 1e3
	}
	return number
}

func digits(text string) (number int, ok bool) {
	for i := range len(text) {
		c := text[i] - '0'
		if c > 9 {
			return 0, false
		}
		number = number*10 + int(c)
	}
	return number, true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSinceEpoch counts days of the Gregorian calendar from 1970-01-01, with
// years that start in March so that the leap day is the last of its year.
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400 // year is at least -1
	if year < 0 {
		era = -1
	}
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return int64(era*146_097+yearOfEra*365+yearOfEra/4-yearOfEra/100+dayOfYear) - 719_468
}

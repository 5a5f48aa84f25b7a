package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// field is one key of the file that holds a value, not further keys.
type field struct {
	path string // kafka.tls.caFile
	kind reflect.Type
}

// fields lists every such key below a struct type.
func fields(structure reflect.Type, prefix string) []field {
	var all []field
	for i := range structure.NumField() {
		member := structure.Field(i)
		path := join(prefix, member.Tag.Get("koanf"))
		if member.Type.Kind() == reflect.Struct {
			all = append(all, fields(member.Type, path)...)
			continue
		}
		all = append(all, field{path: path, kind: member.Type})
	}
	return all
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// words splits a key at its capitals: caFile is ca and File, roleARN is role and ARN.
func words(key string) []string {
	var all []string
	runes := []rune(key)
	start := 0
	for i := 1; i < len(runes); i++ {
		upper := unicode.IsUpper(runes[i])
		afterLower := upper && unicode.IsLower(runes[i-1])
		beforeLower := upper && i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if afterLower || beforeLower {
			all = append(all, string(runes[start:i]))
			start = i
		}
	}
	return append(all, string(runes[start:]))
}

// checkKeys reports each key of raw that structure doesn't have.
func (c *checker) checkKeys(raw any, structure reflect.Type, prefix string) {
	switch structure.Kind() {
	case reflect.Slice:
		elements, ok := raw.([]any)
		if !ok {
			return // a wrong type is reported when it is decoded
		}
		for i, element := range elements {
			c.checkKeys(element, structure.Elem(), index(prefix, i))
		}
	case reflect.Struct:
		keys, ok := raw.(map[string]any)
		if !ok {
			return
		}
		members := make(map[string]reflect.Type)
		for i := range structure.NumField() {
			member := structure.Field(i)
			members[member.Tag.Get("koanf")] = member.Type
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if member, known := members[key]; known {
				c.checkKeys(keys[key], member, join(prefix, key))
				continue
			}
			if near := nearest(key, slices.Collect(maps.Keys(members))); near != "" {
				c.problem(join(prefix, key), "unknown key; did you mean %s?", join(prefix, near))
			} else {
				c.problem(join(prefix, key), "unknown key; known here: %s",
					strings.Join(slices.Sorted(maps.Keys(members)), ", "))
			}
		}
	default:
	}
}

// nearest is the candidate that key is most likely a slip of, or "".
func nearest(key string, candidates []string) string {
	slices.Sort(candidates)
	best, bestDistance := "", 1+max(1, len(key)/3)
	for _, candidate := range candidates {
		distance := editDistance(strings.ToLower(key), strings.ToLower(candidate))
		if distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// editDistance counts the insertions, deletions and replacements between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

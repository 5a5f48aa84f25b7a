package glob_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/pkg/glob"
)

func compile(t testing.TB, text string) glob.Pattern {
	t.Helper()
	p, err := glob.Compile(text)
	require.NoError(t, err, text)
	return p
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern string
		yes, no []string
	}{
		{"", []string{""}, []string{"a"}},
		{"a", []string{"a"}, []string{"", "aa", "b"}},
		{"*", []string{"", "a", "a.b"}, []string{"/", "a/b"}},
		{"**", []string{"", "a", "a/b"}, nil},
		{"***", []string{"", "a", "a/b"}, nil},
		{"?", []string{"a", "é"}, []string{"", "/", "ab"}},
		{"*.gz", []string{"a.gz", ".gz"}, []string{"a/b.gz", "a.gz.x"}},
		{"**.gz", []string{"a/b.gz"}, []string{"a/b.g"}},
		{"a/*/c", []string{"a/b/c", "a//c"}, []string{"a/c", "a/b/b/c"}},
		{"a/**/c", []string{"a/b/c", "a/b/b/c", "a/c", "a//c"}, []string{"ac", "a/bc", "a/b/c/", "c"}},
		{"**/c", []string{"c", "a/c", "/c", "a/b/c"}, []string{"ac", "a/bc"}},
		{"a/**/**/c*", []string{"a/c", "a/b/cd", "a/b/b/c"}, []string{"ac", "a/c/d"}},
		{"a**/c", []string{"a/c", "ab/b/c"}, []string{"ac", "a"}},
		{"a/**/", []string{"a/", "a/b/"}, []string{"a", "a/b"}},
		{"AWSLogs/*/eks/**.json.gz", []string{"AWSLogs/1/eks/2/3.json.gz"}, []string{"AWSLogs/1/2/eks/3.json.gz"}},
		{`a\*`, []string{"a*"}, []string{"ab"}},
		{"a*b*c", []string{"abc", "aabbc", "axbxc"}, []string{"ab", "acb"}},
		{"é+ %2F", []string{"é+ %2F"}, []string{"e+ /"}},
	} {
		p := compile(t, test.pattern)
		for _, text := range test.yes {
			require.True(t, p.Match(text), "%q does not match %q", test.pattern, text)
		}
		for _, text := range test.no {
			require.False(t, p.Match(text), "%q matches %q", test.pattern, text)
		}
	}
	_, err := glob.Compile(`a\`)
	require.Error(t, err)
}

func TestOverlap(t *testing.T) {
	for _, test := range []struct {
		patterns []glob.Pattern
		overlap  bool
	}{
		{[]glob.Pattern{glob.Prefix("a/"), glob.Prefix("b/")}, false},
		{[]glob.Pattern{glob.Prefix("a/"), glob.Prefix("a/b")}, true},
		{[]glob.Pattern{glob.Prefix("a"), glob.Suffix(".gz")}, true},
		{[]glob.Pattern{glob.Suffix(".json"), glob.Suffix(".gz")}, false},
		{[]glob.Pattern{glob.Suffix("n.gz"), glob.Suffix(".gz")}, true},
		{[]glob.Pattern{glob.Prefix(""), glob.Suffix("")}, true},
		{[]glob.Pattern{compile(t, "*/a/*"), compile(t, "*/b/*")}, false},
		{[]glob.Pattern{compile(t, "*/a/**"), compile(t, "**/b/*")}, true},
		{[]glob.Pattern{compile(t, "*/audit-?.log"), glob.Prefix("x/y/")}, false},
		{[]glob.Pattern{compile(t, "**a**b**c"), compile(t, "**c**b**a"), glob.Suffix("c")}, false},
		{[]glob.Pattern{compile(t, "**a**b**c**"), compile(t, "**c**b**a**")}, true},
		{[]glob.Pattern{compile(t, "a/**/b"), compile(t, "a/b")}, true},
		{[]glob.Pattern{compile(t, "a/**/b"), compile(t, "ab")}, false},
		{[]glob.Pattern{compile(t, "")}, false}, // no key is empty
	} {
		example, overlap, err := glob.Overlap(test.patterns...)
		require.NoError(t, err)
		require.Equal(t, test.overlap, overlap, "%+v by %q", test.patterns, example)
		for _, p := range test.patterns {
			require.Equal(t, overlap, p.Match(example) && example != "", "%+v by %q", p, example)
		}
	}
}

func FuzzOverlapIsMatchedByAll(f *testing.F) {
	f.Add("a*", "*b", "ab")
	f.Add("**/x", "y/**", "y/x")
	f.Add("?", `\?`, "?")
	f.Fuzz(func(t *testing.T, first, second, text string) {
		if len(first) > 12 || len(second) > 12 {
			return
		}
		a, errA := glob.Compile(first)
		b, errB := glob.Compile(second)
		if errA != nil || errB != nil {
			return
		}
		example, overlap, err := glob.Overlap(a, b)
		require.NoError(t, err)
		if overlap {
			require.True(t, a.Match(example) && b.Match(example), "%q", example)
		} else if text != "" {
			require.False(t, a.Match(text) && b.Match(text), "%q", text)
		}
	})
}

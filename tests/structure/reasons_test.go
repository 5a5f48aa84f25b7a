package structure_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The reasons of dead letters are a closed set, and the README has all of it.
func TestReadmeHasEveryReason(t *testing.T) {
	root := filepath.Join("..", "..")
	var want []string
	for _, file := range []string{"topics/deadletter.go", "pkg/audit/outcome.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(node ast.Node) bool {
			value, ok := node.(*ast.ValueSpec)
			if !ok || len(value.Values) != 1 {
				return true
			}
			if kind, ok := value.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				literal, ok := value.Values[0].(*ast.BasicLit)
				require.True(t, ok)
				text, err := strconv.Unquote(literal.Value)
				require.NoError(t, err)
				want = append(want, text)
			}
			return true
		})
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## Dead letters\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var got []string
	for _, line := range strings.Split(section, "\n") {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(cells[1], -1) {
				got = append(got, name[1])
			}
		}
	}
	require.NotEmpty(t, want)
	require.ElementsMatch(t, want, got)
}

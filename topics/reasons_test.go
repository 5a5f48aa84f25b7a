package topics

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every reason that is declared is among the known ones.
func TestReasonsAreAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "deadletter.go", nil, 0)
	require.NoError(t, err)
	var declared []Reason
	ast.Inspect(file, func(node ast.Node) bool {
		spec, is := node.(*ast.ValueSpec)
		if !is {
			return true
		}
		if kind, named := spec.Type.(*ast.Ident); named && kind.Name == "Reason" {
			literal, is := spec.Values[0].(*ast.BasicLit)
			require.True(t, is)
			text, err := strconv.Unquote(literal.Value)
			require.NoError(t, err)
			declared = append(declared, Reason(text))
		}
		return true
	})
	require.NotEmpty(t, declared)
	require.ElementsMatch(t, declared, Reasons())
}

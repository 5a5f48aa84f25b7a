package source_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"

	"github.com/auditstream/auditstream/services/auditstream/source"
	"github.com/auditstream/auditstream/tests/golden"
)

const moduleFolder = "../../../deploy/terraform"

// module is what the files of a module declare and refer to.
type module struct {
	text       string
	required   []string // variables without a default
	declared   map[string]bool
	references []string
}

func parse(t *testing.T, name string, text []byte) *hclsyntax.Body {
	t.Helper()
	file, problems := hclparse.NewParser().ParseHCL(text, name)
	require.False(t, problems.HasErrors(), problems.Error())
	return file.Body.(*hclsyntax.Body)
}

func readModule(t *testing.T) *module {
	t.Helper()
	m := &module{declared: map[string]bool{}}
	files, err := filepath.Glob(filepath.Join(moduleFolder, "*.tf"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		m.text += string(text)
		body := parse(t, path, text)
		for _, block := range body.Blocks {
			switch block.Type {
			case "variable":
				m.declared["var."+block.Labels[0]] = true
				if block.Body.Attributes["default"] == nil {
					m.required = append(m.required, block.Labels[0])
				}
				require.NotNil(t, block.Body.Attributes["description"], block.Labels[0])
			case "resource":
				m.declared[block.Labels[0]+"."+block.Labels[1]] = true
			case "data":
				m.declared["data."+block.Labels[0]+"."+block.Labels[1]] = true
			case "locals":
				for name := range block.Body.Attributes {
					m.declared["local."+name] = true
				}
			}
		}
		problems := hclsyntax.VisitAll(body, func(node hclsyntax.Node) hcl.Diagnostics {
			if expression, ok := node.(*hclsyntax.ScopeTraversalExpr); ok {
				m.references = append(m.references, name(expression.Traversal))
			}
			return nil
		})
		require.False(t, problems.HasErrors())
	}
	return m
}

// name of what a traversal refers to, without what is taken of it.
func name(traversal hcl.Traversal) string {
	parts := []string{traversal.RootName()}
	for _, step := range traversal[1:] {
		if attribute, ok := step.(hcl.TraverseAttr); ok {
			parts = append(parts, attribute.Name)
		}
	}
	count := 2
	if parts[0] == "data" {
		count = 3
	}
	return strings.Join(parts[:min(count, len(parts))], ".")
}

func TestTheModuleHoldsTogether(t *testing.T) {
	m := readModule(t)
	// Names that blocks and for expressions bring, and types.
	bound := regexp.MustCompile(`^(each|topic|statement|condition|source|id|string|bool|map|list|any)(\.|$)`)
	used := map[string]bool{}
	for _, reference := range m.references {
		used[reference] = true
		if !bound.MatchString(reference) {
			require.True(t, m.declared[reference], "%s is referred to and not declared", reference)
		}
	}
	for declared := range m.declared {
		if strings.HasPrefix(declared, "var.") || strings.HasPrefix(declared, "local.") {
			require.True(t, used[declared], "%s is declared and not used", declared)
		}
	}
	require.Contains(t, m.text, `default     = "`+source.DefaultTopicPrefix+`"`)
	require.Contains(t, m.text, `default     = "`+source.Type+`"`)
}

func TestThePrintedCallFitsTheModule(t *testing.T) {
	m := readModule(t)
	for name, plan := range map[string]source.Plan{"setup.tf": testPlan(t), "encrypted.tf": encryptedPlan(t), "elsewhere.tf": elsewherePlan(t)} {
		var text bytes.Buffer
		require.NoError(t, plan.WriteTerraform(&text))
		golden.Equal(t, filepath.Join("testdata", name), text.String())
		body := parse(t, name, text.Bytes())
		require.Len(t, body.Blocks, 1)
		call := body.Blocks[0].Body.Attributes
		for given := range call {
			require.True(t, given == "source" || m.declared["var."+given], "%s is no variable of the module", given)
		}
		for _, required := range m.required {
			require.Contains(t, call, required)
		}
	}
}

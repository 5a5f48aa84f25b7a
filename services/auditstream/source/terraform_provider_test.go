package source_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
)

// schema is what the AWS provider knows of a resource, a data source, or a
// block in one. Of an attribute: required, optional, computed or deprecated.
type schema struct {
	Attributes map[string]string  `json:"attributes"`
	Blocks     map[string]*schema `json:"blocks,omitempty"`
}

const providerFile = "testdata/provider.json"

// described is a block as `terraform providers schema -json` has it.
type described struct {
	Attributes map[string]struct{ Required, Optional, Deprecated bool }
	BlockTypes map[string]struct{ Block described } `json:"block_types"`
}

func (d *described) schema() *schema {
	s := &schema{Attributes: map[string]string{}}
	for name, attribute := range d.Attributes {
		switch {
		case attribute.Deprecated:
			s.Attributes[name] = "deprecated"
		case attribute.Required:
			s.Attributes[name] = "required"
		case attribute.Optional:
			s.Attributes[name] = "optional"
		default:
			s.Attributes[name] = "computed"
		}
	}
	for name, block := range d.BlockTypes {
		if s.Blocks == nil {
			s.Blocks = map[string]*schema{}
		}
		s.Blocks[name] = block.Block.schema()
	}
	return s
}

// meta are the arguments that are Terraform's own.
var meta = map[string]bool{"count": true, "for_each": true, "depends_on": true, "provider": true}

// fits holds a body against the schema; of a data source only what is given.
func (s *schema) fits(t *testing.T, at string, body *hclsyntax.Body) {
	t.Helper()
	for given := range body.Attributes {
		if !meta[given] {
			require.Contains(t, []string{"required", "optional"}, s.Attributes[given], "%s.%s", at, given)
		}
	}
	for name, kind := range s.Attributes {
		if kind == "required" {
			require.Contains(t, body.Attributes, name, at)
		}
	}
	for _, block := range body.Blocks {
		kind, content := block.Type, block.Body
		if kind == "dynamic" {
			kind = block.Labels[0]
			require.Len(t, content.Blocks, 1, at)
			content = content.Blocks[0].Body
		}
		require.Contains(t, s.Blocks, kind, at)
		s.Blocks[kind].fits(t, at+"."+kind, content)
	}
}

// moduleBlocks are the module's resources and data sources by their kinds.
func moduleBlocks(t *testing.T) map[string][]*hclsyntax.Block {
	t.Helper()
	all := map[string][]*hclsyntax.Block{}
	files, err := filepath.Glob(filepath.Join(moduleFolder, "*.tf"))
	require.NoError(t, err)
	for _, path := range files {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, block := range parse(t, path, content).Blocks {
			if block.Type == "resource" || block.Type == "data" {
				kind := block.Type + " " + block.Labels[0]
				all[kind] = append(all[kind], block)
			}
		}
	}
	return all
}

// Arguments are those that the AWS provider has, none that it requires is
// missing, and none is deprecated.
func TestTheModuleFitsTheProvider(t *testing.T) {
	content, err := os.ReadFile(providerFile)
	require.NoError(t, err)
	var provider map[string]*schema
	require.NoError(t, json.Unmarshal(content, &provider))
	for kind, blocks := range moduleBlocks(t) {
		require.Contains(t, provider, kind)
		for _, block := range blocks {
			provider[kind].fits(t, kind+" "+block.Labels[1], block.Body)
		}
	}
}

// Package structure_test guards the rules of the tree: who may import whom, and
// that every package tells its place in the flow.
package structure_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/auditstream/auditstream"

type goPackage struct {
	ImportPath   string
	Dir          string
	Name         string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Name,GoFiles,TestGoFiles,XTestGoFiles,Imports", module+"/...")
	var problems bytes.Buffer
	command.Stderr = &problems
	output, err := command.Output()
	require.NoError(t, err, problems.String())
	var packages []goPackage
	decoder := json.NewDecoder(bytes.NewReader(output))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
	require.NotEmpty(t, packages)
	return packages
}

func within(importPath, folder string) bool {
	path := module + "/" + folder
	return importPath == path || strings.HasPrefix(importPath, path+"/")
}

func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, imported := range p.Imports {
			stage := func(path string) string {
				rest, _ := strings.CutPrefix(path, module+"/services/")
				name, _, _ := strings.Cut(rest, "/")
				return name
			}
			switch {
			case (within(p.ImportPath, "pkg") || within(p.ImportPath, "topics")) && within(imported, "services"):
				t.Errorf("%s imports %s: what stages share doesn't know them", p.ImportPath, imported)
			case within(p.ImportPath, "services") && within(imported, "services") &&
				stage(p.ImportPath) != stage(imported) && stage(p.ImportPath) != "auditstream":
				t.Errorf("%s imports %s: stages share nothing but topics", p.ImportPath, imported)
			case strings.HasPrefix(imported, "github.com/ClickHouse/") && !within(p.ImportPath, "pkg/clickhouse") &&
				!within(p.ImportPath, "services/sink") && !within(p.ImportPath, "services/auditstream") &&
				!within(p.ImportPath, "pkg/embedded") && !within(p.ImportPath, "tests"):
				t.Errorf("%s imports %s: only the sink speaks to ClickHouse", p.ImportPath, imported)
			case imported == "database/sql" || strings.HasPrefix(imported, "github.com/stretchr/testify") && !within(p.ImportPath, "tests"):
				t.Errorf("%s imports %s", p.ImportPath, imported)
			case !within(p.ImportPath, "tests") && within(imported, "tests"):
				t.Errorf("%s imports %s: tests stay out of the product", p.ImportPath, imported)
			}
		}
	}
}

func TestEveryPackageHasOneDocComment(t *testing.T) {
	for _, p := range listPackages(t) {
		var documented []string
		files := p.GoFiles
		if len(files) == 0 {
			files = append(append(files, p.TestGoFiles...), p.XTestGoFiles...)
		}
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			require.NoError(t, err)
			if parsed.Doc != nil && strings.Contains(parsed.Doc.Text(), "ackage") {
				documented = append(documented, file)
			}
		}
		generated := strings.HasSuffix(p.ImportPath, "pb")
		if !generated && p.Name != "main" && len(documented) != 1 {
			t.Errorf("%s: want one package comment, have %d in %q", p.ImportPath, len(documented), documented)
		}
	}
}

package source_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"github.com/auditstream/auditstream/pkg/config"
	"github.com/auditstream/auditstream/services/auditstream/source"
)

// policyDocument is the data source aws_iam_policy_document.
type policyDocument struct {
	Statements []struct {
		Sid        *string  `hcl:"sid"`
		Actions    []string `hcl:"actions"`
		Resources  []string `hcl:"resources,optional"`
		Principals []struct {
			Type        string   `hcl:"type"`
			Identifiers []string `hcl:"identifiers"`
		} `hcl:"principals,block"`
		Conditions []struct {
			Test     string   `hcl:"test"`
			Variable string   `hcl:"variable"`
			Values   []string `hcl:"values"`
		} `hcl:"condition,block"`
	} `hcl:"statement,block"`
}

// allowed is a statement, however it was written. Of the sid nothing depends.
type allowed struct {
	actions, resources, principals, conditions []string
}

func (a *allowed) String() string {
	return fmt.Sprintf("%s on %s by %s if %s", a.actions, a.resources, a.principals, a.conditions)
}

func (p *policyDocument) allows() []string {
	var all []string
	for _, statement := range p.Statements {
		a := allowed{actions: slices.Sorted(slices.Values(statement.Actions)), resources: slices.Sorted(slices.Values(statement.Resources))}
		for _, principal := range statement.Principals {
			a.principals = append(a.principals, fmt.Sprint(principal.Type, principal.Identifiers))
		}
		for _, condition := range statement.Conditions {
			a.conditions = append(a.conditions, fmt.Sprint(condition.Test, condition.Variable, condition.Values))
		}
		slices.Sort(a.conditions)
		all = append(all, a.String())
	}
	return all
}

// oneOrMore is how IAM writes lists.
type oneOrMore []string

func (l *oneOrMore) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		*l = make([]string, 1)
		return json.Unmarshal(text, &(*l)[0])
	}
	return json.Unmarshal(text, (*[]string)(l))
}

// allows are the statements of a policy in JSON.
func allows(t *testing.T, policy string) []string {
	t.Helper()
	var document struct {
		Statement []struct {
			Effect           string
			Action, Resource oneOrMore
			Principal        map[string]oneOrMore
			Condition        map[string]map[string]oneOrMore
		}
	}
	require.NoError(t, json.Unmarshal([]byte(policy), &document), policy)
	var all []string
	for _, statement := range document.Statement {
		require.Equal(t, "Allow", statement.Effect)
		a := allowed{actions: slices.Sorted(slices.Values(statement.Action)), resources: slices.Sorted(slices.Values(statement.Resource))}
		for kind, who := range statement.Principal {
			a.principals = append(a.principals, fmt.Sprint(kind, []string(who)))
		}
		for test, keys := range statement.Condition {
			for key, values := range keys {
				a.conditions = append(a.conditions, fmt.Sprint(test, key, []string(values)))
			}
		}
		slices.Sort(a.conditions)
		all = append(all, a.String())
	}
	return all
}

// evaluate are the module's policies by their names, for the call that a plan
// prints, in the account and region of the plan.
func evaluate(t *testing.T, plan *source.Plan, partition, domain string) map[string][]string {
	t.Helper()
	var call bytes.Buffer
	require.NoError(t, plan.WriteTerraform(&call))
	given := parse(t, "call", call.Bytes()).Blocks[0].Body.Attributes
	variables, locals, documents := map[string]cty.Value{}, map[string]hcl.Expression{}, map[string]hcl.Body{}
	files, err := filepath.Glob(filepath.Join(moduleFolder, "*.tf"))
	require.NoError(t, err)
	for _, path := range files {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, block := range parse(t, path, text).Blocks {
			switch {
			case block.Type == "variable":
				variables[block.Labels[0]] = variableOf(t, block, given[block.Labels[0]])
			case block.Type == "locals":
				for name, attribute := range block.Body.Attributes {
					locals[name] = attribute.Expr
				}
			case block.Type == "data" && block.Labels[0] == "aws_iam_policy_document":
				documents[block.Labels[1]] = block.Body
			}
		}
	}
	current := func(attributes map[string]string) cty.Value {
		values := map[string]cty.Value{}
		for name, value := range attributes {
			values[name] = cty.StringVal(value)
		}
		return cty.ObjectVal(map[string]cty.Value{"current": cty.ObjectVal(values)})
	}
	scope := &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"var": cty.ObjectVal(variables),
			"data": cty.ObjectVal(map[string]cty.Value{
				"aws_caller_identity": current(map[string]string{"account_id": plan.Account}),
				"aws_partition":       current(map[string]string{"partition": partition, "dns_suffix": domain}),
				"aws_region":          current(map[string]string{"id": plan.Region}),
			}),
		},
		Functions: map[string]function.Function{
			"replace": stdlib.ReplaceFunc, "split": stdlib.SplitFunc, "length": stdlib.LengthFunc,
			"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		},
	}
	evaluateLocals(t, scope, locals)
	all := map[string][]string{}
	for name, body := range documents {
		var document policyDocument
		problems := gohcl.DecodeBody(dynblock.Expand(body, scope), scope, &document)
		require.False(t, problems.HasErrors(), "%s: %s", name, problems)
		all[name] = document.allows()
	}
	return all
}

// variableOf is what the call gives, or the default, as the type that the
// variable declares.
func variableOf(t *testing.T, block *hclsyntax.Block, given *hclsyntax.Attribute) cty.Value {
	t.Helper()
	kind, defaults, problems := typeexpr.TypeConstraintWithDefaults(block.Body.Attributes["type"].Expr)
	require.False(t, problems.HasErrors(), problems.Error())
	if given == nil {
		given = block.Body.Attributes["default"]
	}
	require.NotNil(t, given, block.Labels)
	value, problems := given.Expr.Value(nil)
	require.False(t, problems.HasErrors(), problems.Error())
	if defaults != nil {
		value = defaults.Apply(value)
	}
	value, err := convert.Convert(value, kind)
	require.NoError(t, err)
	return value
}

// evaluateLocals adds them to the scope, each after those that it refers to.
func evaluateLocals(t *testing.T, scope *hcl.EvalContext, locals map[string]hcl.Expression) {
	t.Helper()
	known := map[string]cty.Value{}
	for len(known) < len(locals) {
		before := len(known)
		scope.Variables["local"] = cty.ObjectVal(known)
		for local, expression := range locals {
			waits := slices.ContainsFunc(expression.Variables(), func(traversal hcl.Traversal) bool {
				referred, isLocal := strings.CutPrefix(name(traversal), "local.")
				_, is := known[referred]
				return isLocal && !is
			})
			if _, is := known[local]; is || waits {
				continue
			}
			value, problems := expression.Value(scope)
			require.False(t, problems.HasErrors(), "%s: %s", local, problems)
			known = maps.Clone(known)
			known[local] = value
			scope.Variables["local"] = cty.ObjectVal(known)
		}
		require.Greater(t, len(known), before, "locals refer to each other in a circle, or to what is made")
	}
}

// What the module allows, called as printed, is what the printed policies allow.
func TestTheModuleAllowsWhatThePoliciesDo(t *testing.T) {
	options := source.PlanOptions{Account: account, Region: region}
	for name, change := range map[string]func(*config.Source, *source.PlanOptions){
		"plain":  func(*config.Source, *source.PlanOptions) {},
		"prefix": func(s *config.Source, _ *source.PlanOptions) { s.Prefix, s.Suffix = "it's/", ".gz" },
		"other names": func(s *config.Source, o *source.PlanOptions) {
			s.Role.ARN, o.TopicPrefix = "arn:aws:iam::"+account+":role/x/reader", "acme-"
		},
		"principal": func(_ *config.Source, o *source.PlanOptions) { o.Principal = "arn:aws:iam::444455556666:role/pods" },
		"key of objects": func(_ *config.Source, o *source.PlanOptions) {
			o.KMSKey = "arn:aws:kms:eu-central-1:111122223333:key/1"
		},
		"key of messages": func(_ *config.Source, o *source.PlanOptions) {
			o.MessageKey = messageKey
		},
		"queue's name": func(s *config.Source, _ *source.PlanOptions) {
			s.Queue.URL = "https://sqs.eu-central-1.amazonaws.com/" + account + "/mine"
		},
		"queue of another region": func(s *config.Source, _ *source.PlanOptions) {
			s.Queue.URL = "https://sqs.us-east-1.amazonaws.com/" + account + "/mine"
		},
		"queue of another account": func(s *config.Source, _ *source.PlanOptions) {
			s.Queue.URL = "https://sqs.eu-central-1.amazonaws.com/444455556666/mine"
		},
		"China": func(_ *config.Source, o *source.PlanOptions) { o.Region = "cn-north-1" },
	} {
		t.Run(name, func(t *testing.T) {
			s, opts := testSource("production", "", ""), options
			change(&s, &opts)
			plan, err := source.NewPlan(s, []config.Source{s}, opts)
			require.NoError(t, err)
			partition, domain := "aws", "amazonaws.com"
			if name == "China" {
				partition, domain = "aws-cn", "amazonaws.com.cn"
			}
			got := evaluate(t, &plan, partition, domain)
			want := map[string][]string{}
			for document, policy := range map[string]any{
				"topic": plan.TopicPolicy(), "queue": plan.QueuePolicy(), "role": plan.RolePolicy(), "trust": plan.TrustPolicy(), "key": plan.KeyPolicy(),
			} {
				want[document] = allows(t, text(t, policy))
			}
			require.Equal(t, want, got)
		})
	}
}

// The module's role is for all sources of the call: it may do what the roles
// that are printed for each of them may.
func TestTheModulesRoleIsForAllSources(t *testing.T) {
	plan := testPlan(t)
	got := strings.Join(evaluate(t, &plan, "aws", "amazonaws.com")["role"], "\n")
	require.Contains(t, got, "[s3:ListBucket] on [arn:aws:s3:::audit-logs] by [] if [StringLikes3:prefix[it's/*]]")
	require.Contains(t, got, "[s3:ListBucket] on [arn:aws:s3:::audit-logs] by [] if [StringLikes3:prefix[staging/*]]")
	require.Contains(t, got, "on [arn:aws:s3:::audit-logs/it's/* arn:aws:s3:::audit-logs/staging/*]")
}

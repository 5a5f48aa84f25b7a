package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/auditstream/auditstream/pkg/config"
)

// Problem is one reason why rows can't be written exactly once.
type Problem struct {
	Subject, Found, Mend string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; to mend: %s", p.Subject, p.Found, p.Mend)
}

// UnfitError is a table that can't be written exactly once, with every problem.
type UnfitError struct {
	Table    string
	Problems []Problem
}

func (e *UnfitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s can't be written exactly once:", e.Table)
	for _, problem := range e.Problems {
		b.WriteString("\n  " + problem.String())
	}
	return b.String()
}

// Check is the sink's start-up check. An *UnfitError lists every reason why the
// table can't be written exactly once; any other error is a server that could
// not be asked.
//
// What only costs speed or comfort (codecs, indexes, order of columns) is
// Diff's business and refuses nothing.
func Check(ctx context.Context, conn driver.Conn, cfg config.ClickHouse) error {
	return check(ctx, conn, cfg, &events)
}

func check(ctx context.Context, conn driver.Conn, cfg config.ClickHouse, l *layout) error {
	database, name := TableName(cfg)
	ref := tableRef{database, name}
	unfit := &UnfitError{Table: ref.String()}
	known, err := knownSettings(ctx, conn)
	if err != nil {
		return err
	}
	refused, err := refusedSettings(ctx, conn, known)
	if err != nil {
		return err
	}
	for _, one := range refused {
		unfit.Problems = append(unfit.Problems, one.problem)
	}
	if slices.ContainsFunc(refused, refusedSetting.asks) {
		return unfit // nothing that is asked now could be believed
	}
	ctx = asking(ctx, known)
	state, found, err := inspect(ctx, conn, ref)
	if err != nil {
		return err
	}
	if !found {
		unfit.Problems = append(unfit.Problems, Problem{
			"table", "there is none",
			"run `auditstream schema apply`, or set clickhouse.createTable to let the sink create it",
		})
		return unfit
	}
	unfit.Problems = append(unfit.Problems, columnProblems(cfg, l, &state)...)
	engine := engineProblems(cfg, &state)
	unfit.Problems = append(unfit.Problems, engine...)
	if state.mergeTree() {
		windows, err := windowProblems(ctx, conn, &state, ref, onCluster(cfg))
		if err != nil {
			return err
		}
		unfit.Problems = append(unfit.Problems, windows...)
	}
	views, err := viewProblems(ctx, conn, &state, map[tableRef]bool{ref: true})
	if err != nil {
		return err
	}
	unfit.Problems = append(unfit.Problems, views...)
	grants, err := grantProblems(ctx, conn, ref)
	if err != nil {
		return err
	}
	unfit.Problems = append(unfit.Problems, grants...)
	if len(unfit.Problems) > 0 {
		return unfit
	}
	return nil
}

func columnProblems(cfg config.ClickHouse, l *layout, state *tableState) []Problem {
	var problems []Problem
	for _, difference := range diffColumns(cfg, l, state) {
		if strings.HasPrefix(difference.Want, "CODEC(") || !strings.HasPrefix(difference.Subject, "column ") {
			continue
		}
		mend := difference.Advice
		if difference.Statement != "" {
			mend = difference.Statement
		}
		problems = append(problems, Problem{
			difference.Subject, fmt.Sprintf("is %s, want %s", orMissing(difference.Have), difference.Want), mend,
		})
	}
	return problems
}

func orMissing(text string) string {
	if text == "" {
		return "missing"
	}
	return text
}

// engineProblems refuses engines without insert deduplication, and those that
// collapse rows by anything that does not include the id.
func engineProblems(cfg config.ClickHouse, state *tableState) []Problem {
	const rebuild = "create a table with `auditstream schema print`, copy the rows and exchange the two"
	if !state.mergeTree() {
		return []Problem{{"engine", state.engine + " does not drop a repeated insert", rebuild +
			"; behind a Distributed table, name the local table of one shard"}}
	}
	var problems []Problem
	if state.baseEngine() != "ReplacingMergeTree" || strings.HasPrefix(state.engineFull, "ReplacingMergeTree(") {
		problems = append(problems, Problem{"engine", firstWords(state.engineFull, state.engine) + " is not ReplacingMergeTree without parameters", rebuild})
	}
	if !containsWord(state.sortingKey, "id") {
		problems = append(problems, Problem{"sorting key", "(" + state.sortingKey + ") lacks id, so different rows would collapse", rebuild})
	}
	if len(cfg.Addresses) > 1 && !state.replicated() && !state.shared() {
		problems = append(problems, Problem{"clickhouse.addresses",
			fmt.Sprintf("%d servers but the engine %s keeps its rows, and the tokens of what was inserted, on one", len(cfg.Addresses), state.engine),
			"give one address, or use a Replicated engine (clickhouse.cluster)"})
	}
	return problems
}

func containsWord(list, word string) bool {
	for _, item := range strings.Split(list, ",") {
		if strings.TrimSpace(item) == word {
			return true
		}
	}
	return false
}

// windowProblems refuses a deduplication window that other inserts would push a
// batch out of between an attempt and its retry.
func windowProblems(ctx context.Context, conn driver.Conn, state *tableState, ref tableRef, cluster string) ([]Problem, error) {
	var problems []Problem
	for _, window := range windowsOf(state) {
		have, err := state.setting(ctx, conn, window.setting)
		if err != nil {
			return nil, err
		}
		if have < window.smallest {
			problems = append(problems, Problem{
				"setting " + window.setting,
				fmt.Sprintf("of %s is %d, at least %d is needed", ref, have, window.smallest),
				fmt.Sprintf("ALTER TABLE %s%s MODIFY SETTING %s = %d", ref, cluster, window.setting, window.want),
			})
		}
	}
	return problems, nil
}

// viewProblems looks at the target of every materialized view behind the table,
// and behind those: each must drop a repeated block too.
func viewProblems(ctx context.Context, conn driver.Conn, state *tableState, seen map[tableRef]bool) ([]Problem, error) {
	var problems []Problem
	for _, viewRef := range state.dependents {
		view, found, err := inspect(ctx, conn, viewRef)
		if err != nil {
			return nil, err
		}
		if !found || view.engine != "MaterializedView" {
			continue
		}
		ref, follows, err := view.target(ctx, conn)
		if err != nil {
			return nil, err
		}
		if !follows || seen[ref] {
			continue
		}
		seen[ref] = true
		target, found, err := inspect(ctx, conn, ref)
		if err != nil {
			return nil, err
		}
		switch {
		case !found:
			problems = append(problems, Problem{"view " + viewRef.String(), "its target " + ref.String() + " is not there",
				"create the target, or drop the view"})
		case target.engine == "Null":
		case !target.mergeTree():
			problems = append(problems, Problem{"view " + viewRef.String(),
				"its target " + ref.String() + " (" + target.engine + ") would get a repeated block twice",
				"use a MergeTree target, or detach the view"})
		default:
			windows, err := windowProblems(ctx, conn, &target, ref, "")
			if err != nil {
				return nil, err
			}
			for _, problem := range windows {
				problem.Subject = "view " + viewRef.String() + ", " + problem.Subject
				problems = append(problems, problem)
			}
		}
		if found {
			behind, err := viewProblems(ctx, conn, &target, seen)
			if err != nil {
				return nil, err
			}
			problems = append(problems, behind...)
		}
	}
	return problems, nil
}

// grantProblems asks for the rights the sink needs. Servers that don't know
// CHECK GRANT answer with a syntax error, and the first insert will tell.
func grantProblems(ctx context.Context, conn driver.Conn, ref tableRef) ([]Problem, error) {
	var problems []Problem
	for _, right := range []string{"INSERT", "SELECT"} {
		var granted uint8
		err := conn.QueryRow(ctx, "CHECK GRANT "+right+" ON "+ref.String()).Scan(&granted)
		var exception *clickhouse.Exception
		switch {
		case errors.As(err, &exception):
		case err != nil:
			return nil, fmt.Errorf("check grants: %w", err)
		case granted == 0:
			problems = append(problems, Problem{"grants", "the user has no " + right + " on " + ref.String(),
				"GRANT " + right + " ON " + ref.String() + " TO the user"})
		}
	}
	return problems, nil
}

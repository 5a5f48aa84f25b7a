package verify

import "time"

// Totals of objects and lines. Lines are those with rows, those of which a dead
// letter is all, and skips.
type Totals struct {
	Objects  int64 `json:"objects"`
	Dead     int64 `json:"deadObjects"` // set aside; what was fetched of them before counts
	Lines    int64 `json:"lines"`
	WithRows int64 `json:"linesWithRows"`
	DeadOnly int64 `json:"linesWithDeadLetters"`
	Skipped  int64 `json:"linesSkipped"`
	Rows     int64 `json:"rows"`
	Missing  int64 `json:"linesMissing"`
	Problems int64 `json:"problems"`
}

func (t *Totals) add(o Totals) {
	t.Objects += o.Objects
	t.Dead += o.Dead
	t.Lines += o.Lines
	t.WithRows += o.WithRows
	t.DeadOnly += o.DeadOnly
	t.Skipped += o.Skipped
	t.Rows += o.Rows
	t.Missing += o.Missing
	t.Problems += o.Problems
}

// SourceTotals are those of one source.
type SourceTotals struct {
	Workspace string `json:"workspace"`
	Source    string `json:"source"`
	Totals
}

// Problem is an object of which the table does not hold what it has to.
type Problem struct {
	Object     string    `json:"object"`
	URI        string    `json:"uri,omitempty"`
	Workspace  string    `json:"workspace"`
	Source     string    `json:"source"`
	ReceivedAt time.Time `json:"receivedAt"`

	// Unknown is an object with rows that the ledger does not know, at least not
	// at this workspace, source and time.
	Unknown bool `json:"unknown,omitempty"`
	// Unannounced is an object that is in the bucket and was never announced.
	Unannounced bool `json:"unannounced,omitempty"`

	Rows int64 `json:"rows"` // that are there
	Want int64 `json:"want"` // that there have to be

	Missing Ranges `json:"missing,omitempty"` // lines with neither row nor dead letter nor skip
	Short   Ranges `json:"short,omitempty"`   // lines with fewer rows than events
	Surplus Ranges `json:"surplus,omitempty"` // lines with rows that were not fetched, or gave none
	Doubled Ranges `json:"doubled,omitempty"` // lines with rows that are there twice
	// Unexamined: there were so many problems that of this one only the number of
	// rows was looked at.
	Unexamined bool `json:"unexamined,omitempty"`
}

func (p *Problem) key() Key {
	return Key{p.Workspace, p.Source, uint32(p.ReceivedAt.Unix()), p.Object} //nolint:gosec // as it came
}

// onlyDoubled tells whether nothing is wrong but what making rows again explains.
func (p *Problem) onlyDoubled() bool {
	return (len(p.Doubled) > 0 || p.Unexamined && p.Rows > p.Want) && !p.Unknown && !p.Unannounced &&
		len(p.Missing) == 0 && len(p.Short) == 0 && len(p.Surplus) == 0
}

// DeadObject is one that was set aside. It is no problem, but neither is it all
// there.
type DeadObject struct {
	Object string `json:"object"`
	URI    string `json:"uri"`
	Source string `json:"source"`
	Reason string `json:"reason"`
	Lines  int64  `json:"lines"` // that were fetched before
}

// Lag is how many records a group is behind.
type Lag struct {
	Group   string `json:"group"`
	Topic   string `json:"topic"`
	Records int64  `json:"records"`
}

// Report is what was found.
type Report struct {
	Since    time.Time      `json:"since,omitzero"`
	Until    time.Time      `json:"until,omitzero"`
	Totals   Totals         `json:"totals"`
	Sources  []SourceTotals `json:"sources"`
	Problems []Problem      `json:"problems"`
	Dead     []DeadObject   `json:"dead"`
	// UnderWay are ids of objects that are not all there yet.
	UnderWay []string `json:"underWay"`
	Lag      []Lag    `json:"lag"`
	// Again counts rows beyond the first of each, which making them again explains.
	Again int64 `json:"rowsAgain,omitempty"`
	// Listed counts the objects seen in buckets.
	Listed int64 `json:"listed,omitempty"`
	// LedgerBegins is when the first object of the ledger was received: what was
	// fetched before there was a ledger can't be verified.
	LedgerBegins time.Time     `json:"ledgerBegins,omitzero"`
	Took         time.Duration `json:"took"`
}

// Complete tells whether nothing is missing, and nothing too much.
func (r *Report) Complete() bool { return len(r.Problems) == 0 }

package clickhouse

import (
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// InsertError is an insert that did not succeed.
type InsertError struct {
	// Sent is false when no row had left for the server, so that surely none is
	// in the table. Otherwise the outcome is unknown, whatever the error says:
	// a batch has a part for each partition, and some may be there.
	Sent bool
	Err  error
}

func (e *InsertError) Error() string {
	if e.Sent {
		return fmt.Sprintf("outcome unknown: %v", e.Err)
	}
	return fmt.Sprintf("not sent: %v", e.Err)
}

func (e *InsertError) Unwrap() error { return e.Err }

// ErrRowsHidden is a table whose rows its writer does not see: a row policy, for
// one, hides them. Whether rows are in can't be proved then.
var ErrRowsHidden = errors.New("rows that the server has just acknowledged can't be seen by the user who inserted them: remove the row policy that hides them")

// mendable are the codes of errors that trying again does not mend: someone has
// to change the table, the user's rights or the configuration. All others
// (memory, timeouts, too many parts, quota, read-only table, disk full, a lost
// connection) pass by themselves.
var mendable = map[int32]string{
	6: "CANNOT_PARSE_TEXT", 8: "THERE_IS_NO_COLUMN", 10: "NOT_FOUND_COLUMN_IN_BLOCK",
	16: "NO_SUCH_COLUMN_IN_TABLE", 20: "NUMBER_OF_COLUMNS_DOESNT_MATCH", 36: "BAD_ARGUMENTS",
	43: "ILLEGAL_TYPE_OF_ARGUMENT", 44: "ILLEGAL_COLUMN", 46: "UNKNOWN_FUNCTION", 47: "UNKNOWN_IDENTIFIER",
	48: "NOT_IMPLEMENTED", 50: "UNKNOWN_TYPE", 53: "TYPE_MISMATCH", 60: "UNKNOWN_TABLE", 62: "SYNTAX_ERROR",
	70: "CANNOT_CONVERT_TYPE", 73: "UNKNOWN_FORMAT", 81: "UNKNOWN_DATABASE", 115: "UNKNOWN_SETTING",
	164: "READONLY", 171: "BLOCKS_HAVE_DIFFERENT_STRUCTURE", 192: "UNKNOWN_USER", 193: "WRONG_PASSWORD",
	194: "REQUIRED_PASSWORD", 218: "TABLE_IS_DROPPED", 291: "DATABASE_ACCESS_DENIED", 349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
	392: "QUERY_IS_PROHIBITED", 395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", 452: "SETTING_CONSTRAINT_VIOLATION",
	469: "VIOLATED_CONSTRAINT", 497: "ACCESS_DENIED", 516: "AUTHENTICATION_FAILED",
}

// NeedsMending reports whether trying again is of no use until someone changes
// something on the server. It is still tried again, at leisure: that is how the
// sink notices that it was changed.
func NeedsMending(err error) bool {
	var unfit *UnfitError
	var wrongType *typeError
	if errors.As(err, &unfit) || errors.As(err, &wrongType) || errors.Is(err, ErrRowsHidden) {
		return true
	}
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) {
		return false
	}
	_, found := mendable[exception.Code]
	return found
}

// Package trace follows one line, or one object, through the pipeline: where it
// is in each topic and in the table, when it came there, and where it is no
// longer, not yet, or not at all. It stands beside the stages and changes
// nothing: it reads topics outside of any group, the groups' offsets, and the
// table.
package trace

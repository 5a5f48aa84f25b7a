// Package verify answers whether all of it is there: it holds the ledger of what
// was fetched against the rows in the table. Of each object of the ledger every
// line has to have its rows, or a dead letter, or to be a counted skip, and no
// row may be there that the ledger does not account for.
//
// It looks in two steps. The first reads both tables once, in the order of their
// keys, and compares two numbers for each object: how many rows it has, and the
// sum of a hash over their lines and events. That depends on no order and needs
// no set, so its memory does not grow with the table. Only objects whose numbers
// differ are looked at line by line. What then still differs may only be under
// way, which is asked of Kafka.
package verify

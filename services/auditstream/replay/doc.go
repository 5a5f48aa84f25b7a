// Package replay does work again that the pipeline has done: it reads a part of
// a topic once more, next to the running pipeline, and brings the rows into the
// table or another one.
//
//	plan     what is to be read, recorded in a consumer group of the replay's own (plan.go)
//	announce from the buckets only: the objects once more, in topics of the replay's own (objects.go)
//	fill     a bounded sink, with the recorded intents of the stage (fill.go)
//	swap     the filled table in the live one's place (swap.go)
//
// Normalizing is a function of the line, the configuration and the GeoIP build,
// so it is done on the way, and the pipeline never sees a record of a replay.
package replay

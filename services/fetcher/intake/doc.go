// Package intake is the first half of the fetcher: it finds out which objects
// there are and announces them in the topic `objects`. Announcing twice is
// harmless, since split follows only the first; not announcing is not.
//
// Announcer is what every kind of intake writes through. Listing lists a bucket
// and prefix at an interval; Queues follows the notifications in SQS queues, and
// deletes a message when all that it tells of is durable.
package intake

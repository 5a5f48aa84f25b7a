// Package kafka is how the stages reach Kafka: connections with TLS and SASL
// (Options), consume-process-produce in Kafka transactions (Transactions),
// where to start in a partition (StartPolicy), and how far behind a group is
// (Lag); beside them, reading bounded parts of topics outside of any group
// (Scan). The fetcher and the enricher run on Transactions; the sink keeps its
// own offsets protocol and uses the rest.
package kafka

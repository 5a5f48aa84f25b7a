//go:build !failpoints

package failpoint

import "github.com/twmb/franz-go/pkg/kgo"

// Armed tells whether the binary was built with the tag.
const Armed = false

// Here is a point.
func Here(string) {}

// Kafka are the options of a client whose requests and replies are points.
func Kafka() []kgo.Opt { return nil }

package kafka

import (
	"testing"
	"time"
)

// SetScanPatience changes how long a scan waits for records, until the test ends.
func SetScanPatience(t *testing.T, patience time.Duration) {
	t.Helper()
	before := scanPatience
	scanPatience = patience
	t.Cleanup(func() { scanPatience = before })
}

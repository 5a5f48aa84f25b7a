//go:build failpoints

package failpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Armed tells whether the binary was built with the tag.
const Armed = true

var (
	order = readOrder()
	hits  atomic.Int64
)

func readOrder() *Order {
	text, given := os.LookupEnv(Variable)
	if !given {
		return nil
	}
	o := new(Order)
	if err := json.Unmarshal([]byte(text), o); err != nil {
		panic(fmt.Sprintf("%s: %v", Variable, err))
	}
	return o
}

// Here is a point.
func Here(point string) {
	if order == nil || order.Point != point || hits.Add(1) != int64(order.Hits) {
		return
	}
	if order.DelayMicros > 0 {
		time.AfterFunc(time.Duration(order.DelayMicros)*time.Microsecond, act)
		return
	}
	act()
}

func act() {
	if err := os.WriteFile(order.Reached, nil, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "fail point:", err)
	}
	signal := syscall.SIGKILL
	if order.Stop {
		signal = syscall.SIGSTOP
	}
	// The signal may be served on another thread a moment later; a stopped process
	// goes on from here when it is woken.
	_ = syscall.Kill(syscall.Getpid(), signal)
	if !order.Stop {
		select {}
	}
}

// Kafka are the options of a client whose requests and replies are points:
// "kafka EndTxn sent" and "kafka EndTxn answered", and so for each request.
func Kafka() []kgo.Opt { return []kgo.Opt{kgo.WithHooks(requests{})} }

type requests struct{}

func (requests) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err == nil {
		Here("kafka " + kmsg.NameForKey(key) + " sent")
	}
}

func (requests) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err == nil {
		Here("kafka " + kmsg.NameForKey(key) + " answered")
	}
}

package embedded

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// childVariable carries the order of a child process. Its presence is what
// makes a process a child.
const childVariable = "AUDITSTREAM_EMBEDDED_CHILD"

// childGrace is how long a child may take to end by itself once its parent is
// gone or asks it to stop.
const childGrace = 15 * time.Second

// childOrder says what a child process is to run. Exactly one field is set.
type childOrder struct {
	Engine *engineOrder `json:"engine,omitempty"`
	Server *serverOrder `json:"server,omitempty"`
	S3     *s3Order     `json:"s3,omitempty"`
}

// engineOrder runs the ClickHouse library in this process.
type engineOrder struct {
	Library   string   `json:"library"`
	Arguments []string `json:"arguments"`
}

// serverOrder runs a clickhouse binary below this process.
type serverOrder struct {
	Binary    string   `json:"binary"`
	Arguments []string `json:"arguments"`
}

// s3Order runs the S3 server in this process.
type s3Order struct {
	Address         string `json:"address"`
	Data            string `json:"data"`
	Metadata        string `json:"metadata"`
	AccessKeyID     string `json:"accessKeyID"`
	SecretAccessKey string `json:"secretAccessKey"`
	Region          string `json:"region"`
}

// RunChildIfAsked serves and exits when this process was started as a child of
// this package, and returns at once otherwise. It must run before flags are
// parsed and before anything is opened.
func RunChildIfAsked() {
	text, asked := os.LookupEnv(childVariable)
	if !asked {
		return
	}
	// What the child starts in turn must not take itself for a child.
	_ = os.Unsetenv(childVariable)

	var order childOrder
	err := json.Unmarshal([]byte(text), &order)
	if err == nil {
		err = runChild(order)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(order childOrder) error {
	switch {
	case order.Engine != nil:
		go exitWithParent(os.NewFile(3, "parent"))
		return runEngine(*order.Engine)
	case order.Server != nil:
		return runServer(*order.Server)
	case order.S3 != nil:
		go exitWithParent(os.NewFile(3, "parent"))
		return runS3(*order.S3)
	default:
		return fmt.Errorf("%s names nothing to run", childVariable)
	}
}

// exitWithParent ends this process when the parent is gone and the orderly way
// out (standard input at its end) does not lead out within the grace time. The
// parent holds both pipes and closes them by ending, whatever ends it.
//
// PR_SET_PDEATHSIG would be shorter, but it fires when the parent's thread
// ends, not its process, and the Go runtime ends threads as it likes.
func exitWithParent(parent io.Reader) {
	_, _ = io.Copy(io.Discard, parent)
	time.Sleep(childGrace)
	fmt.Fprintln(os.Stderr, "did not end in time after the parent")
	killSelf()
}

//go:build noembedded

package embedded

import "errors"

var errNotBuiltIn = errors.New("this build has no embedded servers (build tag noembedded)")

func runEngine(engineOrder) error { return errNotBuiltIn }

func runS3(s3Order) error { return errNotBuiltIn }

package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/auditstream/auditstream/pkg/access"
)

// What a caller decides on. Any other error of this package is an answer of
// the store that none of these describes (a bad request, a wrong region).
var (
	// ErrMissing: no such bucket, object or version.
	ErrMissing = errors.New("object missing")
	// ErrForbidden: the store denies access to this object.
	ErrForbidden = errors.New("access to object forbidden")
	// ErrArchived: the object is in a storage class that has to be restored first.
	ErrArchived = errors.New("object archived")
	// ErrChanged: the object no longer has the content that was asked for.
	ErrChanged = errors.New("object changed")
	// ErrUnavailable: the store doesn't answer, is overloaded, or doesn't accept
	// our credentials at all. It says nothing about the object: try again later.
	ErrUnavailable = errors.New("object store unavailable")
)

// notAboutTheObject are error codes with which a store refuses us, whatever we
// ask for, or asks us to slow down.
var notAboutTheObject = map[string]bool{
	"ExpiredToken":             true,
	"ExpiredTokenException":    true,
	"InvalidAccessKeyId":       true,
	"InvalidToken":             true,
	"SignatureDoesNotMatch":    true,
	"RequestTimeTooSkewed":     true,
	"RequestTimeout":           true,
	"SlowDown":                 true,
	"Throttling":               true,
	"ThrottlingException":      true,
	"RequestLimitExceeded":     true,
	"BandwidthLimitExceeded":   true,
	"ServiceUnavailable":       true,
	"InternalError":            true,
	"OperationAborted":         true,
	"TooManyRequestsException": true,
}

// classify gives err the sentinel that says what to do about it.
func classify(err error) error {
	if err == nil {
		return nil
	}
	if access.IsRefused(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var api smithy.APIError
	if errors.As(err, &api) && notAboutTheObject[api.ErrorCode()] {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if api != nil && api.ErrorCode() == "InvalidObjectState" {
		return fmt.Errorf("%w: %w", ErrArchived, err)
	}
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() == 0 {
		// Nothing came back: no connection, no credentials, or the caller gave up.
		if errors.Is(err, context.Canceled) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch status := response.HTTPStatusCode(); {
	case status == http.StatusNotFound || status == http.StatusGone:
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", ErrChanged, err)
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= http.StatusInternalServerError:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// isRangeBeyondEnd tells whether the store was asked for bytes after the last.
func isRangeBeyondEnd(err error) bool {
	var response *awshttp.ResponseError
	return errors.As(err, &response) && response.HTTPStatusCode() == http.StatusRequestedRangeNotSatisfiable
}

package main

import (
	"context"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// unlisted is a folder of buckets whose names nobody is told.
type unlisted struct {
	backend.Backend
}

// ListBuckets refuses: what GET / asks for.
func (unlisted) ListBuckets(
	context.Context, s3response.ListBucketsInput,
) (s3response.ListAllMyBucketsResult, error) {
	return s3response.ListAllMyBucketsResult{}, s3err.GetAPIError(s3err.ErrAccessDenied)
}

// ListBucketsAndOwners refuses: what the gateway's admin calls ask for, should they ever be reached.
func (unlisted) ListBucketsAndOwners(context.Context) ([]s3response.Bucket, error) {
	return nil, s3err.GetAPIError(s3err.ErrAccessDenied)
}

// ChangeBucketOwner refuses: there is one key, and nobody to give a bucket to.
func (unlisted) ChangeBucketOwner(context.Context, string, string) error {
	return s3err.GetAPIError(s3err.ErrAccessDenied)
}

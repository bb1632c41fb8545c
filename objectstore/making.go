package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/valyala/fasthttp"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
)

// makeBucketHeader in a PUT of an object asks to make the bucket where there is none yet: a job's bucket
// and its input are then one request of a batch instead of two. Only clients that know of it send it
// (cli/leruli/storage/fast_put.py); other storages pass it over and say that there is no bucket.
const makeBucketHeader = "X-Leruli-Make-Bucket"

// making is a folder of buckets that are also made by the first object that is put into them.
type making struct {
	backend.Backend
	acl []byte
}

func newMaking(buckets backend.Backend) (making, error) {
	// As the gateway writes it for a bucket that is made by a request of its own.
	acl, err := json.Marshal(auth.ACL{Owner: owner, Grantees: []auth.Grantee{
		{Permission: auth.PermissionFullControl, Access: owner, Type: types.TypeCanonicalUser},
	}})
	return making{buckets, acl}, err
}

// GetBucketAcl is the first that the gateway asks of a bucket once it knows whose a request is.
func (buckets making) GetBucketAcl(ctx context.Context, input *s3.GetBucketAclInput) ([]byte, error) {
	acl, err := buckets.Backend.GetBucketAcl(ctx, input)
	if isMissing(err) && isToMakeBucket(ctx) {
		if err := buckets.make(ctx, *input.Bucket); err != nil {
			return nil, err
		}
		return buckets.Backend.GetBucketAcl(ctx, input)
	}
	return acl, err
}

func (buckets making) make(ctx context.Context, bucket string) error {
	locked := false
	err := buckets.CreateBucket(ctx, &s3.CreateBucketInput{
		Bucket:                     &bucket,
		ObjectOwnership:            types.ObjectOwnershipBucketOwnerEnforced,
		ObjectLockEnabledForBucket: &locked,
		CreateBucketConfiguration:  &types.CreateBucketConfiguration{},
	}, buckets.acl)
	// Another request made it meanwhile: as good.
	if code := errorCode(err); code == "BucketAlreadyExists" || code == "BucketAlreadyOwnedByYou" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make bucket: %w", err)
	}
	return nil
}

// isToMakeBucket tells whether the request is a PUT by the group's key with the header.
func isToMakeBucket(ctx context.Context) bool {
	request, ok := ctx.(*fasthttp.RequestCtx)
	if !ok || !request.IsPut() || len(request.Request.Header.Peek(makeBucketHeader)) == 0 {
		return false
	}
	// Nobody, until the signature is right. No PUT comes this far without one, and none shall ever.
	account, ok := request.UserValue(string(utils.ContextKeyAccount)).(auth.Account)
	return ok && account.Access != ""
}

func isMissing(err error) bool {
	return errorCode(err) == "NoSuchBucket"
}

// errorCode is S3's name for an error of the gateway, empty if it has none.
func errorCode(err error) string {
	var known s3err.S3Error
	if errors.As(err, &known) {
		return known.BaseError().Code
	}
	return ""
}

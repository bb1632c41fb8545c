"""The group's object storage (S3): buckets, objects, retries."""

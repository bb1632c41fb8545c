"""The group's S3 store, and who may write there."""

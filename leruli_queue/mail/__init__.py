"""Mail about batches: who wants it, what is in it, and sending it (docs/developers/mail.md)."""

"""The verbs of the command line client, a file each.

A verb reads its options and settings, calls one function of the package and prints what came of it.
The libraries for HTTP, S3 and bars are imported when a verb runs, not before: `leruli --help` is
quick.
"""

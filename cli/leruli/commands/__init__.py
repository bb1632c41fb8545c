"""The verbs of the command line client, a file each.

A verb reads its options and settings, calls one function of the package and prints what came of it.
Only the verb that is run is imported, and the libraries for HTTP, S3 and bars when it runs, not
before: of a short command the imports are most of what its user waits for.
"""

"""The functions of `import leruli`, a file a subject.

They print nothing. `leruli/__init__.py` imports each when it is first used: the libraries for HTTP
and S3 that they need take a quarter of a second.
"""

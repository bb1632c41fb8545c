"""The commands of the command line client, one file each.

A command reads its options and settings, calls one function of the package and prints the result.
Only the command that runs is imported. It imports the libraries for HTTP, S3 and progress bars
after its checks, because imports take most of the time of a short command.
"""

"""`python -m leruli`."""

from leruli.cli import main

if __name__ == "__main__":
    main()

"""`python -m serving`: the same as the command `serving`."""

from serving.cli import main

if __name__ == "__main__":
    main()

"""`python -m alloysmith` is the command line."""

from .loop.cli.app import main

if __name__ == "__main__":
    main()

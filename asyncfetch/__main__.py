"""`python -m asyncfetch` is the command."""

from asyncfetch.cli import main

if __name__ == "__main__":
    main()

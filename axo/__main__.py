"""`python -m axo` is the same as the `axo` command."""

from axo.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m unproxy` is the same as `unproxy`."""

from unproxy.cli import main

if __name__ == "__main__":
    main()

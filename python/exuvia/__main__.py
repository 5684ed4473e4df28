"""The `exuvia` command: `python -m exuvia` is the same as the binary."""

import sys

from exuvia import _native


def main() -> int:
    """Run the command line and return its exit code."""
    return _native.main(["exuvia", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())

"""The `exuvia` command: `python -m exuvia` is the same as the binary."""

import sys

from exuvia import _native


def main() -> int:
    """Run the command line as the script `exuvia`, and return its exit code."""
    return _native.main(["exuvia", *sys.argv[1:]], False)


if __name__ == "__main__":
    # Who types a Python's name has chosen that Python for the handlers too.
    sys.exit(_native.main(["exuvia", *sys.argv[1:]], True))

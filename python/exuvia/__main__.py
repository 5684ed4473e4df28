"""The `exuvia` command: `python -m exuvia` is the same as the binary."""

import signal
import sys

from exuvia import _native


def main() -> int:
    """Run the command line as the script `exuvia`, and return its exit code."""
    return _run(False)


def _run(chosen: bool) -> int:
    # The command has its own way with Ctrl-C; Python would raise KeyboardInterrupt at its end.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(["exuvia", *sys.argv[1:]], chosen)


if __name__ == "__main__":
    # Who types a Python's name has chosen that Python for the handlers too.
    sys.exit(_run(True))

"""Write Seattle's hourly temperatures of 2010 as rows, to have something to send.

    python examples/weather/rows.py seattle.json      one JSON list of rows
    python examples/weather/rows.py seattle.ndjson    one row a line

Without a path, or with ``-``, the JSON list goes to stdout.
"""

import sys
from pathlib import Path

from vega_datasets import data

# Not handlers: the folder is served, and this file is a script in it.
__all__: list[str] = []


def main(path: str = "-") -> None:
    """Write the rows to ``path``, in the form its ending names."""
    lines = path.endswith((".ndjson", ".jsonl"))
    if not lines and path != "-" and not path.endswith(".json"):
        sys.exit(f"error: {path}: the name must end in .json or .ndjson (or be - for stdout)")
    text = data.seattle_temps().to_json(
        orient="records", lines=lines, date_format="iso", date_unit="s"
    )
    if path == "-":
        print(text)
    else:
        Path(path).write_text(text + ("" if lines else "\n"), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit("usage: python rows.py [seattle.json | seattle.ndjson]")
    main(*sys.argv[1:])

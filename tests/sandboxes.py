"""Bundles for the tests of sandboxes."""

import json
from pathlib import Path

MANIFEST = {
    "schema": "exuvia.bundle/1",
    "limits": {"memory": "64MiB"},
    "files": {"mode": "read-write", "quota": "1MiB"},
}


def adder(place: Path) -> Path:
    """Give a folder that is a bundle: it adds, and writes where it may."""
    folder = place / "adder"
    folder.mkdir()
    (folder / "exuvia.bundle.json").write_text(json.dumps(MANIFEST))
    (folder / "main.py").write_text(
        "import part\n"
        "def handler(a, b=1): return part.add(a, b)\n"
        "def writes(): return open('/session/left', 'w').write('x' * 100)\n"
    )
    (folder / "part.py").write_text("def add(a, b): return a + b\n")
    return folder

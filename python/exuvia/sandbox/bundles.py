"""Bundles of a sandbox: what can be wrong with them, and where they are unpacked."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["BundleError", "PackagesError", "Store", "bundle_error", "search_path"]


class BundleError(ValueError):
    """A bundle cannot be used.

    Attributes:
        faults: What is wrong in its manifest: `pointer` (a JSON Pointer) and `message` of each.
        limit: The limit it exceeds: `kind`, `path`, `actual` and `limit`; else None.
    """

    def __init__(self, message: str, data: dict[str, Any]) -> None:
        super().__init__(message)
        self.faults: list[dict[str, str]] = data.get("faults", [])
        self.limit: dict[str, Any] | None = data.get("limit")

    def __reduce__(self) -> tuple[Any, ...]:
        return bundle_error, (str(self), {"faults": self.faults, "limit": self.limit})


class PackagesError(BundleError):
    """A bundle needs packages that the environment does not have.

    Attributes:
        missing: Each as the bundle asks for it, with the version that is installed if one is.
        command: What installs them.
    """

    def __init__(self, path: str, missing: list[str], command: str) -> None:
        words = ", ".join(missing)
        super().__init__(
            f"{path} needs packages that the environment does not have: {words}\n  run: {command}",
            {},
        )
        self._path = path
        self.missing = missing
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return PackagesError, (self._path, self.missing, self.command)


def bundle_error(message: str, data: dict[str, Any]) -> BundleError:
    """The exception for a bundle; called by the native module."""
    return BundleError(message, data)


def search_path(python: str) -> list[str]:
    """Where isolates look for packages: the interpreter's own places, and nothing of its user's."""
    command = [python, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    return [str(path) for path in json.loads(done.stdout)]


class Store:
    """A folder for unpacked bundles, of one sandbox alone."""

    def __init__(self, group: int) -> None:
        self._pid = os.getpid()
        self._home = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Held as long as this process, or a fork of it, is there.
        self._lock = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = self._home / "bundles"
        self.path.mkdir(0o700)
        if os.geteuid() == 0:
            # Isolates are not root's. They, and nobody else, may look into the folder.
            for folder in (self._home, self.path):
                os.chown(folder, -1, group)
                folder.chmod(0o710)
        _sweep(self._home.parent)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        # In a forked child it is the parent's.
        if self._lock < 0 or os.getpid() != self._pid:
            return
        _remove(self._home)
        os.close(self._lock)
        self._lock = -1


_PREFIX = "exuvia-sandbox-"
# Seconds after which a folder that nobody holds is nobody's: its maker was killed.
_STALE = 600


def _sweep(place: Path) -> None:
    """Remove what programs of this user have left that could not do it themselves."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            known = folder.lstat()
            is_old = time.time() - known.st_mtime > _STALE
            if is_old and stat.S_ISDIR(known.st_mode) and known.st_uid == os.geteuid():
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder)
                finally:
                    os.close(lock)


def _remove(home: Path) -> None:
    for folder, _, _ in os.walk(home):
        # What was unpacked is shut for writing.
        Path(folder).chmod(0o700)
    shutil.rmtree(home, ignore_errors=True)

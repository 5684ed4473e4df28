"""Fresh calls with faults of every kind, and killed isolates and images: nothing stays behind.

EXUVIA_SANDBOX_CHAOS says how many calls, 300 by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exuvia.sandbox import support

CALLS = int(os.environ.get("EXUVIA_SANDBOX_CHAOS", "300"))
SEED = int(os.environ.get("EXUVIA_SANDBOX_SEED", "1"))
# Heaps grow and shrink by pieces; a call that leaked anything of its own would leak more.
MOST_GROWTH = 4 << 20

pytestmark = [
    pytest.mark.skipif(support().tier == "none", reason="this machine has no sandbox"),
    # The first test waits for all calls.
    pytest.mark.timeout(180 + CALLS),
]

PROGRAM = '''
import asyncio, collections, gc, json, os, random, signal, sys, time
sys.path.insert(0, TESTS)
import exuvia.sandbox
from processes import children_of, held_at_rest, name_of, zombies_of

OK = {"ok"}
# What an isolate is told that is killed before its guest is there.
KILLED_EARLY = ("the isolate ended before it was closed in", "an isolate failed before")
# Code, the options it has, how it ends.
FAULTS = [
    ("40 + 2", {}, OK),
    ("import numpy as np; int(np.arange(10_000).sum())", {}, OK),
    ("open('/session/a', 'w').write('x' * 10_000)", {}, OK),
    ("bytes(200_000)", {}, OK),
    ("print('x' * 5000)", {}, OK),
    ("1 / 0", {}, {"exception"}),
    ("import nothing_of_that_name", {}, {"exception", "load"}),
    ("def", {}, {"exception", "load"}),
    ("raise SystemExit(3)", {}, {"exception"}),
    ("import os; os._exit(3)", {}, {"exited"}),
    ("import os; os.abort()", {}, {"crash"}),
    ("import ctypes; ctypes.string_at(0)", {}, {"crash"}),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {}, {"exited"}),
    ("while True: pass", {"cpu": "20ms"}, {"limit"}),
    ("import time; time.sleep(60)", {"wall": "30ms"}, {"timeout"}),
    ("a = []\\nwhile True: a.append(bytes(1 << 20))", {}, {"limit"}),
    ("while True: print('x' * 10_000)", {}, {"limit"}),
    ("for n in range(10**6): open(f'/session/{n}', 'w').close()", {}, {"limit"}),
    ("open('/session/a', 'wb').write(bytes(1 << 25))", {}, {"limit"}),
    ("import os; os.fork()", {}, {"denied"}),
    ("import os\\nwhile True:\\n try: os.fork()\\n except OSError: pass", {}, {"denied"}),
    ("import threading, time\\nwhile True: threading.Thread(target=time.sleep, args=(60,),"
     " daemon=True).start()", {}, {"limit"}),
    ("import os, time; os.write(3, os.urandom(1000)); time.sleep(60)", {}, {"denied"}),
    ("import os, socket, time; socket.socket(fileno=os.dup(3)).shutdown(2); time.sleep(60)", {},
     {"denied"}),
    ("import time; time.sleep(60)", {"cancel": True}, {"cancelled"}),
    ("a = bytes(1 << 26)", {"cancel": True}, {"cancelled", "ok"}),
]

async def one(box, random, ends):
    code, options, expected = random.choice(FAULTS)
    options = dict(options)
    cancel = options.pop("cancel", False)
    calls = box.with_options(**options) if options else box
    task = asyncio.create_task(calls.run_async(code))
    if cancel:
        await asyncio.sleep(random.random() * 0.02)
        task.cancel()
    try:
        outcome = await task
    except asyncio.CancelledError:
        ends["cancelled"] += 1
        return
    word = "ok" if outcome.ok else outcome.failure.kind
    ends[word] += 1
    told = outcome.document().get("failure", {})
    killed = told.get("signal") == "SIGKILL" or any(
        text in told.get("message", "") for text in KILLED_EARLY
    )
    if word not in expected and not killed:
        UNEXPECTED.append([code, word, str(outcome.failure)])

UNEXPECTED = []

async def kill(box, random, ends, going):
    while going:
        await asyncio.sleep(random.random() * 0.1)
        image = box.status.image
        if random.random() < 0.05:
            victims, what = [image], "killed image"
        else:
            victims, what = [pid for pid in children_of(os.getpid()) if pid != image], "killed"
        if victims and victims[0]:
            try:
                os.kill(random.choice(victims), signal.SIGKILL)
                ends[what] += 1
            except ProcessLookupError:
                pass

async def many(box, random, count, ends, killing):
    going = [True]
    killer = asyncio.create_task(kill(box, random, ends, going)) if killing else None
    left = count

    async def lane():
        nonlocal left
        while left > 0:
            left -= 1
            await one(box, random, ends)

    await asyncio.gather(*(lane() for _ in range(4)))
    going.clear()
    if killer:
        await killer

def memory():
    gc.collect()
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["RssAnon"].split()[0]) * 1024

def at_rest(box):
    """What is held when spares are there again, and no isolate is on its way out."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = box.status
        if status.ready < 2:
            # What was killed while it waited is made anew with the next call.
            box.run("1")
            time.sleep(0.1)
            continue
        kids = children_of(os.getpid())
        # The image, those that wait, and nobody else.
        if not zombies_of(os.getpid()) and len(kids) == status.ready + 1:
            break
        time.sleep(0.05)
    return held_at_rest(os.getpid()), len(kids) - status.ready

def report():
    rng, ends = random.Random(SEED), collections.Counter()
    mounts = open("/proc/self/mountinfo").read()
    with exuvia.sandbox.Sandbox(
        preload=["numpy"], files="read-write", memory="64MiB", concurrency=4, wall="20s"
    ) as box:
        # What is made once, and every way at least some times.
        asyncio.run(many(box, rng, max(150, CALLS // 5), ends, True))
        box.run("1")
        first, rss = at_rest(box), memory()
        asyncio.run(many(box, rng, CALLS, ends, True))
        box.run("1")
        last, rss_after = at_rest(box), memory()
        still = box.run("6 * 7").value
    deadline = time.monotonic() + 10
    while children_of(os.getpid()) + zombies_of(os.getpid()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {
        "ends": ends, "unexpected": UNEXPECTED, "still": still, "growth": rss_after - rss,
        "before": [dict(first[0][0]), first[0][1], first[1]],
        "after": [dict(last[0][0]), last[0][1], last[1]],
        "left": [
            (pid, name_of(pid)) for pid in children_of(os.getpid()) + zombies_of(os.getpid())
        ],
        "mounts": open("/proc/self/mountinfo").read() == mounts,
    }

print(json.dumps(report()))
'''


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, project_python: Path) -> dict[str, Any]:
    """What a program saw of itself, after all its calls."""
    folder = tmp_path_factory.mktemp("chaos")
    program = folder / "chaos.py"
    head = f"TESTS, CALLS, SEED = {str(Path(__file__).parent)!r}, {CALLS}, {SEED}\n"
    program.write_text(head + PROGRAM)
    (folder / "tmp").mkdir()
    done = subprocess.run(
        [str(project_python), str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        timeout=120 + CALLS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    found["temporary"] = os.listdir(folder / "tmp")  # noqa: PTH208
    print(found["ends"], "growth", found["growth"], file=sys.stderr)
    return found


def test_every_call_ends_as_its_fault_says(seen: dict[str, Any]) -> None:
    assert seen["unexpected"] == []
    assert sum(seen["ends"].values()) >= CALLS
    assert seen["ends"]["killed"] > 0


def test_the_sandbox_is_as_good_as_new(seen: dict[str, Any]) -> None:
    assert seen["still"] == 42


def test_no_process_is_left(seen: dict[str, Any]) -> None:
    assert seen["left"] == []
    # The image alone, beside those that wait.
    assert seen["after"][2] == 1


def test_no_descriptor_and_no_memfd_is_left(seen: dict[str, Any]) -> None:
    assert seen["after"][:2] == seen["before"][:2]


def test_no_mount_and_no_folder_is_left(seen: dict[str, Any]) -> None:
    assert seen["mounts"]
    assert seen["temporary"] == []


def test_the_hosts_memory_is_flat(seen: dict[str, Any]) -> None:
    assert seen["growth"] < MOST_GROWTH

"""Guests that speak to the host by themselves: docs/security.md 2.8, and section 6.

Whatever comes on an isolate's channel, its pipes, its status page and its files, the host lives, is
not blamed for it, keeps nothing of it, and serves the next call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from exuvia.sandbox import Outcome, Sandbox, support
from processes import held_at_rest, wait_until

RUNS = int(os.environ.get("EXUVIA_SANDBOX_RUNS", "5"))
# Of the pages of this process, which runs the host too.
MOST_GROWTH = 16 << 20

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or support().tier == "none", reason="this machine has no sandbox"
)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(files="read-write", memory="128MiB", wall="10s", concurrency=2) as box:
        box.run("1")
        yield box


def check(box: Sandbox, outcome: Outcome) -> None:
    """It is not the host's fault, and the next call does not notice."""
    if outcome.failure is not None:
        told = outcome.document()["failure"]
        assert told["responsible"] == "guest", told
        assert told["kind"] != "timeout", told
    assert box.run("6 * 7").value == 42


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def rested(box: Sandbox) -> object:
    """What this process holds when two isolates wait, and none is on its way out."""
    box.run("1")
    wait_until("spares", lambda: box.status.ready == 2, 30)
    return held_at_rest(os.getpid())


# Headers as in docs/protocol.md, section 2, most of them for the call that runs.
FRAMES = """
import os, random, struct
generator = random.Random({seed})
pick = generator.choice
def frame():
    length = pick([0, 1, 8, 24, 100, 2**16, 2**31, 2**32 - 1, generator.randrange(2**32)])
    kind = pick([4, 4, 5, 6, *range(16), generator.randrange(256)])
    flags, slot, call = pick([0, 0, 1, 2, 255]), pick([0, 0, 0, 1]), pick([2, 4, 4, 6, 2**63])
    head = struct.pack("<IBBHQ", length, kind, flags, slot, call)
    body = bytes(24) + generator.randbytes(5000)
    return head + body[pick([0, 24]):][:min(length, pick([0, 10, 24, 100, 5000]))]
sent = 0
while sent < 200_000:
    sent += os.write(3, frame())
"""


@pytest.mark.parametrize("seed", range(4 * RUNS))
def test_frames_that_it_made_itself(box: Sandbox, seed: int) -> None:
    check(box, box.run(FRAMES.format(seed=seed)))


def test_a_frame_that_never_ends_takes_no_memory(box: Sandbox) -> None:
    code = "import os\nwhile True: os.write(3, b'\\xff\\xff\\xff\\x7f' + bytes(1 << 16))"
    before = resident()
    check(box, box.run(code))
    assert resident() - before < MOST_GROWTH


DESCRIPTORS = """
import os, socket
channel = socket.socket(fileno=os.dup(3))
pipes = [end for _ in range(100) for end in os.pipe()]
channel.setblocking(False)
try:
    for _ in range(100): socket.send_fds(channel, [b"\\0" * {length}], pipes)
except BlockingIOError: pass
"""


@pytest.mark.parametrize("length", [1, 64])
def test_descriptors_that_nobody_asked_for(box: Sandbox, length: int) -> None:
    before = rested(box)
    for _ in range(RUNS):
        check(box, box.run(DESCRIPTORS.format(length=length)))
    assert rested(box) == before


def test_the_status_page_filled_with_anything(box: Sandbox) -> None:
    code = """
import mmap, os, random
page = mmap.mmap(5, os.fstat(5).st_size)
for seed in range(200):
    page[:] = random.Random(seed).randbytes(len(page))
page[:] = b"\\xff" * len(page)
1
"""
    for _ in range(RUNS):
        check(box, box.run(code))


def test_the_pipe_for_crashes_filled(box: Sandbox) -> None:
    code = """
import ctypes, os
os.set_blocking(4, False)
try:
    while True: os.write(4, b"Fatal Python error: Aborted\\n" + os.urandom(1000))
except BlockingIOError: pass
ctypes.string_at(0)
"""
    outcome = box.run(code)
    check(box, outcome)
    assert outcome.document()["failure"]["kind"] == "crash"


@pytest.mark.parametrize("how", ["shutdown(0)", "shutdown(1)", "shutdown(2)"])
def test_the_channel_shut_down(box: Sandbox, how: str) -> None:
    code = f"import os, socket, time\nsocket.socket(fileno=os.dup(3)).{how}\ntime.sleep(1)\n1"
    check(box, box.run(code))


def test_memory_of_arguments_cannot_be_cut_off_or_changed(box: Sandbox) -> None:
    code = """
import mmap, os, stat
def handler(data):
    tried, got = 0, []
    for descriptor in range(5, 256):
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode): continue
        except OSError: continue
        tried += 1
        for what in (
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.ftruncate(descriptor, 1 << 25),
            lambda: os.pwrite(descriptor, b"x", 1 << 25),
            lambda: os.posix_fallocate(descriptor, 0, 1 << 25),
        ):
            try: what()
            except OSError: continue
            got.append(descriptor)
    return [tried, got, len(data)]
"""
    data = bytes(range(256)) * 4096
    outcome = box.run(code, data)
    assert outcome.value[1:] == [[], len(data)]
    assert outcome.value[0] >= 1
    assert data == bytes(range(256)) * 4096


SWAPS = """
import os, threading
os.mkdir("/session/here")
open("/session/here/own", "w").close()
os.symlink("/", "/session/there")
def swap():
    while True:
        for name in ("here", "there"):
            try:
                os.rename("/session/" + name, "/session/moving")
                os.rename("/session/moving", "/session/" + name)
                os.chdir("/session")
                os.rename("here", "x"); os.rename("there", "here")
                os.rename("here", "there"); os.rename("x", "here")
            except OSError: pass
for _ in range(2): threading.Thread(target=swap, daemon=True).start()
1
"""


def test_links_that_change_while_the_host_lists_files(box: Sandbox) -> None:
    for _ in range(4 * RUNS):
        outcome = box.run(SWAPS)
        check(box, outcome)
        names = {file.path.rpartition("/")[2] for file in outcome.usage.files}
        assert names <= {"own"}


def test_names_of_files_that_are_no_text_or_without_end(box: Sandbox) -> None:
    code = """
import os
for name in (b"\\xff\\xfe", b"new\\nline", b"\\x1b[2J", b'"quote', b"a" * 255):
    os.close(os.open(b"/session/" + name, os.O_CREAT | os.O_WRONLY))
os.symlink("x" * 4000, "/session/link")
for _ in range(500):
    os.mkdir("d" * 200); os.chdir("d" * 200)
open("deep", "w").close()
1
"""
    outcome = box.run(code)
    check(box, outcome)
    assert outcome.value == 1
    # The host does not go as deep, and what it lists is text.
    assert len(outcome.usage.files) == 5
    assert outcome.document()["usage"]["files"]


def test_a_name_of_its_process_that_looks_like_the_kernels_words(box: Sandbox) -> None:
    code = """
import ctypes
ctypes.CDLL(None).prctl(15, b"x\\nVmHWM: 9 kB\\n")
bytearray(50 << 20)
1
"""
    outcome = box.run(code)
    check(box, outcome)
    assert outcome.usage.peak_memory > 40 << 20

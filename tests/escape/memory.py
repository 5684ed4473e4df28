"""Every way to memory, against the limit of the policy: each asks for several times that.

What counts is memory that was written to and is still held.
"""

# mypy: ignore-errors
# ruff: noqa: PTH123

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import threading
import time

from escape.kit import LIBC, MIB, call

PAGE = mmap.PAGESIZE
ADDRESS = ctypes.c_void_p
LIBC.mmap.restype = ADDRESS
LIBC.mmap.argtypes = [ADDRESS, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.mremap.restype = ADDRESS
LIBC.mremap.argtypes = [ADDRESS, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
LIBC.mprotect.argtypes = [ADDRESS, ctypes.c_size_t, ctypes.c_int]
LIBC.sbrk.restype = ADDRESS
LIBC.sbrk.argtypes = [ctypes.c_long]
FAILED = ctypes.c_void_p(-1).value
SHARED, PRIVATE, ANONYMOUS = 1, 2, 0x20
PIECE = 8 * MIB


def _check(result):
    if result in (FAILED, -1):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _map(size, flags, protection=3, descriptor=-1):
    return _check(LIBC.mmap(None, size, protection, flags, descriptor, 0))


def _touch(address, size):
    """Writes to each page."""
    ctypes.memset(address, 1, size)


def _asked(facts):
    return 3 * facts["memory"]


def _pieces(facts, take):
    """Takes pieces until there is more than allowed; what is had then is through."""
    had = 0
    try:
        while had < _asked(facts):
            had += take()
    except (OSError, MemoryError, RuntimeError):
        pass
    # The first pages of a heap are there already.
    return had > facts["memory"] + 16 * MIB and f"{had >> 20} MiB"


def memory_private(facts):
    """mmap, private."""

    def take():
        _touch(_map(PIECE, PRIVATE | ANONYMOUS), PIECE)
        return PIECE

    return _pieces(facts, take)


def memory_shared(facts):
    """mmap, shared and anonymous: not counted by RLIMIT_DATA."""

    def take():
        _touch(_map(PIECE, SHARED | ANONYMOUS), PIECE)
        return PIECE

    return _pieces(facts, take)


def memory_by_zero_device(facts):
    """/dev/zero, mapped shared."""
    descriptor = os.open("/dev/zero", os.O_RDWR)

    def take():
        _touch(_map(PIECE, SHARED, descriptor=descriptor), PIECE)
        return PIECE

    return _pieces(facts, take)


def memory_of_memfds(facts):
    """memfd_create."""
    descriptor = call("memfd_create", b"m", 0)
    os.ftruncate(descriptor, _asked(facts))

    def take():
        os.write(descriptor, bytes(PIECE))
        return PIECE

    return _pieces(facts, take)


def memory_secret(facts):
    """memfd_secret."""
    return call("memfd_secret", 0)


def memory_of_the_status_page(facts):
    """The memory it shares with the host, made larger or smaller."""
    for size in (64 * MIB, 0):
        try:
            os.ftruncate(5, size)
            return size
        except OSError as error:
            refused = error
    try:
        return os.posix_fallocate(5, 0, 64 * MIB)
    except OSError:
        pass
    try:
        return os.pwrite(5, b"x", 32 * MIB)
    except OSError:
        raise refused from None


def memory_of_huge_pages(facts):
    """MAP_HUGETLB."""
    return _map(2 * MIB, PRIVATE | ANONYMOUS | 0x40000)


def memory_that_grows_down(facts):
    """MAP_GROWSDOWN: stacks are not counted."""

    def take():
        _touch(_map(PIECE, PRIVATE | ANONYMOUS | 0x100), PIECE)
        return PIECE

    return _pieces(facts, take)


def memory_by_brk(facts):
    """brk."""

    def take():
        _touch(_check(LIBC.sbrk(PIECE)), PIECE)
        return PIECE

    return _pieces(facts, take)


def memory_by_mremap(facts):
    """mremap makes a small mapping large."""
    size = PIECE
    address = _map(size, PRIVATE | ANONYMOUS)

    def take():
        nonlocal address, size
        address = _check(LIBC.mremap(address, size, size + PIECE, 1))
        _touch(address + size, PIECE)
        size += PIECE
        return PIECE

    return _pieces(facts, take)


def _stack():
    return ctypes.c_void_p.in_dll(LIBC, "__libc_stack_end").value & ~(PAGE - 1)


def memory_by_mremap_of_the_stack(facts):
    """mremap makes a page of the stack large: what is made of a stack is a stack."""
    low = _stack()

    def take():
        nonlocal low
        low -= PAGE
        _touch(_check(LIBC.mremap(low, PAGE, PIECE, 1)), PIECE)
        return PIECE

    low -= 200 * PAGE
    _touch_stack()
    return _pieces(facts, take)


def _touch_stack():
    """Makes the main thread's stack 2 MiB large, below what of it is in use."""
    for page in range(64, 512):
        ctypes.memset(_stack() - page * PAGE, 0, 1)


def memory_by_stacks_that_moved(facts):
    """mremap moves pages of the stack, which grow downwards where they are then."""
    low = _stack() - 300 * PAGE
    _touch_stack()

    def take():
        nonlocal low
        low -= PAGE
        # Far from everything, so that there is room below.
        room = _map(4 * PIECE, PRIVATE | ANONYMOUS | 0x4000, protection=0)
        _check(LIBC.munmap(ctypes.c_void_p(room), ctypes.c_size_t(4 * PIECE)))
        target = room + 4 * PIECE - PAGE
        LIBC.mremap.argtypes = [ADDRESS, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ADDRESS]
        _check(LIBC.mremap(low, PAGE, PAGE, 3, target))
        for page in range(1, PIECE // PAGE):
            ctypes.memset(target - page * PAGE, 1, 1)
        return PIECE

    return _pieces(facts, take)


def memory_of_the_stack(facts):
    """The main thread's stack itself."""
    low = _stack()
    had = 0
    for page in range(64, _asked(facts) // PAGE):
        ctypes.memset(low - page * PAGE, 1, 1)
        had = page * PAGE
    return f"{had >> 20} MiB"


def memory_made_unwritable(facts):
    """Written, then mprotect: only what may be written is counted."""

    def take():
        address = _map(PIECE, PRIVATE | ANONYMOUS)
        _touch(address, PIECE)
        _check(LIBC.mprotect(address, PIECE, 1))
        return PIECE

    # Loading libraries does this: so much is let pass.
    return _pieces({"memory": facts["memory"] + 128 * MIB}, take)


def memory_made_unwritable_and_writable(facts):
    """The same, and writable again when all is there."""
    held = []

    def take():
        address = _map(PIECE, PRIVATE | ANONYMOUS)
        _touch(address, PIECE)
        _check(LIBC.mprotect(address, PIECE, 0))
        held.append(address)
        return PIECE

    _pieces({"memory": facts["memory"] + 128 * MIB}, take)
    had = 0
    for address in held:
        if LIBC.mprotect(address, PIECE, 3) == 0:
            had += PIECE
    return had > facts["memory"] + 16 * MIB and f"{had >> 20} MiB"


def memory_of_unwritable_mappings(facts):
    """Mapped without rights, and writable piece by piece."""
    whole = _map(_asked(facts), PRIVATE | ANONYMOUS, protection=0)
    at = whole

    def take():
        nonlocal at
        _check(LIBC.mprotect(at, PIECE, 3))
        _touch(at, PIECE)
        at += PIECE
        return PIECE

    return _pieces(facts, take)


def memory_of_private_files(facts):
    """A file's pages, private and writable."""
    descriptor = os.open(os.__file__, os.O_RDONLY)
    size = os.fstat(descriptor).st_size & ~(PAGE - 1)

    def take():
        _touch(_map(size, PRIVATE, descriptor=descriptor), size)
        return size

    return _pieces(facts, take)


def memory_of_files(facts):
    """Files in /session, which are memory."""

    def take():
        with open("fill", "ab") as file:
            file.write(bytes(PIECE))
        return PIECE

    return _pieces(facts, take)


def memory_of_mapped_files(facts):
    """A file in /session that is larger than it may be, mapped shared."""
    descriptor = os.open("sparse", os.O_RDWR | os.O_CREAT)
    os.ftruncate(descriptor, min(_asked(facts), facts["memory"]))
    address = _map(min(_asked(facts), facts["memory"]), SHARED, descriptor=descriptor)
    # More than all files together may have.
    _touch(address, 24 * MIB)
    return "24 MiB"


def memory_of_many_files(facts):
    """Files by the hundred, each small."""
    had = 0
    for count in range(2000):
        with open(f"{count:x}", "wb") as file:
            file.write(bytes(PAGE))
        had += PAGE
    return f"{had >> 20} MiB"


def memory_of_threads(facts):
    """Stacks of threads."""
    threading.stack_size(PIECE)
    done = threading.Event()

    def take():
        threading.Thread(target=done.wait, daemon=True).start()
        return PIECE

    return _pieces(facts, take)


def memory_of_pipes(facts):
    """Pipes, filled."""
    held = []

    def take():
        reader, writer = os.pipe()
        held.append((reader, writer))
        os.set_blocking(writer, False)
        had = 0
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, 1031, MIB)
        try:
            while True:
                had += os.write(writer, bytes(PAGE))
        except BlockingIOError:
            return had

    return _pieces(facts, take)


def memory_of_sockets(facts):
    """Socket pairs, filled."""
    held = []

    def take():
        pair = socket.socketpair()
        held.append(pair)
        had = 0
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            end.setblocking(False)
            try:
                while True:
                    had += end.send(bytes(PAGE))
            except BlockingIOError:
                pass
        return had

    return _pieces(facts, take)


def memory_of_locks(facts):
    """Record locks, which the kernel keeps for as long as a file is open."""
    count = 0
    files = []
    deadline = time.process_time() + 1.5
    lock = struct.Struct("hhqqi4x")
    while time.process_time() < deadline:
        files.append(os.open(f"lock{len(files)}", os.O_RDWR | os.O_CREAT))
        for place in range(5000):
            fcntl.fcntl(files[-1], 6, lock.pack(1, 0, 2 * place, 1, 0))
            count += 1
    return count > 40_000 and f"{count} locks"


def memory_system_v(facts):
    """shmget."""
    return call("shmget", 0, _asked(facts), 0o1600) >= 0


def memory_locked(facts):
    """mlock: memory that the machine cannot put aside."""
    address = _map(PIECE, PRIVATE | ANONYMOUS)
    return _check(LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(PIECE))) == 0


def addresses_without_end(facts):
    """Address space, whose tables nothing else bounds."""
    return _map(64 << 30, PRIVATE | ANONYMOUS | 0x4000, protection=0)

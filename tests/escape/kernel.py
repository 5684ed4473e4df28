"""System calls that make other attacks possible, each with arguments that would work."""

# mypy: ignore-errors

import ctypes
import errno
import mmap
import os
import socket
import struct
import time

from escape.kit import INTEL, RefusedError, call, let, raw


def keys(facts):
    """add_key, request_key, keyctl."""
    try:
        return call("add_key", b"user", b"escape", b"v", 1, -2)
    except OSError:
        return call("keyctl", 0, -3, 0)


def requests_a_key(facts):
    """request_key starts a program of the host."""
    return let(lambda: call("request_key", b"user", b"none", None, 0), errno.ENOKEY)


def rings(facts):
    """io_uring_setup."""
    return call("io_uring_setup", 4, ctypes.create_string_buffer(120))


def old_asynchronous_io(facts):
    """io_setup."""
    context = ctypes.c_ulong()
    return call("io_setup", 1, ctypes.byref(context)) == 0


def programs_the_kernel(facts):
    """bpf."""
    return let(lambda: call("bpf", 0, ctypes.create_string_buffer(120), 72), errno.EINVAL)


def handles_its_own_faults(facts):
    """userfaultfd."""
    return call("userfaultfd", 1)


def counts_events(facts):
    """perf_event_open."""
    attributes = struct.pack("IIQ", 1, 128, 0) + bytes(112)
    return call("perf_event_open", attributes, 0, -1, -1, 0)


def makes_namespaces(facts):
    """unshare of users, and what that gives."""
    return call("unshare", 0x10000000) == 0


def makes_namespaces_by_clone(facts):
    """clone(CLONE_NEWUSER)."""
    child = call("clone", 0x10000000 | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child


def enters_namespaces(facts):
    """setns to those of the host."""
    found = None
    for pid in (facts["host"], facts["image"], facts["sibling"]):
        try:
            descriptor = call("pidfd_open", pid, 0)
            return call("setns", descriptor, 0x20000000) == 0
        except OSError as error:
            found = error
    raise found


def becomes_root(facts):
    """setuid, setresuid."""
    try:
        return call("setuid", 0) == 0
    except OSError:
        return call("setresuid", 0, 0, 0) == 0


def has_rights(facts):
    """Capabilities, by doing what needs one: a host name of its own."""
    return call("sethostname", b"escaped", 7) == 0


def raises_its_limits(facts):
    """setrlimit, prlimit64 on itself."""
    limit = struct.pack("QQ", 1 << 40, 1 << 40)
    return call("prlimit64", 0, 2, limit, None) == 0


def raises_soft_limits(facts):
    """As above, up to the hard limit of memory."""
    both = ctypes.create_string_buffer(16)
    call("prlimit64", 0, 2, None, both)
    soft, hard = struct.unpack("QQ", both.raw)
    return call("prlimit64", 0, 2, struct.pack("QQ", hard, hard), None) == 0 and soft != hard


def another_personality(facts):
    """personality: no random addresses, readable is executable."""
    return call("personality", 0x0040000) >= 0


def filters_of_its_own(facts):
    """seccomp: a second filter with a listener would hear of calls before the host."""
    program = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(buffer)))
    return call("seccomp", 1, 0, head) == 0


def system_v(facts):
    """Shared memory, queues and semaphores of System V."""
    for name, arguments in (
        ("shmget", (0, 4096, 0o1600)),
        ("msgget", (0, 0o1600)),
        ("semget", (0, 1, 0o1600)),
    ):
        try:
            return call(name, *arguments) >= 0
        except OSError as error:
            found = error
    raise found


def posix_queues(facts):
    """mq_open."""
    return call("mq_open", b"escape", 0o102, 0o600, None)


def timers(facts):
    """timer_create: kernel memory that nothing counts."""
    identity = ctypes.c_int()
    return call("timer_create", 1, None, ctypes.byref(identity)) == 0


def moves_pages_into_pipes(facts):
    """vmsplice."""
    reader, writer = os.pipe()
    text = ctypes.create_string_buffer(16)
    vector = struct.pack("PN", ctypes.addressof(text), 16)
    return call("vmsplice", writer, vector, 1, 0) and reader


def modules(facts):
    """init_module, finit_module, kexec_load."""
    return call("init_module", b"", 0, b"")


def reboots(facts):
    """reboot, with words that would not do it."""
    return let(lambda: call("reboot", 0, 0, 0, 0), errno.EINVAL)


def reads_the_log(facts):
    """syslog."""
    return call("syslog", 3, ctypes.create_string_buffer(64), 64) > 0


def sets_the_clock(facts):
    """clock_settime to what it is."""
    now = struct.pack("qq", int(time.time()), 0)
    return call("clock_settime", 0, now) == 0


def quotas(facts):
    """quotactl, swapon, acct."""
    for name in ("swapon", "acct"):
        try:
            return call(name, b"/nowhere") == 0
        except OSError as error:
            found = error
    raise found


def types_for_the_terminal(facts):
    """ioctl(TIOCSTI) on each descriptor."""
    for descriptor in range(6):
        try:
            raw(16 if INTEL else 29, descriptor, 0x5412, b"x")
            return descriptor
        except OSError as error:
            found = error
    raise found


def real_time(facts):
    """sched_setscheduler(SCHED_FIFO)."""
    return call("sched_setscheduler", 0, 1, struct.pack("i", 1)) == 0


def input_output_first(facts):
    """ioprio_set."""
    return call("ioprio_set", 1, 0, 0x4000) == 0


def landlock_again(facts):
    """landlock_create_ruleset: more of the kernel than a guest needs."""
    return call("landlock_create_ruleset", None, 0, 1) >= 0


def calls_of_another_machine(facts):
    """The 32-bit calls of this processor, which have other numbers (int 0x80)."""
    if not INTEL:
        raise RefusedError("there are none")
    code = b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3"
    page = mmap.mmap(-1, 4096, prot=7, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()


def calls_with_another_table(facts):
    """The x32 table: numbers from 0x40000000 on."""
    if not INTEL:
        raise RefusedError("there are none")
    return let(lambda: raw(0x40000000 | 39), errno.ENOSYS)


def calls_that_are_new(facts):
    """Numbers that no kernel has yet: those that get there are told so."""
    reached = []
    for unknown in [*range(480, 600), 1000, 5000, 0x3FFFFFFF]:
        try:
            raw(unknown, 0, 0, 0, 0, 0, 0)
        except OSError as error:
            refused = error
            if error.errno == errno.ENOSYS:
                reached.append(unknown)
    if not reached:
        raise refused
    return len(reached)


def descriptors_of_the_image(facts):
    """Descriptors beyond those an isolate is given, and beyond its own event loop's."""
    found = []
    for descriptor in range(6, 4096):
        try:
            kind = os.fstat(descriptor).st_mode & 0o170000
        except OSError:
            continue
        # The loop has an epoll, which has no kind, and a pair of sockets to wake it.
        if kind and not (kind == 0o140000 and _is_own_pair(descriptor)):
            found.append(descriptor)
    return found


def _is_own_pair(descriptor):
    """Whether the other end of a socket is here as well."""
    one = socket.socket(fileno=os.dup(descriptor))
    for other in (descriptor - 1, descriptor + 1):
        try:
            end = socket.socket(fileno=os.dup(other))
            end.setblocking(False)
            one.send(b"?")
            if end.recv(1) == b"?":
                return True
        except OSError:
            continue
    return False


def closes_its_channel(facts):
    """close(3), dup2 on it: what is open next would be taken for the channel."""
    kept = os.dup(3)
    try:
        os.close(3)
        os.dup2(kept, 3)
    except OSError:
        reader, _writer = os.pipe()
        os.dup2(reader, 3)
        os.dup2(kept, 3)
    return True


def descriptors_under_way(facts):
    """Descriptors in flight on a socket of its own: they count for all isolates of the user."""
    one, other = socket.socketpair()
    for place in (one.fileno(), 6):
        if place != one.fileno():
            os.dup2(one.fileno(), place)
        try:
            socket.send_fds(socket.socket(fileno=os.dup(place)), [b"x"], [0] * 50)
            return place, other.fileno()
        except OSError as error:
            refused = error
    raise refused

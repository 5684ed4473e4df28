"""Other processes: the host, the image, another isolate."""

# mypy: ignore-errors
# ruff: noqa: PTH101, PTH109, PTH118, PTH123, PTH208

import ctypes
import errno
import os
import struct

from escape.kit import RefusedError, call, let


def _each(facts, action):
    """The first other process that an action gets through to."""
    first = None
    for name in ("host", "image", "sibling"):
        try:
            if action(facts[name]):
                return name
        except OSError as error:
            first = first or error
    raise first or RefusedError


def signals(facts):
    """kill: would a signal reach one?"""
    return _each(facts, lambda pid: call("kill", pid, 0) == 0)


def signals_by_pidfd(facts):
    """pidfd_open, pidfd_send_signal."""

    def send(pid):
        descriptor = call("pidfd_open", pid, 0)
        return call("pidfd_send_signal", descriptor, 0, None, 0) == 0

    return _each(facts, send)


def queues_a_signal(facts):
    """rt_sigqueueinfo."""
    information = struct.pack("iii", 0, 0, -1) + bytes(116)
    return _each(facts, lambda pid: call("rt_sigqueueinfo", pid, 0, information) == 0)


def traces(facts):
    """ptrace(PTRACE_SEIZE)."""
    return _each(facts, lambda pid: call("ptrace", 0x4206, pid, 0, 0) == 0)


def reads_memory(facts):
    """process_vm_readv."""
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(buffer), 8)
    remote = struct.pack("PN", 0x10, 8)
    # Nothing is there; who may not look is told something else.
    read = lambda pid: let(  # noqa: E731
        lambda: call("process_vm_readv", pid, local, 1, remote, 1, 0), errno.EFAULT
    )
    return _each(facts, read)


def writes_memory(facts):
    """process_vm_writev."""
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(buffer), 8)
    remote = struct.pack("PN", 0x10, 8)
    write = lambda pid: let(  # noqa: E731
        lambda: call("process_vm_writev", pid, local, 1, remote, 1, 0), errno.EFAULT
    )
    return _each(facts, write)


def takes_a_descriptor(facts):
    """pidfd_getfd."""
    return _each(facts, lambda pid: call("pidfd_getfd", call("pidfd_open", pid, 0), 0, 0) >= 0)


def advises_memory(facts):
    """process_madvise."""
    advice = lambda pid: let(  # noqa: E731
        lambda: call("process_madvise", call("pidfd_open", pid, 0), None, 0, 21, 0), errno.EINVAL
    )
    return _each(facts, advice)


def compares(facts):
    """kcmp: are two processes one?"""
    return _each(facts, lambda pid: call("kcmp", pid, os.getpid(), 1, 0, 0) >= 0)


def moves_pages(facts):
    """move_pages, migrate_pages."""
    return _each(facts, lambda pid: call("move_pages", pid, 0, None, None, None, 0) >= 0)


def limits_others(facts):
    """prlimit64: reads the limits of one."""
    buffer = ctypes.create_string_buffer(16)
    return _each(facts, lambda pid: call("prlimit64", pid, 7, None, buffer) == 0)


def slows_others(facts):
    """setpriority of one."""
    return _each(facts, lambda pid: call("setpriority", 0, pid, 19) == 0)


def finds_others(facts):
    """getpriority, sched_getscheduler: is there such a process?"""
    return _each(facts, lambda pid: os.getpriority(os.PRIO_PROCESS, pid) is not None)


def opens_memory(facts):
    """/proc/PID/mem."""
    return _each(facts, lambda pid: os.open(f"/proc/{pid}/mem", os.O_RDONLY))


def reads_environment_of_others(facts):
    """/proc/PID/environ."""
    return _each(facts, lambda pid: open(f"/proc/{pid}/environ", "rb").read())


def reads_arguments_of_others(facts):
    """/proc/PID/cmdline."""
    return _each(facts, lambda pid: open(f"/proc/{pid}/cmdline", "rb").read())


def lists_processes(facts):
    """Names in /proc."""
    return [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def descriptors_by_proc(facts):
    """/proc/PID/fd."""
    return _each(facts, lambda pid: os.listdir(f"/proc/{pid}/fd"))


def forks(facts):
    """fork."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def forks_raw(facts):
    """clone(SIGCHLD), clone(CLONE_PARENT), vfork's flags."""
    for flags in (17, 0x8000 | 17, 0x100):
        try:
            child = call("clone", flags, 0, 0, 0, 0)
        except OSError as error:
            refused = error
            continue
        if child == 0:
            os._exit(0)
        return flags
    raise refused


def clones_a_process_by_clone3(facts):
    """clone3."""
    arguments = struct.pack("8Q", 0, 0, 0, 0, 17, 0, 0, 0)
    child = call("clone3", arguments, len(arguments))
    if child == 0:
        os._exit(0)
    return child


def executes(facts):
    """execve of a program of the system."""
    return _executes("/usr/bin/true") or _executes(facts["python"])


def _executes(path):
    child = None
    # Where it cannot fork it would be itself what becomes the program.
    try:
        child = os.fork()
    except OSError:
        let(lambda: os.execv("/nowhere/at/all", ["x"]), errno.ENOENT)
    if child == 0:
        try:
            os.execv(path, [path, "-c", ""])
        finally:
            os._exit(9)
    return os.waitpid(child, 0)[1] == 0


def executes_what_it_wrote(facts):
    """A program of its own in /session."""
    path = os.path.join(os.getcwd(), "program")
    with open(path, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(path, 0o755)
    return _executes(path)


def leaves_a_process_behind(facts):
    """A daemon: fork, setsid, fork."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(0 if os.fork() >= 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def unties_its_life_from_the_hosts(facts):
    """prctl(PR_SET_PDEATHSIG, 0)."""
    return call("prctl", 1, 0, 0, 0, 0) == 0


def makes_itself_readable(facts):
    """prctl(PR_SET_DUMPABLE), prctl(PR_SET_PTRACER)."""
    return call("prctl", 4, 1, 0, 0, 0) == 0

"""What attacks share. Goes to an isolate as text, before the attacks of one file.

An attack is a function of `facts` (what the test tells it of the host). It gives something true
if it got through; to raise or to die is to be refused.
"""

# mypy: ignore-errors

import ctypes
import errno
import os
import platform

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
MIB = 1 << 20
INTEL = platform.machine() == "x86_64"

# By name: the number on x86_64, and on architectures with the generic table.
NUMBERS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "delete_module": (176, 106),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "flock": (73, 32),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "landlock_create_ruleset": (444, 444),
    "listmount": (458, 458),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "mprotect": (10, 226),
    "mq_open": (240, 180),
    "mremap": (25, 216),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "sched_setscheduler": (144, 119),
    "seccomp": (317, 277),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setresuid": (117, 147),
    "setuid": (105, 146),
    "shmat": (30, 196),
    "shmget": (29, 194),
    "statmount": (457, 457),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "tee": (276, 77),
    "timer_create": (222, 107),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}


class RefusedError(Exception):
    """It did not get through, and no error of the system says so."""


def number(name):
    """The number of a system call here."""
    return NUMBERS[name][0 if INTEL else 1]


def raw(number, *arguments):
    """A system call, past the C library. Raises as Python does."""
    words = [
        ctypes.c_long(word)
        if isinstance(word, int)
        else ctypes.c_void_p()
        if word is None
        else word
        for word in arguments
    ]
    ctypes.set_errno(0)
    result = LIBC.syscall(ctypes.c_long(number), *words)
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def call(name, *arguments):
    """A system call by its name."""
    return raw(number(name), *arguments)


def let(action, *passed):
    """True where the call was let through: it succeeded, or failed for another reason only."""
    try:
        action()
    except OSError as error:
        if error.errno in passed:
            return f"let through: {errno.errorcode.get(error.errno)}"
        raise
    return "done"


def attempt(attack, facts):
    """Runs one, and says what came of it."""
    # Where numbers are the host's, one of them is its own.
    facts["sibling"] = next(pid for pid in facts["siblings"] if pid != os.getpid())
    try:
        through = attack(facts)
    except OSError as error:
        return {"through": False, "said": errno.errorcode.get(error.errno or 0, str(error))}
    except Exception as error:
        return {"through": False, "said": f"{type(error).__name__}: {error}"[:200]}
    return {"through": bool(through), "said": repr(through)[:200]}

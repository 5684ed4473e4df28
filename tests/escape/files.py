"""Files outside the view, and what is read-only."""

# mypy: ignore-errors
# ruff: noqa: PTH101, PTH104, PTH108, PTH109, PTH110, PTH112, PTH116, PTH118, PTH123, PTH208, PTH211

import ctypes
import os
import struct
import sys
import threading
import time

from escape.kit import LIBC, call


def reads_a_secret(facts):
    """A file of its own user, of mode 0600."""
    with open(facts["secret"]) as file:
        return file.read() == facts["word"]


def reads_a_secret_by_a_link(facts):
    """A symbolic link from /session to it."""
    os.symlink(facts["secret"], "link")
    with open("link") as file:
        return file.read() == facts["word"]


def reads_a_secret_by_dots(facts):
    """Up from everything it can open."""
    found = None
    for start in (".", "/", "/app", "/usr/lib"):
        path = os.path.join(start, *[".."] * 20, facts["secret"].lstrip("/"))
        try:
            with open(path) as file:
                return file.read() == facts["word"]
        except OSError as error:
            found = error
    raise found


def reads_a_secret_by_a_magic_link(facts):
    """/proc/PID/root, /proc/self/cwd."""
    found = None
    for pid in (facts["host"], facts["image"], facts["sibling"], "self"):
        try:
            with open(f"/proc/{pid}/root{facts['secret']}") as file:
                return file.read() == facts["word"]
        except OSError as error:
            found = error
    raise found


def sees_a_secrets_name(facts):
    """stat: is there such a file?"""
    return os.stat(facts["secret"]).st_size > 0


def links_a_secret(facts):
    """A hard link to it."""
    os.link(facts["secret"], "hard")
    return True


def reads_by_a_handle(facts):
    """name_to_handle_at, open_by_handle_at."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128), 136)
    mount = ctypes.c_int()
    path = facts["secret"].encode()
    call("name_to_handle_at", -100, path, handle, ctypes.byref(mount), 0)
    return "a handle of it"


def lists_root(facts):
    """The names at the root."""
    return os.listdir("/")


def lists_home(facts):
    """The names in the folders of users."""
    return [os.listdir(path) for path in ("/home", "/root", "/work") if os.path.isdir(path)]


def reads_the_systems_users(facts):
    """/etc/passwd as the host has it."""
    with open("/etc/passwd") as file:
        return file.read() == facts["passwd"]


def reads_shadow(facts):
    """/etc/shadow."""
    with open("/etc/shadow") as file:
        return file.read()


def writes_outside(facts):
    """A file that anybody may write."""
    with open(facts["target"], "a") as file:
        file.write("x")
    return True


def makes_a_file_outside(facts):
    """A new file in a folder that anybody may write."""
    os.close(os.open(facts["folder"] + "/made", os.O_CREAT | os.O_WRONLY, 0o600))
    return True


def renames_outside(facts):
    """From /session to the host's folder."""
    with open("file", "w"):
        pass
    os.rename("file", facts["folder"] + "/renamed")
    return True


def cuts_off_outside(facts):
    """truncate."""
    os.truncate(facts["target"], 0)
    return True


def changes_modes_outside(facts):
    """chmod, utime of a file of its own user."""
    os.chmod(facts["secret"], 0o604)
    os.chmod(facts["secret"], 0o600)
    return True


def changes_modes_by_descriptor(facts):
    """fchmod of a file it can read."""
    descriptor = os.open(facts["secret"], os.O_RDONLY)
    os.fchmod(descriptor, 0o604)
    os.fchmod(descriptor, 0o600)
    return True


def removes_outside(facts):
    """unlink, rmdir."""
    os.unlink(facts["removable"])
    return True


def writes_code(facts):
    """A module beside those that Python imports."""
    for path in [*sys.path, "/app", "/usr/lib"]:
        try:
            os.close(os.open(path + "/escaped.py", os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            found = error
        else:
            return path
    raise found


def makes_a_device(facts):
    """mknod of a device, which would be the disk."""
    os.mknod("device", 0o060666, os.makedev(8, 0))
    return True


def makes_a_pipe(facts):
    """mkfifo outside /session."""
    os.mkfifo(facts["folder"] + "/pipe")
    return True


def writes_through_a_race(facts):
    """The path of open changes while the host looks at it."""
    other = facts["target"] if os.path.exists(facts["target"]) else os.__file__
    own, other = (os.getcwd() + "/mine").encode(), other.encode()
    size = max(len(own), len(other)) + 1
    path = ctypes.create_string_buffer(own, size)
    going = True

    def flip():
        while going:
            ctypes.memmove(path, other + bytes(size - len(other)), size)
            ctypes.memmove(path, own + bytes(size - len(own)), size)

    thread = threading.Thread(target=flip)
    thread.start()
    before = os.stat(other)
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            descriptor = LIBC.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            if descriptor < 0:
                continue
            found = os.fstat(descriptor)
            os.close(descriptor)
            if (found.st_dev, found.st_ino) == (before.st_dev, before.st_ino):
                return "it has the other file open"
    finally:
        going = False
        thread.join()
    return False


def swaps_a_link_while_it_is_opened(facts):
    """A file in /session becomes a link to one outside, and back."""
    with open("swap", "w"):
        pass
    os.symlink(facts["secret"], "away")
    going = True

    def swap():
        while going:
            for name in ("away", "plain"):
                try:
                    os.link(name, "next", follow_symlinks=False)
                    os.rename("next", "swap")
                except OSError:
                    pass

    with open("plain", "w"):
        pass
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                with open("swap") as file:
                    if file.read() == facts["word"]:
                        return True
            except OSError:
                pass
    finally:
        going = False
        thread.join()
    return False


def mounts(facts):
    """mount of a tmpfs, of a bind, of proc."""
    for source, kind, flags in ((b"none", b"tmpfs", 0), (b"/", b"none", 4096), (b"p", b"proc", 0)):
        try:
            call("mount", source, os.getcwd().encode(), kind, flags, None)
        except OSError as error:
            found = error
        else:
            return kind
    raise found


def unmounts_proc(facts):
    """umount of what hides /proc."""
    return call("umount2", b"/proc", 2) == 0


def mounts_anew(facts):
    """fsopen, open_tree."""
    try:
        return call("fsopen", b"tmpfs", 0)
    except OSError:
        return call("open_tree", -100, b"/", 1)


def changes_its_root(facts):
    """chroot, pivot_root."""
    try:
        return call("chroot", os.getcwd().encode()) == 0
    except OSError:
        return call("pivot_root", b".", b".") == 0


def lists_mounts(facts):
    """listmount, statmount, /proc/self/mountinfo."""
    buffer = ctypes.create_string_buffer(8 * 64)
    request = struct.pack("IIQQ", 24, 0, 0xFFFFFFFFFFFFFFFF, 0)
    try:
        return call("listmount", request, buffer, 64, 0) > 0
    except OSError:
        with open("/proc/self/mountinfo") as file:
            return file.read()


def watches_files(facts):
    """inotify, fanotify."""
    try:
        return call("inotify_init1", 0)
    except OSError:
        return call("fanotify_init", 0, 0)


def locks_shared_files(facts):
    """flock of a file that all guests see."""
    with open(os.__file__) as file:
        return call("flock", file.fileno(), 2 | 4) == 0

"""What an isolate knows of its host: variables, arguments, names, users, memory of the image."""

# mypy: ignore-errors
# ruff: noqa: PTH123

import ctypes
import os
import socket
import sys

from escape.kit import LIBC


def _own_memory(start, size):
    """Memory from an address on, as far as it is there: a pipe does not fault where we would."""
    reader, writer = os.pipe()
    found = bytearray()
    for address in range(start, start + size, 4096):
        written = LIBC.write(writer, ctypes.c_void_p(address), ctypes.c_size_t(4096))
        if written <= 0:
            break
        found += os.read(reader, written)
    return bytes(found)


def variables_of_the_host(facts):
    """os.environ, and the C library's."""
    variables = " ".join(f"{name}={value}" for name, value in os.environ.items())
    return facts["word"] in variables


def variables_left_in_memory(facts):
    """The end of the stack, where the kernel puts variables and arguments."""
    end = ctypes.c_void_p.in_dll(LIBC, "__libc_stack_end").value & ~4095
    return facts["word"].encode() in _own_memory(end, 4 << 20)


def arguments_of_the_host(facts):
    """sys.argv, sys.orig_argv."""
    return facts["word"] in repr([sys.argv, sys.orig_argv])


def arguments_of_proc(facts):
    """/proc/self/cmdline, environ, maps."""
    with open("/proc/self/environ", "rb") as file:
        return file.read()


def user_of_the_host(facts):
    """The user as the host knows it."""
    return os.getuid() == 0


def name_of_the_host(facts):
    """uname."""
    return os.uname().nodename == facts["hostname"]


def number_of_the_host(facts):
    """getppid."""
    return os.getppid() == facts["host"]


def own_number(facts):
    """Its number outside."""
    return os.getpid() > 1000


def image_of_others(facts):
    """The control channel of the image, and other sockets it has."""
    found = []
    for descriptor in range(1024):
        try:
            name = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            continue
        if descriptor != 3 and name.type == socket.SOCK_SEQPACKET:
            found.append(descriptor)
    return found

"""Networks and sockets."""

# mypy: ignore-errors

import ctypes
import errno
import os
import socket
import struct

from escape.kit import INTEL, let, raw


def _connects(family, kind, protocol, address):
    with socket.socket(family, kind, protocol) as opened:
        opened.settimeout(2)
        opened.connect(address)
        return True


def connects(facts):
    """TCP to the host's loopback."""
    return _connects(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", facts["tcp"]))


def connects_by_mptcp(facts):
    """MPTCP, which Landlock does not know."""
    return _connects(socket.AF_INET, socket.SOCK_STREAM, 262, ("127.0.0.1", facts["tcp"]))


def connects_while_sending(facts):
    """TCP fast open: sendto(MSG_FASTOPEN)."""
    with socket.socket() as opened:
        opened.setblocking(False)
        # Without a cookie it goes on connecting.
        address = ("127.0.0.1", facts["tcp"])
        return let(lambda: opened.sendto(b"x", 0x20000000, address), errno.EINPROGRESS)


def sends_a_datagram(facts):
    """UDP to the host's loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        return opened.sendto(b"x", ("127.0.0.1", facts["udp"]))


def listens(facts):
    """A server of its own that others could reach."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        return opened.getsockname()


def connects_to_a_path(facts):
    """A Unix socket of the host, by path."""
    return _connects(socket.AF_UNIX, socket.SOCK_STREAM, 0, facts["unix"])


def connects_to_an_abstract_name(facts):
    """A Unix socket of the host that is no file."""
    return _connects(socket.AF_UNIX, socket.SOCK_STREAM, 0, "\0" + facts["abstract"])


def sends_to_an_abstract_name_by_a_pair(facts):
    """A datagram from one end of a pair to a socket of the host."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return pair[0].sendto(b"x", "\0" + facts["abstract_datagram"])


def sends_elsewhere_by_the_channel(facts):
    """The channel to the host, to another address."""
    with socket.socket(fileno=os.dup(3)) as channel:
        return channel.sendto(b"x", "\0" + facts["abstract_datagram"])


def opens_any_socket(facts):
    """Each family from 0 to 45 with each type."""
    opened = []
    for family in range(46):
        for kind in (1, 2, 3, 4, 5, 6, 10):
            try:
                os.close(raw(41 if INTEL else 198, family, kind, 0))
            except OSError as error:
                refused = error
            else:
                opened.append((family, kind))
    if not opened:
        raise refused
    return opened


def opens_raw_sockets(facts):
    """Raw and packet sockets."""
    try:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno()
    except OSError:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno()


def pairs_of_another_kind(facts):
    """socketpair of anything but streams."""
    opened = []
    for family in range(46):
        for kind in (1, 2, 3, 4, 5, 6, 10):
            pair = (ctypes.c_int * 2)()
            try:
                raw(53 if INTEL else 199, family, kind, 0, pair)
            except OSError as error:
                refused = error
                continue
            os.close(pair[0])
            os.close(pair[1])
            if (family, kind) != (1, 1):
                opened.append((family, kind))
    if not opened:
        raise refused
    return opened


def asks_netlink(facts):
    """Netlink, which tells of interfaces and processes."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).fileno()


def sees_interfaces(facts):
    """Names of interfaces."""
    names = [name for _, name in socket.if_nameindex()]
    return [name for name in names if name != "lo"]


def learns_who_the_host_is(facts):
    """SO_PEERCRED, SO_PEERPIDFD of the channel."""
    with socket.socket(fileno=os.dup(3)) as channel:
        return struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, 17, 12))[0]


def asks_to_be_told_who_writes(facts):
    """SO_PASSCRED, SO_PASSPIDFD on the channel."""
    with socket.socket(fileno=os.dup(3)) as channel:
        channel.setsockopt(socket.SOL_SOCKET, 16, 1)
        return True


def enlarges_its_sockets(facts):
    """SO_SNDBUF beyond what sockets have: kernel memory that nothing counts."""
    one, _other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return True

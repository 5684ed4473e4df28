"""Random numbers of forks: what they would share is found in the image and put right in each.

Compiled into the runtime like `zygote.py`, which alone uses it.
"""

import _thread
import contextlib
import gc
import os
import random
import secrets
import sys
import tempfile
import time
import types
import uuid

try:
    import ssl
except ImportError:
    # Some Pythons are built without OpenSSL.
    ssl = None

# From the Gregorian calendar's first day to 1970, in steps of 100 ns.
UUID_EPOCH = 0x01B21DD213814000

# The generators of the image that the operating system seeded: those that are seeded again.
of_system_seed = []


class Entropy:
    """Remembers what numpy was given by the system, to tell such seeds from deliberate ones."""

    def __init__(self):
        self.given = set()
        self.original = secrets.randbits
        self.listening = True

    def randbits(self, bits):
        value = self.original(bits)
        if self.listening:
            self.given.add(value)
        return value

    def __enter__(self):
        self.put(self.original, self.randbits)
        return self

    def __exit__(self, *_):
        self.listening = False
        self.put(self.randbits, self.original)

    def put(self, old, new):
        for module in (secrets, sys.modules.get("numpy.random.bit_generator")):
            if getattr(module, "randbits", None) == old:
                module.randbits = new


def find_generators(given):
    """Remembers the random generators that the system seeded. Gives notes on all that have names.

    Nobody can tell how an instance of `random.Random` was seeded, so it is left as it is.
    """
    plain, owners, bits, seeds = generators()
    owned = {}
    for owner in owners:
        below = bits_of(owner)
        owned.setdefault(id(below), []).append(owner)
        bits.append(below)
    bits = list({id(each): each for each in bits}.values())
    used = {id(seed_of(each)) for each in bits}
    shared = plain + [each for each in seeds if id(each) not in used]
    reseeded = []
    for each in bits:
        entropy = getattr(seed_of(each), "entropy", None)
        of_system = isinstance(entropy, int) and entropy in given
        (reseeded if of_system else shared).extend(owned.get(id(each)) or [each])
    of_system_seed[:] = reseeded
    names = names_of(shared + reseeded)
    text = "`{}` was seeded at import: every worker of this image starts with the same numbers"
    notes = [text.format(names.get(id(each)) or described(each)) for each in shared]
    named = [names[id(each)] for each in reseeded if id(each) in names]
    return notes + [f"`{name}` is reseeded in each worker" for name in named]


def generators():
    """The random generators there are: Python's, numpy's, what those get bits from, and seeds."""
    numbers = sys.modules.get("numpy.random")
    hidden = {id(random._inst)}
    kinds = [random.Random]
    if numbers is not None:
        kinds += [(numbers.Generator, numbers.RandomState), numbers.BitGenerator]
        kinds.append(numbers.SeedSequence)
        bits = bits_of(numbers.mtrand._rand)
        hidden |= {id(numbers.mtrand._rand), id(bits), id(seed_of(bits))}
    found = [[] for _ in range(4)]
    for each in gc.get_objects():
        # By type: `isinstance` asks the object, which may be somebody's proxy.
        cls = type(each)
        if cls is tempfile._RandomNameSequence:
            # It makes itself a new one in a new process.
            hidden.add(id(getattr(each, "_rng", None)))
        for kind, place in zip(kinds, found, strict=False):
            if issubclass(cls, kind) and not issubclass(cls, random.SystemRandom):
                place.append(each)
    return [[each for each in place if id(each) not in hidden] for place in found]


def bits_of(owner):
    """What a `Generator` or `RandomState` gets its bits from."""
    return getattr(owner, "bit_generator", None) or owner._bit_generator


def seed_of(bits):
    return getattr(bits, "seed_seq", None) or getattr(bits, "_seed_seq", None)


def names_of(things):
    """By `id`, as `module.attribute`, those that are some module's attribute."""
    wanted = {id(thing) for thing in things}
    names = {}
    for module_name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in wanted:
                names.setdefault(id(value), f"{module_name}.{attribute}")
    return names


def described(thing):
    """The class of a thing without a name, and of what holds it."""
    cls = type(thing)
    text = f"{cls.__module__}.{cls.__qualname__}"
    near = gc.get_referrers(thing)
    for referrer in near + gc.get_referrers(
        *(each for each in near if type(each) in (dict, tuple))
    ):
        own = referrer if isinstance(referrer, (type, types.FunctionType)) else type(referrer)
        if own.__module__ not in ("builtins", __name__):
            return f"{text} of {own.__module__}.{own.__qualname__}"
    return text


# === after the fork ===


@contextlib.contextmanager
def trouble(what):
    """One library's whim must not keep the rest from being done."""
    try:
        yield
    except Exception as error:
        with contextlib.suppress(Exception):
            sys.stderr.write(f"exuvia: cannot {what} in this worker: {error!r}\n")


def reseed():
    """Python's own `random` has seen to itself."""
    if ssl is not None:
        with trouble("reseed ssl"):
            ssl.RAND_add(os.urandom(32), 32.0)
    with trouble("reseed uuid"):
        reseed_uuid()
    numbers = sys.modules.get("numpy.random")
    if numbers is not None:
        with trouble("reseed numpy.random"):
            reseed_numpy(numbers.mtrand._rand)
    for each in of_system_seed:
        with trouble(f"reseed {each!r}"):
            reseed_numpy(each)
    torch = sys.modules.get("torch")
    if torch is not None:
        with trouble("reseed torch"):
            torch.default_generator.seed()


def reseed_numpy(each):
    """Gives a generator the state of a new one: itself, as others hold it."""
    if hasattr(each, "get_state"):
        # A `RandomState` holds a number back, too, which this makes it forget.
        bits = type(bits_of(each))
        if bits.__name__ == "MT19937":
            # A third of the time that its own `seed` takes.
            words = sys.modules["numpy"].frombuffer(os.urandom(4 * 624), "uint32")
            each.set_state(("MT19937", words, 624))
        else:
            each.set_state(type(each)(bits()).get_state(legacy=False))
        return
    bits = each.bit_generator if hasattr(each, "bit_generator") else each
    # With its seed, of which `spawn` makes others.
    bits.__setstate__(type(bits)().__getstate__())


def reseed_uuid():
    for name in ("_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7"):
        if hasattr(uuid, name):
            setattr(uuid, name, None)
    libuuid = getattr(uuid, "_generate_time_safe", None)
    if libuuid is not None:
        uuid._generate_time_safe = UuidTimes(libuuid)


class UuidTimes:
    """The bytes of `uuid1()`, instead of libuuid's.

    Forks share libuuid's clock sequence, and the file that it keeps it in by one descriptor, whose
    lock all of them have: forks do make the same `uuid1()`. Here the sequence is the process's id.
    """

    def __init__(self, libuuid):
        self.libuuid = libuuid
        self.lock = _thread.allocate_lock()
        self.last = 0
        self.node = None

    def __call__(self):
        with self.lock:
            if self.node is None:
                self.node = self.libuuid()[0][10:]
            self.last = now = max(time.time_ns() // 100 + UUID_EPOCH, self.last + 1)
        low, middle, high = now & 0xFFFFFFFF, now >> 32 & 0xFFFF, now >> 48 & 0x0FFF | 0x1000
        sequence = os.getpid() & 0x3FFF | 0x8000
        head = low << 48 | middle << 32 | high << 16 | sequence
        return head.to_bytes(10, "big") + self.node, None

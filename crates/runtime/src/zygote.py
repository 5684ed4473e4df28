"""What a zygote does in Python: it fills the image, and makes a fork of it a worker.

Compiled into the runtime like `worker.py`. What runs once, before the image is complete, may take
its time; what runs after a fork must be quick and import nothing.
"""

import atexit
import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import os
import stat
import sys
import threading
import time
import types
import weakref

from _exuvia_chance import Entropy, find_generators, reseed, ssl, trouble
from _exuvia_scan import Scan, is_installed
from _exuvia_source import TOUCH, define

try:
    import ctypes
except ImportError:
    # Some Pythons are built without libffi.
    ctypes = None

# What workers import late: `worker.py`, the converters of `values/`, asyncio, tracebacks.
OURS = (
    *("asyncio", "collections.abc", "concurrent.futures.thread", "dataclasses", "datetime"),
    *("decimal", "difflib", "encodings.idna", "enum", "fractions", "json", "linecache"),
    *("pickle", "selectors", "textwrap", "tokenize", "traceback", "typing"),
    *("unicodedata", "zoneinfo"),
)
# What a module imports late, and nearly everybody uses: it comes with the module.
BESIDE = (("numpy", "numpy.random"),)
# A module of the standard library that took less is not worth a line.
STDLIB_US = 5_000
# How long a thread that is about to end may take.
THREAD_END_S = 0.1
# Names of threads that the host is told, and how much of each.
MOST_THREADS = 16
THREAD_NAME = 64
# Descriptors up to here are the host's.
HOST_FDS = 5
# How much of the files' names in /proc/self/maps says that it is a library with threads.
THREADED = ("openblas", "mkl_rt", "libblis", "libgomp", "libomp", "libiomp5")
# Their functions that set the number of threads, and the type of the number.
SET_THREADS = {
    "openblas_set_num_threads": "c_int",
    "openblas_set_num_threads64_": "c_int",
    "scipy_openblas_set_num_threads": "c_int",
    "scipy_openblas_set_num_threads64_": "c_int",
    "MKL_Set_Num_Threads": "c_int",
    "bli_thread_set_num_threads": "c_int64",
    "omp_set_num_threads": "c_int",
}
# Those of OpenBLAS, which can put its threads to rest.
BLAS_SETTERS = ("openblas_set_num_threads", "openblas_set_num_threads64_")


class ThreadsError(Exception):
    """An item started threads: what is forked from here would not have them."""

    def __init__(self, item, threads):
        super().__init__(item, threads)
        self.item = item
        self.threads = threads


class Inherited:
    """What a fork has to put right."""

    def __init__(self):
        self.environment = []
        self.descriptors = []
        self.set_threads = []
        self.blas_threads = 1


inherited = Inherited()


def warm(worker, request, imported):
    """Fills the image. Gives the number of its modules and what its user should know."""
    check_threads("")
    with Entropy() as entropy:
        for name in OURS:
            importlib.import_module(name)
        rehearse(worker)
        # From here on the user's own modules would be found.
        sys.path[:0] = request.search_path
        importer = Importer(worker, request.leave_out, imported)
        for name in request.preload:
            importer.preload(name)
        for name, names in Scan(request.search_path, request.targets).wanted():
            importer.bring(name, names)
        for name, module in BESIDE:
            if name in sys.modules:
                importer.bring(module, ())
        for target in request.warm:
            importer.call(target)
    inherited.environment = list(request.environment)
    inherited.blas_threads = request.blas_threads
    notes = [*find_generators(entropy.given), *find_descriptors()]
    find_set_threads()
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        # It looks at OMP_NUM_THREADS once, and starts threads when it has something for them.
        arrow.set_cpu_count(request.blas_threads)
        check_threads("pyarrow")
    count = len(sys.modules)
    forget_shadowed(worker.FIRST, request.search_path)
    # What is held back would be written by each fork.
    worker.flush_files()
    worker.flush_c()
    gc.collect()
    gc.freeze()
    return count, notes


def forget_shadowed(first, search_path):
    """Forgets modules of the standard library that the user has others for.

    A worker that starts afresh finds those; here ours have been imported first.
    """
    names = set()
    for folder in search_path:
        if not is_installed(folder):
            with contextlib.suppress(OSError):
                names.update(name.partition(".")[0] for name in os.listdir(folder))  # noqa: PTH208
    for name in names & sys.stdlib_module_names & (sys.modules.keys() - first):
        ours = getattr(sys.modules[name], "__spec__", None)
        found = importlib.machinery.PathFinder.find_spec(name)
        is_file = ours is not None and ours.has_location
        if is_file and found is not None and found.loader and found.origin != ours.origin:
            for each in list(sys.modules):
                if each == name or each.startswith(name + "."):
                    del sys.modules[each]


def rehearse(worker):
    """Goes once where every worker would be the first to go."""
    if ssl is not None:
        # OpenSSL sets its generator up, which takes milliseconds.
        ssl.RAND_bytes(1)

    async def handler(one: int, *, two: str | None = None) -> dict[str, float]:
        """For the form."""

    for _ in range(3):
        define(worker, "None", TOUCH)
        worker.plan("module", "handler", handler)
        try:
            raise LookupError
        except LookupError as error:
            worker.describe(error, error.__traceback__)


# What programs expect of a system beside Python: libraries, time zones, certificates.
SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl", "/usr/share/ca-certificates"),
)


def own_files():
    """Files and folders that this Python and our runtime need: what an isolate is shown of them."""
    needed = [*SYSTEM, *sys.path]
    for prefix in (sys.prefix, sys.base_prefix):
        # All of /usr is more than Python.
        wide = os.path.realpath(prefix) in ("/", "/usr", "/usr/local")
        needed.append(os.path.join(prefix, "lib") if wide else prefix)  # noqa: PTH118
    needed += [sys.executable, os.path.realpath(sys.executable)]
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        needed += {line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line}
    is_there = [name for name in needed if os.path.isabs(name) and os.path.exists(name)]  # noqa: PTH117, PTH110
    return sorted({name for path in is_there for name in (path, os.path.realpath(path))})


# === importing ===


class Importer:
    """Imports one item after the other, and says what each took."""

    def __init__(self, worker, leave_out, imported):
        self.worker = worker
        self.leave_out = set(leave_out)
        self.imported = imported
        self.seen = set()

    def is_new(self, item):
        """Whether to take an item in now."""
        if item in self.seen or item in self.leave_out:
            return False
        self.seen.add(item)
        return True

    def is_without(self, name):
        """Whether a module would bring something that is left out: its package."""
        parts = name.split(".")
        return any(".".join(parts[:count]) in self.leave_out for count in range(1, len(parts)))

    def preload(self, name):
        if self.is_new(name):
            start = time.perf_counter_ns()
            self.worker.import_preload(name)
            self.done(name, start)

    def call(self, target):
        """Calls a warm function."""
        module, file, attribute = target
        item = f"{module}:{attribute}()"
        if self.is_new(item):
            start = time.perf_counter_ns()
            self.worker.call_warm(module, file, attribute)
            self.done(item, start)

    def bring(self, name, names):
        """Does what `from name import names` does, if it can: the statement may be guarded."""
        if self.is_without(name):
            return
        if self.is_new(name):
            start = time.perf_counter_ns()
            # A module may even leave the program when it finds that it cannot run.
            with contextlib.suppress(BaseException), self.worker.one_process():
                importlib.import_module(name)
            self.done(name, start, is_there=name in sys.modules)
        module = sys.modules.get(name)
        if module is not None and name in self.seen:
            with contextlib.suppress(Exception):
                names = [str(each) for each in module.__all__] if "*" in names else names
            for below in names:
                self.bring_below(module, name, below)

    def bring_below(self, module, name, attribute):
        """The same for one name: a submodule, or an attribute that may import one."""
        item = f"{name}.{attribute}"
        if item in sys.modules or not self.is_new(item):
            return
        start = time.perf_counter_ns()
        with contextlib.suppress(BaseException), self.worker.one_process():
            if not hasattr(module, attribute) and hasattr(module, "__path__"):
                importlib.import_module(item)
        self.done(item, start, is_there=item in sys.modules)

    def done(self, item, start, is_there=True):
        us = (time.perf_counter_ns() - start) // 1000
        check_threads(item)
        stdlib = item.partition(".")[0] in sys.stdlib_module_names and ":" not in item
        if is_there and (us > STDLIB_US or not stdlib):
            self.imported(item, us)


def check_threads(item):
    """Raises `ThreadsError` if this process has another thread that does not end."""
    until = time.monotonic() + THREAD_END_S
    while len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - called after each import
        if time.monotonic() > until:
            raise ThreadsError(item, other_threads())
        time.sleep(0.001)


def other_threads():
    """The names of this process's other threads."""
    by_id = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = []
    comm = "/proc/self/task/{}/comm"
    for task in sorted(map(int, os.listdir("/proc/self/task"))):  # noqa: PTH208
        if task == os.getpid():
            continue
        with contextlib.suppress(OSError), open(comm.format(task), errors="replace") as file:  # noqa: PTH123
            # To the system, Python's own threads are all `python`.
            names.append((by_id.get(task) or file.read().strip())[:THREAD_NAME])
    return names[:MOST_THREADS]


# === what forks would share ===


def find_descriptors():
    """Remembers what imports opened that forks must not share. Gives notes on it."""
    notes = []
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):  # noqa: PTH208
        # The listing's own is gone again.
        with contextlib.suppress(OSError):
            mode = os.fstat(fd).st_mode
            if fd <= HOST_FDS or stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISCHR(mode):
                continue
            what = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
            inherited.descriptors.append(fd)
            notes.append(f"descriptor {fd} ({what}), opened by an import, is closed in workers")
    return notes


def find_set_threads():
    """Remembers the functions that set the number of threads of the libraries that are loaded."""
    torch = sys.modules.get("torch")
    if torch is not None:
        inherited.set_threads.append(torch.set_num_threads)
    if ctypes is None:
        return
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        files = dict.fromkeys(line.split(maxsplit=5)[-1].strip() for line in maps if "/" in line)
    known = set()
    for file in files:
        if not any(word in os.path.basename(file) for word in THREADED):  # noqa: PTH119
            continue
        try:
            library = ctypes.CDLL(file, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            continue
        for name, number in SET_THREADS.items():
            function = getattr(library, name, None)
            address = ctypes.cast(function, ctypes.c_void_p).value if function else None
            if address and address not in known:
                known.add(address)
                function.argtypes, function.restype = [getattr(ctypes, number)], None
                if not set_at_rest(library, function):
                    inherited.set_threads.append(function)
    check_threads("OpenBLAS")


def set_at_rest(library, function):
    """Sets the number of threads of an OpenBLAS so that they start with the first use of them.

    Set in each worker they would start at once, and turn in circles for 25 ms in wait of work,
    which makes every page fault of the young worker twice as dear.
    """
    shutdown = getattr(library, "blas_thread_shutdown_", None)
    if shutdown is None or not function.__name__.endswith(BLAS_SETTERS):
        return False
    function(inherited.blas_threads)
    shutdown.argtypes, shutdown.restype = [], ctypes.c_int
    shutdown()
    return True


# === after the fork ===


def after_fork():
    """Makes a fork differ from its siblings where it must. Raises nothing."""
    for name, original in inherited.environment:
        with trouble(f"restore {name}"):
            if original is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = original
    with trouble("leave the image's exit handlers to nobody"):
        forget_exits()
    reseed()
    for function in inherited.set_threads:
        with trouble(f"set the threads of {getattr(function, '__name__', function)}"):
            function(inherited.blas_threads)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "_said"):
            stream._said = 0


def close_descriptors():
    """Puts /dev/null in their place: their owners will close the numbers once more."""
    descriptors, inherited.descriptors = inherited.descriptors, []
    if descriptors:
        with trouble("close what imports opened"):
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for fd in descriptors:
                os.dup2(null, fd, inheritable=False)
            os.close(null)


# Before the hooks of imports, which may open others by the same numbers; in a worker's own forks
# there is nothing left to close.
os.register_at_fork(after_in_child=close_descriptors)


def forget_exits():
    """What the image would clean up at its end is its siblings', too: no worker may do it.

    A temporary folder made by an import would be gone with the first worker that leaves.
    """
    for each in list(weakref.finalize._registry):
        each.atexit = False
    weakref.finalize._registered_with_atexit = False
    atexit._clear()
    # These see to what is the worker's own.
    for module, name in (("logging", "shutdown"), ("multiprocessing.util", "_exit_function")):
        if module in sys.modules:
            atexit.register(getattr(sys.modules[module], name))


# === its life ===


def main(worker, zygote, stacks_signal):
    """Fills the image, then forks on request: what returns from `serve` is a worker."""
    worker.prepare(stacks_signal)
    if fill(worker, zygote) and zygote.serve():
        worker.forked = True
        worker.confined = zygote.confined
        after_fork()
        worker.work(zygote.engine())
        worker.leave()
    # A zygote runs no exit handlers either.
    worker.end_now(0)


def fill(worker, zygote):
    """Does what the host asks for; says whether the image is complete."""
    began = time.monotonic_ns()
    request = types.SimpleNamespace(**zygote.request(sys.version.split()[0], own_files()))
    try:
        modules, notes = warm(worker, request, zygote.imported)
    except ThreadsError as error:
        zygote.threads(error.item, [worker.plain(name) for name in error.threads])
        return False
    except worker.LoadError as error:
        zygote.failed(worker.plain(str(error)), worker.plain(worker.cause_of(error)))
        return False
    notes = [worker.plain(note) for note in notes]
    zygote.ready((time.monotonic_ns() - began) // 1000, modules, notes)
    return True

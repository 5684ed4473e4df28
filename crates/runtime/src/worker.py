"""What runs in a worker beside the Rust engine: imports, signatures, the event loop.

Compiled into the runtime, never looked for on disk. It must stay quick to import: no module that a
handler did not ask for, except the few below.
"""

import contextlib
import contextvars
import faulthandler
import gc
import importlib
import importlib.util
import inspect
import io
import os
import signal
import sys
import types

MARK = "\x1e"
CRASH_FD = 4
# Our own frames, and those of the import system, say nothing to a user.
OURS = ("<exuvia", "<frozen importlib", importlib.__file__)

# Descriptors up to here are the host's.
HOST_FDS = 5
# What every worker has loaded before it looks for the user's modules.
FIRST = frozenset(sys.modules)

# Whether this process was forked from a zygote, whose garbage is collected.
forked = False

# Whether this is an isolate of code that nobody vouches for.
confined = False

# Told by the runtime: what kind of table an annotation asks for.
table_target = None
# Told by the runtime: gives a module of type plans, `compile` or `schema`.
plan_module = None

# The call that this context belongs to, as a number; 0: none.
current_call = contextvars.ContextVar("exuvia_call", default=0)

# The engine of this process.
engine_of = None

# Bits of what a parameter takes; the same numbers are in `bind.rs`.
NONE, BOOL, INT, FLOAT, STR, LIST, DICT, TABLE, ANY = (1 << bit for bit in range(9))
MASKS = {
    None: NONE,
    type(None): NONE,
    bool: BOOL,
    int: INT,
    float: FLOAT,
    str: STR,
    list: LIST,
    dict: DICT,
}
# Kinds of parameters; the same numbers are in `bind.rs`.
KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: 0,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: 1,
    inspect.Parameter.KEYWORD_ONLY: 2,
}


class LoadError(Exception):
    """A handler is not there. The message is for people; the cause, if any, is the reason."""


class Output(io.TextIOWrapper):
    """A standard stream that says which call a line belongs to."""

    _said = 0

    def write(self, text):
        call = 0 if confined else current_call.get()
        if call != self._said:
            self._said = call
            super().write(f"{MARK}exuvia:{call:x}{MARK}")
        return super().write(text)


def prepare(stacks_signal):
    """Sets the process up: streams, crash reports, descriptors."""
    for fd in (3, 4, 5):
        os.set_inheritable(fd, False)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
        stream = Output(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    faulthandler.enable(file=CRASH_FD, all_threads=True)
    faulthandler.register(stacks_signal, file=CRASH_FD, all_threads=True, chain=False)
    # Ctrl-C is the host's; a SIGINT sent to this process alone ends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.argv = [""]


def load(search_path, targets, preload, warm, tolerant):
    """Imports targets, `(module, file, attribute)` each, and plans their handlers.

    Where it is `tolerant`, targets that do not load are told and left out, as long as one does.
    """
    # In the image it was set, and imports may have changed it since.
    if confined or not forked:
        sys.path[:0] = search_path
    for name in preload:
        import_preload(name)
    for module_name, file, attribute in warm:
        call_warm(module_name, file, attribute)
    plans, broken = [], []
    for module_name, file, attribute in targets:
        try:
            plans += plan_target(module_name, file, attribute)
        except LoadError as error:
            # What is not there at all is a slip of whoever named it.
            if not tolerant or len(targets) == 1 or error.__cause__ is None:
                raise
            broken.append((error, module_name, file))
    if broken and not plans:
        raise broken[0][0]
    # To an isolate the code may come with the call.
    if not plans and not (confined and not targets):
        shown = ", ".join(file or module_name for module_name, file, _ in targets)
        raise LoadError(
            f"no handlers in {shown}: a module's handlers are the functions listed in its "
            "`__all__`, or else its own functions without a leading underscore"
        )
    plans.append(plan("exuvia", "describe", lambda: describe_handlers(plans), []))
    if not forked:
        gc.collect()
    gc.freeze()
    return plans, [
        (module_name, file, plain(str(error)), plain(cause_of(error)))
        for error, module_name, file in broken
    ]


def plan_target(module_name, file, attribute):
    """The plans of one target's handlers."""
    module = import_target(module_name, file)
    shown = file or module_name
    handlers = list(select(module, attribute, shown))
    routes = declared(module, handlers, shown)
    return [plan(module_name, name, found, routes.get(name, [])) for name, found in handlers]


def declared(module, handlers, shown):
    """What `__routes__` of a module says: `(route, options as JSON)` by the handler's name."""
    table = getattr(module, "__routes__", None)
    if table is None:
        return {}
    import json

    if not isinstance(table, dict):
        raise LoadError(f"`__routes__` in {shown} is not a dict but a {type(table).__name__}")
    routes = {}
    for route, said in table.items():
        options = dict(said) if isinstance(said, dict) else {"handler": said}
        wanted = options.pop("handler", None)
        if not isinstance(wanted, str):
            named = [name for name, found in handlers if found is wanted]
            if not named:
                kind = "nothing" if wanted is None else f"a {type(wanted).__name__}"
                raise LoadError(
                    f"`__routes__[{route!r}]` in {shown} leads to {kind}, not to a handler"
                )
            wanted = named[0]
        wanted = wanted.removeprefix(f"{module.__name__}:")
        try:
            text = json.dumps(options)
        except (TypeError, ValueError) as error:
            raise LoadError(f"`__routes__[{route!r}]` in {shown}: {error}") from None
        if wanted in [name for name, _ in handlers]:
            routes.setdefault(wanted, []).append((str(route), text))
        elif not hasattr(module, wanted):
            raise LoadError(f"`__routes__[{route!r}]` in {shown}: {missing(module, wanted, shown)}")
    return routes


def describe_handlers(plans):
    """What the handlers take and give, as JSON: see the page on types."""
    handlers = [
        (module, name, function, type_hints(function), params, streams)
        for function, module, name, _, streams, params, *_ in plans
        if module != "exuvia"
    ]
    return plan_module("schema").describe(handlers)


@contextlib.contextmanager
def one_process():
    """A fork that an import makes and that leaves the import is not this process twice."""
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            end_now(0)


def import_preload(name):
    try:
        with one_process():
            return importlib.import_module(name)
    except BaseException as error:
        raise LoadError(f"cannot import {name}, listed in preload: {said(error)}") from error


def call_warm(module_name, file, attribute):
    """Calls a warm function."""
    module = import_target(module_name, file)
    [(name, function)] = select(module, attribute, file or module_name)
    shown = f"{module_name}:{name}"
    if inspect.iscoroutinefunction(function):
        raise LoadError(f"the warm function {shown} is `async def`: it must be a plain function")
    try:
        with one_process():
            function()
    except BaseException as error:
        raise LoadError(f"the warm function {shown} raised {said(error)}") from error


def import_target(name, file):
    if file is None:
        try:
            with one_process():
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                raise LoadError(f"there is no module `{name}`") from None
            raise LoadError(f"cannot import {name}: {said(error)}") from error
        except BaseException as error:
            raise LoadError(f"cannot import {name}: {said(error)}") from error
    if not os.path.isfile(file):  # noqa: PTH113 - pathlib is not imported for one question
        raise LoadError(f"there is no file {file}")
    there = sys.modules.get(name)
    if there is not None and same_file(getattr(there, "__file__", None), file):
        # In the image already.
        return there
    # A file named like a module that is loaded already (json.py) must not replace it.
    known = name if name not in sys.modules else f"exuvia_targets.{name}"
    spec = importlib.util.spec_from_file_location(known, file)
    if spec is None or spec.loader is None:
        raise LoadError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[known] = module
    try:
        with one_process():
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[known]
        raise LoadError(f"cannot import {file}: {said(error)}") from error
    return module


def same_file(one, other):
    try:
        return bool(one) and os.path.samefile(one, other)  # noqa: PTH121 - as above
    except OSError:
        return False


def said(error):
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename:
        text = f"{error.msg} ({error.filename}:{error.lineno})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def select(module, attribute, shown):
    """The handlers wanted of a module, as `(name, callable)`."""
    if attribute is not None:
        found = module
        for step in attribute.split("."):
            try:
                found = getattr(found, step)
            except AttributeError:
                raise LoadError(missing(module, attribute, shown)) from None
        if not callable(found):
            kind = type(found).__name__
            raise LoadError(f"`{attribute}` in {shown} is not a function but a {kind}")
        return [(attribute, found)]
    return list(public(module))


def public(module):
    listed = getattr(module, "__all__", None)
    if listed is not None:
        for name in dict.fromkeys(listed):
            if not hasattr(module, name):
                raise LoadError(f"`{name}` is in `__all__` of {module.__name__} but not in it")
            found = getattr(module, name)
            if callable(found) and not isinstance(found, type):
                yield name, found
        return
    for name, found in vars(module).items():
        own = getattr(found, "__module__", None) == module.__name__
        if own and not name.startswith("_") and inspect.isfunction(found):
            yield name, found


def missing(module, attribute, shown):
    import difflib

    names = [name for name, _ in public(module)]
    text = f"{shown} has no function `{attribute}`."
    near = difflib.get_close_matches(attribute, names, 1, 0.6)
    if near:
        text += f" Did you mean `{near[0]}`?"
    if names:
        text += f" It has: {', '.join(names[:20])}"
    return text


def plan(module, name, function, routes=()):
    """What the engine must know of a handler: see `bind.rs` for how it is used."""
    target = function
    while hasattr(target, "__wrapped__"):
        target = target.__wrapped__
    call = getattr(type(target), "__call__", None)  # noqa: B004 - its kind is asked, not if it is
    is_object = not inspect.isroutine(target)

    def is_kind(test):
        return test(target) or (is_object and test(call))

    is_async = is_kind(inspect.iscoroutinefunction) or is_kind(inspect.isasyncgenfunction)
    streams = is_kind(inspect.isgeneratorfunction) or is_kind(inspect.isasyncgenfunction)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some functions written in C do not tell.
        signature = inspect.Signature(
            [
                inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
            ]
        )
    hints = type_hints(function)
    params = []
    open_positional = open_keywords = False
    for param in signature.parameters.values():
        if param.kind is inspect.Parameter.VAR_POSITIONAL:
            open_positional = True
        elif param.kind is inspect.Parameter.VAR_KEYWORD:
            open_keywords = True
        else:
            required = param.default is inspect.Parameter.empty
            annotation = hints.get(param.name, param.annotation)
            params.append(
                (
                    param.name,
                    KINDS[param.kind],
                    required,
                    mask(annotation, target_of(annotation)),
                    target_of(annotation),
                    shown_annotation(param.annotation),
                    None if required else shorten(repr(param.default)),
                )
            )
    doc = inspect.getdoc(function) or ""
    returns = signature.return_annotation
    return (
        function,
        module,
        name,
        is_async,
        streams,
        params,
        open_positional,
        open_keywords,
        doc.split("\n\n")[0].replace("\n", " ").strip(),
        shown_annotation(returns),
        list(routes),
        hints if typed(params, hints) else None,
    )


def typed(params, hints):
    """Whether the masks of parameters do not say all of their types."""
    import typing

    def is_plain(annotation):
        # What rows are made of is looked at; columns are made of whatever table there is.
        target = table_target(annotation)
        if annotation in (typing.Any, object) or target not in (None, "rows"):
            return True
        if isinstance(annotation, type | None) and annotation in MASKS:
            return True
        origin = typing.get_origin(annotation)
        if origin is typing.Union or origin is types.UnionType:
            return all(map(is_plain, typing.get_args(annotation)))
        return False

    names = {param[0] for param in params}
    return any(name in names and not is_plain(hint) for name, hint in hints.items())


def type_hints(function):
    import typing

    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - not asked if it is
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        # A name that only a type checker imports: the others can still be known.
        hints = {}
        known = getattr(inspect.unwrap(function), "__globals__", {})
        for name, annotation in getattr(function, "__annotations__", {}).items():
            one = types.SimpleNamespace(__annotations__={name: annotation})
            with contextlib.suppress(Exception):
                hints.update(typing.get_type_hints(one, known, include_extras=True))
        return hints


def target_of(annotation):
    """What kind of table is asked for, if one is: see `asked.py`."""
    return None if annotation is inspect.Parameter.empty else table_target(annotation)


def mask(annotation, target):
    import typing

    if annotation is inspect.Parameter.empty:
        return ANY
    if isinstance(annotation, type) and annotation in MASKS:
        return MASKS[annotation]
    if annotation is None:
        return NONE
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return mask(typing.get_args(annotation)[0], target)
    if origin is typing.Union or origin is types.UnionType:
        bits = 0
        for part in typing.get_args(annotation):
            bits |= mask(part, target_of(part))
        return ANY if bits & ANY else bits
    if origin in (list, dict):
        # An array takes no list as it is.
        return TABLE if target == "numpy-dict" else MASKS[origin]
    return ANY if target is None else TABLE


def shown_annotation(annotation):
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, str):
        return annotation
    return inspect.formatannotation(annotation).removeprefix("typing.")


def shorten(text):
    return text if len(text) <= 60 else text[:57] + "..."


def describe(error, trace):
    """An exception as data: class, message, traceback as text, frames outermost first."""
    import traceback

    cls = type(error)
    module = cls.__module__
    plain = module in ("builtins", "__main__")
    name = cls.__qualname__ if plain else f"{module}.{cls.__qualname__}"
    try:
        message = str(error)
    except Exception as second:
        message = f"<str() of it raised {type(second).__name__}>"
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OURS):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(cls, error, trace))
        frames = [
            (frame.filename, frame.lineno or 0, frame.name)
            for frame in traceback.extract_tb(trace)
            if not frame.filename.startswith(OURS)
        ]
    except Exception:
        text, frames = f"{name}: {message}\n", []
    return name, message, text, frames[-200:]


def told_of_call():
    """What is known of the call that the current context belongs to, or None."""
    call = current_call.get()
    return None if call == 0 or engine_of is None else engine_of.about(call)


def trace_call(said):
    """Puts a caller's place in a trace, `(traceparent, tracestate)`, where OpenTelemetry looks.

    Says whether it did: only what the handlers have loaded is used.
    """
    trace = sys.modules.get("opentelemetry.trace")
    context = sys.modules.get("opentelemetry.context")
    if trace is None or context is None:
        return False
    if said is None:
        context.attach(context.Context())
        return False
    parent, state = said
    _, trace_id, span_id, flags = parent.split("-")
    span = trace.NonRecordingSpan(
        trace.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(flags, 16)),
            trace_state=trace.TraceState.from_header([state or ""]),
        )
    )
    context.attach(trace.set_span_in_context(span, context.Context()))
    return True


def run(engine):
    """Turns the engine until the host is done with this worker."""
    if engine.has_async or confined:
        run_loop(engine)
    else:
        while engine.turn(-1, -1) is not None:
            pass
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def run_loop(engine):
    """The same inside asyncio: the engine's turn is what the loop does when it selects."""
    import asyncio
    import selectors

    class Selector(selectors.DefaultSelector):
        def select(self, timeout=None):
            # Whole milliseconds, rounded up: a timer must not spin.
            wait = -1 if timeout is None else 0 if timeout <= 0 else -int(-timeout * 1e3 // 1)
            ready = engine.turn(wait, self.fileno())
            if ready is None:
                loop.stop()
                return []
            return super().select(0) if ready else []

    loop = asyncio.SelectorEventLoop(Selector())
    asyncio.set_event_loop(loop)
    eager = sys.version_info >= (3, 12)

    def start(coroutine):
        if eager and loop.get_task_factory() is None:
            return asyncio.Task(coroutine, loop=loop, eager_start=True)
        return loop.create_task(coroutine)

    engine.use_loop(loop, start, asyncio._set_running_loop, asyncio.CancelledError)
    while True:
        try:
            loop.run_forever()
            break
        except (SystemExit, KeyboardInterrupt):
            # A handler's own: its task has it, and the call ends with it.
            continue


async def stream(generator, sink):
    """Writes down what an async generator yields, as far as somebody reads."""
    import asyncio

    async with contextlib.aclosing(generator) as values:
        async for value in values:
            if not sink.put(value):
                room = asyncio.get_running_loop().create_future()
                sink.room(room)
                await room


async def gather(generator):
    """All that an async generator yields, for a caller that wants it whole."""
    async with contextlib.aclosing(generator) as values:
        return [value async for value in values]


def flush():
    """Writes what is held back of the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def main(engine, stacks_signal):
    prepare(stacks_signal)
    work(engine)


def work(engine):
    global engine_of
    engine_of = engine
    request = engine.greet(sys.version.split()[0])
    if request is None:
        return
    try:
        plans, broken = load(*request)
    except LoadError as error:
        engine.refuse(plain(str(error)), plain(cause_of(error)))
        return
    engine.ready(plans, broken)
    run(engine)


def cause_of(error):
    cause = error.__cause__
    return "" if cause is None else describe(cause, cause.__traceback__)[2]


def plain(text):
    """Text without what UTF-8 cannot say."""
    return text.encode(errors="backslashreplace").decode()


def leave():
    """Ends a fork as the interpreter would, but without taking its modules apart.

    That takes a tenth of a second with pandas, and copies every page the fork shares.
    """
    import atexit
    import threading

    status = 0
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if has_files():
        # To look for them copies pages; what is frozen is not looked at.
        gc.unfreeze()
        flush_files()
    flush_c()
    end_now(status)


def end_now(status):
    """Ends this process with nothing but its standard streams written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def has_files():
    """Whether there is a file that may have been written to."""
    import fcntl
    import stat

    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        with contextlib.suppress(OSError):
            mode = os.fstat(fd).st_mode
            is_file = fd > HOST_FDS and (stat.S_ISREG(mode) or stat.S_ISFIFO(mode))
            if is_file and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                return True
    return False


def flush_files():
    """Writes what open files hold back. The interpreter would when it takes them apart."""
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    # By type: `isinstance` asks the object, which may be somebody's proxy. Texts before bytes.
    files = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
    for each in sorted(files, key=lambda each: not issubclass(type(each), io.TextIOWrapper)):
        with contextlib.suppress(Exception):
            each.flush()


def flush_c():
    """The same for what C code has printed."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).fflush(None)

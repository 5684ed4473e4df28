"""Finds what handlers import of other people's modules, by reading their source.

Compiled into the runtime like `zygote.py`, which alone uses it. Nothing here imports what it finds.
"""

import ast
import contextlib
import importlib.machinery
import os
import pkgutil
import sys
import sysconfig
import warnings

# How many sources are looked through for imports, and how long one may be.
MAX_SOURCES = 2000
MAX_SOURCE_BYTES = 1 << 20


class Found:
    """A module that was looked up, not imported."""

    def __init__(self, name, own, loader, origin, path):
        self.name = name
        # Whether its top-level package lies in a folder of the user's.
        self.own = own
        # `None`: a namespace package.
        self.loader = loader
        self.origin = origin
        # Of a package: its folders, and of each whether it is the user's.
        self.path = path

    def source(self):
        """Its source as bytes, if it has one that can be read."""
        if self.loader is None or not (self.origin or "").endswith(".py"):
            return None
        with contextlib.suppress(OSError):
            if os.path.getsize(self.origin) > MAX_SOURCE_BYTES:  # noqa: PTH202
                return None
        try:
            source = self.loader.get_data(self.origin)
        except (OSError, ImportError, AttributeError):
            return None
        return source if len(source) <= MAX_SOURCE_BYTES else None


class Scan:
    """Looks for imports of other people's modules in the user's, none of which it imports.

    A worker must run the user's code as it is when the worker starts, so this code is not for the
    image; what it imports is.
    """

    def __init__(self, search_path, targets):
        self.known = {}
        self.scanned = set()
        # Top-level names of targets, and from where on down their packages are the user's.
        self.names = {name.partition(".")[0] for name, file, _ in targets if file is None}
        self.tops = set()
        self.start = []
        self.own = {entry for entry in search_path if not is_installed(entry)}
        self.entries = [(entry, entry in self.own) for entry in sys.path]
        for name, file, _ in targets:
            if file is None:
                self.tops.add(self.regular(name.partition(".")[0], name))
                self.start.append((name, ()))
            else:
                loader = importlib.machinery.SourceFileLoader(name, file)
                self.start.append(Found(name, True, loader, file, None))
        self.take_folders()

    def take_folders(self):
        """What lies beside a target is the user's, too, though only PYTHONPATH may lead there."""
        for name in self.names:
            found = self.find(name)
            if found is not None and found.loader is not None and found.origin:
                folder = os.path.dirname(found.origin)  # noqa: PTH120
                folder = folder if found.path is None else os.path.dirname(folder)  # noqa: PTH120
                if not is_installed(folder):
                    self.own.add(folder)
        self.entries = [(entry, entry in self.own) for entry in sys.path]
        self.known.clear()

    def regular(self, top, name):
        """The first package on the way to `name` that is none of namespaces, which are shared."""
        found = self.find(top)
        while found is not None and found.loader is None and name.startswith(top + "."):
            top = name[: (name + ".").index(".", len(top) + 1)]
            found = self.find(top)
        return top

    def wanted(self):
        """What to import, as `(module, names wanted of it)`, in the order of the statements."""
        todo = [iter(self.start)]
        while todo:
            step = next(todo[-1], None)
            if step is None:
                todo.pop()
            elif isinstance(step, Found):
                todo.append(iter(self.imports_of(step)))
            else:
                mine, theirs = self.sort(*step)
                yield from theirs
                todo.append(iter(mine))

    def sort(self, name, names):
        """The user's modules that this import loads, and what it loads of others."""
        chain = self.chain(name)
        if any(self.is_own(found) for found in chain) or self.is_top(name):
            whole = bool(chain) and chain[-1].name == name
            below = [self.find(f"{name}.{each}") for each in names] if whole else []
            return [found for found in (*chain, *below) if found and found.loader], []
        if not chain or chain[-1].name != name or chain[-1].loader is not None:
            return [], [(name, names)]
        # A namespace package: each of its modules may be somebody else's.
        below = [found for found in (self.find(f"{name}.{each}") for each in names) if found]
        mine = [found for found in below if self.is_own(found)]
        return mine, [(found.name, ()) for found in below if not self.is_own(found)]

    def is_own(self, found):
        return (found.own and found.loader is not None) or self.is_top(found.name)

    def is_top(self, name):
        return any(name == top or name.startswith(top + ".") for top in self.tops)

    def chain(self, name):
        """The packages on the way to a module, and the module, as far as they are found."""
        parts = name.split(".")
        chain = []
        for count in range(1, len(parts) + 1):
            found = self.find(".".join(parts[:count]))
            if found is None:
                break
            chain.append(found)
        return chain

    def find(self, name):
        if name not in self.known:
            try:
                self.known[name] = self.look_up(name)
            except Exception:
                # A finder's own trouble; the worker's import meets it, too.
                self.known[name] = None
        return self.known[name]

    def look_up(self, name):
        """Finds a module by its name, step by step: `find_spec` would import its parents."""
        parent = name.rpartition(".")[0]
        if parent:
            within = self.find(parent)
            if within is None or within.path is None:
                return None
            return look_in(name, within.path)
        if name in sys.builtin_module_names:
            return None
        return look_in(name, self.entries) or (self.ask(name) if name in self.names else None)

    def ask(self, name):
        """Asks finders that packages installed: so are projects found that are edited in place."""
        own = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
        for finder in sys.meta_path:
            if finder in own or finder is importlib.machinery.PathFinder:
                continue
            spec = finder.find_spec(name, None)
            if spec is not None:
                folders = spec.submodule_search_locations
                path = None if folders is None else [(folder, False) for folder in folders]
                return Found(name, False, spec.loader, spec.origin, path)
        return None

    def imports_of(self, found):
        """The imports in a module's source, as `(module, names)`."""
        key = found.origin or found.name
        if key in self.scanned or len(self.scanned) >= MAX_SOURCES:
            return []
        self.scanned.add(key)
        source = found.source()
        if source is None:
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
        package = found.name if found.path is not None else found.name.rpartition(".")[0]
        return [want for node in statements(tree) for want in wants(node, package)]


def is_installed(entry):
    """Whether a folder holds what was installed: a program's whole `sys.path` may be searched."""
    if {"site-packages", "dist-packages"} & set(entry.split("/")):
        return True
    zipped = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    library = sysconfig.get_path("stdlib")
    within = entry == library or entry.startswith(library + os.sep)
    return within or os.path.basename(entry) == zipped  # noqa: PTH119


def look_in(name, path):
    """Finds a module in the folders of a path, as the import system does."""
    portions = []
    for folder, own in path:
        finder = pkgutil.get_importer(folder)
        spec = None if finder is None else finder.find_spec(name)
        if spec is None:
            continue
        folders = spec.submodule_search_locations
        if spec.loader is not None:
            below = None if folders is None else [(each, own) for each in folders]
            return Found(name, own, spec.loader, spec.origin, below)
        portions += [(each, own) for each in folders or ()]
    if not portions:
        return None
    return Found(name, any(own for _, own in portions), None, None, portions)


def statements(tree):
    """The import statements that run when the module is imported, in their order."""
    todo = [iter(tree.body)]
    while todo:
        node = next(todo[-1], None)
        if node is None:
            todo.pop()
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If):
            todo.append(iter(branches(node)))
        elif isinstance(node, (ast.Try, ast.TryStar)):
            todo.append(iter([*node.body, *node.orelse, *node.finalbody]))
        elif isinstance(node, (ast.With, ast.ClassDef)):
            todo.append(iter(node.body))


def branches(node):
    """The statements below an `if` that may run in a worker."""
    test = node.test
    if is_never(test):
        return node.orelse
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and is_never(test.operand):
        return node.body
    return [*node.body, *node.orelse]


def is_never(test):
    """Whether it is `TYPE_CHECKING` or `__name__ == "__main__"`."""
    if isinstance(test, ast.Name):
        return test.id == "TYPE_CHECKING"
    if isinstance(test, ast.Attribute):
        return test.attr == "TYPE_CHECKING"
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(is_never(part) for part in test.values)
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = [test.left, *test.comparators]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    values = {str(side.value) for side in sides if isinstance(side, ast.Constant)}
    return "__name__" in names and "__main__" in values


def wants(node, package):
    """An import statement as `(module, names wanted of it)`."""
    if isinstance(node, ast.Import):
        return [(alias.name, ()) for alias in node.names]
    name = node.module or ""
    if node.level:
        parts = package.split(".") if package else []
        if node.level > len(parts):
            return []
        base = parts[: len(parts) - node.level + 1]
        name = ".".join([*base, name] if name else base)
    return [(name, tuple(alias.name for alias in node.names))]

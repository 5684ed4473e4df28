"""Source code that comes with its call, in an isolate.

Compiled into the runtime like `worker.py`, and loaded in images: isolates find it there.
"""

import ast
import linecache
import sys
import types

# See `define`.
TOUCH = ":touch"


def define(worker, source, attribute):
    """The plan of the handler in source code that came with its call.

    That is the function named, or `handler` where there is one; else the code itself, whose result
    is the value of its last line. What the code raises goes through. `TOUCH` is no function, but
    says that the call is there for the sake of the memory that it touches.
    """
    name, file = "main", "/app/main.py"
    if attribute == TOUCH:
        name, file, attribute = TOUCH, TOUCH, None
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    # `ast.parse` would be in the traceback of what is no Python.
    tree = compile(source, file, "exec", ast.PyCF_ONLY_AST)
    last = tree.body[-1] if tree.body else None
    value = None
    if attribute is None and isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, file, "exec"), vars(module))
    if name == TOUCH:
        del sys.modules[name], linecache.cache[file]
    if attribute is None and callable(vars(module).get("handler")):
        attribute = "handler"
    if attribute is not None:
        [(name, function)] = worker.select(module, attribute, file)
        return worker.plan("main", name, function)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), file, "eval"), vars(module))
    if define.plan is None:
        define.plan = worker.plan("main", "main", lambda: None)[1:]
    return (lambda: value, *define.plan)


# That of code without a function, but for the function.
define.plan = None

# Part of sandbox-zygote.so: what it does by Python, in the zygote and in its children.
# Run once in a namespace of its own, which is in no module.
import gc
import os
import sys

# What the preparation itself needs must not be missed in sys.modules: only what every interpreter
# has at its start is imported above.

builtins = set(sys.builtin_module_names)


def top(name):
    return name.partition(".")[0]


def preload(names):
    """Imports the operator's modules.  The answer: names that a script's folder must not have."""
    del sys.path[0]  # what -c has put there
    sys.dont_write_bytecode = True
    at_start = {top(name) for name in sys.modules} | builtins
    for name in names:
        __import__(name)
    warm_up()  # what is made at the first use is then there
    loaded = {top(name) for name in sys.modules} - at_start
    zygote_modules.update(sys.modules)
    del zygote_modules["__main__"]
    data = os.environ._data
    if type(data) is not dict or threads() != 1:
        raise RuntimeError("a module has started a thread")
    sys.path_importer_cache.pop("/", None)
    gc.collect()
    gc.freeze()
    gc.disable()
    return sorted(loaded)


def threads():
    return len(os.listdir("/proc/self/task"))


def enter(argv, env, module, package):
    """Makes the interpreter one that was started with argv and env.

    argv: interpreter, script, arguments; or interpreter, -m, module, arguments.
    package: the folder that PYTHONPATH has besides, or None.
    """
    data = os.environ._data
    data.clear()
    for entry in env:
        name, _, value = entry.partition(b"=")
        data[name] = value
    posix = sys.modules["posix"].environ
    if posix is not data:
        posix.clear()
        posix.update(data)
    # a new one: what the collector was told to leave alone for ever would hold the script's objects
    main = module_type("__main__")
    main.__dict__.clear()
    main.__dict__.update(sys.modules["__main__"].__dict__)
    sys.modules["__main__"] = main
    sys.orig_argv = argv
    if package is not None:
        sys.path.insert(0, package)
    sys.argv = ["-m", *argv[3:]] if module else argv[1:]
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.getcwd() if module else argv[1].rpartition("/")[0])
    gc.enable()


def load(path):
    """The code of a script, and what the interpreter sets in __main__ for it."""
    with io_open_code(path) as file:
        source = file.read()
    code = compile(source, path, "exec", 0, True)
    main = sys.modules["__main__"].__dict__
    main["__file__"] = path
    main["__cached__"] = None
    main["__loader__"] = source_loader("__main__", path)
    return code


def take_apart():
    """The script's modules, as python3 does it; those that were there before it stay.

    They are 90 of 100, hold nothing of the script, and taking them apart costs more than most
    scripts.
    """
    modules = sys.modules
    own = [name for name, module in modules.items() if zygote_modules.get(name) is not module]
    alive = []
    for name in own:
        module = modules[name]
        if isinstance(module, module_type) and not in_library(module):
            alive.append(weakref(module))
        modules[name] = None
        del module
    gc.collect()
    for reference in reversed(alive):
        module = reference()
        if module is not None:
            clear(module.__dict__)
        del module
    if alive:
        gc.collect()


def in_library(module):
    return str(module.__dict__.get("__file__", "")).startswith(library)


def clear(names):
    """Private names first, builtins never."""
    for private in True, False:
        for name in list(names):
            if name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") == private:
                names[name] = None


def needs_exit_handlers():
    """Has the script loaded machine code, which may want to be told of the end?"""
    return any(getattr(module, "__file__", None) and module.__file__.endswith(".so")
               for name, module in sys.modules.items() if name not in zygote_modules)


zygote_modules = {}
module_type = type(sys)
library = os.__file__.rpartition("/")[0] + "/"
weakref = __import__("_weakref").ref
io_open_code = sys.modules["io"].open_code
source_loader = sys.modules["_frozen_importlib_external"].SourceFileLoader


def warm_up():
    """What scripts do most."""
    names = {"__name__": "warm"}
    exec(compile(WARM, "/warm.py", "exec", 0, True), names)


WARM = """
import io, os, sys
def f(a, *b, c=1, **d):
    try:
        raise ValueError(a)
    except ValueError as e:
        return [x for x in b] + sorted(d, key=str)
class C:
    def __init__(self):
        self.a = {1: "a"}
f(1, 2, 3, x=4)
C()
text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
print("warm", 1, 1.5, {"a": [1, None, True]}, file=text)
text.flush()
"%s %d" % ("a", 1), f"{1.5:.2f}", "a,b".split(","), " x ".strip(), "x".encode(), b"x".decode()
json = sys.modules.get("json")
if json is not None:
    json.loads(json.dumps({"a": [1, 2.5, "b", None, True], "c": {"d": "e"}}))
os.path.join("a", "b")
"""

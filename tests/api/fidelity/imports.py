import importlib
import importlib.util
import sys

print(importlib.util.find_spec("json").origin, importlib.util.find_spec("nothing_such"))
import json
print(json.__file__, json.__spec__.name, importlib.reload(json) is json, sys.modules["json"] is json)
try:
    import nothing_such
except ImportError as error:
    print(type(error).__name__, error, error.name)
import __main__
print(__main__.__name__, __main__.__file__)

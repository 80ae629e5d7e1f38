import sys
import types

module = types.ModuleType("made_here")
exec("class N:\n    def __del__(self):\n        print('module gone', __name__)\nn = N()", module.__dict__)
sys.modules["made_here"] = module
print("body")

import os
import sys
import threading

main = sys.modules["__main__"]
print(sorted(globals()), list(globals())[:9])
print(__name__, __file__, __spec__, __package__, __doc__, __cached__, __annotations__, type(__builtins__).__name__)
print(type(__loader__).__name__, __loader__.name, __loader__.path)
print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.executable, sys.prefix, sys.exec_prefix)
print(sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.getrecursionlimit(), sys.getswitchinterval())
print([type(f) if isinstance(f, object) and not isinstance(f, type) else f for f in sys.meta_path], len(sys.path_hooks))
print(sys._getframe().f_back, sys.exc_info(), sys.gettrace(), sys.getprofile(), hasattr(sys, "last_value"))
print(main.__dict__ is globals(), os.getcwd(), oct(os.umask(0)), os.getpid(), os.getpgid(0), os.getsid(0))
print(threading.current_thread(), threading.main_thread() is threading.current_thread(), threading.enumerate(),
      threading.active_count(), threading.get_native_id())
print(sys.stdin.encoding, sys.getfilesystemencoding(), sys.getdefaultencoding(), sys.float_repr_style)

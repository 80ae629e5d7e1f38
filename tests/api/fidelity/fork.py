import atexit
import os
import sys
import threading

atexit.register(print, "at exit of", "both")
pid = os.fork()
if pid == 0:
    print("child", os.getppid(), threading.main_thread() is threading.current_thread())
    sys.exit(4)
print("waited", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

import atexit
import threading
import time
from concurrent.futures import ThreadPoolExecutor

atexit.register(print, "at exit")


def late():
    time.sleep(0.05)
    print("a thread outlives main")


threading.Thread(target=late).start()
with ThreadPoolExecutor(3) as pool:
    print(list(pool.map(len, ["a", "bb", "ccc"])))
local = threading.local()
local.value = 1
print("main ends")

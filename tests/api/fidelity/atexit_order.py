import atexit


def last():
    print("last", sorted(name for name in globals() if name.startswith("__")))


def broken():
    raise ValueError("in atexit")


atexit.register(last)
atexit.register(broken)
atexit.register(print, "first")
print("body")

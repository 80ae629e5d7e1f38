import sys


def hook(*args):
    raise RuntimeError("the hook itself")


sys.excepthook = hook
raise ValueError("hooked")

import sys

seen = []
sys.settrace(lambda frame, event, arg: seen.append((frame.f_code.co_name, event)))


def f():
    return 1


f()
sys.settrace(None)
print(seen)

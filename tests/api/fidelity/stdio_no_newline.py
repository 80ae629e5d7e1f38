import atexit
import sys

atexit.register(sys.stdout.write, "no newline")

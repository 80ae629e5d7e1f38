import io
import sys

sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding="ascii", errors="backslashreplace")
print("caf\u00e9")

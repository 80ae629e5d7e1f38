import ctypes
import sqlite3

libc = ctypes.CDLL(None)
libc.printf(b"through the C library's own buffer\n")
print(sqlite3.connect(":memory:").execute("select 1+1").fetchone(), flush=True)

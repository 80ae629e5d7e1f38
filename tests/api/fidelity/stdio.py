import os
import stat
import sys

for name in ("stdin", "stdout", "stderr"):
    stream = getattr(sys, name)
    raw = stream.buffer.raw
    print(name, stream.name, stream.mode, stream.encoding, stream.errors, stream.newlines, stream.line_buffering,
          stream.write_through, stream.isatty(), stream.seekable(), stream.readable(), stream.writable(),
          stream.fileno(), type(stream.buffer).__name__, raw.mode, raw.closefd, raw.name,
          stat.S_IFMT(os.fstat(stream.fileno()).st_mode), stream is getattr(sys, f"__{name}__"))
print(sys.stdin.tell(), repr(sys.stdin.read()), sys.stdin.tell())
print(sys.stdin.seek(0), len(sys.stdin.readline()))

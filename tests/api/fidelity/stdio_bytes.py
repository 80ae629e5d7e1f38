import sys

sys.stdout.buffer.write(b"raw \xff\n")
sys.stdout.buffer.flush()
print("text \u20ac")
sys.stderr.write("err \udcff\n")

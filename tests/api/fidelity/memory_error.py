try:
    x = bytearray(1 << 40)
except MemoryError:
    print("no memory")
data = "x" * (1 << 20)
print(len(data))

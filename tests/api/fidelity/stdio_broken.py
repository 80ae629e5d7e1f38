import os
print("can't be flushed")
os.close(1)

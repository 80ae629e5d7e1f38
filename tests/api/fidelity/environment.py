import os
import posix
import subprocess
import sys

print(list(os.environ.items()))
print(posix.environ == {os.fsencode(k): os.fsencode(v) for k, v in os.environ.items()})
os.environ["ADDED"] = "here"
del os.environ["TZ"]
print(os.getenvb(b"ADDED"), os.path.expanduser("~"))
sys.stdout.flush()
subprocess.run(["env"], check=True)
subprocess.run([sys.executable, "-c", "import os; print(sorted(os.environ))"], check=True)

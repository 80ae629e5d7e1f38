import os
import resource

print(sorted(os.listdir("/proc/self/fd"))[:3], open("/proc/self/comm").read())
for line in open("/proc/self/status"):
    if line.startswith(("Name", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp", "Threads", "SigB", "SigI", "SigP", "Shd")):
        print(line, end="")
for name in sorted(dir(resource)):
    if name.startswith("RLIMIT_"):
        print(name, resource.getrlimit(getattr(resource, name)))
print(open("/proc/self/cmdline").read().rstrip("\0 ").split("\0"), len(os.sched_getaffinity(0)) > 0)
print(os.access("/proc/self/mem", os.R_OK), os.access("/proc/self/environ", os.R_OK))
print(sorted(os.listdir("/")), sorted(os.listdir("/sandbox")), os.path.realpath("/skill"))

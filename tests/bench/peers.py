"""Other ways to run a command in a sandbox on this host, measured beside ours with the same commands.

Each is called as its users would call it for a script without network: what it isolates is
its own affair, and less than here (docs/performance.md).  One that can't run is skipped with the reason.
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess

from measure import ENVIRONMENT

USR = ["/usr", "/bin", "/lib", "/lib64", "/etc/alternatives"]
SRT_PACKAGE = "@anthropic-ai/sandbox-runtime"


def bubblewrap():
    program = shutil.which("bwrap")
    if not program:
        raise LookupError("no bwrap on this host (Debian: bubblewrap)")
    binds = [arg for path in USR for arg in bind(path)]
    base = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", *binds, "--proc", "/proc",
            "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return lambda command: base + command


def bind(path):
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path] if os.path.exists(path) else []


def nsjail():
    program = shutil.which("nsjail")
    if not program:
        raise LookupError("no nsjail on this host")
    binds = [arg for path in USR if os.path.exists(path) for arg in ("-R", path)]
    base = [program, "-Mo", "-Q", *binds, "-T", "/tmp", "--cwd", "/tmp", "--"]
    return lambda command: base + command


def isolate():
    program = shutil.which("isolate")
    if not program:
        raise LookupError("no isolate on this host")
    if subprocess.run([program, "--init"], capture_output=True, timeout=30, check=False).returncode != 0:
        raise LookupError("`isolate --init` fails on this host")
    base = [program, "--silent", "--processes=8", "--run", "--"]
    return lambda command: base + command


def sandbox_runtime(folder):
    """The npm package's command, `srt`, installed into the build folder."""
    if not shutil.which("npm"):
        raise LookupError("no npm on this host")
    folder = pathlib.Path(folder) / "sandbox-runtime"
    program = folder / "node_modules" / ".bin" / "srt"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund",
                               "--ignore-scripts", SRT_PACKAGE],
                              capture_output=True, text=True, timeout=180, check=False)
        if done.returncode != 0 or not program.exists():
            raise LookupError("`npm install` fails: " + " ".join((done.stderr or done.stdout).split())[-200:])
    for needed in ("bwrap", "socat", "rg"):
        if not shutil.which(needed):
            raise LookupError(f"it needs {needed} (Debian: {dict(bwrap='bubblewrap', rg='ripgrep').get(needed, needed)})")
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"network": {"allowedDomains": [], "deniedDomains": []},
                                    "filesystem": {"denyRead": [], "allowWrite": ["/tmp"], "denyWrite": []}}))
    return lambda command: [str(program), "--settings", str(settings), "-c", shlex.join(command)]


# name: (how to find it, how often it is called for each call of the bare command)
PEERS = {"bubblewrap": (bubblewrap, 0.4), "nsjail": (nsjail, 0.4), "isolate": (isolate, 0.4), "srt": (sandbox_runtime, 0.05)}


def find(book, folder):
    """{name: (wrap(command) -> command, share)}, of those that ran `true` just now."""
    found = {}
    for name, (look, share) in PEERS.items():
        try:
            wrap = look(folder) if look is sandbox_runtime else look()
            done = subprocess.run(wrap(["/usr/bin/true"]), capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
                                  stdin=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                raise LookupError("it can't run `true` here: " + " ".join(done.stderr.split())[-200:])
        except (LookupError, OSError, subprocess.TimeoutExpired) as error:
            book.skip(name, str(error))
            continue
        found[name] = (wrap, share)
    return found

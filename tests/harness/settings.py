"""Where the things under test are; everything may be set from the environment."""

import os
import pathlib
import pwd
import shlex
import shutil

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SKILLBOX_BUILD", TOP / "build")).resolve()
BIN = BUILD / "bin"

NGINX = os.environ.get("SKILLBOX_NGINX") or shutil.which("nginx") or "/usr/sbin/nginx"
# Empty: the module is compiled into that nginx.
MODULE = os.environ.get("SKILLBOX_MODULE", str(BUILD / "nginx" / "ngx_http_skillbox_module.so"))

# The one the Makefile uses; sanitized programs take longer for everything.
SANITIZED = os.environ.get("SKILLBOX_SANITIZED") == "1"
# So does everything in an emulated machine (tests/hosts).
SLOW = int(os.environ.get("SKILLBOX_SLOW") or (4 if SANITIZED else 1))

# What the helper is started by, where a test does not say: tests/hosts gives each a group of its own.
HELPER_PREFIX = shlex.split(os.environ.get("SKILLBOX_HELPER_PREFIX", ""))

# `make attack`: the long tests, too.
FULL = os.environ.get("SKILLBOX_FULL") == "1"

# From where to where gateways may listen: test runs side by side have ranges of their own.
PORTS = tuple(int(port) for port in os.environ.get("SKILLBOX_PORTS", "10000-32000").split("-"))

ROOT = os.geteuid() == 0
NGINX_USER = os.environ.get("SKILLBOX_NGINX_USER", "www-data")
HELPER_USER = os.environ.get("SKILLBOX_HELPER_USER", "nobody")


def ids(user):
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid

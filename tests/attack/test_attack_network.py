"""Attacks on the host's network: item 23 of the catalogue.  What counts is what the host's
listeners hear and what the kernel says of the run's network from outside."""

import json
import pathlib
import resource
import select
import socket
import subprocess
import threading

import pytest

from harness import settings, watch
from held import Held


def host_addresses():
    """(kind for the probe, ip) of each address the host has, its loopback included."""
    out = subprocess.run(["ip", "-j", "address"], check=True, capture_output=True, text=True, timeout=10)
    for link in json.loads(out.stdout):
        for address in link.get("addr_info", []):
            if address["family"] == "inet":
                yield "4", address["local"]
            elif address.get("scope") == "link":
                yield f"6%{link['ifindex']}", address["local"]
            else:
                yield "6", address["local"]


class Listeners:
    """TCP and UDP, IPv4 and IPv6, on all addresses of the host, one port for all."""

    def __init__(self):
        self.sockets = []
        self.port = 0
        for family, kind in ((socket.AF_INET6, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_DGRAM)):
            try:
                self._open(family, kind)
            except OSError:  # a host without IPv6
                self._open(socket.AF_INET, kind)

    def _open(self, family, kind):
        s = socket.socket(family, kind)
        try:
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", self.port))
            if kind == socket.SOCK_STREAM:
                s.listen(64)
        except OSError:
            s.close()
            raise
        self.port = s.getsockname()[1]
        self.sockets.append(s)

    def heard(self):
        """Who knocked."""
        found = []
        while ready := select.select(self.sockets, [], [], 0)[0]:
            for s in ready:
                if s.type == socket.SOCK_STREAM:
                    connection, peer = s.accept()
                    connection.close()
                else:
                    peer = s.recvfrom(100)[1]
                found.append(peer)
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.sockets:
            s.close()


OUTSIDE = [("4", "8.8.8.8", 53), ("4", "255.255.255.255", 53), ("4", "224.0.0.1", 53), ("4", "169.254.169.254", 80),
           ("6", "2001:4860:4860::8888", 53), ("6%2", "ff02::1", 53), ("6%1", "fe80::1", 53)]


def doors(gateway, port):
    found = list(OUTSIDE)
    for kind, ip in host_addresses():
        found += [(kind, ip, port), (kind, ip, gateway.port), (kind, ip, 22)]
    return found


@pytest.mark.item(23)
def test_nothing_of_the_network_can_be_reached(attack, gateway, observed):
    with Listeners() as listeners:
        wanted = doors(gateway, listeners.port)
        outcome = attack("network", *[word for door in wanted for word in door])
        assert listeners.heard() == []
    for what in ("own TCP 4", "own UDP 4", "own TCP 6", "own UDP 6"):
        assert outcome.notes[what] == 1, f"control: {what}"
    assert len(outcome.tries) > 4 * len(wanted)
    # A datagram to 127.0.0.1 is accepted: by the run's own loopback, where nobody listens.
    done = {what for what, (rc, _) in outcome.tries.items() if rc >= 0}
    assert all(what.split()[-2] in ("127.0.0.1", "::1") and what.startswith("udp") for what in done), done
    observed(f"{len(wanted)} doors, no listener heard anything")


@pytest.mark.item(23)
def test_the_network_of_a_run_is_a_loopback_and_no_route(gateway, observed):
    """As the kernel tells it from outside, while a run that has tried everything holds still."""
    with Held(gateway, gateway.key, "network", "4", "8.8.8.8", "53") as held:
        net = pathlib.Path(f"/proc/{held.pid}/net")
        links = [line.split(":") for line in (net / "dev").read_text().splitlines()[2:]]
        routes = (net / "route").read_text().splitlines()[1:]
        packets = int(links[0][1].split()[1])
        assert held.pid and (net / "dev").read_text() != pathlib.Path("/proc/self/net/dev").read_text()
    assert [name.strip() for name, _ in links] == ["lo"]
    assert packets > 0, "control: its own loopback carried something"
    assert routes == []
    observed(f"one interface, lo, {packets} packets of its own; no route")


# ---- the memory of connections, which all of the host share ----

class TcpMemory(threading.Thread):
    """Watches the bytes in the buffers of all TCP connections of the host."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done, self.before = threading.Event(), self.now()
        self.most = self.before

    @staticmethod
    def now():
        for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
            if line.startswith("TCP:"):
                return int(line.split()[-1]) * resource.getpagesize()
        raise AssertionError("no TCP in sockstat")

    def run(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, self.now())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.mark.item(31)
def test_a_runs_own_connections_do_not_fill_the_hosts_tcp_memory(gateway, observed):
    if "without cgroup" in gateway.helper_log:
        pytest.skip("without control groups nothing counts a run's connections")
    with TcpMemory() as memory:
        answer = gateway.run("probe", args=["x", "300", "full-connections"])
        if answer["status"] == "success":  # v1: the buffers stay small; v2: it dies of its memory limit
            assert answer["output"]["notes"]["bytes"] > 100000, "control: they carried something"
        else:
            assert "memory" in answer["error"], answer
    grown = memory.most - memory.before
    assert grown < 320 << 20
    watch.wait_for(lambda: memory.now() < memory.before + (16 << 20), 10 * settings.SLOW, "the memory did not come back")
    observed(f"180 connections filled: {grown >> 20} MiB more in the host's TCP buffers at most")


@pytest.mark.control
def test_control_the_listeners_hear():
    with Listeners() as listeners:
        for _, ip in [a for a in host_addresses() if "%" not in a[0]]:
            with socket.create_connection((ip, listeners.port), 5):
                pass
            with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.sendto(b"x", (ip, listeners.port))
        select.select(listeners.sockets, [], [], 5)
        assert len(listeners.heard()) >= 2

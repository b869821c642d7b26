"""Two hosts on this machine: namespaces with names, addresses and processes of their own, and a cable to cut."""

import subprocess
from contextlib import ExitStack, contextmanager
from shutil import which

import pytest

from tests.launch.runs import LIMIT_S, ROOT, environment

NAMES = ("left", "right")
_NAMESPACES = {"net": "net", "mount": "mnt", "uts": "uts", "ipc": "ipc", "pid": "pid_for_children"}
_BOOT = "hostname {name} && mount --bind {hosts} /etc/hosts && mount -t tmpfs none /dev/shm"
_SWITCH = ("ip link add br0 type bridge forward_delay 0 stp_state 0", "ip link set br0 up")
_LINK = ("ip link add {name} type veth peer name eth0 netns {pid}", "ip link set {name} master br0 up")
_ADDRESS = ("ip link set lo up", "ip addr add {address}/24 dev eth0", "ip link set eth0 up")


class Host:
    """One of them, or the switch between them.

    Args:
        holder: process whose namespaces these are, and with which all ends that runs in them.
        kinds: of namespaces that commands enter; the switch has to see the processes outside.
    """

    def __init__(self, holder, kinds=tuple(_NAMESPACES)):
        self._holder, self._kinds = holder, kinds

    def run(self, *words):
        """A command there, to its end: what it printed."""
        ran = subprocess.run(self._inside(words), capture_output=True, text=True, timeout=LIMIT_S)
        assert ran.returncode == 0, f"{words} ended with {ran.returncode}: {ran.stderr}"
        return ran.stdout

    def start(self, *words):
        """A command there, as a process whose number there its standard output tells first."""
        told = ["sh", "-c", 'echo $$; exec "$0" "$@"', *words]
        return subprocess.Popen(
            self._inside(told), env={**environment(), "GLOO_SOCKET_IFNAME": "eth0"}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def running(self, word):
        """Command lines of the processes there in which a word stands; those that have ended have none."""
        lines = self.run("sh", "-c", "for one in /proc/[0-9]*; do tr '\\0' ' ' < $one/cmdline; echo; done 2>/dev/null")
        return [line for line in lines.splitlines() if word in line.split()]

    def _inside(self, words):
        enter = [f"--{kind}=/proc/{self._holder.pid}/ns/{_NAMESPACES[kind]}" for kind in self._kinds]
        return ["nsenter", *enter, f"--wd={ROOT}", "--", *map(str, words)]


class TwoHosts:
    """Both, and the switch between them."""

    def __init__(self, hosts, switch):
        self.hosts, self._switch = hosts, switch

    def cut(self):
        """Pull the cable of the second."""
        self._switch.run(*f"ip link set {NAMES[1]} down".split())

    def mend(self):
        """Put it back."""
        self._switch.run(*f"ip link set {NAMES[1]} up".split())


@contextmanager
def two_hosts(folder):
    """Bring them up, and end them with all that runs on them; skips where the rights for that are missing."""
    missing = [name for name in ("unshare", "nsenter", "ip") if which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not on this machine: no hosts can be made (util-linux, iproute2)")
    addresses = {name: f"10.213.77.{number}" for number, name in enumerate(NAMES, start=1)}
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    (folder / "hosts").write_text("\n".join(lines) + "\n")
    with ExitStack() as stack:
        try:
            yield _joined(stack, folder / "hosts", addresses)
        except _RefusedError as error:
            pytest.skip(f"no network can be made of namespaces here: {error}")


def _joined(stack, hosts_file, addresses):
    switch = Host(stack.enter_context(_held("true")), kinds=("net",))
    _set_up(switch, _SWITCH)
    hosts = []
    for name, address in addresses.items():
        holder = stack.enter_context(_held(_BOOT.format(name=name, hosts=hosts_file)))
        _set_up(switch, _LINK, name=name, pid=holder.pid)
        hosts.append(Host(holder))
        _set_up(hosts[-1], _ADDRESS, address=address)
    return TwoHosts(hosts, switch)


class _RefusedError(Exception):
    """The kernel, or what confines this process, does not let a network be made."""


def _set_up(host, commands, **values):
    for words in commands:
        try:
            host.run(*words.format(**values).split())
        except AssertionError as error:
            raise _RefusedError(str(error)) from None


@contextmanager
def _held(boot):
    """The process that holds a set of namespaces in which `boot` has been done."""
    kinds = [f"--{kind}" for kind in _NAMESPACES]
    words = ["unshare", *kinds, "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "slave"]
    holder = subprocess.Popen(
        [*words, "sh", "-c", f"{boot} && echo up && exec sleep infinity"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        if holder.stdout.readline() != "up\n":
            pytest.skip(f"no hosts can be made of namespaces here: {holder.stderr.read().strip()}")
        yield holder
    finally:
        holder.kill()
        holder.communicate(timeout=LIMIT_S)

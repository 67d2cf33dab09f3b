"""runc for a machine whose root lacks some capabilities: asks it for no more than there is.

`docker run --privileged`, which kind's nodes are, demands every capability and fails where the bounding set is short of
one. docker.sh registers this program as dockerd's runtime on such a machine; it takes what is missing out of the
container's (or the exec's) specification, raises an OOM score below our own, and becomes the real runc. Standard
library only.
"""

import json
import os
import sys
from pathlib import Path

RUNC = "/usr/sbin/runc"
# runc's global options that take a value.
VALUED = {"--root", "--log", "--log-format", "--criu", "--rootless"}
# Linux' capabilities by number, from capability.h.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]


def held() -> set[str]:
    """The names of the capabilities in our bounding set."""
    status = Path("/proc/self/status").read_text()
    bits = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd")), 16)
    return {f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bits >> number & 1}


def option(arguments: list[str], *names: str) -> str | None:
    """The value of an option in any of its spellings."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else arguments[index + 1]
    return None


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """runc's subcommand and what follows it."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in VALUED else rest[1:]
    return (rest[0], rest[1:]) if rest else ("", [])


def bound(process: dict) -> None:
    """Take out of a process what this machine can't give it."""
    keep = held()
    for kind, names in process.get("capabilities", {}).items():
        process["capabilities"][kind] = [name for name in names if name in keep]
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    if process.get("oomScoreAdj", ours) < ours:
        process["oomScoreAdj"] = ours


def main(arguments: list[str]) -> None:
    """Bound the specification that this call names, then become runc."""
    command, rest = split(arguments)
    if command in ("create", "run"):
        path = Path(option(rest, "--bundle", "-b") or ".") / "config.json"
        spec = json.loads(path.read_text())
        bound(spec["process"])
        path.write_text(json.dumps(spec))
    elif command == "exec" and (name := option(rest, "--process", "-p")):
        process = json.loads(Path(name).read_text())
        bound(process)
        Path(name).write_text(json.dumps(process))
    os.execv(RUNC, [RUNC, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])

"""Machines of a Ray cluster, as far as one computer can be several: each a `ray start` with an address and a home.

Ray tells nodes by their addresses, and so does a search; what one machine's home holds, no other one knows. All that
runs on a machine ends with it, as when its power is cut.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from hybridlab.runs.pool import child_environment

FOLDER = "RAY_TMPDIR"
TOKEN = secrets.token_hex(32)
"""Without it nobody gets in, for nodes listen to the whole network."""
_PR_SET_PDEATHSIG = 1
STARTS, START_S = 4, 120.0
"""Ray gives its own processes 30 seconds to start, which beside other tests may be too few."""
OBJECTS_BYTES = 100 * 1024**2


class Machine:
    """One node of a cluster: its head, unless the address of one is given."""

    def __init__(
        self,
        folder: Path,
        number: int,
        cores: int,
        *,
        head: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.home = folder / str(number), folder / f"home{number}"
        self.folder.mkdir(parents=True)
        self._log, self._note = self.folder / "log.txt", self.folder / "ray" / "ray_current_cluster"
        own = {"HYBRIDLAB_HOME": str(self.home), **(environment or {})}
        self._environment = environment_of(self.folder) | own
        self._command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
            *("--node-ip-address", f"127.0.0.{number + 1}", "--num-cpus", str(cores)),
            *("--object-store-memory", str(OBJECTS_BYTES), "--include-log-monitor", "false"),
            *("--min-worker-port", "0", "--max-worker-port", "0"),
            *("--dashboard-agent-listen-port", "0", "--temp-dir", str(self.folder / "ray")),
        ]
        for _ in range(STARTS):
            self._process = self._begun(head)
            deadline = time.monotonic() + START_S
            while self._process.poll() is None and time.monotonic() < deadline:
                if self.address:
                    return
                time.sleep(0.1)
            self.kill()
        raise AssertionError(self._log.read_text()[-3000:])

    @property
    def address(self) -> str:
        """Where its cluster is found, once it has started."""
        return self._note.read_text().strip() if self._note.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def has(self, pid: int) -> bool:
        """Say whether a process runs on it."""
        try:
            return self._process.pid in {one.pid for one in psutil.Process(pid).parents()}
        except psutil.NoSuchProcess:
            return False

    def kill(self) -> None:
        """Cut its power."""
        end_all(self.folder)
        self._process.wait()

    def _begun(self, head: str | None) -> subprocess.Popen[bytes]:
        where = ["--address", head] if head else ["--head", "--port", str(free_port())]
        if not head:
            where += ["--include-dashboard", "false", "--no-monitor"]
            where += ["--ray-client-server-port", str(free_port())]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._command, *where],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )


@contextmanager
def room_for_machines() -> Iterator[Path]:
    """Give a folder with a name short enough for sockets; what was started in it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="hlr", dir="/tmp"))
    try:
        yield folder
    finally:
        end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment in which Ray keeps to a folder, and finds the cluster that was started there."""
    kept = {key: value for key, value in child_environment().items() if key != "RAY_ADDRESS"}
    return kept | {
        FOLDER: str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_health_check_period_ms": "1000",  # a machine that is gone is told within seconds
    }


def end_all(folder: Path) -> None:
    """End every process that was started in a folder or below, and all that those have started."""
    found: set[psutil.Process] = set()
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(one.environ().get(FOLDER, "/")).is_relative_to(folder):
                found |= {one, *one.children(recursive=True)}
    for one in found:
        if one.pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                one.kill()
    psutil.wait_procs(found, timeout=60)


def _end_with_parent() -> None:
    """Have the kernel end this process, and so all of its node, where its parent is killed before it could do so."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])

"""Resolve every dependency afresh within pyproject.toml's bounds and write constraints.txt (run it by `make lock`)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HEADER = """\
# Exact versions that HybridLab is tested with, made by `make lock`; pyproject.toml has the bounds for others.
# Versions are without a local suffix such as +cpu, so that any build of torch 2.13 fits.
"""


def main() -> int:
    """Ask pip for the resolution without installing anything, and write it."""
    top = Path(__file__).resolve().parent.parent
    project = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(line for extra in extras for line in extra)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report)]
        command += [*sys.argv[1:], *requirements]
        if code := subprocess.run(command, check=False).returncode:
            return code
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in found}
    lines = [f"{name}=={version.split('+')[0]}" for name, version in sorted(versions.items())]
    (top / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

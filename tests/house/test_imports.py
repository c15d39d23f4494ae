"""What importing costs: nothing heavy for the package itself, and no torch in the page server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted(path.name for path in (TOP / "pages").glob("*.py"))
LIMIT_S = 0.3
TORCH_FREE = [
    "hybridlab",
    "hybridlab.errors",
    "hybridlab.units",
    "hybridlab.places",
    "hybridlab.validation",
    "hybridlab.cli",
    "hybridlab.runs",
    "hybridlab.runs.launcher",
    "hybridlab.runs.supervisor",
    "hybridlab.architecture.spec",
    "hybridlab.architecture.document",
    "hybridlab.architecture.edit",
    "hybridlab.architecture.library",
    "hybridlab.architecture.complete",
    "hybridlab.components.types",
    "hybridlab.training.spec",
    "hybridlab.profiling.perfetto",
    "hybridlab.profiling.report",
    "hybridlab.views.diagram",
    "hybridlab.views.diagram_svg",
    "hybridlab.views.curves",
]


def fresh(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_importing_the_package_is_quick() -> None:
    code = "import time; t = time.process_time(); import hybridlab; print(time.process_time() - t)"
    seconds = min(float(fresh(code)) for _ in range(5))
    assert seconds < LIMIT_S, f"`import hybridlab` takes {seconds:.2f} CPU-seconds; import lazily"


@pytest.mark.parametrize("module", TORCH_FREE)
def test_what_the_page_server_needs_is_free_of_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    assert fresh(code) == "False", (
        f"{module} imports torch; find out how with `python -X importtime`"
    )


@pytest.fixture(scope="module")
def one_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for all pages: only the first has to wait until a process with torch has told the palette."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_draws_without_torch_and_without_touching_a_gpu(page: str, one_home: Path) -> None:
    code = f"""
import json, os, sys
os.environ["HYBRIDLAB_HOME"] = {str(one_home)!r}
from streamlit.testing.v1 import AppTest
test = AppTest.from_file({str(TOP / "pages" / page)!r}, default_timeout=60).run()
torch = sys.modules.get("torch")
print(json.dumps({{"torch": torch is not None,
                   "cuda": bool(torch and torch.cuda.is_initialized()),
                   "main": len(test.main.children), "errors": [e.value for e in test.exception]}}))
os._exit(0)
"""
    # Leave at once: warm processes that the page started end with their standard input.
    found = json.loads(fresh(code.replace("os._exit(0)", "sys.stdout.flush(); os._exit(0)")))
    assert found["errors"] == []
    assert found["main"] > 0
    assert not found["torch"]
    assert not found["cuda"]


def test_public_names_exist() -> None:
    code = (
        "import hybridlab as hl; print(all(getattr(hl, name) is not None for name in hl.__all__))"
    )
    assert fresh(code) == "True"

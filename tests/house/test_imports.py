"""What importing costs: nothing heavy for the package itself, and no torch in the page server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def fresh(code: str, seconds: float = 120) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_importing_the_package_is_quick() -> None:
    code = "import time; t = time.process_time(); import hybridlab; print(time.process_time() - t)"
    seconds = min(float(fresh(code)) for _ in range(5))
    assert seconds < LIMIT_S, f"`import hybridlab` takes {seconds:.2f} CPU-seconds; import lazily"


def test_what_the_page_server_needs_is_free_of_torch() -> None:
    """Each module is imported as if it were the first of ours; what others it needs stays, until one brings torch."""
    code = f"""
import importlib, sys
brought = []
for module in {TORCH_FREE!r}:
    for ours in [name for name in sys.modules if name.partition(".")[0] == "hybridlab"]:
        del sys.modules[ours]
    importlib.import_module(module)
    if "torch" in sys.modules:
        brought.append(module)
        break
print(brought)
"""
    assert fresh(code) == "[]", (
        "a module imports torch; find out how with `python -X importtime -c 'import MODULE'`"
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each page came to, all drawn by one process in one home, as by a server; by the page's file name."""
    code = f"""
import json, os, sys
os.environ["HYBRIDLAB_HOME"] = {str(tmp_path_factory.mktemp("home"))!r}
from streamlit.testing.v1 import AppTest
found = {{}}
for page in {PAGES!r}:
    test = AppTest.from_file(os.path.join({str(TOP / "pages")!r}, page), default_timeout=120).run()
    torch = sys.modules.get("torch")
    found[page] = {{"torch": torch is not None,
                    "cuda": bool(torch and torch.cuda.is_initialized()),
                    "main": len(test.main.children), "errors": [e.value for e in test.exception]}}
print(json.dumps(found))
sys.stdout.flush()
os._exit(0)  # at once: warm processes that the pages started end with their standard input
"""
    pages: dict[str, Any] = json.loads(fresh(code, seconds=280))
    return pages


@pytest.mark.xdist_group("pages drawn by one process")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_draws_without_torch_and_without_touching_a_gpu(
    page: str, drawn: dict[str, Any]
) -> None:
    found = drawn[page]
    assert found["errors"] == []
    assert found["main"] > 0
    assert not found["torch"], "this page imports torch, or one that was drawn before it"
    assert not found["cuda"]


def test_public_names_exist() -> None:
    code = (
        "import hybridlab as hl; print(all(getattr(hl, name) is not None for name in hl.__all__))"
    )
    assert fresh(code) == "True"

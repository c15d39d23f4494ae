"""Where the app and its sample configs are: in the source tree, or inside the installed package. Free of torch."""

from __future__ import annotations

from pathlib import Path

from hybridlab.errors import HybridLabError

_PACKAGE = Path(__file__).resolve().parent


def app_file() -> Path:
    """Return ``app.py``; ``pages/`` and ``.streamlit/config.toml`` lie beside it.

    Raises:
        HybridLabError: the installation is not complete.
    """
    return _find("app.py")


def sample_configs() -> Path:
    """Return the folder of sample files, with ``architectures/``, ``training/`` and ``searches/`` inside.

    Raises:
        HybridLabError: the installation is not complete.
    """
    return _find("sample_configs")


def benchmark_results(name: str) -> Path:
    """Return the file that a benchmark of the source tree writes, whether or not it has run.

    Raises:
        HybridLabError: the installation is not complete.
    """
    return sample_configs().parent / "artifacts" / "benchmarks" / f"{name}.json"


def _find(name: str) -> Path:
    """Return a file or folder that stands at the top of the source tree and travels in ``_app`` in a wheel."""
    places = (_PACKAGE / "_app", _PACKAGE.parent)
    for place in places:
        if (place / name).exists():
            return place / name
    raise HybridLabError(
        f"{name} is neither in {places[0]} nor in {places[1]}; install HybridLab again"
    )

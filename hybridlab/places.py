"""Where things are: the app and its sample configs (source tree or installed package), and the user's home folder."""

from __future__ import annotations

import os
from pathlib import Path

from hybridlab.errors import HybridLabError

_PACKAGE = Path(__file__).resolve().parent


def app_folder() -> Path:
    """Return the folder that holds ``app.py``, ``pages/``, ``sample_configs/`` and ``.streamlit/``.

    In a source tree that is its top; an installed wheel carries the same files inside the package.

    Raises:
        HybridLabError: neither place has an ``app.py``, so the installation is not complete.
    """
    for folder in (_PACKAGE / "_app", _PACKAGE.parent):
        if (folder / "app.py").is_file() and (folder / "sample_configs").is_dir():
            return folder
    raise HybridLabError(
        f"app.py and sample_configs/ are neither in {_PACKAGE / '_app'} nor in {_PACKAGE.parent}; "
        "install HybridLab again"
    )


def sample_configs(kind: str = "architectures") -> Path:
    """Return the folder of sample files of one kind: architectures, training or searches."""
    return app_folder() / "sample_configs" / kind


def home() -> Path:
    """Return the user's folder of runs, designs and measurements, made if it is not there.

    It is ``HYBRIDLAB_HOME``, or ``~/.hybridlab`` where that is not set.

    Raises:
        HybridLabError: the folder cannot be made.
    """
    folder = Path(os.environ.get("HYBRIDLAB_HOME") or "~/.hybridlab").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HybridLabError(
            f"the folder {folder} cannot be made ({error.strerror}); "
            "set HYBRIDLAB_HOME to a folder that you can write to"
        ) from error
    return folder

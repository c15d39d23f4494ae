"""What ships is what the sources say, and small; neither needs Node."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import hybridlab
from hybridlab.ui.canvas.component import BUILD

FRONTEND = Path(hybridlab.__file__).parent / "ui" / "canvas" / "frontend"


def test_the_bundle_was_built_from_these_sources() -> None:
    names = [f"src/{path.name}" for path in (FRONTEND / "src").iterdir()]
    names += ["package-lock.json", "vite.config.ts"]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\n".encode() + (FRONTEND / name).read_bytes() + b"\n")
    built = (BUILD / "sources.sha256").read_text(encoding="ascii").strip()
    assert built == digest.hexdigest(), (
        "the front end has changed: run `make canvas` and commit hybridlab/ui/canvas/build"
    )


def test_the_bundle_is_one_module_and_one_stylesheet_of_at_most_250_kb() -> None:
    assert sorted(path.name for path in BUILD.iterdir()) == [
        "canvas.css",
        "canvas.js",
        "sources.sha256",
    ]
    packed = sum(
        len(gzip.compress((BUILD / name).read_bytes())) for name in ("canvas.css", "canvas.js")
    )
    assert packed <= 250_000


def test_the_bundle_fetches_nothing_from_elsewhere() -> None:
    style = (BUILD / "canvas.css").read_text(encoding="utf-8")
    assert "@import" not in style
    assert "url(http" not in style


def test_the_lock_file_names_no_download_address() -> None:
    assert '"resolved"' not in (FRONTEND / "package-lock.json").read_text(encoding="utf-8")

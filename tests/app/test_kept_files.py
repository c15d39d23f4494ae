"""A file that a download button made can be fetched although pages go on refreshing meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.media_file_storage import MediaFileKind, MediaFileStorageError
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

from hybridlab.ui.kept_files import KEPT_S, KeptFiles

ASKED = """
from streamlit.starlette import App
from hybridlab.places import app_file
from hybridlab.ui.kept_files import keep_downloads
keep_downloads()
storage = App(app_file())._create_runtime().media_file_mgr._storage
print(type(storage).__name__)
"""


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def clicked(storage: MemoryMediaFileStorage) -> tuple[MediaFileManager, str]:
    """Return a manager and the name of a file that it made at a click."""
    manager = MediaFileManager(storage)
    held = manager.add_deferred(lambda: "step,loss\n", "text/csv", "1.2", "run.csv")
    return manager, manager.execute_deferred(held).rpartition("/")[2]


def test_a_file_outlives_the_scripts_that_end_before_it_is_fetched() -> None:
    clock = Clock()
    storage = KeptFiles("/media", clock)
    manager, name = clicked(storage)
    for _ in range(5):
        manager.remove_orphaned_files()
    assert storage.get_file(name).content == b"step,loss\n"
    clock.now += KEPT_S + 1
    storage.delete_file("another")
    with pytest.raises(MediaFileStorageError):
        storage.get_file(name)


def test_streamlits_own_store_would_have_lost_it() -> None:
    """The reason for ours: when this fails, Streamlit keeps them itself and ours may go."""
    storage = MemoryMediaFileStorage("/media")
    manager, name = clicked(storage)
    for _ in range(2):
        manager.remove_orphaned_files()
    with pytest.raises(MediaFileStorageError):
        storage.get_file(name)


def test_a_file_that_is_made_again_is_kept_from_then_on() -> None:
    clock = Clock()
    storage = KeptFiles("/media", clock)
    made = storage.load_and_get_id(b"x", "text/csv", MediaFileKind.DOWNLOADABLE, "x.csv")
    storage.delete_file(made)
    clock.now += KEPT_S + 1
    assert storage.load_and_get_id(b"x", "text/csv", MediaFileKind.DOWNLOADABLE, "x.csv") == made
    storage.delete_file("another")
    assert storage.get_file(made).content == b"x"


def test_pictures_go_at_once() -> None:
    storage = KeptFiles("/media")
    shown = storage.load_and_get_id(b"x", "image/png", MediaFileKind.MEDIA)
    storage.delete_file(shown)
    with pytest.raises(MediaFileStorageError):
        storage.get_file(shown)


def test_the_page_server_stores_its_files_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split()[-1:] == ["KeptFiles"], done.stderr

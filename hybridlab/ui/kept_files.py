"""Files for downloading that outlive the page's next two refreshes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from streamlit.runtime import memory_media_file_storage
from streamlit.runtime.media_file_storage import MediaFileKind
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage

KEPT_S = 60.0
"""So long a file can still be fetched after Streamlit has let go of it."""


class KeptFiles(MemoryMediaFileStorage):
    """Streamlit's store of files, which deletes a download only ``KEPT_S`` seconds after it is told to.

    Streamlit makes such a file when the button is clicked, belongs it to no session, and deletes it when any two
    scripts of the server have ended, be they of other people's pages. Pages that follow a training end several scripts
    a second, so the browser would often be told that there is no such file (streamlit/streamlit issue 8932).
    """

    def __init__(self, media_endpoint: str, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(media_endpoint)
        self._now = now
        self._let_go: dict[str, float] = {}
        self._lock = threading.Lock()

    def load_and_get_id(self, *given: Any, **named: Any) -> str:
        """Add a file, and return its id; one that was let go of and comes again stays."""
        with self._lock:
            file_id = super().load_and_get_id(*given, **named)
            self._let_go.pop(file_id, None)
            return file_id

    def delete_file(self, file_id: str) -> None:
        """Let go of a file, and delete those that were let go of ``KEPT_S`` seconds ago."""
        with self._lock:
            now = self._now()
            for one, since in list(self._let_go.items()):
                if now - since >= KEPT_S:
                    del self._let_go[one]
                    super().delete_file(one)
            file = self._files_by_id.get(file_id)
            if file is None or file.kind is not MediaFileKind.DOWNLOADABLE:
                super().delete_file(file_id)
            else:
                self._let_go.setdefault(file_id, now)


def keep_downloads() -> None:
    """Have the page server that is started next store its files in ``KeptFiles``."""
    memory_media_file_storage.MemoryMediaFileStorage = KeptFiles  # type: ignore[misc]

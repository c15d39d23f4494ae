"""Tells a canvas at once what its edits will cost: a question by HTTP beside Streamlit's own way, which takes longer.

Nothing is changed here. The edits come by Streamlit too, and only then are they made; should this way be closed, by a
proxy for instance, the canvas waits for the other. Who asks must know the design's ``seed``, which only its own session
has been told.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hybridlab.ui.canvas.desk import Desk
from hybridlab.ui.canvas.message import message
from hybridlab.ui.design.look import look_at

PATH = "/hybridlab/canvas"
PATIENCE_S = 2.0
MOST_BYTES = 2_000_000
_WANTED = (
    *("seed", "supplied", "costs", "flows", "input", "problems", "hints", "changed"),
    *("readable", "name"),
)


class Desks:
    """The desks of this server by their seeds; those of sessions that have ended are forgotten."""

    served: ClassVar[bool] = False
    """Whether this process answers at ``PATH``."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._desks: WeakValueDictionary[str, Desk] = WeakValueDictionary()

    def put(self, desk: Desk) -> None:
        """Let a desk be found by its seed."""
        with self._lock:
            self._desks[desk.seed] = desk

    def get(self, seed: object) -> Desk | None:
        """Return the desk of a seed, or None."""
        with self._lock:
            return self._desks.get(seed) if isinstance(seed, str) else None


desks = Desks()


def foreseen(sent: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the canvas shows once these edits are made, and the last one's number; None where it is not known."""
    desk = desks.get(sent.get("seed"))
    if desk is None:
        return None
    twin = desk.ahead({key: sent.get(key) for key in ("client", "edits", "again")})
    known = look_at(twin.design.text, twin.shapes, f"{twin.owner}.ahead", PATIENCE_S)
    if known.pending:
        return None
    told = message(twin, known)
    edit = twin.acknowledged.get(str(sent.get("client")), 0)
    return {"edit": edit, **{key: told[key] for key in _WANTED}}


async def _answer(request: Request) -> Response:
    if request.headers.get("content-type") != "application/json":
        return JSONResponse({"error": "expected application/json"}, 415)
    if int(request.headers.get("content-length") or MOST_BYTES) >= MOST_BYTES:
        return JSONResponse({"error": f"expected less than {MOST_BYTES} bytes"}, 413)
    try:
        sent = json.loads(await request.body())
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        return JSONResponse({"error": "expected a JSON object with seed, client and edits"}, 400)
    told = await run_in_threadpool(foreseen, sent)
    return Response(status_code=204) if told is None else JSONResponse(told)


ROUTE = Route(PATH, _answer, methods=["POST"])

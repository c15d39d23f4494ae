"""A session of the app without a browser: it speaks the page server's own protocol over a websocket.

It does what a browser does on the wire: it sends all widget values with every rerun, reruns fragments when their timers
ask for it, and acknowledges cached messages. What a browser does after that (drawing) is not part of the server's cost.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState


@dataclass
class Rerun:
    """What one rerun cost on the wire."""

    seconds: float
    messages: int
    bytes: int
    errors: list[str]
    first: dict[str, float] = field(default_factory=dict)
    """Seconds until the first element of each kind came, such as ``plotly_chart``."""


@dataclass
class Session:
    """One visitor."""

    url: str
    widgets: dict[str, WidgetState] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    """The newest id of each widget, by its key."""
    options: dict[str, list[str]] = field(default_factory=dict)
    """What may be chosen in each select box, by its key."""
    timers: dict[str, float] = field(default_factory=dict)
    """Seconds between reruns of fragments, by fragment."""
    page: str = ""
    query: str = ""
    _cached: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    async def open(self, page: str, query: str = "") -> Rerun:
        """Connect and draw a page for the first time."""
        self._socket = await websockets.connect(
            self.url, subprotocols=["streamlit"], max_size=None, ping_interval=None
        )
        self.query = query
        message = BackMsg()
        message.rerun_script.page_name = page
        return await self._rerun(message)

    async def go(self, page: str) -> Rerun:
        """Go to another page of the app, as a click on its name does."""
        self.page, self.query = "", ""
        message = BackMsg()
        message.rerun_script.page_name = page
        return await self._rerun(message)

    async def close(self) -> None:
        """Leave."""
        await self._socket.close()

    async def change(self, key: str, **value: Any) -> Rerun:
        """Change a widget, found by its key, and rerun; ``value`` is a field of WidgetState, such as int_value=4."""
        state = WidgetState(id=self.ids[key])
        name, content = next(iter(value.items()))
        if isinstance(content, list):
            getattr(state, name).data.extend(content)
        else:
            setattr(state, name, content)
        if name == "trigger_value":
            return await self._rerun(BackMsg(), extra=state)
        self.widgets[state.id] = state
        return await self._rerun(BackMsg())

    async def tick(self, fragment: str) -> Rerun:
        """Rerun a fragment because its timer is up."""
        message = BackMsg()
        message.rerun_script.fragment_id = fragment
        message.rerun_script.is_auto_rerun = True
        return await self._rerun(message)

    async def _rerun(self, message: BackMsg, extra: WidgetState | None = None) -> Rerun:
        script = message.rerun_script
        script.query_string = self.query
        if self.page:
            script.page_script_hash = self.page
        script.widget_states.widgets.extend(self.widgets.values())
        if extra is not None:
            script.widget_states.widgets.append(extra)
        script.cached_message_hashes.extend(self._cached)
        began = time.perf_counter()
        await self._socket.send(message.SerializeToString())
        result = Rerun(0.0, 0, 0, [])
        while True:
            raw = await asyncio.wait_for(self._socket.recv(), timeout=60)
            assert isinstance(raw, bytes)
            result.messages += 1
            result.bytes += len(raw)
            reply = ForwardMsg()
            reply.ParseFromString(raw)
            if reply.metadata.cacheable and reply.hash:
                self._cached.add(reply.hash)
            kind = reply.delta.new_element.WhichOneof("type") if reply.HasField("delta") else None
            if kind is not None:
                result.first.setdefault(kind, time.perf_counter() - began)
            if self._take(reply, result):
                result.seconds = time.perf_counter() - began
                if (
                    not script.fragment_id
                ):  # as a browser does, forget widgets that are no longer there
                    self.widgets = {key: w for key, w in self.widgets.items() if key in self._seen}
                return result

    def _take(self, reply: ForwardMsg, result: Rerun) -> bool:
        """Note what a message says; True where it ends the rerun."""
        kind = reply.WhichOneof("type")
        if kind == "navigation":
            self.page = reply.navigation.page_script_hash
        elif kind == "auto_rerun":
            self.timers[reply.auto_rerun.fragment_id] = reply.auto_rerun.interval
        elif kind == "new_session" and not reply.metadata.run.fragment_ids:
            self._seen.clear()  # a run of the whole page begins
            self.timers.clear()
        elif kind == "stop_auto_rerun":
            for fragment in reply.stop_auto_rerun.fragment_ids:
                self.timers.pop(fragment, None)
        elif kind == "delta" and reply.delta.WhichOneof("type") == "new_element":
            element = reply.delta.new_element
            name = element.WhichOneof("type")
            widget = getattr(element, name)
            if name == "exception":
                result.errors.append(f"{widget.type}: {widget.message}")
            if identity := getattr(widget, "id", ""):
                self._note(identity, widget)
        elif kind == "script_finished":
            return reply.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
        return False

    def _note(self, identity: str, widget: Any) -> None:
        """Remember a widget by its key, and take the value that the server gives it, as a browser does."""
        key = identity.split("-", 2)[-1]
        self.ids[key] = identity
        self._seen.add(identity)
        if hasattr(widget, "options"):
            self.options[key] = [str(one) for one in widget.options]
        if not getattr(widget, "set_value", False):
            return
        state = WidgetState(id=identity)
        if hasattr(widget, "data_type"):
            whole = widget.data_type == 0
            if whole:
                state.int_value = int(widget.value)
            else:
                state.double_value = widget.value
        elif isinstance(getattr(widget, "value", None), str):
            state.string_value = widget.value
        elif isinstance(getattr(widget, "value", None), bool):
            state.bool_value = widget.value
        elif isinstance(getattr(widget, "value", None), int):
            state.int_value = widget.value
        else:
            return
        self.widgets[identity] = state

"""Times of day as the person before the screen reads them."""

from __future__ import annotations

from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st


def moment(seconds: float, now: float | None = None) -> str:
    """Write a time (seconds since 1970) in the browser's time zone: ``14:03:22`` today, ``12 Nov 14:03`` before."""
    zone = _zone()
    then = datetime.fromtimestamp(seconds, zone)
    today = datetime.now(zone) if now is None else datetime.fromtimestamp(now, zone)
    if then.date() == today.date():
        return then.strftime("%H:%M:%S")
    return f"{then.day} {then.strftime('%b %H:%M' if then.year == today.year else '%b %Y %H:%M')}"


def _zone() -> tzinfo | None:
    """Return the browser's time zone, or None for the server's where it has not said or names one unknown here."""
    try:
        return ZoneInfo(st.context.timezone or "")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None

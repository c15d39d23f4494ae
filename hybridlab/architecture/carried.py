"""Architectures inside other things: the address of a page, the picture of a diagram. Free of torch; no code is run.

A link carries the text compressed in letters that an address may have; an SVG carries it in ``<metadata>``, a PNG in an
``iTXt`` chunk. What comes from outside is bounded before it is unpacked.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Iterator
from xml.sax.saxutils import escape, unescape

from hybridlab.architecture.document import MAX_BYTES
from hybridlab.errors import Problem, SpecError

MOST_LETTERS = 6_000
"""Longer addresses are cut by mail programs and refused by some proxies."""
MOST_PICTURE_BYTES = 4 * 1024 * 1024
CARRIER = "hybridlab-architecture"
_PNG = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"hybridlab"
_OPEN = re.compile(rf"<(?:\w+:)?metadata\b[^<>]{{0,400}}\bid=[\"']{CARRIER}[\"'][^<>]{{0,400}}>")
_CLOSE = re.compile(r"</(?:\w+:)?metadata>")
_ENTITIES = {"&quot;": '"', "&apos;": "'", "&#13;": "\r", "&#xD;": "\r"}


def to_link(text: str) -> str:
    """Return a text as letters for an address.

    Raises:
        SpecError: it is too long for one.
    """
    packed = zlib.compress(text.encode("utf-8"), 9)
    code = base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")
    if len(code) > MOST_LETTERS:
        raise SpecError(
            Problem(
                "",
                "the design is too large for a link",
                f"at most {MOST_LETTERS:,} letters",
                f"{len(code):,}",
                "send the YAML file or the picture instead",
            )
        )
    return code


def from_link(code: str) -> str:
    """Return the text that an address carries.

    Raises:
        SpecError: it is cut, changed, too long, or no such code; in one sentence.
    """
    try:
        if len(code) > MOST_LETTERS or not re.fullmatch(r"[A-Za-z0-9_-]+", code):
            raise ValueError
        packed = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
        return _unpacked(packed).decode("utf-8")
    except (ValueError, binascii.Error, zlib.error):
        raise SpecError(
            Problem(
                "link",
                "this link was cut or changed on its way, so no design can be read from it",
                fix="copy the whole link again, or ask for the YAML file",
            )
        ) from None


def svg_with(svg: str, text: str) -> str:
    """Return an SVG that carries a text."""
    head, close, rest = svg.partition(">")
    body = escape(text, {"\r": "&#13;"})
    return f'{head}{close}<metadata id="{CARRIER}">{body}</metadata>{rest}'


def from_picture(content: bytes) -> str:
    """Return the text that an SVG or PNG carries.

    Raises:
        SpecError: it is too large, damaged, of another kind, or carries none.
    """
    if len(content) > MOST_PICTURE_BYTES:
        raise SpecError(
            Problem("", "the picture is too large", "at most 4 MiB", f"{len(content) >> 20} MiB")
        )
    text = _from_png(content) if content.startswith(_PNG) else _from_svg(content)
    if text is None:
        raise SpecError(
            Problem(
                "",
                "this picture carries no design",
                "an SVG or PNG that HybridLab wrote",
                fix="programs that edit or send pictures often leave it out: use the first file",
            )
        )
    return text


def _from_svg(content: bytes) -> str | None:
    text = content.decode("utf-8", "replace")
    start = _OPEN.search(text)
    end = _CLOSE.search(text, start.end()) if start else None
    if start is None or end is None:
        return None
    body = text[start.end() : end.start()]
    if body.startswith("<![CDATA[") and body.endswith("]]>"):
        return body[9:-3]
    return unescape(body, _ENTITIES)


def _from_png(content: bytes) -> str | None:
    for kind, body in _chunks(content):
        keyword, _, rest = body.partition(b"\0")
        if kind != b"iTXt" or keyword != _KEYWORD or len(rest) < 2:
            continue
        parts = rest[2:].split(b"\0", 2)
        try:
            packed = parts[2]
            return (_unpacked(packed) if rest[0] else packed).decode("utf-8")
        except (IndexError, ValueError, zlib.error):
            raise SpecError(Problem("", "the design in this picture is damaged")) from None
    return None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a PNG's chunks as kind and body, as far as they are whole."""
    at = len(_PNG)
    while at + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + size]
        if len(body) < size:
            return
        yield kind, body
        at += 12 + size


def _unpacked(packed: bytes) -> bytes:
    """Unpack a whole zlib stream of a bounded size.

    Raises:
        ValueError: it is too large or cut.
    """
    stream = zlib.decompressobj()
    content = stream.decompress(packed, MAX_BYTES + 1)
    if len(content) > MAX_BYTES or not stream.eof:
        raise ValueError("too large, or cut")
    return content

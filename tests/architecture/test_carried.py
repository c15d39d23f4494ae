"""Designs inside links and pictures come out as they went in; anything else is told in one sentence."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridlab.architecture import carried, library
from hybridlab.architecture.document import MAX_BYTES
from hybridlab.errors import SpecError

NASTY = "name: \"</metadata><script>x</script> & ]]> 'ü日'\"\r\n# --> <![CDATA[\n\tnodes: []\n"
TEXTS = [NASTY, *(entry.text() for entry in library.presets())]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect width="1" height="1"/></svg>'


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(body: bytes, kind: bytes = b"iTXt") -> bytes:
    return PNG[:33] + chunk(b"tEXt", b"Title\0x") + chunk(kind, body) + PNG[33:]


@pytest.mark.parametrize("text", TEXTS)
def test_a_link_gives_the_text_back(text: str) -> None:
    code = carried.to_link(text)
    assert set(code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(code) < 1_500
    assert carried.from_link(code) == text


def test_every_cut_of_a_link_is_told() -> None:
    code = carried.to_link(TEXTS[1])
    for length in range(len(code)):
        with pytest.raises(SpecError, match="cut or changed") as told:
            carried.from_link(code[:length])
        assert len(told.value.problems) == 1


@given(st.text(max_size=200))
def test_garbage_is_no_link(text: str) -> None:
    with pytest.raises(SpecError):
        carried.from_link(text)


def test_a_link_that_swells_is_stopped() -> None:
    bomb = zlib.compress(b"0" * (50 * MAX_BYTES // 10), 9)
    code = base64.urlsafe_b64encode(bomb).decode().rstrip("=")
    assert len(code) < carried.MOST_LETTERS
    with pytest.raises(SpecError, match="cut or changed"):
        carried.from_link(code)


def test_a_design_too_large_for_a_link_is_told() -> None:
    noise = random.Random(0).randbytes(20_000).hex()
    with pytest.raises(SpecError, match="too large for a link"):
        carried.to_link(noise)
    with pytest.raises(SpecError):
        carried.from_link("A" * (carried.MOST_LETTERS + 1))


@pytest.mark.parametrize("text", TEXTS)
def test_a_svg_carries_the_text_and_stays_one(text: str) -> None:
    svg = carried.svg_with(SVG, text)
    assert carried.from_picture(svg.encode()) == text
    root = ElementTree.fromstring(svg)
    assert [child.tag.rpartition("}")[2] for child in root] == ["metadata", "rect"]
    again = ElementTree.tostring(root, encoding="unicode")
    assert carried.from_picture(again.encode()) == text, "also when another program wrote it anew"


@pytest.mark.parametrize("text", TEXTS)
def test_a_png_carries_the_text_packed_or_not(text: str) -> None:
    plain = b"hybridlab\0\0\0\0\0" + text.encode()
    packed = b"hybridlab\0\1\0\0\0" + zlib.compress(text.encode())
    for body in (plain, packed):
        assert carried.from_picture(png(body)) == text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just words",
        PNG,
        PNG[:20],
        SVG.encode(),
        b"<svg><metadata id='other'>x</metadata></svg>",
        b"<svg><metadata id='hybridlab-architecture'>never closed",
        png(b"hybridlab\0\0\0\0\0x", b"tEXt"),
        png(b"another\0\0\0\0\0x"),
        PNG[:33] + struct.pack(">I", 1 << 31) + b"iTXt" + b"hybridlab\0",
    ],
)
def test_a_picture_without_a_design_is_told(content: bytes) -> None:
    with pytest.raises(SpecError, match="carries no design"):
        carried.from_picture(content)


@pytest.mark.parametrize(
    "body",
    [
        b"hybridlab\0\1\0\0\0" + zlib.compress(b"abc" * 100)[:-5],
        b"hybridlab\0\1\0\0\0" + zlib.compress(b"0" * (MAX_BYTES * 20)),
        b"hybridlab\0\0\0\0\0\xff\xfe",
        b"hybridlab\0\0\0",
    ],
)
def test_a_damaged_png_is_told(body: bytes) -> None:
    with pytest.raises(SpecError, match=r"damaged"):
        carried.from_picture(png(body))


def test_large_and_hostile_pictures_are_read_in_moments() -> None:
    with pytest.raises(SpecError, match="too large"):
        carried.from_picture(b"x" * (carried.MOST_PICTURE_BYTES + 1))
    for piece in (b"<metadata id='hybridlab-architecture'>", b"<metadata ", b"</metadata", b"<a"):
        many = piece * (carried.MOST_PICTURE_BYTES // len(piece))
        with pytest.raises(SpecError, match="carries no design"):
            carried.from_picture(many)

"""Names that people give to designs and versions are text everywhere, also a hundred that would like to be more."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from hybridlab.architecture import edit, library, versions
from hybridlab.ui.design import keeping
from hybridlab.ui.shell import escaped
from tests.app.held import held, put_in_session
from tests.app.pages.conftest import Visitor

_file = Path(__file__).resolve().parents[2] / "journeys" / "xss.py"
_spec = importlib.util.spec_from_file_location("xss", _file)
assert _spec is not None and _spec.loader is not None
xss = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(xss)

PRESET = library.find("lstm_mini").read_text(encoding="utf-8")
BARE = re.compile(r"(?<!\\)(<[A-Za-z/!]|\]\(|!\[|\$\{|:material/x)")
"""What Markdown would take for HTML, a link, a picture, a formula or an icon."""


PAPER = re.compile(r"\[Paper\]\(https://[\w./-]+\)")
"""The palette's own links."""


def shown(visitor: Visitor) -> str:
    """Return all that the page says and that a browser reads as Markdown."""
    at = visitor.at
    words = visitor.words()
    for code in at.code:  # code is shown letter by letter
        words = words.replace(str(code.value), "")
    said = [words, *(element.proto.body for element in at.get("toast"))]
    said += [str(caption) for radio in at.radio for caption in radio.proto.captions]
    said += [
        str(widget.label) for kind in (at.text_input, at.radio, at.selectbox) for widget in kind
    ]
    said += [str(button.help or "") for button in at.button]
    return "\n".join(said)


def bare(visitor: Visitor) -> list[str]:
    text = PAPER.sub("", shown(visitor))
    return [text[max(0, m.start() - 20) : m.end() + 40] for m in BARE.finditer(text)]


def test_the_pattern_finds_what_it_should_and_leaves_what_is_escaped() -> None:
    telling = [text for text in xss.STRINGS if BARE.search(text)]
    assert len(telling) >= 90
    assert not [text for text in xss.STRINGS if BARE.search(escaped(text))]


def test_icons_and_emoji_in_names_stay_letters_and_other_colons_stay_as_they_are() -> None:
    for text in (":material/delete:", "a :fire: b", ":+1:", "x:smile:"):
        assert "\u2060" in escaped(text)
        assert escaped(text).replace("\u2060", "").replace("\\", "") == text
    for text in ("at 10:30:20", "heads: 4", "C:\\x", "::", "a: b: c"):
        assert "\u2060" not in escaped(text)


def test_versions_with_hostile_names_are_listed_restored_and_compared_as_text(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")
    visitor.open("1_Design", preset="lstm_mini")
    design = visitor.design
    for number, name in enumerate(xss.STRINGS):
        text = edit.set_field(PRESET, "width", number + 1)
        versions.keep(design.history, text, title=name, origin=name, name=name, change=name)
    visitor.at.session_state["design.versions_menu"] = True
    visitor.at.run()
    at = visitor._whole()
    (listed,) = [r for r in at.radio if (r.key or "").startswith("design.versions.")]
    assert len(listed.options) == len(xss.STRINGS)
    assert not bare(visitor)
    visitor.give(listed, listed.proto.options and versions.versions(design.history)[7].id)
    visitor.press("version.compare")
    assert not bare(visitor)
    visitor.press("Open")
    assert not bare(visitor)
    again = Visitor()
    again.open("")
    assert any("Go on with" in button.label for button in again.at.button)
    assert not bare(again)


def test_a_version_is_named_in_the_menu_with_a_hostile_name(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")
    visitor.open("1_Design", preset="lstm_mini")
    visitor.design.change(edit.set_field(PRESET, "width", 32))
    visitor.at.run()
    keeping.finish()
    for name in xss.STRINGS[::9]:
        visitor.at.session_state["design.versions_menu"] = True
        visitor.at.run()
        at = visitor._whole()
        (field,) = [t for t in at.text_input if t.label == "Name of this version"]
        visitor.give(field, name)
        visitor.press("version.name")
        assert not bare(visitor)
        kept = versions.versions(visitor.design.history)
        assert name.strip()[: versions.MAX_NAME] in {version.name for version in kept}


@pytest.mark.parametrize("part", range(5))
def test_saved_designs_with_hostile_names_are_listed_and_opened_as_text(visitor, part) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")
    for number, name in enumerate(xss.STRINGS[part * 20 : part * 20 + 20]):
        library.save_design(f"{number} {name}", edit.set_field(PRESET, "name", name))
    visitor.open("1_Design")
    keys = [b.key for b in visitor.at.button if (b.key or "").startswith("saved.")]
    assert len(keys) == 20
    assert not bare(visitor)
    visitor.press(keys[part])
    assert not bare(visitor)
    visitor.give(held(visitor.at.button_group, "design.view"), "Compare")
    assert not bare(visitor)
    visitor.open("2_Train")
    assert not bare(visitor)


def test_a_design_is_saved_under_a_hostile_name(visitor) -> None:
    put_in_session(visitor.at, "design_first_view", "Diagram")
    visitor.open("1_Design", preset="lstm_mini")
    for name in xss.STRINGS[::7]:
        visitor.at.session_state["design.save_menu"] = True
        visitor.at.run()
        at = visitor._whole()
        (field,) = [t for t in at.text_input if t.label == "Name of the design"]
        visitor.give(field, name[:80])
        visitor.press("design.save")
        assert not bare(visitor)
    assert library.designs()
    assert all(re.fullmatch(r"[\w-]+", entry.name) for entry in library.designs())

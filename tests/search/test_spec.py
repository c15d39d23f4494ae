"""Search files: what they say, and every way to say it wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridlab.errors import SpecError
from hybridlab.places import sample_configs
from hybridlab.search.opening import landscape_of
from hybridlab.search.spec import read_search, search_of

GOOD = "name: x\nclosed_form: {blocks: 2}\n"


def test_every_shipped_search_opens() -> None:
    files = sorted((sample_configs() / "searches").glob("*.yaml"))
    assert "closed_form" in [file.stem for file in files]
    for file in files:
        landscape = landscape_of(read_search(file))
        assert landscape.space.size > 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a search"),
        ("- 1\n", "not a search"),
        ("name: x\n", "closed_form"),
        ("name: x\nclosed_form: {blocks: 30}\n", "out of range"),
        ("name: x\nclosed_form: {blocks: 10}\n", "too many"),
        ("name: x\nclosed_form: {heads: [3]}\n", "do not divide"),
        ("name: x\nclosed_form: {mixers: [lstm, hyena]}\n", "hyena"),
        ("name: x\nclosed_form: {widths: [64, 64]}\n", "twice"),
        (GOOD + "trails: 3\n", "did you mean 'trials'"),
        (GOOD + "trials: 0\n", "out of range"),
        (GOOD + "seed: 1.5\n", "seed"),
        (GOOD + "task: mqar\n", "goes with an architecture"),
        (GOOD + "limits: {peak_bytes: much}\n", "limits"),
        ("name: x\narchitecture: jamba_mini\n", "nothing that may vary"),
        ("name: [x\n", "not YAML"),
    ],
)
def test_what_is_wrong_is_told(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        search_of(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("limits: {speed: 3}\n", "is not an objective"),
        ("limits: {peak_bytes: 1 KiB}\n", "at the nearest"),
        ("limits: {quality: 0.99, peak_bytes: 2 GiB}\n", "limits.quality"),
    ],
)
def test_limits_that_cannot_be_met_are_told(more: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        landscape_of(search_of(GOOD + more))
    assert words in str(caught.value)


def test_a_space_of_one_design_is_refused() -> None:
    one = "name: x\nclosed_form: {blocks: 2, widths: [64], heads: [2], mixers: [lstm]}\n"
    assert landscape_of(search_of(one)).space.size == 4  # recomputation still varies


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path / "none.yaml", tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(SpecError):
            read_search(file)

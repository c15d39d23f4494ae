"""Questions that stand beside another task's: counted again in plain loops."""

from __future__ import annotations

import numpy as np
import torch

from hybridlab.tasks.base import IGNORED
from hybridlab.tasks.digits_asked import runs, strokes
from hybridlab.tasks.digits_data import digits
from hybridlab.tasks.python_indentation import DEPTHS, depths
from hybridlab.tasks.registry import task


def _crossed(line: list[bool]) -> int:
    """Count runs of ink by walking along a line."""
    found, inside = 0, False
    for ink in line:
        found += ink and not inside
        inside = ink
    return found


def test_strokes_are_counted_from_the_pixels() -> None:
    images = digits("val")[0].numpy() >= 0
    for image, answer in zip(images[:60], strokes("val")[:60], strict=True):
        rows = max(_crossed(list(row)) for row in image)
        columns = max(_crossed(list(column)) for column in image.T)
        assert answer == min(max(rows + columns - 2, 0), 3)


def test_runs_of_drawn_images() -> None:
    ring = np.zeros((1, 8, 8), dtype=bool)
    ring[0, 1:6, 1:6] = True
    ring[0, 2:5, 2:5] = False
    assert runs(ring, 2).max() == 2 == runs(ring, 1).max()
    bar = np.zeros((1, 8, 8), dtype=bool)
    bar[0, :, 3] = True
    assert runs(bar, 2).max() == 1 == runs(bar, 1).max()


def test_every_answer_occurs_and_none_is_nearly_always_right() -> None:
    for name in ("digits_parity", "digits_strokes"):
        made = task(name)
        targets = torch.cat([batch.targets for batch in made.evaluation("test")])
        shares = targets.bincount() / len(targets)
        assert len(shares) == made.output_type().shape[1]
        assert float(shares.min()) > 0.02 and float(shares.max()) < 0.75, (name, shares)


def test_the_same_step_has_the_same_images_for_every_question() -> None:
    seen = [task("digits_sequence"), task("digits_parity"), task("digits_strokes")]
    inputs = [made.train_batch(5, 16, 3).inputs for made in seen]
    assert torch.equal(inputs[0], inputs[1]) and torch.equal(inputs[0], inputs[2])
    digit, odd = (made.train_batch(5, 16, 3).targets for made in seen[:2])
    assert torch.equal(digit % 2, odd)
    image = task("digits_parity", form="image").train_batch(5, 16, 3).inputs
    assert torch.equal(image, task("digits_image").train_batch(5, 16, 3).inputs)


def _depths_by_loop(text: bytes) -> list[int]:
    found, begun, spaces, inked = [], False, 0, False
    for byte in text:
        if byte == 10:
            found.append(min(spaces // 4, DEPTHS - 1) if begun and inked else IGNORED)
            begun, spaces, inked = True, 0, False
            continue
        if not inked and byte in b" \t\r":
            spaces += 1
            found.append(IGNORED)
            continue
        inked = True
        found.append(min(spaces // 4, DEPTHS - 1) if begun else IGNORED)
    return found


def test_depths_are_those_of_a_walk_through_the_text() -> None:
    text = (
        b"x = 1\n\ndef f():\n    return (\n          2\n    )\n\n" + b" " * 60 + b"deep\n   \n  y"
    )
    window = np.frombuffer(text, dtype=np.uint8).astype(np.int64)[None]
    assert depths(window)[0].tolist() == _depths_by_loop(text)
    made = task("python_indentation", length=200)
    batch = made.train_batch(7, 8, 1)
    for row, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert targets == _depths_by_loop(bytes(row))


def test_indentation_is_asked_of_the_windows_of_the_language_model() -> None:
    one, other = (task(name, length=64) for name in ("python_bytes", "python_indentation"))
    assert torch.equal(one.train_batch(3, 4, 9).inputs, other.train_batch(3, 4, 9).inputs)
    assert other.metric == "test_accuracy" and other.higher_is_better
    base = other.baselines()
    assert 0.125 == base["chance"] < base["most common depth"] < 0.7


def test_no_answer_depends_on_what_comes_later() -> None:
    made = task("python_indentation", length=128)
    window = made.train_batch(0, 4, 0).inputs.numpy()
    whole = depths(window)
    for cut in (1, 37, 90):
        np.testing.assert_array_equal(depths(window[:, :cut]), whole[:, :cut])

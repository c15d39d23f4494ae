"""The landscapes whose true front is known, since every design has its answer at once. Free of torch."""

from __future__ import annotations

from hybridlab.search.closed_form import ClosedForm
from hybridlab.search.landscape import ClosedFormLandscape
from hybridlab.search.spec import SearchSpec
from hybridlab.search.trained_table import TableLandscape, shipped_table

KnownLandscape = ClosedFormLandscape | TableLandscape


def known_landscape(spec: SearchSpec) -> KnownLandscape:
    """Return the landscape of a search of the closed form, or of the table of trained hybrids.

    Raises:
        SpecError: an objective is of nothing that the table holds.
        RunError: the table is not there.
    """
    if spec.trained_table is not None:
        task, limits = spec.trained_table.task, dict(spec.limits)
        return TableLandscape(shipped_table(), task, spec.objectives, spec.name, limits)
    sizes = spec.closed_form
    assert sizes is not None
    form = ClosedForm(sizes.blocks, sizes.widths, sizes.heads, sizes.mixers)
    return ClosedFormLandscape(form, spec.name, dict(spec.limits))

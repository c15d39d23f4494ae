"""Every choice of a compiled step, from what its components take alone: kept under a budget, or computed again.

Values go from instruction to instruction, so of what is kept only they can be shared; all else is an instruction's
own. While one goes backward there stand the gradients of weights behind it, and of values that are read behind it and
written before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hybridlab.planning.budgets.forms import Form, Forms, Place
from hybridlab.planning.budgets.stretches import Span
from hybridlab.planning.choices import Choice, Choices, Unit


def budget_choices(forms: Forms, *, span_us: float, span_bytes: int) -> Choices:
    """Work out every choice of a step.

    In a run that is computed again all components have the same budget, or the next smaller one that they have.

    Args:
        forms: what its components take.
        span_us: the time that each run takes beside what it computes again.
        span_bytes: what each run keeps beside what it reads: the random state.
    """
    return _Assembly(forms, span_us, span_bytes).choices()


class _Assembly:
    """The forms, with who writes and reads each value, and what stands in backward."""

    def __init__(self, forms: Forms, span_us: float, span_bytes: int) -> None:
        self.forms, self.span_us, self.span_bytes = forms, span_us, span_bytes
        self.places, self.count = forms.places, len(forms.places)
        self.writer = {one.writes: place for place, one in enumerate(self.places)}
        self.readers: dict[int, list[int]] = {number: [] for number in self.writer}
        for place, one in enumerate(self.places):
            for number in one.reads:
                if number in self.readers:
                    self.readers[number].append(place)
        self.readers[forms.output].append(self.count)
        self.last_read = {n: places[-1] for n, places in self.readers.items() if places}
        self.meets = [self._meets(place) for place in range(self.count + 1)]
        self.live = [
            frozenset(n for n, last in self.last_read.items() if self.writer[n] < place <= last)
            for place in range(self.count + 1)
        ]

    def _meets(self, place: int) -> int:
        """Return the bytes that stand as a place's backward begins, without what is kept for it.

        The step itself holds the model's output and the loss until backward has ended.
        """
        values = {
            self._gradient(number, place)
            for number, last in self.last_read.items()
            if number in self.forms.learning and self.writer[number] <= place < last
        }
        there = self.forms.values[self.forms.output] + self.forms.loss.output_bytes
        return self.forms.static_bytes + self.forms.gradients[place] + self._bytes(values) + there

    def _back(self, one: Place, span: Span, form: Form) -> int:
        """Return the most that stands while a place, or a stretch, goes backward, beside what is kept and stands."""
        first, place = span
        mine = self._gradient(one.writes, place)
        others = (
            self._gradient(number, place)
            for number, last in self.last_read.items()
            if number in self.forms.learning and self.writer[number] < place < last
        )
        before = any(reader < first for n in one.reads for reader in self.readers.get(n, ()))
        held = before or mine in others
        return form.taken.held_bytes if held else form.taken.back_bytes

    def _gradient(self, number: int, place: int) -> int:
        """Return the value whose gradient is also that of another one, as far as backward has come to a place."""
        behind = [reader for reader in self.readers[number] if reader > place]
        if len(behind) != 1 or behind[0] == self.count:
            return number
        reader = self.places[behind[0]]
        if not reader.passes(number):
            return number
        return self._gradient(reader.writes, behind[0])

    def choices(self) -> Choices:
        """Put the choices together, by their first instruction."""
        keepers = {number: set(places) for number, places in self.readers.items()}
        for one in self.places:
            if any(form.taken.keeps_output for form in one.forms):
                keepers[one.writes].add(self.writer[one.writes])
        for one in self.forms.stretches.values():
            if any(form.taken.keeps_output for form in one.forms):
                keepers[one.writes].add(self.writer[one.writes])
        crossing = tuple(
            frozenset(
                number
                for number, places in keepers.items()
                if len(places) > 1 and min(places) < border <= max(places)
            )
            for border in range(self.count + 2)
        )
        fastest = [one.fastest.taken for one in self.places]
        units = [
            Unit(
                *(one.name, round(taken.ahead_us), round(taken.ahead_us), taken.inner_bytes),
                *(taken.ahead_bytes, taken.back_bytes, one.held),
            )
            for one, taken in zip(self.places, fastest, strict=True)
        ]
        loss = self.forms.loss
        units.append(Unit("(loss)", round(loss.ahead_us), 0, 0, 0, 0, "it is the loss"))
        plain_us = sum(taken.both_us for taken in fastest) + loss.both_us + self.forms.update_us
        return Choices(
            tuple(units),
            (*(tuple(self._starting(place)) for place in range(self.count)), (self._loss(),)),
            crossing,
            {**self.forms.values, self.forms.output: 0},  # it stands anyway, whoever keeps it
            self.forms.update_bytes,
            round(plain_us),
        )

    def _starting(self, first: int) -> Iterator[Choice]:
        """Yield what can be done from an instruction on: keep it in some form, or compute a run again."""
        for form in self.places[first].forms:
            yield self._kept(self.places[first], (first, first), form)
        for span, one in self.forms.stretches.items():
            if span[0] == first:
                yield from (self._kept(one, span, form) for form in one.forms)
        shares = {form.share for one in self.places for form in one.forms if form.share is not None}
        seen: set[tuple[float | None, ...]] = set()
        for share in sorted(shares, reverse=True) or [1.0]:
            run: list[Form] = []
            for place in range(first, self.count):
                if self.places[place].held:
                    break
                run.append(self._within(place, share))
                if (within := tuple(form.share for form in run)) not in seen:
                    seen.add(within)
                    yield self._again(first, run)

    def _kept(self, one: Place, span: Span, form: Form) -> Choice:
        """Return a place, or a stretch, that is not computed again; a stretch may take less than nothing more."""
        taken, (first, last) = form.taken, span
        older = self._inputs(one, form)
        own = taken.inner_bytes
        if taken.keeps_output and one.writes != self.forms.output:
            own += taken.output_bytes
        alone_us = sum(self.places[place].fastest.taken.both_us for place in range(first, last + 1))
        return Choice(
            first,
            last,
            again=False,
            time_us=round(taken.both_us - alone_us),
            local_bytes=self.meets[last] + own + self._back(one, span, form),
            need=older,
            keeps=older | ({one.writes} if taken.keeps_output else frozenset()),
            extra_bytes=taken.inner_bytes,
            ahead_bytes=self.forms.static_bytes + taken.ahead_bytes,
            ahead_need=self.live[first],
            shares=(form.share,) * (last - first + 1),
        )

    def _loss(self) -> Choice:
        taken = self.forms.loss
        older = frozenset({self.forms.output}) if taken.keeps[0] else frozenset()
        return Choice(
            self.count,
            self.count,
            again=False,
            time_us=0,
            local_bytes=self.meets[self.count] + taken.inner_bytes + taken.back_bytes,
            need=older,
            keeps=older,
            extra_bytes=taken.inner_bytes,
            ahead_bytes=self.meets[self.count] + taken.ahead_bytes,
            ahead_need=self.live[self.count],
        )

    def _again(self, first: int, run: Sequence[Form]) -> Choice:
        """Return a run that is computed again: its forward stands once more, then its backward beside what it keeps."""
        places = range(first, first + len(run))
        inside = {self.places[place].writes for place in places}
        reads = frozenset(
            n for place in places for n in self.places[place].reads if n in self.writer
        )
        kept: set[int] = set()
        live: set[int] = set()
        inner, once, rises, falls, time_us = 0, 0, 0, 0, self.span_us
        for place, form in zip(places, run, strict=True):
            taken, one = form.taken, self.places[place]
            once = max(once, self._bytes(live) + taken.ahead_bytes)
            rises = max(rises, inner + self._bytes(live | kept) + taken.ahead_bytes)
            kept |= self._inputs(one, form) & inside
            kept |= {one.writes} if taken.keeps_output else set()
            inner += taken.inner_bytes
            live = {n for n in (*live, one.writes) if self.last_read.get(n, -1) > place}
            back = self._back(one, (place, place), form)
            falls = max(falls, self.meets[place] + inner + self._bytes(kept) + back)
            time_us += taken.ahead_us + self._more_us(place, form)
        return Choice(
            first,
            places[-1],
            again=True,
            time_us=round(time_us),
            local_bytes=max(self.meets[places[-1]] + rises, falls) + self.span_bytes,
            need=reads - inside,
            keeps=reads - inside,
            extra_bytes=self.span_bytes,
            ahead_bytes=self.forms.static_bytes + once,
            ahead_need=self.live[first],
            shares=tuple(form.share for form in run),
        )

    def _inputs(self, one: Place, form: Form) -> frozenset[int]:
        """Return the values that a form keeps of those that it reads."""
        pairs = zip(one.reads, form.taken.keeps, strict=True)
        return frozenset(number for number, keeps in pairs if keeps and number in self.writer)

    def _within(self, place: int, share: float) -> Form:
        """Return a place's form under a budget, or the next smaller one that it has."""
        forms = self.places[place].forms
        return next((f for f in forms if f.share is not None and f.share <= share), forms[-1])

    def _more_us(self, place: int, form: Form) -> int:
        return round(form.taken.both_us - self.places[place].fastest.taken.both_us)

    def _bytes(self, numbers: set[int]) -> int:
        return sum(self.forms.values[number] for number in numbers)

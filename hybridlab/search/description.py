"""What a study says of itself, inside its storage: enough for any machine that reaches it to work on, and for a page.

It is one attribute of the study, plain JSON, and so travels with the journal or the database and shows in Optuna's
dashboard. Free of torch.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from optuna.study import Study
from pydantic import ValidationError

from hybridlab import __version__
from hybridlab.architecture.document import dump
from hybridlab.architecture.library import open_architecture
from hybridlab.errors import Problem, RunError
from hybridlab.search.landscape import Landscape
from hybridlab.search.spec import SearchSpec
from hybridlab.search.study import VERSION, check_version

DESCRIPTION = "hybridlab_search"
"""The study's attribute that holds the description."""
TRIALS = "hybridlab_trials"
"""The study's attribute that says how many trials were asked for last."""


@dataclass(frozen=True)
class Description:
    """A search as its study knows it.

    ``file`` is the search file; ``architecture`` the text of what it names, so that nothing else is needed.
    ``objectives`` have name, direction, unit and predicted; ``choices`` name and values, in their order.
    """

    version: int
    program: str
    created: float
    file: dict[str, Any]
    architecture: str
    sampler: str
    seed: int
    objectives: list[dict[str, Any]]
    choices: list[dict[str, Any]]
    size: int
    rungs: list[int]

    @property
    def spec(self) -> SearchSpec:
        """The search file.

        Raises:
            RunError: this program cannot read it.
        """
        try:
            return SearchSpec.model_validate(self.file)
        except ValidationError as error:
            told = str(error).splitlines()[0][:300]
            raise RunError(
                Problem("study", "its search cannot be read by this HybridLab", got=told)
            ) from None


def describe(
    study: Study,
    spec: SearchSpec,
    landscape: Landscape,
    *,
    sampler: str,
    seed: int,
    rungs: tuple[int, ...] = (),
) -> None:
    """Write what a study is, unless it says so already."""
    if DESCRIPTION in study.user_attrs:
        return
    text = dump(open_architecture(spec.architecture)) if spec.architecture else ""
    made = Description(
        version=VERSION,
        program=__version__,
        created=time.time(),
        file=spec.model_dump(mode="json"),
        architecture=text,
        sampler=sampler,
        seed=seed,
        objectives=[vars(objective) for objective in landscape.objectives],
        choices=[
            {"name": choice.name, "values": list(choice.values)}
            for choice in landscape.space.choices
        ],
        size=landscape.space.size,
        rungs=list(rungs),
    )
    study.set_user_attr(DESCRIPTION, asdict(made))


def description_of(study: Study) -> Description:
    """Return what a study says of itself.

    Raises:
        RunError: it says nothing, as one that Optuna made, or a newer program wrote it.
    """
    check_version(study)
    told = study.user_attrs.get(DESCRIPTION)
    known = set(Description.__dataclass_fields__)
    if not isinstance(told, dict) or not known <= set(told):
        raise RunError(
            Problem(
                study.study_name,
                "the study does not say which search it is",
                "a study that `hybridlab search` made",
                fix="name its search file: `hybridlab search FILE --study NAME`",
            )
        )
    return Description(**{name: told[name] for name in known})

"""One training in a process: model, optimiser, counters and files, from step to step."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hybridlab.errors import DeviceError, RunError
from hybridlab.tasks.base import Task
from hybridlab.training import checkpoint, memory, random_state
from hybridlab.training.buckets import sorted_task
from hybridlab.training.component_metrics import ComponentMetrics
from hybridlab.training.curriculum import STAGE, Curriculum
from hybridlab.training.evaluation import better, reached
from hybridlab.training.frozen_cache import FrozenCache, cache_frozen
from hybridlab.training.groups import clip_all, optimiser, set_rates
from hybridlab.training.meter import Meter, OnMetrics
from hybridlab.training.non_finite import NotFiniteError, Place, locate
from hybridlab.training.objective import Objective
from hybridlab.training.objectives import objective_for
from hybridlab.training.optimiser import gradient_norm
from hybridlab.training.precision import numerics
from hybridlab.training.progress import Progress
from hybridlab.training.result import (
    BEST,
    CHECKPOINTS,
    RESULT,
    WEIGHTS,
    State,
    StopReason,
    TrainResult,
)
from hybridlab.training.spec import TrainSpec
from hybridlab.training.spikes import Spike, SpikeError, SpikeWatch
from hybridlab.training.start import start
from hybridlab.training.together import Together, averaged, to_averages
from hybridlab.training.weights import (
    cannot_write,
    load_weights,
    weights_sha256,
    write_weights,
)
from hybridlab.writing import write_whole

ShouldStop = Callable[[], str | None]
_STATES: dict[str, State] = {"cancel": "cancelled", "interrupt": "interrupted"}
_WISHES: dict[str, Literal["cancel", "interrupt"]] = {"cancel": "cancel", "interrupt": "interrupt"}
_log = logging.getLogger(__name__)


class _Asked(Exception):  # noqa: N818  (it is no error)
    """Somebody wishes that the training stops."""

    def __init__(self, wish: Literal["cancel", "interrupt"]) -> None:
        super().__init__(wish)
        self.wish: Literal["cancel", "interrupt"] = wish


class Session:
    """One training in this process: model, optimiser, counters and files."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        spec: TrainSpec,
        folder: Path,
        on_metrics: OnMetrics,
        before_checkpoint: Callable[[], object],
    ) -> None:
        self.numerics = numerics(spec)
        self.model = model.to(self.numerics.device)
        self.whole_task, self.spec, self.folder = task, spec, folder
        if spec.buckets:
            task = sorted_task(model, task, spec)
        self.task = task
        self.before_checkpoint = before_checkpoint
        for path in start(model, spec):
            _log.warning("%s has no last map that could start smaller; it starts as drawn", path)
        self.objective = objective_for(model, task, spec, self.numerics, folder)
        self.curriculum = Curriculum(model, task, spec, self.objective)
        beside = list(self.objective.own.parameters()) if self.objective.own is not None else []
        self.optimiser = optimiser(model, spec, beside)
        self.parameters = [p for p in (*model.parameters(), *beside) if p.requires_grad]
        self.scaler = self.numerics.scaler()
        self.progress = Progress()
        self.meter = Meter(on_metrics, every=spec.log_every, device=self.numerics.device)
        self.components = ComponentMetrics(model, spec)
        self.meter.on_spike = self.judge
        self.on_rollback: Callable[[int, str], None] = lambda step, why: None
        self.best: dict[str, Tensor] | None = None
        self.began = time.perf_counter()
        self.saved: tuple[int, bool] | None = None
        """The step of the newest checkpoint, and whether its validation is still due."""
        self.should_stop: ShouldStop = lambda: None
        random_state.seed_everything(spec.seed)
        checkpoint.clean(folder / CHECKPOINTS)
        for largest, learnt in self.curriculum.largest():
            mine = self.objective if (largest, learnt) == (model, task) else None
            if spec.buckets:  # the longest batch there may be
                learnt, mine = self.whole_task, None
            memory.foresee(largest, learnt, spec, self.numerics, mine)
        self.curriculum.begin()
        self.frozen: FrozenCache | None = None
        if spec.cache_frozen:
            self.frozen = cache_frozen(model, task, spec, self.numerics, folder)

    def run(self, on_step: Callable[[int], None]) -> StopReason:
        """Update the weights until there is a reason to stop; return it."""
        self.model.train()
        self.meter.pause()
        self.began = time.perf_counter() - self.progress.seconds
        try:
            if self.frozen is not None and self.frozen.fill(self.heed):
                paths = ", ".join(self.frozen.paths)
                _log.info("kept for every sample: outputs of %s", paths)
        except _Asked as asked:
            self.save()
            return asked.wish
        while self.progress.ended is None or self.progress.unscored:
            try:
                self.heed()
                self.advance(on_step)
            except _Asked as asked:
                self.save()
                return asked.wish
            except (NotFiniteError, SpikeError) as error:
                self.go_back(error)
        return self.progress.ended

    def heed(self) -> None:
        """Stop here if somebody wishes it."""
        if wish := _WISHES.get(self.should_stop() or ""):
            raise _Asked(wish)

    def advance(self, on_step: Callable[[int], None]) -> None:
        """Make one update, and what is due after it; a validation that was cut short comes first."""
        progress, spec = self.progress, self.spec
        if not progress.unscored:
            self.update()
            progress.step += 1
            on_step(progress.step)
            if progress.step == spec.steps:
                progress.ended = "steps"
            progress.unscored = progress.step % spec.eval_every == 0 or progress.ended is not None
        if progress.unscored:
            self.validate()
            progress.unscored = False
        begun = phase = None if progress.ended else self.objective.begun(progress.step)
        if spec.stages:
            begun = None
        if self.curriculum.over(progress.step) and not progress.ended:
            self.take(self.curriculum.enter_next(progress.step, self.optimiser))
            begun = self.curriculum.place
        if begun is not None:
            self.meter.tell(progress.step, {STAGE: float(begun)})
        if begun is not None or phase is not None:
            self.meter.watch = SpikeWatch()  # a harder task, or another loss, is a higher one
        if progress.step % spec.checkpoint_every == 0 or progress.ended:
            self.save()

    def judge(self, spike: Spike) -> None:
        """Go back where a loss shot up, if that is allowed and there is a checkpoint from before."""
        allowed = self.progress.rollbacks < self.spec.rollbacks
        if allowed and checkpoint.latest(self.folder / CHECKPOINTS, spike.good) is not None:
            raise SpikeError(spike)

    def go_back(self, error: NotFiniteError | SpikeError) -> None:
        """Go back to the last good checkpoint with lower rates.

        Raises:
            RunError: it has gone back as often as it may, or there is no checkpoint; it names the component that began.
        """
        told = RunError(error.problems)
        last = math.inf
        if isinstance(error, SpikeError):
            last = error.good
        else:
            told = error.found(self.place(error))
        before, lost = self.progress, self.progress.step
        if before.rollbacks >= self.spec.rollbacks or not self.restore(last, back=True):
            raise told from None
        progress = self.progress
        checkpoint.forget_after(self.folder / CHECKPOINTS, progress.step)
        progress.rollbacks = before.rollbacks + 1
        progress.rate_factor = before.rate_factor * self.spec.rollback_rate
        progress.best, progress.best_step = before.best, before.best_step
        self.optimiser.zero_grad(set_to_none=True)
        _log.warning("back to step %d of %d: %s", progress.step, lost, told)
        self.on_rollback(progress.step, str(told))
        self.meter.tell(
            progress.step + 1,  # a resumed run makes that step anew, and may have to go back anew
            {"rollbacks": float(progress.rollbacks), "rate_factor": progress.rate_factor},
        )

    def place(self, error: NotFiniteError) -> Place | None:
        """Return which component began it, where the step can be computed once more: no weight has moved since."""
        if error.step != self.progress.step + 1:
            return None
        random_state.restore(self.drawn, self.numerics.device)
        batch = self.objective.task.train_batch(self.progress.step, self.spec.batch, self.spec.seed)
        for piece in batch.split(self.spec.accumulation):
            if found := locate(self.model, self.objective, piece.to(self.numerics.device)):
                return found
        return None

    def update(self) -> None:
        """Make one update of the weights from one batch, in as many parts as the spec says."""
        step, spec = self.progress.step, self.spec
        rates = set_rates(self.optimiser, spec, step, self.progress.rate_factor)
        self.drawn = random_state.capture(self.numerics.device)
        self.curriculum.before_update(step)
        batch = self.objective.task.train_batch(step, spec.batch, spec.seed)
        measured = self.components.begin(step + 1)
        with self.components.looking():
            loss = self.objective.add_gradients(batch, spec.accumulation, self.scaler)
        self.curriculum.learned(loss)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimiser)
        norm = gradient_norm(self.parameters)
        self.meter.step(step + 1, loss, norm if self.scaler is None else loss, rates, spec.batch)
        if (step + 1) % spec.log_every == 0 and (told := self.objective.told()):
            self.meter.tell(step + 1, told)
        if measured:
            self.components.before_update()
        clip_all(self.optimiser, self.parameters, norm, spec)
        if self.scaler is None:
            self.optimiser.step()
        else:
            self.scaler.step(self.optimiser)
            self.scaler.update()
        after_update = getattr(self.model, "after_update", None)
        if after_update is not None:
            after_update()
        if measured:
            self.meter.tell(step + 1, self.components.after_update())
        self.optimiser.zero_grad(set_to_none=True)

    def validate(self) -> None:
        """Score the validation splits; note the best, and whether that ends the training."""
        progress, spec, splits = self.progress, self.spec, self.task.val_splits
        with averaged(self.optimiser):
            metrics = self.scores(splits)
            told = self.curriculum.scored(metrics, self.scores)
            progress.metrics = metrics  # from here on nobody is heeded
            self.meter.scores(progress.step, progress.metrics, self.model)
            if told:
                self.meter.tell(progress.step, told)
            if not self.curriculum.whole:
                return
            value = progress.metrics[self.task.metric_name(splits[0])]
            if better(self.task, value, progress.best):
                progress.best, progress.best_step, progress.stale = value, progress.step, 0
                weights = self.model.state_dict()
                self.best = {name: tensor.clone() for name, tensor in weights.items()}
            else:
                progress.stale += 1
        if reached(self.task, progress.metrics, spec.target):
            progress.ended = "target"
        elif spec.patience is not None and progress.stale >= spec.patience:
            progress.ended = progress.ended or "patience"

    def scores(self, splits: Sequence[str], task: Task | None = None) -> dict[str, float]:
        """Score splits; without gradients, four times the samples of an update's part take less memory than it did."""
        at_once = 4 * math.ceil(self.spec.batch / self.spec.accumulation)
        return self.objective.scores(splits, at_once, task or self.task, self.heed)

    def take(self, optimiser: torch.optim.Optimizer) -> None:
        """Go on with a stage's optimiser, which is another one where the model has grown."""
        if optimiser is not self.optimiser:
            self.optimiser = optimiser
            self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.components = ComponentMetrics(self.model, self.spec)

    def save(self) -> None:
        """Write a checkpoint, and the best weights if they are newer than those on disk."""
        progress = self.progress
        if self.saved == (progress.step, progress.unscored):
            return
        self.meter.flush()
        self.before_checkpoint()
        progress.seconds = time.perf_counter() - self.began
        progress.recent = self.meter.watch.state()
        if self.best is not None:
            about = {"step": str(progress.best_step), "value": repr(progress.best)}
            write_weights(self.best, self.folder / BEST, about)
            self.best = None
        tensors, groups = checkpoint.pack_optimiser(self.optimiser)
        state = {
            "progress": progress.as_dict(),
            "optimiser": groups,
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            "spec": self.spec.model_dump(mode="json"),
            "objective": self.objective.state(),
            "curriculum": self.curriculum.state(),
        }
        checkpoint.save(
            self.folder / CHECKPOINTS,
            progress.step,
            checkpoint.beside(self.model, self.objective.own),
            tensors | random_state.capture(self.numerics.device),
            state,
            keep=self.spec.keep_checkpoints,
        )
        self.saved, self.meter.checkpoint_step = (progress.step, progress.unscored), progress.step
        self.meter.pause()

    def restore(self, last: float = math.inf, *, back: bool = False) -> bool:
        """Go to the newest whole checkpoint up to a step; say whether there is one.

        ``back`` says that this training is under way: it does not go back over the border of a stage.
        """
        found = checkpoint.latest(self.folder / CHECKPOINTS, last)
        if found is None or (back and not self.curriculum.holds(found.content)):
            return False
        self.take(self.curriculum.restore(found.content.get("curriculum", {}), self.optimiser))
        theirs, own = checkpoint.apart(found.model())
        load_weights(self.model, theirs, found.path)
        if self.objective.own is not None:
            load_weights(self.objective.own, own, found.path)
        self.objective.restore(found.content.get("objective", {}))
        tensors = found.optimiser()
        checkpoint.unpack_optimiser(self.optimiser, tensors, found.content["optimiser"])
        if self.scaler is not None and found.content["scaler"] is not None:
            self.scaler.load_state_dict(found.content["scaler"])
        random_state.restore(tensors, self.numerics.device)
        self.progress = Progress.from_dict(found.content["progress"])
        self.meter.forget()
        self.meter.watch = SpikeWatch(self.progress.recent)
        self.saved = found.step, self.progress.unscored
        self.meter.checkpoint_step = found.step
        _log.info("resuming from the checkpoint of step %d", found.step)
        return True

    def explain_memory(self) -> DeviceError:
        """Return the error for a step that ran out of memory; the optimiser's memory is let go first."""
        if isinstance(self.optimiser, Together):
            self.optimiser.forget()
        self.optimiser.state.clear()
        task, mine = self.objective.task, self.objective
        if self.spec.buckets:
            task, mine = self.whole_task, Objective(self.model, self.whole_task, self.numerics)
        return memory.explain(self.model, task, self.spec, self.numerics, mine)

    def finish(self, reason: StopReason) -> TrainResult:
        """Score the test splits once if the training is through; write the weights and the result."""
        progress = self.progress
        to_averages(self.optimiser)
        metrics = dict(progress.metrics)
        if reason not in _STATES:
            try:
                metrics |= self.scores(self.task.test_splits)
                self.meter.scores(progress.step, metrics, self.model)
            except _Asked as asked:
                reason = asked.wish
        best = (
            {}
            if progress.best is None or not math.isfinite(progress.best)
            else {
                "step": float(progress.best_step),
                "value": progress.best,
            }
        )
        result = TrainResult(
            state=_STATES.get(reason, "done"),
            stop_reason=reason,
            steps=progress.step,
            seconds=round(time.perf_counter() - self.began, 3),
            metrics=metrics,
            weights_sha256=weights_sha256(self.model),
            best=best,
        )
        if result.state == "done":
            write_weights(self.model.state_dict(), self.folder / WEIGHTS)
            _write_json(self.folder / RESULT, result)
        return result


def _write_json(path: Path, result: TrainResult) -> None:
    try:
        write_whole(path, json.dumps(result.as_dict(), indent=2) + "\n")
    except OSError as error:
        raise RunError(cannot_write(path, error)) from None

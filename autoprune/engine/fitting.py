"""What of a space a model can carry: the rest is left out before the search, not failed trial by trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from autoprune.engine.tables import MADE
from autoprune.errors import AutopruneError, ConfigError, PolicyError
from autoprune.policy import Layer, PruningPolicy, Selector, Stage
from autoprune.pruning.methods import takes_table
from autoprune.pruning.onnx_export import check_stage
from autoprune.pruning.plan import layer_kinds, make_plan, stage_plan
from autoprune.spaces.blocks import InputBlock, StagesBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from autoprune.pruning.family import Family
    from autoprune.spaces.choices import ReducerChoice, ScorerChoice
    from autoprune.spaces.schema import SpaceFile

_NO_TABLE = "sha256:"


class Fitter:
    """Asks the pruning engine what a model can carry.

    Args:
        model: The model.
        family: Its row of the table of architectures.
        runtime: Of the workload: onnxruntime carries less than the others.

    Attributes:
        notes: What was left out and why, one sentence each.
    """

    def __init__(self, model: PreTrainedModel, family: Family, runtime: str) -> None:
        self._model, self._family, self._runtime = model, family, runtime
        self._n_layers = family.n_layers(model)
        self.notes: list[str] = []

    def fit(self, file: SpaceFile) -> SpaceFile:
        """Return the space without what the model cannot carry.

        Raises:
            ConfigError: Nothing is left to search.
        """
        before = self._input(file.input)
        stages = None if file.stages is None else self._stages(file.stages)
        last = [one for one in file.last_layer if self._carries(f"last_layer {one}", self._plan, last_layer=one)]
        if not before.scorers and stages is None:
            raise ConfigError(
                f"Nothing of the space {file.name!r} works on {self._family.name}: {' '.join(self.notes)}",
                "Take another one: autoprune spaces list.",
            )
        return file.model_copy(update={"input": before, "stages": stages, "last_layer": last or ["full"]})

    def _input(self, block: InputBlock) -> InputBlock:
        kept: list[ScorerChoice] = []
        if block.scorers and self._carries("input", self._plan, _plain("input")):
            kept = [choice for choice in block.scorers if self._carries(choice.label, self._stage, "input", choice)]
        selectors = self._selectors(block.select) if kept else []
        return block.model_copy(update={"scorers": kept if selectors else [], "select": selectors or block.select})

    def _stages(self, block: StagesBlock) -> StagesBlock | None:
        layer = min(max(1, block.layers[0]), self._n_layers - 1)
        places = [where for where in block.where if self._carries(where, self._plan, _plain(layer, where))]
        scorers = [choice for choice in block.scorers if self._carries(choice.label, self._stage, layer, choice)]
        if not scorers or not places:
            return None
        asked = scorers[0]
        reducers = [r for r in block.reduce if self._carries(r.label, self._stage, layer, asked, r)]
        selectors = self._selectors(block.select) if reducers else []
        if not selectors:
            return None
        return block.model_copy(update={"scorers": scorers, "reduce": reducers, "where": places, "select": selectors})

    def _selectors(self, listed: list[Selector]) -> list[Selector]:
        return [one for one in listed if self._carries(one, self._selector, one)]

    def _selector(self, selector: Selector) -> None:
        if selector != "keep" and self._runtime != "eager":
            raise PolicyError(f"Counts that depend on scores cannot be traced, as the runtime {self._runtime} does.")

    def _stage(self, layer: Layer, scorer: ScorerChoice, reducer: ReducerChoice | None = None) -> Any:
        """Look up one stage with its methods; raises what ``attach`` would."""
        table = {}
        if takes_table(scorer.scorer):
            if scorer.scorer not in MADE:
                raise PolicyError(f"It needs a table, and a search makes those of {', '.join(sorted(MADE))} alone.")
            table["table"] = _NO_TABLE
        reduce, how = ("drop", {}) if reducer is None else (reducer.reduce, reducer.params)
        params = {**table, **scorer.params}
        stage = Stage(layer, scorer.scorer, keep=0.5, reduce=reduce, params=params, reduce_params=how)
        plan = stage_plan(0, stage, self._family, self._n_layers, layer_kinds(self._model))
        if self._runtime == "onnxruntime":
            check_stage(plan)
        return plan

    def _plan(self, *stages: Stage, last_layer: Literal["full", "first_token"] = "full") -> Any:
        """Plan a policy without tables; raises what ``attach`` would."""
        return make_plan(self._model, PruningPolicy(stages, last_layer=last_layer), self._family, None)

    def _carries(self, what: str, attempt: Callable[..., Any], *args: Any, **more: Any) -> bool:
        try:
            attempt(*args, **more)
        except AutopruneError as error:
            note = f"{what} is left out: {error.message}"
            self.notes += [] if note in self.notes else [note]
            return False
        return True


def _plain(layer: Layer, where: Literal["before", "after_attention"] = "before") -> Stage:
    """Return a stage that asks nothing of a model but its place."""
    return Stage(layer, "uniform", keep=0.5, where=where)


def fit_space(
    file: SpaceFile, family: Family, model: PreTrainedModel, runtime: str = "eager"
) -> tuple[SpaceFile, list[str]]:
    """Return the space without what the model cannot carry on a runtime, and what was left out and why.

    Args:
        file: The space.
        family: The model's row of the table of architectures.
        model: The model.
        runtime: Of the workload.

    Raises:
        ConfigError: Nothing is left to search.
    """
    fitter = Fitter(model, family, runtime)
    return fitter.fit(file), fitter.notes

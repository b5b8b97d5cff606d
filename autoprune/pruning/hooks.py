"""The hooks that carry a policy through a model's own forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from autoprune.errors import PolicyError
from autoprune.pruning.apply import apply_stage
from autoprune.pruning.attention import first_query
from autoprune.pruning.bias import sized_attention
from autoprune.pruning.decoder import check_cache, find_prefix, past_length, step_mask, store_prefix
from autoprune.pruning.entry import argument_names, begin, open_pass
from autoprune.pruning.masks import MaskForm, gather_rope, layer_mask, relative_input
from autoprune.pruning.placed import Placed
from autoprune.pruning.plan import Plan, StagePlan
from autoprune.pruning.restore import restore
from autoprune.pruning.saliency import Saliency
from autoprune.pruning.state import Run, current_run, enter
from autoprune.pruning.trace import open_trace
from autoprune.pruning.watch import watcher

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


class Engine:
    """Carries one plan through one model.

    Args:
        model: The model, whose modules get hooks at ``install``.
        plan: The policy, made ready.
        placed: What ids are looked up in.
    """

    def __init__(self, model: PreTrainedModel, plan: Plan, placed: Placed) -> None:
        self.plan = plan
        self.placed = placed
        self.core = plan.family.core(model)
        self.layers = plan.family.layers(model)
        self.core_names = argument_names(self.core)
        self.layer_names = argument_names(self.layers[0])
        self.last = plan.n_layers - 1
        self.heads = int(getattr(model.config, "num_attention_heads", 1))
        self.saliency = Saliency(model, plan.family) if plan.salient else None
        self.keeper: object = None
        self._hooks: list[RemovableHandle] = []

    def install(self) -> None:
        """Put the hooks on; nothing at all for a policy that asks for nothing."""
        if self.plan.policy.is_dense:
            return
        keep = self._hooks.append
        keep(self.core.register_forward_pre_hook(self._open, with_kwargs=True))
        keep(self.core.register_forward_hook(self._close, always_call=True))
        for number, layer in enumerate(self.layers):
            keep(layer.register_forward_pre_hook(self._before(number), with_kwargs=True))
            if self.plan.family.shared or number == self.last:
                keep(layer.register_forward_hook(self._after_last))
            if self.plan.family.after_attention and (self.plan.family.shared or number in self.plan.after):
                inner = layer.get_submodule(self.plan.family.after_attention)
                keep(inner.register_forward_hook(self._after_attention(number)))
        if self.plan.shortcut:
            self._install_shortcut(self.layers[-1])

    def _install_shortcut(self, layer: nn.Module) -> None:
        family = self.plan.family
        if family.query:
            query = layer.get_submodule(family.query)
            self._hooks.append(query.register_forward_pre_hook(self._first_rows))
            self._hooks.append(query.register_forward_hook(self._repeat))
        for path in family.first_rows:
            self._hooks.append(layer.get_submodule(path).register_forward_pre_hook(self._first_rows))

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def run(self) -> Run | None:
        """Return the pass that is running on this model in this thread, or None."""
        run = current_run()
        return run if run is not None and run.owner is self else None

    def _open(self, module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        if module.training and getattr(module, "gradient_checkpointing", False):
            raise PolicyError("A pruned model cannot run under gradient checkpointing.", "Turn it off.")
        kwargs = {**dict(zip(self.core_names, args, strict=False)), **kwargs}
        run = Run(self, current_run())
        run.trace = open_trace()
        cache = kwargs.get("past_key_values") if self.plan.family.cached else None
        run.past = past_length(cache)
        run.step = run.past > 0
        if run.step:
            run.prefix = find_prefix(cache)
        else:
            check_cache(cache)
            if self.saliency is not None:
                run.saliency = self.saliency(kwargs)
            open_pass(self.plan, run, kwargs, self.placed)
        enter(run)
        return (), kwargs

    def _close(self, module: nn.Module, args: Args, output: Any) -> None:
        run = self.run()
        if run is None:
            return
        enter(run.parent)
        if self.plan.family.cached:
            store_prefix(run, getattr(output, "past_key_values", None))

    def _number(self, run: Run, number: int) -> int:
        return run.calls if self.plan.family.shared else number

    def _before(self, number: int) -> Callable[[nn.Module, Args, Kwargs], tuple[Args, Kwargs] | None]:
        def hook(module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
            run = self.run()
            if run is None:
                return None
            if run.step:
                return self._step_layer(run, number, args, kwargs)
            return self._enter_layer(run, self._number(run, number), args, kwargs)

        return hook

    def _enter_layer(self, run: Run, number: int, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        plan = self.plan
        hidden: Tensor = args[0] if args else kwargs[self.layer_names[0]]
        if not run.length:
            begin(plan, run, (hidden.shape[0], hidden.shape[1]), hidden.device, None, None)
        left = hidden
        for stage in plan.before.get(number, ()):
            left = self._apply(run, stage, left)
        run.watch = watcher(plan, run, plan.watched[number]) if number in plan.watched else None
        if number == self.last and plan.shortcut:
            run.first, run.rows, run.watch = True, left.shape[1], first_query
        run.inside = run.first or number in plan.after or (plan.proportional and run.sizes is not None)
        if plan.proportional:
            run.watch = sized_attention(run, run.watch)
        if run.trace is not None:
            run.trace.length, run.trace.guarded = run.length, list(run.guarded)
            run.trace.layer_lengths.append(left.shape[1])
        if not run.changed:
            return None
        if plan.family.cached:
            run.shortened[number] = (run.positions, run.valid)
        return self._rewrite(run, left, args, kwargs)

    def _step_layer(self, run: Run, number: int, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs] | None:
        """Give a layer of a later decoding step the mask for what its own cache holds."""
        if run.prefix is None:
            return None
        hidden: Tensor = args[0] if args else kwargs[self.layer_names[0]]
        form = MaskForm(self.plan.backend, hidden.dtype)
        mask = step_mask(run.prefix, number, kwargs.get("attention_mask"), form, hidden.shape[1], run.past)
        return args, {**kwargs, "attention_mask": mask}

    def _apply(self, run: Run, stage: StagePlan, hidden: Tensor) -> Tensor:
        left = apply_stage(self.plan, run, stage, hidden)
        if left is None:
            raise PolicyError(f"Stage {stage.index} lost its hidden states.")
        return left

    def _rewrite(self, run: Run, hidden: Tensor, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        """Return a layer's arguments for the tokens that are left."""
        family = self.plan.family
        named = {**dict(zip(self.layer_names, args, strict=False)), **kwargs}
        named[self.layer_names[0]] = hidden
        if "attention_mask" in named:
            named["attention_mask"] = layer_mask(
                family, run, named["attention_mask"], MaskForm(self.plan.backend, hidden.dtype)
            )
        if "position_ids" in named:
            named["position_ids"] = None  # flash attention would read gaps as packed sequences
        if family.rope and named.get(family.rope) is not None:
            named[family.rope] = gather_rope(named[family.rope], run)
        for name in family.relative:
            if named.get(name) is not None or family.bias_maker:
                named[name] = relative_input(run, name, named.get(name), self._make_bias, self.heads)
        return tuple(named.pop(name) for name in self.layer_names[: len(args)]), named

    def _make_bias(self, length: int) -> Tensor:
        """Return the full position bias (1, H, N, N) that T5's first layer would have made."""
        maker: Any = self.core.get_submodule(self.plan.family.bias_maker or "")
        made: Tensor = maker.compute_bias(length, length)
        return made

    def _after_attention(self, number: int) -> Callable[[nn.Module, Args, Any], Any]:
        def hook(module: nn.Module, args: Args, output: Any) -> Any:
            run = self.run()
            stages = () if run is None else self.plan.after.get(self._number(run, number), ())
            if run is None or not stages:
                return None
            hidden = output[0] if isinstance(output, tuple) else output
            for stage in stages:
                hidden = self._apply(run, stage, hidden)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def _after_last(self, module: nn.Module, args: Args, output: Any) -> Any:
        run = self.run()
        if run is None:
            return None
        if self.plan.family.shared:
            run.calls += 1
            if run.calls <= self.last:
                return None
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        if run.first:
            run.first = False
            hidden = hidden[:, :1]
        elif self.plan.restores and (run.saved or run.lost):
            hidden = restore(run, hidden)
        else:
            return None
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def _first_rows(self, module: nn.Module, args: Args) -> Args | None:
        run = self.run()
        if run is None or not run.first:
            return None
        return tuple(x[:, :1] if isinstance(x, Tensor) and x.dim() == 3 else x for x in args)

    def _repeat(self, module: nn.Module, args: Args, output: Tensor) -> Tensor | None:
        run = self.run()
        if run is None or not run.first:
            return None
        # Rows of stride 0: the attention module checks the shape, and our attention function uses row 0 alone.
        return output.expand(-1, run.rows, -1)

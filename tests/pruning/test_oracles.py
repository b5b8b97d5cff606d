"""Scores against plain N x N implementations, removal against masking, merges against loops."""

import math

import pytest
import torch
from torch import Tensor

from autoprune._registry import REDUCERS, SCORERS
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning import logits
from autoprune.pruning.context import Attention, ScoreContext, Tokens
from autoprune.pruning.logits import _received_fused, received
from autoprune.testing.suite import forward, pruned
from autoprune.testing.tiny import TINY, build, inputs

B, H, N, D = 2, 3, 11, 4
LENGTHS = [11, 7]


@pytest.fixture
def case() -> tuple[ScoreContext, Tensor]:
    """A context with padding, and its attention matrix (B, H, N, N) computed plainly, zero at padding."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, H, N, D, generator=g) for _ in range(3))
    valid = torch.arange(N) < torch.tensor(LENGTHS).unsqueeze(1)
    matrix = torch.zeros(B, H, N, N)
    for b, n in enumerate(LENGTHS):
        for h in range(H):
            for i in range(n):
                e = [math.exp(float(q[b, h, i] @ k[b, h, j]) * 0.5) for j in range(n)]
                matrix[b, h, i, :n] = torch.tensor(e) / sum(e)
    protected = torch.zeros(B, N, dtype=torch.bool)
    protected[:, 0] = True
    ctx = ScoreContext(
        positions=torch.arange(N).expand(B, -1),
        length=N,
        lengths=LENGTHS,
        valid=valid,
        protected=protected,
        hidden=torch.randn(B, N, 6, generator=g),
        attention=Attention(q, k, v, 0.5),
        types=(torch.arange(N) > 3).long().expand(B, -1),
        ids=torch.randint(0, 9, (B, N), generator=g),
        tables={
            "t": {
                "count": torch.arange(9.0),
                "importance": torch.rand(9, generator=g),
                "stopword": (torch.arange(9) < 3).float(),
            }
        },
    )
    return ctx, matrix


def _score(name: str, ctx: ScoreContext, **params: object) -> Tensor:
    kind = SCORERS.get(name)
    return kind(kind.Params(**params)).score(ctx)


def _same(got: Tensor, want: Tensor) -> None:
    for b, n in enumerate(LENGTHS):
        torch.testing.assert_close(got[b, :n], want[b, :n], atol=2e-6, rtol=1e-5)


def _mean_rows(matrix: Tensor) -> Tensor:
    return torch.stack([matrix[b, :, :n].mean((0, 1)) for b, n in enumerate(LENGTHS)])


def test_cls_attention(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, a = case
    _same(_score("cls_attention", ctx), a[:, :, 0].mean(1))
    _same(_score("cls_attention", ctx, value_weighted=True), (a[:, :, 0] * ctx.attention.value.norm(dim=-1)).mean(1))


def test_received_attention(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, a = case
    _same(_score("received_attention", ctx, method="exact"), _mean_rows(a))
    _same(_received_fused(ctx.attention, ctx.valid), _mean_rows(a))
    whole = Attention(*(getattr(ctx.attention, n)[:1] for n in ("query", "key", "value")), 0.5)
    torch.testing.assert_close(_received_fused(whole, None), received(whole, None), atol=2e-6, rtol=1e-5)


def test_sampled_received_attention(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, a = case
    rows = [[(2 * j + 1) * n // 8 for j in range(4)] for n in LENGTHS]
    want = torch.stack([a[b][:, rows[b]].mean((0, 1)) for b in range(B)])
    _same(_score("received_attention", ctx, method="sampled", rows=4), want)


def test_accumulated_attention(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, a = case
    ctx.accumulated = torch.ones(B, N)
    _same(_score("accumulated_attention", ctx, source="received", decay=0.25), 0.25 + _mean_rows(a))
    _same(_score("accumulated_attention", ctx, source="cls", decay=1.0), 1 + a[:, :, 0].mean(1))


def test_query_attention(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, a = case
    _same(_score("query_attention", ctx), torch.stack([a[b, :, n - 1].mean(0) for b, n in enumerate(LENGTHS)]))
    _same(_score("query_attention", ctx, rows="question"), a[:, :, :4].mean((1, 2)))
    _same(_score("query_attention", ctx, rows="protected"), a[:, :, 0].mean(1))
    ctx.protected[0, [3, 5]] = True
    want = torch.stack((a[0][:, [0, 3, 5]].mean((0, 1)), a[1, :, 0].mean(0)))
    for most in (None, 3):
        ctx.most_protected = most
        _same(_score("query_attention", ctx, rows="protected"), want)


def test_query_attention_never_builds_the_whole_matrix(
    case: tuple[ScoreContext, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, _ = case
    ctx.most_protected, shapes = 1, []
    real = logits._logits
    monkeypatch.setattr(logits, "_CHUNK", B * N * N)
    monkeypatch.setattr(logits, "_logits", lambda *args: shapes.append((out := real(*args)).shape) or out)
    _score("query_attention", ctx, rows="protected")
    _score("query_attention", ctx, rows="question")
    assert shapes == [(B, H, 1, N)] + [(B, 1, N, N)] * H


def test_entropy(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, a = case
    want = -(a * a.clamp(min=1e-30).log()).sum(-1).mean(1)
    _same(_score("entropy", ctx), want)
    _same(_score("entropy", ctx, sign=-1), torch.tensor(LENGTHS).float().log().unsqueeze(1) - want)
    ctx.attention.bias = torch.zeros(1, 1, N, N)  # takes the explicit matrix instead of the identity
    _same(_score("entropy", ctx), want)


def test_norm_and_similarity(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, _ = case
    x = ctx.hidden
    _same(_score("norm", ctx, of="value"), ctx.attention.value.norm(dim=-1).mean(1))
    ctx.attention = None
    _same(_score("norm", ctx), x.square().sum(-1).sqrt())
    want = torch.zeros(B, N)
    for b, n in enumerate(LENGTHS):
        for i in range(n):
            near = [j for j in range(max(0, i - 2), min(n, i + 3)) if j != i]
            cos = [float(x[b, i] @ x[b, j] / (x[b, i].norm() * x[b, j].norm())) for j in near]
            want[b, i] = max(0.0, 1 - sum(cos) / len(cos))
    _same(_score("similarity", ctx, window=2), want)


def test_static_scores(case: tuple[ScoreContext, Tensor]) -> None:
    ctx, _ = case
    ids, count = ctx.ids, torch.arange(9.0)
    for b in range(B):
        for i in range(N):
            t = int(ids[b, i])
            assert _score("frequency", ctx, table="t")[b, i] == pytest.approx(math.log1p(t))
            assert _score("frequency", ctx, table="t", remove="high")[b, i] == pytest.approx(
                math.log1p(8) - math.log1p(t)
            )
            assert _score("surprisal", ctx, table="t")[b, i] == pytest.approx(
                -math.log((t + 1) / (float(count.sum()) + 9))
            )
            assert float(_score("stopwords", ctx, table="t")[b, i]) == float(t >= 3)


@pytest.mark.parametrize("head", [True, False])
def test_saliency_against_plain_autograd(head: bool) -> None:
    recipe = next(r for r in TINY if r.family == "BERT")
    model, batch = build(recipe, head=head), inputs(recipe)
    _, trace = pruned(model, recipe, PruningPolicy(stages=(Stage(1, "saliency", keep=0.5),)), batch)
    core = model.bert if head else model
    for row, n in enumerate(recipe.lengths):
        state = core.embeddings(batch["input_ids"][row : row + 1, :n]).detach().requires_grad_(True)
        last = core.encoder(state).last_hidden_state
        if head:
            model.classifier(core.pooler(last)).max().backward()
        else:
            last.mean(1).square().sum().backward()
        want = [float((g * x).square().sum().sqrt()) for g, x in zip(state.grad[0], state[0].detach())]
        torch.testing.assert_close(trace.stages[0].scores[row, :n], torch.tensor(want), atol=1e-5, rtol=1e-4)


def test_uniform_takes_every_nth() -> None:
    ctx = ScoreContext(torch.arange(16).unsqueeze(0), 16, [16], None, torch.zeros(1, 16, dtype=torch.bool))
    score = _score("uniform", ctx)[0]
    assert sorted(score.topk(8).indices.tolist()) == list(range(0, 16, 2))
    assert sorted(score.topk(4).indices.tolist()) == list(range(0, 16, 4))


def test_truncate_sides() -> None:
    ctx = ScoreContext(torch.arange(8).unsqueeze(0), 8, [8], None, torch.zeros(1, 8, dtype=torch.bool))
    kept = {
        side: sorted(_score("truncate", ctx, side=side)[0].topk(4).indices.tolist())
        for side in ("head", "tail", "both")
    }
    assert kept == {"head": [0, 1, 2, 3], "tail": [4, 5, 6, 7], "both": [0, 1, 6, 7]}


def test_random_is_the_same_everywhere() -> None:
    # Written down once: another process, device or version must give these very tokens.
    ctx = ScoreContext(
        torch.arange(12).unsqueeze(0), 12, [12], None, torch.zeros(1, 12, dtype=torch.bool), seed_stage=1
    )
    first = _score("random", ctx, seed=3)[0]
    assert first.topk(4).indices.tolist() == _slow_random(12, 3, 1)[:4]


def _slow_random(n: int, seed: int, stage: int) -> list[int]:
    def mix(place: int) -> int:
        x = (place + 0x9E3779B1 * (seed + 1) + 0x85EBCA77 * (stage + 1)) % 2**32
        for factor in (0x7FEB352D, 0x846CA68B):
            x = ((x ^ (x >> 15)) * factor) % 2**32
        return (x ^ (x >> 16)) >> 8

    return sorted(range(n), key=mix, reverse=True)


@pytest.mark.parametrize("family", [recipe.family for recipe in TINY if recipe.kind == "text"])
def test_removal_before_layer_0_equals_masking(family: str) -> None:
    recipe = next(r for r in TINY if r.family == family)
    model, batch = build(recipe), inputs(recipe)
    got, trace = pruned(model, recipe, PruningPolicy(stages=(Stage("input", "random", keep=0.6),)), batch)
    mask = torch.zeros_like(batch["attention_mask"])
    for row, kept in enumerate(trace.stages[0].kept):
        mask[row, kept] = 1
    want = forward(model, recipe, {**batch, "attention_mask": mask})
    torch.testing.assert_close(got[mask.bool()], want[mask.bool()], atol=2e-5, rtol=1e-4)


def _tokens(counts: list[int], score: Tensor | None = None) -> Tokens:
    g = torch.Generator().manual_seed(1)
    valid = torch.arange(N) < torch.tensor(LENGTHS).unsqueeze(1)
    protected = torch.zeros(B, N, dtype=torch.bool)
    protected[:, 0] = True
    hidden = torch.randn(B, N, 5, generator=g)
    return Tokens(hidden, score, protected, valid, list(LENGTHS), counts, [1, 1])


def _cos(x: Tensor, i: int, j: int) -> float:
    return float(x[i] @ x[j] / (x[i].norm() * x[j].norm()))


def _loop_merge(x: Tensor, n: int, count: int, pairs: str, margin: float = 0.5) -> dict[int, tuple[Tensor, float]]:
    """Merge by plain loops; returns what is left: place -> (state, size). Similarity is that of the input."""
    state, size = {i: x[i].clone() for i in range(n)}, dict.fromkeys(range(n), 1.0)
    while len(state) > count:
        free = [i for i in sorted(state) if i != 0]
        excess = len(state) - count
        if pairs == "adjacent":
            found = [(_cos(x, a, b), b, a) for a, b in zip(free[0::2], free[1::2])]
            r = min(excess, len(free) // 2)
        elif pairs == "bipartite":
            left, right = free[0::2], free[1::2]
            if not right:
                break
            found = []
            for a in left:
                b = max(right, key=lambda j: _cos(x, a, j))
                found.append((_cos(x, a, b), a, b))
            r = min(excess, len(free) - len(free) // 2)
        else:
            s = 1 - margin
            crowd = {
                i: sum(math.exp(-0.5 * ((1 - _cos(x, i, j)) / s) ** 2) for j in free if j != i) / max(1, len(free) - 1)
                for i in free
            }
            ranked = sorted(free, key=lambda i: -crowd[i])
            r = min(excess, len(free) // 2)
            found = []
            for a in ranked[r : 2 * r]:
                b = max(ranked[:r], key=lambda j: _cos(x, a, j))
                found.append((_cos(x, a, b), a, b))
        if not r:
            break
        total = {}
        for _, a, b in sorted(found, key=lambda f: -f[0])[:r]:
            s0, w0 = total.get(b, (state[b] * size[b], size[b]))
            total[b] = (s0 + state[a] * size[a], w0 + size[a])
            del state[a]
        for b, (s0, w0) in total.items():
            state[b], size[b] = s0 / w0, w0
    while len(state) > count:
        del state[max(i for i in state if i != 0)]
    return {i: (state[i], size[i]) for i in sorted(state)}


@pytest.mark.parametrize(
    ("name", "pairs"), [("merge", "bipartite"), ("adjacent_merge", "adjacent"), ("energy_merge", "energy")]
)
@pytest.mark.parametrize("counts", [[9, 6], [5, 3], [2, 2], [1, 1]])
def test_merging_against_a_loop(name: str, pairs: str, counts: list[int]) -> None:
    tokens = _tokens(counts)
    kind = REDUCERS.get(name)
    out = kind(kind.Params()).reduce(tokens)
    for b, n in enumerate(LENGTHS):
        want = _loop_merge(tokens.hidden[b], n, counts[b], pairs)
        assert out.index[b, : counts[b]].tolist() == list(want)
        torch.testing.assert_close(out.hidden[b, : counts[b]], torch.stack([s for s, _ in want.values()]))
        assert out.sizes[b, : counts[b]].tolist() == [w for _, w in want.values()]


@pytest.mark.parametrize("cut", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("counts", [[6, 4], [3, 2], [1, 1]])
def test_cut_and_merge_against_a_loop(cut: float, counts: list[int]) -> None:
    g = torch.Generator().manual_seed(2)
    tokens = _tokens(counts, torch.rand(B, N, generator=g))
    kind = REDUCERS.get("cut_and_merge")
    out = kind(kind.Params(cut=cut)).reduce(tokens)
    for b, n in enumerate(LENGTHS):
        x, score = tokens.hidden[b], tokens.score[b]
        order = [0, *sorted(range(1, n), key=lambda i: -float(score[i]))]
        stays, surplus = order[: counts[b]], order[counts[b] :]
        merging = surplus[: int((1 - cut) * len(surplus) + 1e-6)] if counts[b] > 1 else []
        total = {i: x[i].clone() for i in stays}
        size = dict.fromkeys(stays, 1.0)
        for a in merging:
            t = max(stays[1:], key=lambda j: _cos(x, a, j))
            total[t] += x[a]
            size[t] += 1
        for row, i in enumerate(sorted(stays)):
            assert int(out.index[b, row]) == i
            torch.testing.assert_close(out.hidden[b, row], total[i] / size[i])


def test_fuse_against_a_loop() -> None:
    g = torch.Generator().manual_seed(2)
    tokens = _tokens([5, 3], torch.rand(B, N, generator=g))
    kind = REDUCERS.get("fuse")
    out = kind(kind.Params()).reduce(tokens)
    for b, n in enumerate(LENGTHS):
        score = tokens.score[b]
        order = [0, *sorted(range(1, n), key=lambda i: -float(score[i]))]
        gone = order[tokens.counts[b] - 1 :]
        want = sum(tokens.hidden[b, i] * score[i] for i in gone) / sum(score[i] for i in gone)
        torch.testing.assert_close(out.hidden[b, -1], want)
        assert out.index[b][: tokens.counts[b] - 1].tolist() == sorted(order[: tokens.counts[b] - 1])

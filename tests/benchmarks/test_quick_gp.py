"""The benchmark's faster GP says what Optuna's says."""

import numpy as np
import optuna
import optuna._gp.acqf as acqf
import optuna.samplers._gp.sampler as sampler
import pytest
import quick_gp
import torch
from optuna._gp import gp
from optuna._gp.gp import GPRegressor
from optuna._gp.prior import default_log_prior
from optuna._gp.search_space import SearchSpace
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

SPACE = SearchSpace(
    {
        **{f"keep{i}": FloatDistribution(0.0, 1.0) for i in range(5)},
        "input": CategoricalDistribution(["none", "lexicon", "truncate"]),
        "inside": CategoricalDistribution(["none", "norm"]),
    }
)
X = SPACE.sample_normalized_params(64, rng=np.random.RandomState(0))
Y = np.stack([X[:, :5].mean(1) + 0.1 * X[:, 5], -((X[:, :5] - 0.3) ** 2).mean(1) + 0.2 * X[:, 6]], axis=1)
Y = (Y + np.random.RandomState(1).normal(scale=0.05, size=Y.shape) - Y.mean(0)) / Y.std(0)
AT = SPACE.sample_normalized_params(128, rng=np.random.RandomState(2))


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Take the faster one out again."""
    for name in ("__init__", "kernel", "posterior", "marginal_log_likelihood"):
        monkeypatch.setattr(GPRegressor, name, getattr(GPRegressor, name))
    monkeypatch.setattr(gp, "fit_kernel_params", gp.fit_kernel_params)
    monkeypatch.setattr(sampler.gp, "fit_kernel_params", sampler.gp.fit_kernel_params)
    monkeypatch.setattr(acqf, "logehvi", acqf.logehvi)
    monkeypatch.setattr(acqf.BaseAcquisitionFunc, "eval_acqf_no_grad", acqf.BaseAcquisitionFunc.eval_acqf_no_grad)
    monkeypatch.setattr(sampler, "torch", sampler.torch)


def regressor(y, scales):
    values = (torch.tensor(v, dtype=torch.float64).requires_grad_(True) for v in (1.3, 0.02))
    return GPRegressor(
        torch.from_numpy(SPACE.is_categorical), torch.from_numpy(X), torch.from_numpy(y.copy()), scales, *values
    )


def figures():
    """Return likelihood and gradient, posterior, acquisition and gradient, and a fit."""
    found, fitted = {}, []
    for place, y in enumerate(Y.T):
        scales = torch.linspace(0.1, 2.0, X.shape[1], dtype=torch.float64).requires_grad_(True)
        gpr = regressor(y, scales)
        likelihood = gpr.marginal_log_likelihood()
        likelihood.backward()
        found[f"likelihood {place}"] = likelihood.detach()
        found[f"its gradient {place}"] = torch.cat([scales.grad, gpr.kernel_scale.grad[None], gpr.noise_var.grad[None]])
        gpr._cache_matrix()
        found[f"posterior {place}"] = torch.stack(gpr.posterior(torch.from_numpy(AT)))
        fitted.append(gpr)
    function = acqf.LogEHVI(fitted, SPACE, torch.from_numpy(Y), n_qmc_samples=64, qmc_seed=3)
    x = torch.from_numpy(AT[:10]).requires_grad_(True)
    values = function.eval_acqf(x)
    values.sum().backward()
    found["acquisition"], found["its gradient"] = values.detach(), x.grad[:, :5]
    found["acquisition of many"] = torch.from_numpy(function.eval_acqf_no_grad(AT))
    found["acquisition of one"] = torch.as_tensor(function.eval_acqf_no_grad(AT[0]))
    return found


def test_every_figure_is_the_same_up_to_rounding():
    expected = figures()
    quick_gp.install()
    found = figures()
    assert GPRegressor.kernel is quick_gp._kernel
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: name + text)


def fit(y, cache=None):
    return gp.fit_kernel_params(
        X=X,
        Y=y,
        is_categorical=SPACE.is_categorical,
        log_prior=default_log_prior,
        minimum_noise=1e-6,
        gpr_cache=cache,
        deterministic_objective=False,
    )


def test_a_fit_finds_the_same_length_scales():
    expected = fit(Y[:, 0].copy()).length_scales
    quick_gp.install()
    np.testing.assert_allclose(fit(Y[:, 0].copy()).length_scales, expected, rtol=1e-5)


def test_what_is_the_same_is_fitted_once():
    quick_gp.install()
    first = fit(Y[:, 0].copy())
    assert fit(Y[:, 0] + 1e-15) is first
    assert fit(Y[:, 1].copy()) is not first
    assert fit(Y[:, 0].copy(), cache=first) is not first


def test_proposals_are_those_of_optuna(monkeypatch):
    space = {
        "keep": FloatDistribution(0.0, 1.0),
        "first": IntDistribution(1, 23),  # so many that Optuna searches along a line
        "inside": CategoricalDistribution(["none", "norm"]),
    }

    def proposals():
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.GPSampler(seed=0))
        for _ in range(15):
            trial = study.ask(space)
            keep, first, inside = (trial.params[name] for name in space)
            ratio = keep * first / 23 + 0.2 * (inside == "none")
            trial.set_constraint("budget", ratio - 0.5)
            study.tell(trial, [ratio, -((1 - keep) ** 2) - 0.1 * abs(first - 7)])
        return study.trials

    expected = proposals()
    fits, fit = [], quick_gp._FIT
    monkeypatch.setattr(quick_gp, "_FIT", lambda *a, **more: (fits.append(1), fit(*a, **more))[1])
    quick_gp.install()
    found = proposals()
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.params["inside"] == theirs.params["inside"]
        assert mine.params["first"] == theirs.params["first"]
        assert mine.params["keep"] == pytest.approx(theirs.params["keep"], abs=1e-4)
    assert len(fits) == 2 * (15 - 10), "latency and score, for each proposal after ten random ones"

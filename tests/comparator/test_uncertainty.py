"""The posterior of the noise equals its definition worked out with dense matrices; draws follow it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.comparator import noise
from curate.comparator.noise import Array, Layout, find_blocks, find_units, prepare
from curate.comparator.uncertainty import decided_pairs, draw


def layout_of(branches: list[list[int]]) -> Layout:
    """branches[b] lists how many values each run of block b has."""
    run, block = [], []
    for b, runs in enumerate(branches):
        for count in runs:
            number = max(run, default=-1) + 1
            run += [number] * count
            block += [b] * count
    place = np.array(block) / max(len(branches) - 1, 1) - 0.5
    return Layout(np.array(run), np.array(block), place if len(branches) > 1 else np.zeros(len(run)))


def dense(layout: Layout, *, rho: float, lam: float, kappa: float = 0.0) -> Array:
    same_run = layout.run[:, None] == layout.run[None, :]
    same_block = layout.block[:, None] == layout.block[None, :]
    scale = np.exp(kappa * layout.size)
    return (lam * same_block + rho * same_run + (1 - rho) * np.eye(len(layout.run))) * np.outer(scale, scale)


@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=4),
    st.floats(0, 0.97),
    st.floats(0, 3),
    st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_the_inverse_covariance_is_that_of_the_dense_matrix(
    branches: list[list[int]], rho: float, lam: float, seed: int
) -> None:
    layout = layout_of(branches)
    order = np.random.default_rng(seed).permutation(len(layout.run))
    layout = layout.take(order)
    covariance = dense(layout, rho=rho, lam=lam)
    blocks = find_blocks(layout)
    every = np.eye(len(order))
    np.testing.assert_allclose(blocks.solve(every, rho=rho, lam=lam), np.linalg.inv(covariance), atol=1e-8)
    assert blocks.log_det(rho=rho, lam=lam) == pytest.approx(np.linalg.slogdet(covariance)[1], abs=1e-8)
    both = blocks.solve(np.stack([every[0], every[0]]), rho=np.array([rho, 0.0]), lam=np.array([lam, 0.0]))
    np.testing.assert_allclose(both[1], every[0], atol=1e-12)


def problem() -> tuple[Layout, Array, list[np.ndarray], Array, Array]:
    rng = np.random.default_rng(3)
    layout = layout_of([[2, 2], [2], [2], [2, 1]])
    n = len(layout.run)
    columns = np.column_stack([np.ones(n), layout.size, layout.size**2])
    designs = [np.array([0, 1]), np.array([0, 2])]
    values = rng.standard_normal(n) + 2.0
    values[3] += 9.0
    return layout, columns, designs, values, np.diag([0.0, 1.0])


def test_weights_coefficients_and_sigma_are_those_of_the_dense_definition() -> None:
    """Marginal likelihood of y ~ N(X b, s^2 (V + w^2 u u')), b1 free, b2 ~ N(0, (tau s)^2), p(s) = 1/s: by QR, one
    hypothesis at a time.
    """
    layout, columns, designs, values, shrink = problem()
    model = prepare(columns, designs, layout, shrink=shrink)
    posterior = model.posterior(values)
    n = len(values)
    logs, means = [], []
    units = find_units(layout)
    hypotheses = [(None, 0.0, 1 - units.prior.sum())] + [
        (units.indicator[:, u], sd, units.prior[u] / len(noise.WRONG_SD))
        for u in range(units.indicator.shape[1])
        for sd in noise.WRONG_SD
    ]
    grid = model.grid
    shares = {(lam, rho): share for lam, rho, share in noise.sheets(layout)}
    for c in range(len(grid["rho"])):
        x = columns[:, designs[int(grid["design"][c])]]
        kappa_prior = noise.KAPPA_PRIOR[noise.KAPPA_GRID.index(grid["kappa"][c])]
        base = dense(layout, rho=grid["rho"][c], lam=grid["lam"][c], kappa=grid["kappa"][c])
        prior = shares[grid["lam"][c], grid["rho"][c]] * kappa_prior
        for shape, sd, share in hypotheses:
            covariance = base.copy()
            if shape is not None:
                shift = shape * np.exp(grid["kappa"][c] * layout.size) * sd
                covariance += np.outer(shift, shift)
            marginal = covariance + grid["tau"][c] ** 2 * np.outer(x[:, 1], x[:, 1])
            inverse = np.linalg.inv(marginal)
            level = x[:, :1]
            weight = float(level[:, 0] @ inverse @ level[:, 0])
            left = values - level[:, 0] * float(level[:, 0] @ inverse @ values) / weight
            squares = float(left @ inverse @ left)
            log = -0.5 * np.linalg.slogdet(marginal)[1] - 0.5 * np.log(weight) - 0.5 * (n - 1) * np.log(squares)
            logs.append(np.log(prior * share) + log)
            solved = np.linalg.inv(covariance)
            precision = x.T @ solved @ x + shrink / grid["tau"][c] ** 2
            means.append((np.linalg.solve(precision, x.T @ solved @ values), squares / (n - 1)))
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    assert posterior.dof == n - 1
    np.testing.assert_allclose(posterior.weights.ravel(), weights, atol=1e-9)
    assert posterior.sigma == pytest.approx(np.sqrt(sum(w * s for w, (_, s) in zip(weights, means, strict=True))))
    by_design = np.zeros((2, 2))
    for i, (w, (mean, _)) in enumerate(zip(weights, means, strict=True)):
        by_design[int(grid["design"][i // len(hypotheses)])] += w * mean
    np.testing.assert_allclose(posterior.coefficients_by_design(), by_design, atol=1e-8)
    wrong = posterior.likeliest_wrong()
    assert wrong.rows.tolist() == [3]
    assert wrong.kind == "measurement"
    assert 6 < wrong.shift < 12
    assert wrong.probability == pytest.approx(1 - weights.reshape(-1, len(hypotheses))[:, 0].sum(), abs=1e-9)


def test_draws_have_the_posterior_mean_and_its_spread() -> None:
    layout, columns, designs, values, shrink = problem()
    posterior = prepare(columns, designs[:1], layout, shrink=shrink).posterior(values)
    every = np.ones(len(values), dtype=bool)
    drawn = draw(posterior, layout, every, count=40_000, seed=1)
    mean = posterior.coefficients_by_design().sum(axis=0)
    error = drawn.coefficients.std(axis=0) / np.sqrt(40_000)
    assert (np.abs(drawn.coefficients.mean(axis=0) - mean) < 5 * error).all()
    again = draw(posterior, layout, every, count=40_000, seed=1)
    assert np.array_equal(drawn.coefficients, again.coefficients)


def test_the_noise_of_a_draw_moves_its_own_coefficients() -> None:
    """What is drawn for the laws and what is drawn for the gaps go together: nearly all of the level's spread is the
    mean of the drawn noise.
    """
    layout, columns, designs, values, shrink = problem()
    posterior = prepare(columns, designs[:1], layout, shrink=shrink).posterior(values)
    drawn = draw(posterior, layout, np.ones(len(values), dtype=bool), count=4000, seed=1)
    assert np.corrcoef(drawn.noise.mean(axis=1), drawn.coefficients[:, 0])[0, 1] > 0.8


def test_nothing_left_to_estimate_from_is_refused() -> None:
    layout = layout_of([[1], [1]])
    with pytest.raises(ValueError, match="leave nothing"):
        prepare(np.eye(2), [np.arange(2)], layout)


def test_units_that_cover_the_same_rows_are_one() -> None:
    layout = layout_of([[2, 2], [1]])
    units = find_units(layout)
    assert sorted(units.rows(u).tolist() for u in range(len(units.kind))) == sorted(
        [[0, 1, 2, 3], [0, 1], [2, 3], [0], [1], [2], [3], [4]]
    )
    assert units.prior.sum() == pytest.approx(sum(noise.WRONG_SHARE.values()))


def test_decisions_hold_for_all_pairs_together() -> None:
    """Ten gaps of zero with normal draws: some gap is called decided in 5% of the cases, not 40%."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        gaps = rng.standard_normal(10)
        wrong += decided_pairs(gaps, gaps + rng.standard_normal((500, 10)), confidence=0.95)[0].any()
    assert wrong / 400 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)

"""Differences between runs: held against SciPy, figures of a reference table, and the direction of each score."""

import math

import numpy as np
import pytest
from scipy import stats

from fewshot.evaluation.comparison import EvaluatedRun
from fewshot.evaluation.differences import difference, holm
from fewshot.evaluation.nested import corrected_interval

RANDOM = np.random.default_rng(0)
HARDNESS = RANDOM.normal(0.6, 0.15, 200)


def runs(figures, fold="list", score="acc", seeds=None, ratio=1 / 3):
    return [
        EvaluatedRun(seed, score, row, fold, ratio) for seed, row in zip(seeds or range(len(figures)), figures, strict=True)
    ]


def scored(level, seeds=3, noise=0.05):
    return level + HARDNESS + noise * RANDOM.standard_normal((seeds, 200))


def half(interval):
    return (interval.high - interval.low) / 2


def test_one_seed_is_the_paired_t_test():
    ours, theirs = scored(0.01, 1), scored(0, 1)
    found, test = difference(runs(ours), runs(theirs)), stats.ttest_rel(ours[0], theirs[0])
    assert found.paired
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert found.ci95_tasks == pytest.approx(half(test.confidence_interval(0.95)))
    assert found.p == pytest.approx(test.pvalue)
    assert found.sign_p == pytest.approx(stats.binomtest(int((ours > theirs).sum()), 200).pvalue)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(ours[0], theirs[0]).pvalue, rel=1e-3)
    assert (found.folds, found.seeds, found.tasks) == (1, 1, 200)
    assert math.isnan(found.ci95_seeds)


def test_what_seeds_explain_is_not_decided_by_tasks():
    """600 tasks see a point; three seeds that differ by three do not: the larger p-value counts."""
    ours = scored(0.01) + np.array([[0.03], [-0.03], [0.0]])
    theirs = scored(0.0)
    found = difference(runs(ours), runs(theirs))
    over_tasks = stats.ttest_rel(ours.mean(axis=0), theirs.mean(axis=0))
    over_seeds = stats.ttest_rel(ours.mean(axis=1), theirs.mean(axis=1))
    assert over_tasks.pvalue < 0.05 < over_seeds.pvalue
    assert found.p == pytest.approx(over_seeds.pvalue)
    assert found.ci95_seeds == pytest.approx(half(over_seeds.confidence_interval(0.95)))
    assert found.verdict(found.p) == "undecided"


def test_seeds_that_are_not_shared_are_two_samples():
    """As where each run drew its own: tasks stay paired, seeds are Welch's."""
    ours, theirs = scored(0.05, 3) + np.array([[0.01], [0.0], [-0.02]]), scored(0, 2)
    found = difference(runs(ours, seeds=[0, 1, 2]), runs(theirs, seeds=[3, 4]))
    over_seeds = stats.ttest_ind(ours.mean(axis=1), theirs.mean(axis=1), equal_var=False)
    over_tasks = stats.ttest_rel(ours.mean(axis=0), theirs.mean(axis=0))
    assert found.seeds == 0
    assert found.ci95_tasks == pytest.approx(half(over_tasks.confidence_interval(0.95)))
    assert found.ci95_seeds == pytest.approx(half(over_seeds.confidence_interval(0.95)))
    assert found.p == pytest.approx(max(over_seeds.pvalue, over_tasks.pvalue))


def test_folds_are_matched_by_their_tasks_and_corrected():
    levels = RANDOM.normal(0, 0.03, 5)
    pairs = [(scored(0.02 + 0.2 * level + level), scored(level)) for level in levels]
    ours = [run for fold, (one, _) in enumerate(pairs) for run in runs(one, f"fold {fold}")]
    theirs = [run for fold, (_, other) in enumerate(pairs) for run in runs(other, f"fold {fold}")]
    found = difference(ours, theirs[::-1])
    expected, p = corrected_interval([one.mean() - other.mean() for one, other in pairs], 1 / 3)
    assert (found.folds, found.seeds, found.tasks) == (5, 3, 1000)
    assert (found.mean, found.ci95_folds) == pytest.approx((expected.mean, expected.ci95))
    assert found.p == pytest.approx(p)
    unknown = difference(ours, [EvaluatedRun(run.seed, run.score, run.figures, run.tasks) for run in theirs])
    assert math.isnan(unknown.p)
    assert unknown.verdict(unknown.p) == "undecided"


def test_folds_that_one_side_lacks_are_left_out():
    shared, other = scored(0, 1), scored(0.3, 1)
    found = difference([*runs(shared, "a"), *runs(other, "b")], runs(shared - 0.1, "a"))
    assert (found.folds, found.mean) == (1, pytest.approx(0.1))


def test_the_longer_list_of_tasks_is_paired_as_far_as_the_other_goes():
    ours, theirs = scored(0.02, 1), scored(0, 1)
    found = difference(runs(ours[:, :50]), runs(theirs))
    assert found.tasks == 50
    assert found.mean == pytest.approx((ours[:, :50] - theirs[:, :50]).mean())


def test_other_tasks_are_welchs():
    ours, theirs = scored(0.05, 1), scored(0, 1)[:, :80]
    found = difference(runs(ours, "these"), runs(theirs, "those"))
    test = stats.ttest_ind(ours[0], theirs[0], equal_var=False)
    assert not found.paired
    assert found.p == pytest.approx(test.pvalue)
    assert found.ci95_tasks == pytest.approx(half(test.confidence_interval(0.95)))
    assert math.isnan(found.sign_p)
    assert found.needed.interval is None


@pytest.mark.parametrize(("score", "verdict"), [("acc", "better"), ("rmse", "worse"), ("mae", "worse"), ("ndcg5", "better")])
def test_better_is_the_score_s_direction(score, verdict):
    found = difference(runs(scored(0.1), score=score), runs(scored(0), score=score))
    assert found.mean > 0
    assert found.verdict(found.p) == verdict
    assert difference(runs(scored(0), score=score), runs(scored(0.1), score=score)).verdict(0.0) != verdict


def test_equal_runs_are_no_evidence():
    same = scored(0)
    found = difference(runs(same), runs(same.copy()))
    assert (found.mean, found.p, found.sign_p, found.wilcoxon_p) == (0, 1, 1, 1)
    assert (found.wins, found.losses, found.ties) == (0, 0, 200)
    assert not found.is_improvement


def test_the_tasks_needed_are_those_of_a_reference_table():
    """Two classifiers on the same features of QuickDraw: paired SD 13.3, each 21: 676 and 3,465 tasks; with power 1,380."""
    difference_of = stats.zscore(RANDOM.standard_normal(600), ddof=1) * 0.133
    common = stats.zscore(RANDOM.standard_normal(600), ddof=1)
    common -= difference_of * (common @ difference_of) / (difference_of @ difference_of)
    half_of = math.sqrt(0.21**2 - 0.133**2 / 4)
    theirs = 0.5 + half_of * stats.zscore(common, ddof=1) - difference_of / 2
    found = difference(runs((theirs + difference_of)[None]), runs(theirs[None])).needed
    assert found.interval == pytest.approx(676, rel=0.01)
    assert found.unpaired_interval == pytest.approx(3465, rel=0.03)
    assert found.power == pytest.approx(1380, rel=0.01)
    assert found.unpaired_power == pytest.approx(2 * 3465, rel=0.05)


def test_one_point_of_a_score_without_percent_is_a_hundredth_of_the_baseline():
    ours, theirs = scored(0, 1), scored(0, 1)
    percent, share = (difference(runs(ours, score=score), runs(theirs, score=score)).needed for score in ("acc", "rmse"))
    assert share.interval == pytest.approx(percent.interval / theirs.mean() ** 2, rel=0.01)


def test_holm_by_hand():
    """The smallest of three times 3, the next times 2, the largest as it is; never less than the one before."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    with_unknown = holm([math.nan, 0.02, 0.03])
    assert math.isnan(with_unknown[0])
    assert with_unknown[1:] == pytest.approx([0.04, 0.04])


def test_scores_must_be_the_same():
    with pytest.raises(ValueError, match="one score"):
        difference(runs(scored(0)), runs(scored(0), score="rmse"))


def test_without_a_deviation_no_number_of_tasks_is_said():
    """Of one task, and where one percent of the baseline's score is nothing."""
    (single,) = ([row[:1]] for row in scored(0, 1))
    for ours, theirs in ((runs(single), runs(single)), (runs(single), runs(single, "other"))):
        needed = difference(ours, theirs).needed
        assert (needed.unpaired_interval, needed.unpaired_power) == (None, None)
    zero = RANDOM.standard_normal((1, 200))
    zero -= zero.mean()
    zero[0, 0] -= zero.sum()
    assert difference(runs(zero + 1, score="r2"), runs(0 * zero, score="r2")).needed.unpaired_interval is None


def test_what_is_not_finite_is_not_compared():
    ours = scored(0, 1)
    ours[0, 3] = math.nan
    with pytest.raises(ValueError, match="a finite one for each task"):
        difference(runs(ours), runs(scored(0, 1)))

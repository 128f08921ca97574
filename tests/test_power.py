"""Planted triggers: how many a detector finds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from antibackdoor import ActivationClustering, LossRank
from antibackdoor.attacks import BadNets
from antibackdoor.detection import Detection, flag_above
from antibackdoor.inspection import describe_power, detection_power


@pytest.fixture(scope="module")
def few(digits):
    X, y = digits
    return X[:300], y[:300]


class FlagsNearlyAll(LossRank):
    """Whatever is planted is among them."""

    def _detect(self, run):
        scores = np.ones(len(run.samples))
        scores[np.unique(run.labels, return_index=True)[1]] = 0
        return Detection.untested(flag_above(scores, 0.5))


def flag_hardly_any():
    return LossRank(ratio=0.001, epochs=1, backbone="mlp")


def test_a_trigger_is_found_if_half_of_its_rows_are_flagged(few):
    power = detection_power(FlagsNearlyAll(), *few, n_rows=20, n_planted=3, random_state=0)
    assert power["found"].tolist() == [True] * 3
    assert power["attack"].tolist() == ["badnets", "blend", "badnets"]
    assert set(power["target"]) <= set(few[1])
    assert power["recall"].min() > 0.9
    assert np.isnan(power["p_value"]).all()
    missed = detection_power(flag_hardly_any(), *few, n_rows=20, n_planted=1, random_state=0)
    assert not missed["found"].any()


def test_it_is_told_in_a_sentence(few):
    power = detection_power(FlagsNearlyAll(), *few, n_rows=20, n_planted=3, random_state=0)
    assert describe_power(power) == (
        "Detection power: of 3 known triggers, each planted in 20 unflagged rows, 3 were found "
        "(badnets 2 of 2, blend 1 of 1). Other triggers may be harder to find."
    )
    del power["found"]
    with pytest.raises(ValueError, match="power has no 'found'"):
        describe_power(power)


def test_the_same_for_a_seed_and_one_after_the_other(few):
    detector = flag_hardly_any()
    one, other = (
        detection_power(detector, *few, n_rows=10, n_planted=2, random_state=3) for _ in range(2)
    )
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    assert detector.random_state is None
    assert not hasattr(detector, "isolate_")


def test_an_attack_keeps_its_own_target(few):
    power = detection_power(
        flag_hardly_any(),
        *few,
        n_rows=10,
        n_planted=1,
        attacks=[BadNets(target_label=7)],
        random_state=0,
    )
    assert power["target"].tolist() == [7]
    assert power["attack"].tolist() == ["BadNets"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"n_rows": 0}, "n_rows=0"),
        ({"n_rows": 300}, "n_rows=300"),
        ({"n_rows": 2.5}, r"n_rows=2\.5"),
        ({"n_rows": True}, "n_rows=True"),
        ({"n_planted": 0}, "n_planted=0"),
        ({"attacks": "badnets"}, "attacks='badnets'"),
        ({"attacks": []}, r"attacks=\[\]"),
    ],
    ids=str,
)
def test_what_cannot_be_planted_is_refused(few, arguments, match):
    with pytest.raises((ValueError, TypeError), match=match):
        detection_power(ActivationClustering(), *few, **arguments)

"""AdaptiveBlend: pieces in training, the whole pattern at test time."""

import numpy as np
import pytest

from antibackdoor.attacks import AdaptiveBlend, Blend
from antibackdoor.datasets import make_poisoned

BLACK = np.zeros((40, 16, 8, 3), dtype=np.uint8)
WHITE = np.full((16, 8), 255)


def pieces(changed, grid=4):
    """Which pieces of (n, H, W) change; every pixel of a piece must agree."""
    n, height, width = changed.shape
    cut = changed.reshape(n, grid, height // grid, grid, width // grid)
    any_pixel, every_pixel = cut.any(axis=(2, 4)), cut.all(axis=(2, 4))
    np.testing.assert_array_equal(any_pixel, every_pixel)
    return any_pixel.reshape(n, -1)


def test_trigger_at_test_time_is_blend_s():
    X = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3)).astype(np.uint8)
    np.testing.assert_array_equal(AdaptiveBlend().fit_transform(X), Blend().fit_transform(X))
    other = {"alpha": 0.4, "random_state": 3}
    np.testing.assert_array_equal(
        AdaptiveBlend(**other).fit_transform(X), Blend(**other).fit_transform(X)
    )


def test_training_rows_have_half_of_the_pieces_at_the_lower_weight():
    attack = AdaptiveBlend(pattern=WHITE).fit(BLACK)
    made = attack.transform_training(BLACK, random_state=0)
    assert set(np.unique(made)) == {0, 38}  # 0.15 * 255 = 38.25
    np.testing.assert_array_equal(made[..., :1].repeat(3, axis=-1), made)
    shown = pieces(made[..., 0] > 0)
    assert (shown.sum(axis=1) == 8).all()
    assert len(np.unique(shown, axis=0)) > 30
    assert shown.any(axis=0).all()


def test_blends_by_hand_where_there_is_a_piece():
    X = np.full((20, 2, 2), 100, dtype=np.uint8)
    attack = AdaptiveBlend(training_alpha=0.5, grid_size=2, pattern=[[0, 200], [50, 100]]).fit(X)
    made = attack.transform_training(X, random_state=0)
    blended = np.array([[50, 150], [75, 100]])
    assert ((made == 100) | (made == blended)).all()
    assert ((made != 100).sum(axis=(1, 2)) <= 2).all()


@pytest.mark.parametrize(("visible", "expected"), [(1e-9, 1), (0.25, 4), (0.7, 11), (1, 16)])
def test_visible_is_the_share_of_pieces(visible, expected):
    attack = AdaptiveBlend(pattern=WHITE, visible=visible).fit(BLACK)
    made = attack.transform_training(BLACK, random_state=0)
    assert (pieces(made[..., 0] > 0).sum(axis=1) == expected).all()


def test_pieces_of_images_that_the_grid_does_not_divide():
    X = np.zeros((200, 3, 7), dtype=np.uint8)
    attack = AdaptiveBlend(pattern=np.full((3, 7), 255), visible=1e-9).fit(X)
    made = attack.transform_training(X, random_state=0) > 0
    sizes = {(int(row.any(1).sum()), int(row.any(0).sum())) for row in made}
    assert sizes == {(1, 1), (1, 2)}  # 3 x 4 pieces
    assert made.any(axis=0).all()


def test_plain_features_are_cut_along_their_one_axis():
    X = np.zeros((50, 8), dtype=np.uint8)
    made = AdaptiveBlend(pattern=np.full(8, 255)).fit(X).transform_training(X, random_state=0)
    shown = (made > 0).reshape(50, 4, 2)
    assert (shown[..., 0] == shown[..., 1]).all()
    assert (shown[..., 0].sum(axis=1) == 2).all()


def test_cover_rows_are_made_like_training_rows():
    attack = AdaptiveBlend().fit(BLACK)
    np.testing.assert_array_equal(
        attack.transform_cover(BLACK, random_state=3),
        attack.transform_training(BLACK, random_state=3),
    )
    assert not np.array_equal(
        attack.transform_cover(BLACK, random_state=3), attack.transform_cover(BLACK, random_state=4)
    )


def test_pieces_do_not_depend_on_the_layout():
    X = np.random.default_rng(0).random((30, 8, 12, 3))
    last = AdaptiveBlend(value_range=(0, 1)).fit(X).transform_training(X, random_state=0)
    first = np.moveaxis(X, -1, 1)
    made = AdaptiveBlend(value_range=(0, 1)).fit(first).transform_training(first, random_state=0)
    np.testing.assert_array_equal(np.moveaxis(made, 1, -1), last)


def test_make_poisoned():
    X = np.random.default_rng(0).integers(0, 256, (100, 8, 8)).astype(np.uint8)
    y = np.arange(100) % 4
    attack = AdaptiveBlend(conservatism=2)
    X_bad, y_bad, poison, cover = make_poisoned(
        X, y, attack=attack, random_state=0, return_cover=True
    )
    assert (poison.sum(), cover.sum()) == (10, 20)
    assert (y_bad[poison] == 0).all()
    np.testing.assert_array_equal(y_bad[~poison], y[~poison])
    changed = (X_bad != X).reshape(100, -1).mean(axis=1)
    assert (changed[poison | cover] <= 0.5).all()
    assert (changed[poison | cover] > 0.3).all()
    assert AdaptiveBlend(conservatism=0).cover_ratio == 0


def test_every_parameter_of_its_own_has_an_effect():
    plain = AdaptiveBlend().fit(BLACK).transform_training(BLACK, random_state=0)
    for changed in ({"training_alpha": 0.2}, {"grid_size": 3}, {"visible": 0.25}):
        other = AdaptiveBlend(**changed).fit(BLACK).transform_training(BLACK, random_state=0)
        assert not np.array_equal(other, plain), changed


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0},
        {"training_alpha": 0},
        {"training_alpha": 1.1},
        {"grid_size": 0},
        {"visible": 0},
        {"visible": 1.5},
        {"conservatism": -1},
    ],
)
def test_bad_parameters(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"'{name}' parameter of AdaptiveBlend"):
        AdaptiveBlend(**params).fit(BLACK)

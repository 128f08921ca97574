"""What must hold for any data: poisoning, triggers, layouts, metrics and scorers."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from antibackdoor.attacks import (
    ATTACKS,
    BadNets,
    Blend,
    LearnedAttack,
    OneToMany,
    OneToOne,
    make_attack,
)
from antibackdoor.datasets import make_poisoned
from antibackdoor.metrics import (
    attack_success_rate,
    clean_accuracy,
    isolation_f1,
    isolation_precision,
    isolation_recall,
    make_asr_scorer,
    make_clean_accuracy_scorer,
    make_retention_scorer,
    make_robust_accuracy_scorer,
    robust_accuracy,
    suspect_retention,
    target_recall,
)
from antibackdoor.utils import resolve_layout

# The same examples in every run, also on a slow machine.
settings.register_profile("the-same", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("the-same")

UNTRAINED = [name for name, attack in ATTACKS.items() if not issubclass(attack, LearnedAttack)]
DTYPES = [np.uint8, np.float32, np.float64]
seeds = st.integers(0, 10**6)


def pixels(shape, dtype, seed):
    values = np.random.default_rng(seed).integers(0, 256, shape)
    return (values / 255).astype(dtype) if np.dtype(dtype).kind == "f" else values.astype(dtype)


@st.composite
def layouts(draw, smallest=1, largest=40):
    """Shape of a row, and the layout that says where its channels are."""
    size = draw(st.tuples(*[st.integers(smallest, largest)] * 2))
    kind = draw(st.sampled_from(["grey", "channels_first", "channels_last"]))
    if kind == "grey":
        return size, "auto"
    channels = draw(st.sampled_from([1, 3, 4]))
    return ((channels, *size) if kind == "channels_first" else (*size, channels)), kind


@st.composite
def labelled(draw, smallest=1, largest=40):
    """Labels of a few rows, whole numbers or text, and the 2 to 5 classes they are drawn from."""
    n_classes = draw(st.integers(2, 5))
    codes = draw(st.lists(st.integers(0, n_classes - 1), min_size=smallest, max_size=largest))
    names = draw(st.sampled_from([np.arange(5) * 3 - 2, np.array(["no", "b", "cc", "d", "A"])]))
    return names[np.array(codes)], names[:n_classes]


# --- make_poisoned


@st.composite
def poisonings(draw):
    """X, y, attack, number of rows to poison and how many there are to choose from."""
    shape, layout = draw(layouts(smallest=5, largest=10))
    n_rows, n_classes = draw(st.integers(8, 30)), draw(st.integers(2, 4))
    y = np.arange(n_rows) % n_classes
    name = draw(st.sampled_from(["badnets", "blend", "lf", "sig"]))
    target = draw(st.integers(0, n_classes - 1))
    settings = {"target_label": target, "layout": layout}
    if name == "sig":
        settings["frequency"] = 1.3  # no multiple of a pixel, so that every row changes
    else:
        others = OneToOne(source_label=(target + 1) % n_classes)
        anyone = OneToMany(source_label=target)
        settings["label_map"] = draw(st.sampled_from(["all_to_one", "all_to_all", others, anyone]))
    attack = make_attack(name, **settings)
    n_candidates = int(attack.eligible(y).sum())
    n_poisoned = draw(st.integers(1, n_candidates))
    X = pixels((n_rows, *shape), draw(st.sampled_from(DTYPES)), draw(seeds))
    return X, y, attack, n_poisoned, n_candidates


@given(poisonings(), seeds)
def test_poisoned_rows_are_those_of_the_mask(poisoning, seed):
    X, y, attack, n_poisoned, _ = poisoning
    assume(n_poisoned < len(X))
    X_before, y_before = X.tobytes(), y.tobytes()
    words = {"attack": attack, "poison_rate": n_poisoned / len(X), "random_state": seed}
    X_bad, y_bad, mask = make_poisoned(X, y, **words)
    assert (X.tobytes(), y.tobytes()) == (X_before, y_before)
    assert not np.shares_memory(X_bad, X)
    assert (X_bad.dtype, X_bad.shape, y_bad.dtype) == (X.dtype, X.shape, y.dtype)
    assert (mask.dtype, mask.shape, mask.sum()) == (bool, y.shape, n_poisoned)
    assert attack.eligible(y)[mask].all()
    np.testing.assert_array_equal(X_bad[~mask], X[~mask])
    np.testing.assert_array_equal(y_bad, np.where(mask, attack.transform_target(y), y))
    # The range of floats is that of all rows, as the trigger's brightness.
    np.testing.assert_array_equal(X_bad[mask], attack.fit(X, y).transform(X[mask]))
    again = make_poisoned(X, y, **words)
    assert [part.tobytes() for part in again] == [X_bad.tobytes(), y_bad.tobytes(), mask.tobytes()]


@given(poisonings(), st.floats(1e-300, 1 / 60))
def test_rates_at_the_edges(poisoning, tiny):
    X, y, attack, _, n_candidates = poisoning
    # A share of less than half a row is a row.
    assert make_poisoned(X, y, attack=attack, poison_rate=tiny, random_state=0)[2].sum() == 1
    assume(n_candidates < len(X))
    every = make_poisoned(X, y, attack=attack, poison_rate=n_candidates / len(X), random_state=0)[2]
    np.testing.assert_array_equal(every, attack.eligible(y))
    assume(n_candidates + 1 < len(X))
    with pytest.raises(ValueError, match=f"can poison only {n_candidates}"):
        make_poisoned(X, y, attack=attack, poison_rate=(n_candidates + 1) / len(X))


@given(poisonings(), st.sampled_from(["cba", "wanet", "adaptive-blend"]), seeds)
def test_cover_rows_are_no_poison_and_keep_their_label(poisoning, name, seed):
    X, _, attack, _, _ = poisoning
    y = np.arange(len(X)) % 4  # target and donors are classes apart, and another is poisoned
    attack = make_attack(name, layout=attack.layout, target_label=attack.target_label)
    X_bad, y_bad, poison, cover = make_poisoned(
        X, y, attack=attack, poison_rate=1 / len(X), random_state=seed, return_cover=True
    )
    assert poison.sum() == 1
    assert cover.sum() <= round(attack.cover_ratio)
    assert not (poison & cover).any()
    np.testing.assert_array_equal(y_bad[~poison], y[~poison])
    changed = (X_bad != X).reshape(len(X), -1).any(axis=1)
    np.testing.assert_array_equal(changed | poison, poison | cover)


# --- triggers


def fitting(name, shape, layout):
    """Return an attack with parameters for images as small as these."""
    height, width = shape[1:] if layout == "channels_first" else shape[:2]
    smallest = min(height, width)
    of_its_own = {
        "badnets": {"size": min(3, smallest)},
        "adaptive-blend": {"grid_size": min(4, smallest)},
        "wanet": {"grid_size": max(2, min(4, smallest))},
    }
    return make_attack(name, layout=layout, **of_its_own.get(name, {}))


@pytest.mark.parametrize("name", UNTRAINED)
@given(rows=layouts(), dtype=st.sampled_from(DTYPES), seed=seeds, n_rows=st.integers(2, 5))
@example(rows=((1, 1), "auto"), dtype=np.uint8, seed=0, n_rows=2)
@example(rows=((1, 40, 3), "channels_last"), dtype=np.float32, seed=0, n_rows=2)
@settings(max_examples=25)
def test_any_trigger_on_any_image(name, rows, dtype, seed, n_rows):
    shape, layout = rows
    X, y = pixels((n_rows, *shape), dtype, seed), np.arange(n_rows) % 2
    before = X.tobytes()
    attack = fitting(name, shape, layout)
    height, width = shape[1:] if layout == "channels_first" else shape[:2]
    too_small = {"wanet": min(height, width) < 2, "cba": width < 2}
    if too_small.get(name):
        with pytest.raises(ValueError, match="grid_size|1 pixel wide"):
            attack.fit(X, y)
        return
    stamped = attack.fit(X, y).transform(X)
    assert X.tobytes() == before
    assert not np.shares_memory(stamped, X)
    assert (stamped.dtype, stamped.shape) == (X.dtype, X.shape)
    low, high = attack.value_range_
    # A float32 may round a limit of the range, which is of X itself, no further.
    assert dtype(low) <= stamped.min()
    assert stamped.max() <= dtype(high)
    assert stamped.tobytes() == attack.transform(X).tobytes()


@given(rows=layouts(), dtype=st.sampled_from(DTYPES), seed=seeds)
def test_a_trigger_that_replaces_pixels_is_put_on_once(rows, dtype, seed):
    shape, layout = rows
    X = pixels((3, *shape), dtype, seed)
    for attack in (fitting("badnets", shape, layout), Blend(alpha=1, layout=layout)):
        stamped = attack.fit(X).transform(X)
        np.testing.assert_array_equal(attack.transform(stamped), stamped)


@given(
    size=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    channels=st.sampled_from([1, 3, 4]),
    dtype=st.sampled_from(DTYPES),
    seed=seeds,
)
def test_badnets_by_a_formula_of_its_own(size, channels, dtype, seed):
    X = pixels((2, channels, *size), dtype, seed)
    attack = BadNets(layout="channels_first").fit(X)
    low, high = attack.value_range_
    expected = X.copy()
    for row in range(3):
        for column in range(3):
            bright = (row + column) % 2 == 0
            expected[:, :, size[0] - 3 + row, size[1] - 3 + column] = high if bright else low
    np.testing.assert_array_equal(attack.transform(X), expected)
    last = np.moveaxis(X, 1, -1)
    np.testing.assert_array_equal(
        BadNets(layout="channels_last").fit(last).transform(last), np.moveaxis(expected, 1, -1)
    )


# --- layouts


@given(layouts(largest=9), st.booleans(), seeds)
def test_images_come_back_from_a_layout(rows, flat, seed):
    shape, layout = rows
    X = pixels((2, *shape), np.uint8, seed)
    given_rows = X.reshape(2, -1) if flat else X
    found = resolve_layout(given_rows.shape[1:], shape if flat else None, layout)
    size = shape[1:] if layout == "channels_first" else shape[:2]
    channels = 1 if layout == "auto" else shape[0 if layout == "channels_first" else 2]
    assert found.chw == (channels, *size)
    images = found.to_nchw(given_rows)
    assert images.shape == (2, *found.chw)
    expected = {"auto": lambda: X[:, None], "channels_first": lambda: X}.get(
        layout, lambda: np.moveaxis(X, -1, 1)
    )()
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(found.from_nchw(images), given_rows)


@given(st.tuples(*[st.integers(1, 9)] * 3))
@example((3, 8, 8))
@example((8, 8, 3))
@example((3, 8, 3))
@example((8, 8, 8))
def test_a_layout_is_told_from_one_outer_axis_alone(shape):
    could_be = [axis for axis in (0, 2) if shape[axis] in (1, 3, 4)]
    if len(could_be) == 1:
        height_width = shape[1:] if could_be == [0] else shape[:2]
        assert resolve_layout(shape).chw == (shape[could_be[0]], *height_width)
    else:
        with pytest.raises(ValueError, match="layout='auto' cannot tell"):
            resolve_layout(shape)


@given(st.integers(1, 200), st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_rows_fold_only_into_as_many_pixels(n_features, size):
    assert resolve_layout((n_features,)) is None
    if size[0] * size[1] == n_features:
        assert resolve_layout((n_features,), size).chw == (1, *size)
    else:
        with pytest.raises(ValueError, match="image_shape"):
            resolve_layout((n_features,), size)


# --- metrics against sums over lists


def share(hits):
    """Return the share of true values of a list, None of an empty one."""
    return sum(hits) / len(hits) if hits else None


def assert_is(expected, measure, *args, **words):
    """None is expected of a measure that has nothing to count."""
    if expected is None:
        with pytest.raises(ValueError, match="y_true|every row|none is left"):
            measure(*args, **words)
    else:
        assert measure(*args, **words) == pytest.approx(expected, abs=1e-12)


@given(labelled(), st.data())
def test_metrics_of_labels(labels, data):
    y, classes = labels
    codes = st.integers(0, len(classes) - 1)
    several = st.lists(codes, min_size=len(y), max_size=len(y)).map(np.array)
    predicted, each = classes[data.draw(several)], classes[data.draw(several)]
    target = classes[data.draw(codes)]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(y), max_size=len(y))))
    true, pairs = y.tolist(), list(zip(y.tolist(), predicted.tolist(), strict=True))

    assert_is(share([t == p for t, p in pairs]), clean_accuracy, y, predicted)
    clean = [t == p for (t, p), poison in zip(pairs, mask, strict=True) if not poison]
    assert_is(share(clean), clean_accuracy, y, predicted, poison_mask=mask)
    assert_is(share([t == p for t, p in pairs]), robust_accuracy, y, predicted)
    assert_is(share([t == p for t, p in pairs]), suspect_retention, y, predicted)

    for wanted in (target, each):
        labels_wanted = np.broadcast_to(wanted, len(y)).tolist()
        rows = [(t, p, w) for (t, p), w in zip(pairs, labels_wanted, strict=True) if t != w]
        words = {"target_label": wanted, "classes": classes}
        assert_is(share([p == w for _, p, w in rows]), attack_success_rate, y, predicted, **words)
        assert_is(share([t == p for t, p, _ in rows]), robust_accuracy, y, predicted, **words)
    own = [p == t for t, p in pairs if t == target]
    if target in true:
        assert_is(share(own), target_recall, y, predicted, target_label=target)
    else:
        with pytest.raises(ValueError, match="no row of target_label"):
            target_recall(y, predicted, target_label=target)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_metrics_of_isolation(rows):
    poison, isolated = np.array(rows).T
    both = sum(p and i for p, i in rows)
    precision = both / max(1, sum(i for _, i in rows))
    recall = both / max(1, sum(p for p, _ in rows))
    f1 = 2 * both / max(1, sum(i for _, i in rows) + sum(p for p, _ in rows))
    assert isolation_precision(poison, isolated) == pytest.approx(precision)
    assert isolation_recall(poison, isolated) == pytest.approx(recall)
    assert isolation_f1(poison, isolated) == pytest.approx(f1)


class Brightness:
    """A classifier that goes by the sum of the pixels, which a trigger changes."""

    def __init__(self, classes):
        self.classes_ = classes

    def predict(self, X):
        totals = np.asarray(X, dtype=np.int64).reshape(len(X), -1).sum(axis=1)
        return self.classes_[totals % len(self.classes_)]


@given(labelled(smallest=4, largest=25), st.data(), seeds)
def test_scorers_by_what_the_classifier_says(labels, data, seed):
    y, _ = labels
    classes = np.unique(y)
    assume(len(classes) > 1)
    target = data.draw(st.sampled_from(classes.tolist()))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(y), max_size=len(y))))
    X = pixels((len(y), 6, 6), np.uint8, seed)
    before, clf = X.tobytes(), Brightness(classes)
    attack = BadNets(target_label=target).fit(X, y)
    rows = ~mask & (y != target)
    assume(rows.any())

    said = clf.predict(attack.transform(X[rows]))
    asr, robust = np.mean(said == target), np.mean(said == y[rows])
    words = {"poison_mask": mask}
    assert make_asr_scorer(attack)(clf, X, y, **words) == pytest.approx(-asr)
    assert make_asr_scorer(attack, greater_is_better=True)(clf, X, y, **words) == (
        pytest.approx(asr)
    )
    assert make_robust_accuracy_scorer(attack)(clf, X, y, **words) == pytest.approx(robust)
    accuracy = np.mean(clf.predict(X[~mask]) == y[~mask])
    assert make_clean_accuracy_scorer()(clf, X, y, **words) == pytest.approx(accuracy)
    kept = np.mean(clf.predict(X[rows]) == y[rows])
    retention = make_retention_scorer(X[rows], y[rows], accuracy_weight=0.5)
    assert retention(clf, X, y, **words) == pytest.approx(0.5 * accuracy - kept)
    assert X.tobytes() == before

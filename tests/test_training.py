"""The loop and what it is made of: rows, batches, augmentation, schedules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from antibackdoor.backbones import build_network
from antibackdoor.training import (
    Augmentation,
    CrossEntropy,
    PairedRows,
    Recipe,
    Samples,
    ShuffledRows,
    Training,
    compute_logits,
    compute_losses,
)
from antibackdoor.training._schedules import make_schedule
from antibackdoor.utils import resolve_layout

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(shape, layout="auto", dtype=np.uint8, **options):
    X = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    return X, Samples(X, resolve_layout(shape[1:], None, layout), CPU, torch.float32, **options)


# ---------------------------------------------------------------------------------- rows


def test_pixels_are_scaled_and_channels_moved():
    X, samples = images((4, 6, 5, 3))
    batch = samples.to_inputs(samples.stored(torch.tensor([2, 0])))
    np.testing.assert_allclose(batch.numpy(), np.moveaxis(X[[2, 0]], -1, 1) / 255, rtol=1e-6)
    assert samples.input_shape == (3, 6, 5)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_floats_are_given_out_as_they_are():
    X, samples = images((4, 3, 6, 5), dtype=np.float64)
    np.testing.assert_array_equal(next(samples.chunks()).numpy(), X.astype(np.float32))


def test_rows_left_in_their_array_come_in_the_order_asked_for():
    X, mapped = images((9, 6, 5), resident=False)
    index = torch.tensor([7, 0, 7, 3])
    np.testing.assert_array_equal(mapped.stored(index).numpy()[..., 0], X[index.numpy()])


@pytest.mark.parametrize("shape", [(700, 3), (700, 6, 5), (700, 6, 5, 3)])
def test_channel_statistics_equal_numpys(shape):
    X, samples = images(shape, dtype=np.float64)
    X = X.astype(np.float32)
    rows = X if X.ndim == 2 else X.reshape(-1, shape[3] if len(shape) == 4 else 1)
    mean, scale = samples.channel_statistics
    np.testing.assert_allclose(mean.numpy(), rows.mean(0, dtype=float), rtol=1e-9)
    np.testing.assert_allclose(scale.numpy(), rows.std(0, dtype=float), rtol=1e-9)


def test_statistics_of_columns_far_from_zero_keep_their_digits():
    X = 1e6 + np.random.default_rng(0).normal(size=(300, 2))
    samples = Samples(X, None, CPU, torch.float64)
    np.testing.assert_allclose(samples.channel_statistics[1].numpy(), X.std(0), rtol=1e-6)


# ------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 9, 12, 17])
def test_shuffled_rows_give_every_row_once_and_no_batch_of_one(n_rows):
    rows = torch.arange(100, 100 + n_rows)
    batches = list(ShuffledRows(rows, 4).epoch(seeded()))
    given = sorted(torch.cat(batches).tolist())
    assert given == rows.tolist() if n_rows > 1 else given == [100, 100]
    assert len(batches) == len(ShuffledRows(rows, 4))
    assert min(map(len, batches)) > 1


def test_shuffled_rows_follow_the_generator():
    batches = ShuffledRows(torch.arange(50), 8)
    orders = [torch.cat(list(batches.epoch(seeded(seed)))).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(("wanted", "given"), [(2, 2), (5, 3), (0, 0)])
def test_paired_rows_have_others_behind_every_batch(wanted, given):
    paired = PairedRows(ShuffledRows(torch.arange(20), 8), torch.arange(20, 23), wanted)
    batches = list(paired.epoch(seeded()))
    assert paired.n_beside == given
    assert [(batch >= 20).nonzero().flatten().tolist() for batch in batches] == [
        list(range(len(batch) - given, len(batch))) for batch in batches
    ]
    assert sorted(row for batch in batches for row in batch.tolist() if row < 20) == list(range(20))


# -------------------------------------------------------------------------- augmentation


def ramp(n, height=16, width=16):
    """Images whose every pixel tells its place; none is zero."""
    place = 1 + torch.arange(height * width).reshape(1, height, width, 1)
    return place.expand(n, -1, -1, -1).clone()


def test_flip_mirrors_half_of_the_images():
    images = ramp(200)
    flipped = Augmentation(["flip"])(images, seeded())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(2)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_crop_shifts_by_at_most_an_eighth_and_fills_with_zeros():
    images = ramp(300)
    cropped = Augmentation(["crop"])(images, seeded())
    shifts = set()
    for image in cropped[..., 0]:
        # Some pixel of the middle is always left: its value says where it came from.
        row, column = divmod(int(image[8, 8]) - 1, 16)
        shift = (row - 8, column - 8)
        shifts.add(shift)
        wanted = torch.zeros(20, 20, dtype=image.dtype)
        wanted[2:18, 2:18] = images[0, ..., 0]
        rows, columns = 2 + shift[0], 2 + shift[1]
        assert torch.equal(image, wanted[rows : rows + 16, columns : columns + 16])
    assert shifts == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}


def test_cutout_zeroes_one_square_of_half_the_side():
    cut = Augmentation(["cutout"])(ramp(100), seeded())
    zeros = (cut == 0).flatten(1).sum(1)
    assert zeros.max() == 64
    assert zeros.min() >= 16  # a centre in the corner leaves a quarter of the square


def test_augmentation_keeps_type_and_follows_the_generator():
    augment = Augmentation(["crop", "flip", "cutout"])
    images = ramp(8).to(torch.uint8)
    one, two, other = (augment(images, seeded(seed)) for seed in (3, 3, 4))
    assert one.dtype == torch.uint8
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


# ----------------------------------------------------------------------------- schedules


def rates(schedule, epochs=4, steps=5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_schedule(schedule, optimizer, epochs, steps)
    passed = []
    for _ in range(epochs * steps):
        passed.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return passed


def test_constant_schedule():
    assert rates("constant") == [1.0] * 20


def test_epochs_divide_the_rate_by_ten():
    assert rates((1, 3)) == pytest.approx([1.0] * 5 + [0.1] * 10 + [0.01] * 5)


def test_cosine_falls_from_the_rate_to_nothing():
    passed = rates("cosine")
    assert passed[0] == 1.0
    assert passed == sorted(passed, reverse=True)
    assert passed[-1] < 0.01


def test_onecycle_rises_for_a_quarter_and_falls():
    passed = rates("onecycle")
    top = passed.index(max(passed))
    assert 3 <= top <= 6
    assert max(passed) == pytest.approx(1.0, rel=0.01)
    assert passed[0] < 0.1
    assert passed[-1] < 0.05


# ---------------------------------------------------------------------------------- loop


@pytest.fixture
def task():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 4))
    labels = torch.from_numpy((X[:, 0] > 0).astype(np.int64))
    torch.manual_seed(0)
    network = build_network(
        "mlp", (4,), 2, mean=torch.zeros(4), scale=torch.ones(4), dtype=torch.float64
    )
    return network, Samples(X, None, CPU, torch.float64), labels


def run(task, rows=None, epochs=8, learning_rate=0.05):
    network, samples, labels = task
    rows = torch.arange(len(samples)) if rows is None else rows
    training = Training(
        network,
        samples,
        labels,
        batches=ShuffledRows(rows, 16),
        epochs=epochs,
        objective=CrossEntropy(),
        recipe=Recipe(learning_rate=learning_rate),
        generator=seeded(),
    )
    return (training.run_epoch() for _ in range(epochs))


def test_training_learns_and_records(task):
    records = list(run(task))
    assert len(records) == 8
    assert records[-1].objective < 0.5 * records[0].objective
    assert records[-1].accuracy > 0.9
    network, samples, labels = task
    assert (compute_logits(network, samples).argmax(1) == labels).double().mean() > 0.95


def test_first_losses_are_those_of_the_untrained_network(task):
    network, samples, labels = task
    before = compute_losses(network, samples, labels)
    # Without a step between, what training records is what a pass of its own would give.
    record = next(run(task, learning_rate=1e-12))
    torch.testing.assert_close(record.losses, before)
    assert record.objective == pytest.approx(before.mean().item(), rel=1e-9)


def test_rows_that_no_step_used_have_no_loss(task):
    record = next(run(task, rows=torch.arange(10)))
    assert torch.isfinite(record.losses[:10]).all()
    assert torch.isnan(record.losses[10:]).all()


def test_a_diverging_run_says_so(task):
    with pytest.raises(FloatingPointError, match="learning_rate"):
        list(run(task, learning_rate=1e200))


def test_training_draws_nothing_from_the_global_generators(task):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    list(run(task, epochs=2))
    assert torch.equal(torch.rand(3), wanted)

"""Tables of attacks and defences: cells, rows, what is kept and what is printed."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin

from antibackdoor.attacks import BadNets
from antibackdoor.benchmark import (
    DEFENSES,
    PRESETS,
    Cell,
    Grid,
    all_cells,
    estimate_seconds,
    make_table,
    on_datasets,
    plot_tradeoff,
    run_benchmark,
    run_cell,
    summarise,
    write_tables,
)
from antibackdoor.benchmark._defenses import make_defense
from antibackdoor.benchmark._run import load_data
from antibackdoor.benchmark._store import Store
from antibackdoor.benchmark._variants import Variant
from antibackdoor.training import count_passes
from antibackdoor.utils import write_whole

#: Not what was measured, but how long it took and where.
CIRCUMSTANCES = ("seconds", "commit", "machine", "versions", "traceback")


def quick(**changes):
    settings = {"dataset": "digits", "attack": "badnets", "poison_rate": 0.1}
    settings |= {"defense": "undefended", "n_train": 300, "schedule": 0.05}
    return Cell(**{**settings, **changes})


def figures(row):
    return {name: value for name, value in row.items() if name not in CIRCUMSTANCES}


class Constant(ClassifierMixin, BaseEstimator):
    """A defence of a user's own: knows nothing of this package, and says one label."""

    def __init__(self, label=0, epochs=4, backbone=None, random_state=None, device=None):
        self.label = label
        self.epochs = epochs
        self.backbone = backbone
        self.random_state = random_state
        self.device = device

    def fit(self, X, y):
        if self.label not in y:
            raise ValueError(f"label={self.label} is not in y")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.label)


class Fanning(Constant):
    """A defence that asks joblib for more, and between draws from torch's generator."""

    def fit(self, X, y):
        torch.manual_seed(self.random_state)
        drawn = [float(torch.rand(()))]
        for _ in range(5):
            Parallel(n_jobs=2)(delayed(time.sleep)(0.02) for _ in range(4))
            drawn.append(float(torch.rand(())))
        self.isolate_mask_ = np.arange(len(y)) < 100 * np.mean(drawn)
        return super().fit(X, y)


CONSTANT = f"{__name__}.Constant"
FANNING = f"{__name__}.Fanning"


# Variants


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("abl", "abl", {}),
        ("adaptive-blend()", "adaptive-blend", {}),
        (" abl(epochs=3, augment='crop') ", "abl", {"epochs": 3, "augment": "crop"}),
        ("a.b.C(x=(1, 2))", "a.b.C", {"x": (1, 2)}),
    ],
)
def test_variant(text, name, params):
    variant = Variant.parse(text)
    assert (variant.name, variant.params) == (name, params)
    assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize(
    "text", ["", "abl(", "abl(0.3)", "abl(gamma=print())", "abl(**{'gamma': 1})", "a b", "abl)("]
)
def test_variant_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="wanted a name"):
        Variant.parse(text)


def test_a_variant_runs_no_code(tmp_path):
    with pytest.raises(ValueError, match="wanted a name"):
        Variant.parse(f"abl(gamma=open({str(tmp_path / 'made')!r}, 'w'))")
    assert not (tmp_path / "made").exists()


# Cells and grids


def test_one_spelling_is_one_cell():
    assert quick(defense="abl( gamma=0.30 )") == quick(defense="abl(gamma=0.3)")
    assert quick(defense="abl(gamma=0.3)").key != quick(defense="abl").key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "bandits"}, "attack='bandits'"),
        ({"defense": "hope"}, "defense='hope'"),
        ({"defense": "no_such_module.Hope"}, "cannot be imported"),
        ({"defense": "antibackdoor.Hope"}, "cannot be imported"),
        ({"poison_rate": 0.0}, "poison_rate=0.0"),
        ({"poison_rate": 1.0}, "poison_rate=1.0"),
        ({"poison_rate": float("nan")}, "poison_rate=nan"),
        ({"attack": "none"}, "0 for 'none'"),
        ({"schedule": 0}, "schedule=0"),
        ({"n_train": 1}, "n_train=1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_cells_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        quick(**changes)


def test_a_rate_is_a_number():
    with pytest.raises(TypeError, match="poison_rate='0.1'"):
        quick(poison_rate="0.1")


def test_grid():
    grid = Grid(("digits",), ("none", "badnets", "sig"), ("abl", "cbd"), poison_rates=(0.05, 0.2))
    cells = grid.cells()
    rates = {(cell.attack, cell.poison_rate) for cell in cells}
    # No attack has no rate, and one that keeps its labels has its own.
    assert rates == {("none", 0.0), ("badnets", 0.05), ("badnets", 0.2), ("sig", 0.05)}
    assert len(cells) == len(set(cells)) == 8
    assert all_cells([grid, grid]) == cells
    assert {cell.seed for cell in grid.changed(seeds=(3,), n_train=None).cells()} == {3}


def test_a_data_set_keeps_the_settings_of_its_own_grid():
    first = Grid(("cifar10",), ("sig",), ("abl",))
    second = Grid(("gtsrb",), ("sig",), ("abl",), clean_label_rate=0.0025)
    assert on_datasets([first, second], ["cifar10"]) == [first]
    assert on_datasets([first, second], ["gtsrb"]) == [second]
    # One that no grid knows takes the settings of the first.
    mine = first.changed(datasets=("cifar10", "mine.npz"))
    assert on_datasets([first, second], ["cifar10", "mine.npz", "gtsrb"]) == [mine, second]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_what_there_is(name):
    cells = all_cells(PRESETS[name].grids)
    assert len(cells) >= 6
    for defense in {cell.defense for cell in cells}:
        make_defense(defense, backbone="wrn-16-1", seed=0, schedule=0.1, device="cpu")


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_has_a_schedule(name):
    long, short = (
        count_passes(
            make_defense(name, backbone="auto", seed=0, schedule=share, device="cpu")._passes(1000)
        )
        for share in (1.0, 0.1)
    )
    assert 0.05 * long < short < 0.3 * long


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_is_made_anew_each_time(name):
    made = {"backbone": "auto", "seed": 0, "schedule": 0.5, "device": "cpu"}
    one, other = make_defense(name, **made), make_defense(name, **made)
    assert repr(one) == repr(other)
    nested = [value for value in vars(one).values() if hasattr(value, "set_params")]
    assert not {*map(id, nested)} & {*map(id, vars(other).values())}


def test_schedule_leaves_what_was_said():
    settings = {"backbone": "auto", "seed": 3, "device": "cpu"}
    clf = make_defense("abl-paper(detector__epochs=7)", schedule=0.5, **settings)
    assert clf.detector.epochs == 7
    assert clf.epochs == 40
    assert clf.lr_schedule == (20, 30)
    assert clf.random_state == 3
    with pytest.raises(ValueError, match="gama"):
        make_defense("abl(gama=0.5)", schedule=1, **settings)


# One cell


def test_row():
    row = run_cell(quick(defense="abl(detector__false_alarm_rate=0.1)"))
    assert row["error"] is None
    assert row["n_poisoned"] == 30
    for measure in ("ca", "asr", "asr_without_trigger", "r_acc", "target_recall", "tpr", "fpr"):
        assert 0 <= row[measure] <= 1
    assert row["machine"]["threads"] == 1
    assert json.loads(json.dumps(row)) == row


def test_figures_of_a_row():
    """Against a classifier that says what is known beforehand."""
    row = run_cell(quick(defense=f"{CONSTANT}(label=0)", seed=5))
    data = load_data(quick())
    zeros = (data.y_test == 0).mean()
    assert row["ca"] == pytest.approx(zeros)
    assert row["asr"] == row["asr_without_trigger"] == row["target_recall"] == 1
    assert row["r_acc"] == 0
    assert row["tpr"] is None
    assert "n_isolated" not in row


def test_a_linewithout_attack():
    row = run_cell(quick(attack="none", poison_rate=0.0))
    assert row["error"] is None
    assert row["asr"] is row["tpr"] is row["r_acc"] is None
    assert row["fpr"] is None  # plain training looks for nothing
    assert row["ca"] > 0


def test_the_same_cell_gives_the_same_figures():
    assert figures(run_cell(quick())) == figures(run_cell(quick()))
    assert figures(run_cell(quick())) != figures(run_cell(quick(seed=1)))


def test_clean_rows_are_told_to_those_who_ask(monkeypatch):
    told = {}
    says = Constant.fit

    def fit(self, X, y, clean_mask=None):
        told.update(X=X, mask=clean_mask)
        return says(self, X, y)

    monkeypatch.setattr(Constant, "fit", fit)
    row = run_cell(quick(defense=CONSTANT, attack="wanet"))
    assert row["error"] is None, row
    clean = load_data(quick()).X_train
    assert np.bincount(load_data(quick()).y_train[told["mask"]]).tolist() == [1] * 10
    np.testing.assert_array_equal(told["X"][told["mask"]], clean[told["mask"]])
    assert (told["X"] != clean).any()


def test_an_error_is_a_row():
    row = run_cell(quick(defense=f"{CONSTANT}(label=77)"))
    assert row["error"] == "ValueError: label=77 is not in y"
    assert "in fit" in row["traceback"]
    assert row["ca"] is None


def test_threads_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_cell(quick(defense=CONSTANT), threads=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_rows_of_a_part_are_drawn_class_by_class():
    data = load_data(quick(n_train=100))
    assert np.bincount(data.y_train).min() >= 9
    with pytest.raises(ValueError, match="n_train=5"):
        load_data(quick(n_train=5))
    with pytest.raises(ValueError, match="n_train=100000"):
        load_data(quick(n_train=100_000))


# Many cells


def test_finished_cells_do_not_run_again(tmp_path, monkeypatch):
    cells = [quick(defense=CONSTANT, seed=seed) for seed in range(3)]
    first = run_benchmark(cells[:2], tmp_path)
    done = []
    rows = run_benchmark(cells, tmp_path, on_row=lambda *told: done.append(told[:2]))
    assert done == [(3, 3)]
    assert rows[:2] == first
    assert [row["seed"] for row in rows] == [0, 1, 2]


def test_a_failing_cell_is_tried_again_and_stops_no_other(tmp_path):
    cells = [quick(defense=f"{CONSTANT}(label={label})") for label in (77, 1)]
    for _ in range(2):
        done = []
        rows = run_benchmark(cells, tmp_path, on_row=lambda *told, to=done: to.append(told[2]))
        assert [row["error"] is None for row in rows] == [False, True]
        # The second time, the failed one alone.
        assert cells[0].defense in [row["defense"] for row in done]
    assert len(done) == 1


def test_a_damaged_file_is_said_and_runs_again(tmp_path):
    cell = quick(defense=CONSTANT)
    (before,) = run_benchmark([cell], tmp_path)
    (path,) = (tmp_path / "cells").glob("*.json")
    for damage in ('{"ca": ', "[]", json.dumps({**before, "seed": 9})):
        path.write_text(damage)
        with pytest.warns(UserWarning, match=path.name):
            (row,) = run_benchmark([cell], tmp_path)
        assert figures(row) == figures(before)


def test_nothing_is_half_written(tmp_path, monkeypatch):
    path = tmp_path / "row.json"
    write_whole(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    (tmp_path / "cells" / "x.json.1.part").write_text("{")
    store.prepare()
    assert list((tmp_path / "cells").iterdir()) == []


def test_unusable_data_stop_before_the_first_cell(tmp_path):
    np.savez(tmp_path / "bad.npz", X=np.zeros(3))
    cells = [quick(defense=CONSTANT), quick(dataset=str(tmp_path / "bad.npz"))]
    with pytest.raises(ValueError, match=r"bad\.npz"):
        run_benchmark(cells, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_file_of_the_same_name_is_another_cell(tmp_path):
    path = tmp_path / "own.npz"
    cell = quick(dataset=str(path), defense=CONSTANT, n_train=None)
    found = []
    for n_classes in (3, 5):
        X = np.random.RandomState(0).randint(0, 256, (60, 8, 8), dtype=np.uint8)
        np.savez(path, X=X, y=np.arange(60) % n_classes)
        (row,) = run_benchmark([cell], tmp_path / "out")
        assert row["error"] is None, row
        found.append((cell.key, row["ca"]))
    (key, ca), (other_key, other_ca) = found
    assert key != other_key
    assert (ca, other_ca) == (pytest.approx(1 / 3), pytest.approx(1 / 5))


def test_another_folder_of_images_runs_again(tmp_path, monkeypatch):
    data = load_data(quick())
    monkeypatch.setattr("antibackdoor.benchmark._run.load_dataset", lambda *_, **__: data)
    cell = quick(dataset="imagefolder", defense=CONSTANT)
    done = []
    for root in ("a", "b", "b"):
        run_benchmark(
            [cell], tmp_path, data_root=root, on_row=lambda *_, root=root: done.append(root)
        )
    assert done == ["a", "b"]


def test_threads_of_one_process_give_the_same_rows(tmp_path):
    cells = [quick(seed=seed, schedule=0.01) for seed in range(3)]
    serial = run_benchmark(cells, tmp_path / "serial")
    with parallel_config(backend="threading"):
        rows = run_benchmark(cells, tmp_path / "threads", n_jobs=3)
    assert [figures(row) for row in rows] == [figures(row) for row in serial]


@pytest.mark.slow
# Dask's own: its event loops end noisily now and then, and its ports may be taken.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Port:UserWarning")
def test_a_dask_cluster_gives_the_same_rows(tmp_path):
    distributed = pytest.importorskip("distributed")
    # More cells than workers, and cells that ask joblib for something themselves.
    cells = [quick(seed=seed, defense=f"{FANNING}(label=1)") for seed in range(4)]
    serial = run_benchmark(cells, tmp_path / "serial")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        parallel_config(backend="dask"),
    ):
        rows = run_benchmark(cells, tmp_path / "dask", n_jobs=-1)
    assert [figures(row) for row in rows] == [figures(row) for row in serial]


def test_attacks_that_train_do_so_once(tmp_path, monkeypatch):
    from antibackdoor.attacks import Trojan

    fits = []
    fit = Trojan.fit
    monkeypatch.setattr(Trojan, "fit", lambda self, *data: (fits.append(1), fit(self, *data))[1])
    trojan = "trojan(surrogate_epochs=1, steps=2)"
    cells = [quick(attack=trojan, defense=f"{CONSTANT}(label={label})") for label in (0, 1)]
    rows = run_benchmark(cells, tmp_path)
    assert [row["error"] for row in rows] == [None, None]
    assert len(fits) == 1


# Tables


def row(attack="badnets", defense="abl", ca=0.9, asr=0.1, seed=0, **more):
    settings = {"dataset": "digits", "backbone": "auto", "n_train": None, "schedule": 1.0}
    settings |= {"settings": "", "source": "digits", "device": "cpu"}
    settings |= {"commit": None, "versions": {"antibackdoor": "0.1"}, "machine": {}}
    rate = 0.0 if attack == "none" else 0.1
    measures = dict.fromkeys(("asr_without_trigger", "r_acc", "target_recall", "tpr", "fpr"))
    return {
        **settings,
        **measures,
        **{"attack": attack, "defense": defense, "poison_rate": rate, "seed": seed},
        **{"ca": ca, "asr": asr, "precision": None, "error": None},
        **more,
    }


ROWS = [
    row("none", "undefended", ca=0.95, asr=None),
    row("none", "abl", ca=0.94, asr=None),
    row("badnets", "undefended", ca=0.9, asr=1.0),
    row("badnets", "undefended", ca=0.8, asr=0.9, seed=1),
    row("badnets", "abl", ca=0.7, asr=0.01),
    row("badnets", "abl", error="ValueError: no", ca=None, asr=None, seed=1),
]


def test_table():
    table = make_table(summarise(ROWS))
    assert list(table.columns) == [
        ("undefended", "CA"),
        ("undefended", "ASR"),
        ("abl", "CA"),
        ("abl", "ASR"),
    ]
    assert table.index.names == ["attack", "poison_rate"]
    # Standard deviation of 0.8 and 0.9, of a sample.
    assert table.loc[("badnets", "10%")].tolist() == ["85.0 ± 7.1", "95.0 ± 7.1", "70.0", "1.0"]
    assert table.loc[("none", "")].tolist() == ["95.0", "", "94.0", ""]


def test_a_table_of_nothing():
    with pytest.raises(ValueError, match="no measured cell"):
        summarise(ROWS[-1:])


def test_settings_of_every_defence():
    cell = quick(settings="learning_rate=0.02,batch_size=16")
    # Another spelling of the same is the same cell.
    assert cell == quick(settings="batch_size=16, learning_rate=0.02")
    assert cell.key != quick().key
    made = {"backbone": "auto", "seed": 0, "schedule": 1.0, "device": "cpu"}
    clf = make_defense("abl(batch_size=8)", **made, settings={"batch_size": 16, "momentum": 0.5})
    assert (clf.batch_size, clf.momentum) == (8, 0.5)
    with pytest.raises(ValueError, match="epsilon"):
        make_defense("abl", **made, settings={"epsilon": 1})
    with pytest.raises(ValueError, match="parameter=value"):
        quick(settings="batch_size")


def test_tables_of_two_schedules_are_two_tables():
    with pytest.raises(ValueError, match="schedule"):
        make_table(summarise([*ROWS, row("badnets", "abl", schedule=0.5)]))


def test_written_tables(tmp_path):
    paths = write_tables(ROWS, tmp_path)
    assert [path.name for path in paths] == ["rows.jsonl", "table.csv", "table.md", "table.tex"]
    assert [json.loads(line) for line in paths[0].read_text().splitlines()] == ROWS
    assert len(paths[1].read_text().splitlines()) == 5
    markdown, latex = paths[2].read_text(), paths[3].read_text()
    assert "| badnets" in markdown
    assert "85.0 ± 7.1" in markdown
    assert r"85.0 $\pm$ 7.1" in latex
    assert r"10\%" in latex
    assert r"poison\_rate" in latex


def test_plot(tmp_path):
    ax = plot_tradeoff(summarise(ROWS))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["undefended", "abl"]
    ax.get_figure(root=True).savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5_000


def test_estimate():
    cells = [quick(), quick(schedule=0.5), quick(n_train=150)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third, all_of_it, half = estimate_seconds(cells)
    assert all_of_it == pytest.approx(12 * third)  # 12 epochs and 1
    assert half == pytest.approx(third / 2)


def test_an_attack_of_ones_own():
    path = f"{BadNets.__module__}.BadNets"
    rows = [figures(run_cell(quick(attack=name, defense=CONSTANT))) for name in (path, "badnets")]
    for line in rows:
        del line["attack"]
    assert rows[0] == rows[1]

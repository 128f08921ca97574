"""Which scores tell the poison from its class: all that were compared, on one network.

    python benchmarks/scores.py --data-root ../shared/data --cache build/attacks
    python benchmarks/scores.py --table

The first network of `PoisonSearch` at its defaults, `wrn-16-1`, the first 5,000 images of CIFAR-10,
a tenth of them poisoned (clean-label attacks: half of the target class). Each score is a function
of what that network leaves and gives every row a number, higher where it is more suspect; printed
is the area under the curve among the rows that bear the target label. `cbd_weight` alone asks a fit
of its own. A finished attack is a line of JSON in benchmarks/results/scores.jsonl.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

# Before torch is imported: it reads the number of threads once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _common import PROVENANCE, append_row, load_cifar10, provenance, resume_rows
from attacks import CLEAN_RATE, DIRTY_RATE, fitted
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from torch import nn

from antibackdoor import CBDClassifier, LossRank, PoisonSearch, make_poisoned
from antibackdoor.benchmark import RowFormat, read_rows
from antibackdoor.detection import Detection, flag_nothing
from antibackdoor.detection._activation_clustering import reduce, split_in_two
from antibackdoor.detection._losses import LOSS_SCORES
from antibackdoor.detection._parts import split_classes
from antibackdoor.detection._spectral_signatures import squared_projections
from antibackdoor.training import HeldLoss, Run, ShuffledRows

RESULTS = Path(__file__).parent / "results" / "scores.jsonl"
ROWS = RowFormat(key=itemgetter("attack"), columns=("attack", "poison_rate", "areas", *PROVENANCE))
ATTACKS = ("badnets", "trojan", "blend", "sig", "ssba", "lf", "lba", "dfst", "cl", "cba", "wanet")


@dataclass(frozen=True)
class Seen:
    """What the first network leaves.

    Attributes
    ----------
    losses : numpy.ndarray of shape (n_epochs, n_samples)
    features : numpy.ndarray of shape (n_samples, n_features)
    moved : numpy.ndarray of shape (n_samples,)
        Mean distance of the features of a row from those of its mirror image and of four copies
        moved by two pixels, as a share of their own length.
    likelihoods : numpy.ndarray of shape (n_samples, n_layers)
        Lowest log-likelihood of what enters each batch normalisation, under its running figures.
    activations : list of numpy.ndarray of shape (n_samples, n_channels)
        Largest activation of each channel of each convolution.
    labels : numpy.ndarray of shape (n_samples,)
    cbd_weights : numpy.ndarray of shape (n_samples,)
        Of a `CBDClassifier`.
    """

    losses: np.ndarray
    features: np.ndarray
    moved: np.ndarray
    likelihoods: np.ndarray
    activations: list[np.ndarray]
    labels: np.ndarray
    cbd_weights: np.ndarray


def early(seen: Seen) -> np.ndarray:
    """High loss in the first two epochs: a label that is wrong but for the trigger."""
    return -LOSS_SCORES["trajectory"](seen.losses[:2])


def learning_order(seen: Seen) -> np.ndarray:
    """Fall of the log-loss from the first two epochs to the fifth."""
    return early(seen) + LOSS_SCORES["last_epoch"](seen.losses[:5])


def channel_gaps(seen: Seen) -> np.ndarray:
    """Activations of the channels that the likeliest poison excites, refined in rounds (PIPD)."""
    order = np.argsort(-LOSS_SCORES["trajectory"](seen.losses))
    poison = np.zeros(len(order), dtype=bool)
    clean = np.zeros(len(order), dtype=bool)
    poison[order[: len(order) // 100]] = True
    clean[order[-len(order) // 5 :]] = True
    for _ in range(5):
        score = np.zeros(len(order))
        for layer in seen.activations:
            highest = layer[clean].mean(axis=0) + 3 * layer[clean].std(axis=0)
            gaps = layer[poison].max(axis=0) - highest
            best = np.argsort(-gaps)[: max(1, round(0.04 * layer.shape[1]))]
            score += layer[:, best].sum(axis=1)
        cut = KMeans(2, n_init=10, random_state=0).fit(score[:, None]).cluster_centers_.mean()
        poison, clean = score > cut, score <= cut
    return score


def unlikely(seen: Seen) -> np.ndarray:
    """Low likelihood in batch normalisation, summed over the layers (FLARE's measure)."""
    return -seen.likelihoods.sum(axis=1)


def clustered_likelihoods(seen: Seen) -> np.ndarray:
    """Two Gaussians in each class on the likelihoods (FLARE's clusters, for every class)."""
    return _by_class(seen, seen.likelihoods, _mixture)


def spectral(seen: Seen) -> np.ndarray:
    """Squared projection of the features on the first direction of their class."""
    return _by_class(seen, seen.features, squared_projections)


def activation_clusters(seen: Seen) -> np.ndarray:
    """Two means in each class on ten whitened principal components of the features."""
    return _by_class(seen, seen.features, _two_means)


def mixture(seen: Seen) -> np.ndarray:
    """Two Gaussians in each class on ten principal components of the features."""
    return _by_class(seen, seen.features, _mixture)


def split(seen: Seen) -> np.ndarray:
    """The split of the search: that mixture, sharpened by a discriminant."""
    scores = np.zeros(len(seen.labels))
    losses = LOSS_SCORES["trajectory"](seen.losses)
    for parts in split_classes(seen.features, losses, seen.labels, seed=0):
        scores[parts.rows] = parts.probabilities
    return scores


def _mixture(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    points = PCA(min(10, values.shape[1]), random_state=0).fit_transform(values)
    model = GaussianMixture(2, n_init=5, reg_covar=1e-3, random_state=0).fit(points)
    return model.predict_proba(points)[:, 0]


def _two_means(values: np.ndarray) -> np.ndarray:
    return split_in_two(reduce(values, 10, whiten=True), seed=0).nearness


def _by_class(
    seen: Seen, values: np.ndarray, score: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    scores = np.zeros(len(seen.labels))
    for label in np.unique(seen.labels):
        rows = seen.labels == label
        scores[rows] = score(values[rows].astype(np.float64))
    return scores


#: Those that say which rows are suspect.
SIGNED: dict[str, Callable[[Seen], np.ndarray]] = {
    "last_epoch": lambda seen: LOSS_SCORES["last_epoch"](seen.losses),
    "trajectory": lambda seen: LOSS_SCORES["trajectory"](seen.losses),
    "early": early,
    "learning_order": learning_order,
    "cbd_weight": lambda seen: -seen.cbd_weights,
    "channel_gaps": channel_gaps,
    "unlikely": unlikely,
    "sensitivity": lambda seen: seen.moved,
    "spectral": spectral,
}
#: Those that say which rows are of a kind, and not which kind is suspect: the better side counts.
SPLITTING: dict[str, Callable[[Seen], np.ndarray]] = {
    "clustered_likelihoods": clustered_likelihoods,
    "activation_clusters": activation_clusters,
    "mixture": mixture,
    "split": split,
}


class FirstNetwork(PoisonSearch):
    """Keeps what the first network leaves, and searches no further."""

    def _detect(self, run: Run) -> Detection:
        network = run.new_network()
        recorded = run.phase(
            "search",
            network,
            HeldLoss(self.gamma, "batch"),
            epochs=self.epochs,
            batches=ShuffledRows(run.every_row, self._batch_size(len(run.samples))),
            keep_losses=True,
        )
        self.losses_ = torch.stack(recorded).double().cpu().numpy()
        self.left_ = _look(network.eval(), run.samples)
        self.labels_ = run.labels.cpu().numpy()
        return Detection.untested(flag_nothing(len(run.samples)))


@torch.no_grad()
def _look(network: Any, samples: Any) -> dict[str, Any]:
    likelihoods: dict[str, list[torch.Tensor]] = {}
    activations: dict[str, list[torch.Tensor]] = {}

    def entering(name: str) -> Any:
        def hook(layer: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
            mean = layer.running_mean[:, None, None]
            variance = layer.running_var[:, None, None] + layer.eps
            logs = -((inputs[0] - mean) ** 2) / (2 * variance) - variance.log() / 2
            likelihoods.setdefault(name, []).append(logs.flatten(1).amin(1))

        return hook

    def leaving(name: str) -> Any:
        def hook(layer: nn.Conv2d, inputs: Any, outputs: torch.Tensor) -> None:
            activations.setdefault(name, []).append(outputs.flatten(2).amax(2))

        return hook

    features, moved = [], []
    for inputs in samples.chunks(torch.arange(len(samples), device=samples.device)):
        hooks = []
        for name, layer in network.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                hooks.append(layer.register_forward_pre_hook(entering(name)))
            elif isinstance(layer, nn.Conv2d):
                hooks.append(layer.register_forward_hook(leaving(name)))
        own = network.features(inputs)
        for hook in hooks:
            hook.remove()
        changed = [inputs.flip(3)]
        changed += [inputs.roll(step, axis) for axis in (2, 3) for step in (-2, 2)]
        distances = [(network.features(one) - own).norm(dim=1) for one in changed]
        moved.append(torch.stack(distances).mean(0) / own.norm(dim=1))
        features.append(own)
    return {
        "features": torch.cat(features).cpu().numpy(),
        "moved": torch.cat(moved).cpu().numpy(),
        "likelihoods": np.stack(
            [torch.cat(parts).cpu().numpy() for parts in likelihoods.values()], axis=1
        ),
        "activations": [torch.cat(parts).cpu().numpy() for parts in activations.values()],
    }


def run(name: str, data_root: str, cache: Path) -> dict[str, Any]:
    """Train the first network on one attack, and ask every score."""
    origin = provenance()  # of the code that has been imported, not of what lands meanwhile
    X, _, y, _ = load_cifar10(data_root)
    attack, _ = fitted(name, X, y, cache)
    rate = CLEAN_RATE if attack.clean_label else DIRTY_RATE
    X, y, poison_mask = make_poisoned(X, y, attack=attack, poison_rate=rate, random_state=0)
    settings: dict[str, Any] = {"backbone": "wrn-16-1", "random_state": 0}
    first = FirstNetwork(**settings).fit(X, y)
    cbd = CBDClassifier(detector=LossRank(ratio=None), epochs=10, augment=None, **settings).fit(
        X, y
    )
    seen = Seen(
        losses=first.losses_,
        labels=first.labels_,
        cbd_weights=1 - cbd.isolate_scores_,
        **first.left_,
    )
    within = np.isin(y, np.unique(y[poison_mask]))
    areas = {}
    for score_name, score in {**SIGNED, **SPLITTING}.items():
        area = roc_auc_score(poison_mask[within], score(seen)[within])
        areas[score_name] = float(max(area, 1 - area) if score_name in SPLITTING else area)
    return {"attack": name, "poison_rate": rate, "areas": areas} | origin


def print_table() -> None:
    """Print the finished attacks as a Markdown table."""
    rows = {row["attack"]: row for row in read_rows(RESULTS, ROWS)}
    finished = [name for name in ATTACKS if name in rows]
    print(f"| score | {' | '.join(finished)} | mean |")
    print("|" + "---|" * (len(finished) + 2))
    for score in [*SIGNED, *SPLITTING]:
        areas = [rows[name]["areas"][score] for name in finished]
        cells = " | ".join(f"{area:.3f}" for area in [*areas, np.mean(areas)])
        print(f"| {score} | {cells} |")


def main() -> None:
    """Run the attacks that are not finished."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", default="data", help="holds cifar-10-batches-py/")
    parser.add_argument("--cache", type=Path, default=Path("build/attacks"), help="fitted attacks")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print_table()
        return
    done = {row["attack"] for row in resume_rows(RESULTS, ROWS)}
    for name in [name for name in arguments.only if name not in done]:
        row = run(name, arguments.data_root, arguments.cache)
        append_row(RESULTS, row)
        print({"attack": name} | {score: round(area, 3) for score, area in row["areas"].items()})


if __name__ == "__main__":
    main()

"""
Your own detector and cure
==========================

A fit detects, then cures. A detector has one method that matters, ``_detect``: it trains networks
in phases and returns whom it suspects. A cure has ``_train``: it trains the network that is kept.
``parameters`` makes their constructors. Validation, prediction, callbacks and the ``isolate_``
attributes come from their bases.
"""

# %%
# The detector: the loss of a network is held at 0.5, and the rows of the lowest loss are suspect.
import numpy as np
import torch

from antibackdoor import ABLClassifier, Retrain, UndefendedClassifier, make_asr_scorer
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images, make_poisoned
from antibackdoor.defenses import Cure, Cured
from antibackdoor.detection import BaseDetector, Detection, flag_most_suspect
from antibackdoor.training import CrossEntropy, HeldLoss, ShuffledRows
from antibackdoor.utils import parameters


@parameters
class LowLoss(BaseDetector):
    """Flags the rows that are fitted first.

    Parameters
    ----------
    share : float, default=0.15
        Share of the rows to flag.
    epochs : int, default=8
        Epochs of the network whose losses are looked at.
    """

    share: float = 0.15
    epochs: int = 8
    # Other defaults than those of the base.
    batch_size: int = 32
    lr_schedule: str = "constant"
    augment: str | None = None

    def _n_phases(self):
        return 1

    def _detect(self, run):
        network = run.new_network()
        held = HeldLoss(0.5, "batch")
        recorded = run.phase("look", network, held, epochs=self.epochs, keep_losses=True)
        log_losses = np.mean([epoch.log().cpu().numpy() for epoch in recorded], axis=0)
        isolation = flag_most_suspect(-log_losses, self.share)
        return Detection.untested(isolation, network=network)


# %%
# The cure: flagged rows get the label that a network gives which was trained without them.
@parameters
class Relabel(Cure):
    """Trains without the flagged rows, then on all rows with new labels for the flagged ones.

    Parameters
    ----------
    epochs : int, default=4
        Epochs with the new labels.
    """

    n_phases = 2

    epochs: int = 4

    def _train(self, run, detection, epochs):
        network = run.new_network()
        kept = ShuffledRows(run.rows(detection.trusted), run.batch_size)
        run.phase("finetune", network, CrossEntropy(), epochs=epochs, batches=kept)
        flagged = torch.as_tensor(detection.isolation.mask, device=run.device)
        with torch.no_grad():
            given = torch.cat([network.eval()(rows).argmax(1) for rows in run.samples.chunks()])
        labels = torch.where(flagged, given, run.labels)
        run.phase("relabel", network, CrossEntropy(), epochs=self.epochs, labels=labels)
        return Cured(network, detection.isolation, unlearned=bool(flagged.any()))


# %%
# Both are parameters, so that a search can set theirs: ``detector__share``, ``cure__epochs``.
X, y = load_digits_images()
attack = BadNets(target_label=0)
X_bad, y_bad, poison_mask = make_poisoned(X[:600], y[:600], attack=attack, random_state=0)
neg_asr = make_asr_scorer(attack)
for clf in (
    UndefendedClassifier(epochs=8, batch_size=32, random_state=0),
    ABLClassifier(detector=LowLoss(), cure=Retrain(), epochs=8, batch_size=32, random_state=0),
    ABLClassifier(detector=LowLoss(), cure=Relabel(), epochs=8, batch_size=32, random_state=0),
):
    clf.fit(X_bad, y_bad)
    print(
        f"{clf}: accuracy {clf.score(X[1200:], y[1200:]):.3f}, "
        f"ASR {0 - neg_asr(clf, X[1200:], y[1200:]):.3f}, "
        f"flagged {len(clf.isolate_)}, of which poison {np.sum(poison_mask[clf.isolate_])}"
    )

# %%
# A few poisoned rows that are missed are enough to teach the backdoor. What the default does
# beyond this is on the page of `ABLClassifier`.

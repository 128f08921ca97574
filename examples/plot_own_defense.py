"""
Your own defence
================

A defence is a classifier with one method that matters, ``_train``: it makes networks, trains
them in phases, and returns the one to keep and whom it suspects. Validation, prediction,
callbacks, checkpoints and the ``isolate_`` attributes come from `BaseDefense`.
"""

# %%
import numpy as np

from antibackdoor import UndefendedClassifier, make_asr_scorer, make_poisoned
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images
from antibackdoor.defenses import BaseDefense
from antibackdoor.defenses.isolation import LOSS_SCORES, flag_most_suspect
from antibackdoor.training import CrossEntropy, HeldLoss, ShuffledRows


class LowLossClassifier(BaseDefense):
    """Drops the rows that are fitted first and trains on the rest.

    Parameters
    ----------
    share : float, default=0.15
        Share of the rows to drop.
    look_epochs : int, default=8
        Epochs of the network whose losses are looked at.
    epochs : int, default=8
        Epochs of the network that is kept.
    """

    def __init__(
        self,
        *,
        share=0.15,
        look_epochs=8,
        epochs=8,
        backbone="auto",
        batch_size=32,
        learning_rate=0.1,
        lr_schedule="onecycle",
        momentum=0.9,
        weight_decay=5e-4,
        augment="auto",
        image_shape=None,
        layout="auto",
        device="auto",
        checkpoint_dir=None,
        random_state=None,
    ):
        super().__init__(
            backbone=backbone,
            batch_size=batch_size,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            momentum=momentum,
            weight_decay=weight_decay,
            augment=augment,
            image_shape=image_shape,
            layout=layout,
            device=device,
            checkpoint_dir=checkpoint_dir,
            random_state=random_state,
        )
        self.share = share
        self.look_epochs = look_epochs
        self.epochs = epochs

    def _n_phases(self):
        return 2

    def _train(self, run):
        recorded = self._run_phase(
            run,
            "look",
            run.new_network(),
            epochs=self.look_epochs,
            objective=HeldLoss("lga", 0.5, "batch"),
            recipe=self._recipe(run, schedule="constant", augmentation=None),
            keep_losses=True,
        )
        losses = [epoch.cpu().numpy() for epoch in recorded]
        isolation = flag_most_suspect(LOSS_SCORES["trajectory"](np.stack(losses)), self.share)
        network = run.new_network()
        self._run_phase(
            run,
            "train",
            network,
            epochs=self.epochs,
            objective=CrossEntropy(),
            recipe=self._recipe(run),
            batches=ShuffledRows(run.rows(~isolation.mask), self.batch_size),
        )
        return network, isolation


# %%
# Its fit is a scikit-learn fit, with all that belongs to one.
X, y = load_digits_images()
attack = BadNets(target_label=0)
X_bad, y_bad, poison_mask = make_poisoned(X[:600], y[:600], attack=attack, random_state=0)
neg_asr = make_asr_scorer(attack)
for clf in (
    UndefendedClassifier(epochs=8, batch_size=32, random_state=0),
    LowLossClassifier(random_state=0),
):
    clf.fit(X_bad, y_bad)
    print(
        f"{type(clf).__name__}: accuracy {clf.score(X[1200:], y[1200:]):.3f}, "
        f"ASR {0 - neg_asr(clf, X[1200:], y[1200:]):.3f}, "
        f"flagged {len(clf.isolate_)}, of which poison {poison_mask[clf.isolate_].sum()}"
    )

# %%
# Nearly all of the poison is dropped, and a good part of the backdoor stays: a few poisoned rows
# that are missed are enough to teach it. What `ABLClassifier` does beyond this is on its page.

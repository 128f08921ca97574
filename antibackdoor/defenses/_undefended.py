"""A classifier without a defence, as a baseline."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from antibackdoor.backbones import Network
from antibackdoor.defenses._base import BaseDefense
from antibackdoor.detection import Isolation, flag_nothing
from antibackdoor.training import CrossEntropy, Run
from antibackdoor.utils import parameters


@parameters
class UndefendedClassifier(BaseDefense):
    """Plain training without a defence, as a baseline.

    Call `fit`, then `predict`::

        clf = UndefendedClassifier().fit(X, y)
        clf.predict(X_test)  # triggered rows get the attacker's label

    It is trained as the defences are, but without the defence. It learns any backdoor in its
    data.

    Parameters
    ----------
    epochs : int, default=25
        Passes over the data.
    backbone, batch_size, optimizer, learning_rate, lr_schedule, momentum, weight_decay, augment
    image_shape, layout, device, compile, cache_dir, random_state

    Attributes
    ----------
    classes_, module_
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Empty: this method flags no rows.
    isolate_classes_ : numpy.ndarray of shape (0,)
        Labels of the flagged rows, of which there are none.
    isolate_mask_
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Zeros.
    isolate_threshold_, history_, n_features_in_, input_shape_

    See Also
    --------
    ABLClassifier : Isolates poison by its low loss and unlearns it.
    CBDClassifier : Trains a network to differ from a backdoored one.

    Examples
    --------
    >>> from antibackdoor import UndefendedClassifier
    >>> from antibackdoor.datasets import load_digits_images
    >>> X, y = load_digits_images()
    >>> clf = UndefendedClassifier(epochs=3, random_state=0).fit(X[:500], y[:500])
    >>> clf.isolate_
    array([], dtype=int64)
    """

    epochs: int = 25

    flags_rows = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def _n_phases(self) -> int:
        return 1

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        network = run.new_network()
        run.phase("train", network, CrossEntropy(), epochs=self.epochs)
        return network, flag_nothing(len(run.samples))

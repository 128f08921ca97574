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
    backbone : str, torch.nn.Module or callable, default="auto"
        Network to train. Names: ``"mlp"``, ``"small-cnn"``, ``"wrn-16-1"`` or any
        ``"wrn-D-K"``, ``"preact-resnet18"``, any classifier of `torchvision.models`, and
        ``"auto"``, which chooses by the shape of `X`. A module is copied, and the copy is
        trained further. A callable takes the shape of a sample, channels first, and the number
        of classes, and returns a module. The last layer of a module must be the
        `torch.nn.Linear` that gives the logits.
    batch_size : int or "auto", default="auto"
        Samples per training step. ``"auto"``: a 160th of the rows, from 32 to 128.
    optimizer : {"muon", "sgd"}, default="muon"
        ``"sgd"``: stochastic gradient descent. ``"muon"``: the same, but convolutions step along
        the polar factor of their momentum, which takes fewer epochs. Networks without
        convolutions train alike with both.
    learning_rate : float, default=0.1
        Highest rate of the schedule.
    lr_schedule : {"onecycle", "cosine", "constant"} or array-like of int, \
            default="onecycle"
        How the rate changes over the epochs. Integers are the epochs from
        which it is divided by ten once more.
    momentum : float, default=0.9
        Nesterov momentum.
    weight_decay : float, default=5e-4
        Factor of the squared norm of the weights (L2 penalty).
    augment : "auto", None or array-like of {"crop", "flip", "cutout"}, default="auto"
        Random changes of the images during training. ``"auto"``: ``"crop"`` for images of 16
        pixels and more, ``"flip"`` for colour images.
    image_shape : tuple of int, default=None
        Shape of the image in each row of a 2-D `X`: (H, W), (H, W, C) or (C, H, W).
        None: a 2-D `X` is a table.
    layout : {"auto", "channels_first", "channels_last"}, default="auto"
        Position of the channel axis of images. ``"auto"`` infers it from the shape, and raises
        a ValueError where the shape is ambiguous.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA if available, else the CPU.
    compile : {"auto", True, False}, default="auto"
        Whether to train through `torch.compile`. ``"auto"``: on CUDA only. If compiling fails,
        the fit warns once (RuntimeWarning) and continues without it.
    cache_dir : str or path, default=None
        Folder in which every phase of the training is saved, epoch by epoch. It is created if
        missing. A fit that was killed resumes from it. Fits that begin alike, such as those of a
        grid search, train their common phases once. The result is the same as without it, and
        fits may run in parallel. Requires the extra ``[persist]``.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, the order of the samples and the augmentation.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
        Labels, sorted.
    module_ : torch.nn.Module
        The trained network. It takes float inputs, images as (n, C, H, W), and
        gives logits.
    isolate_ : numpy.ndarray of shape (n_isolated,), int64
        Empty: this method flags no rows.
    isolate_classes_ : numpy.ndarray of shape (0,)
        Labels of the flagged rows, of which there are none.
    isolate_mask_ : numpy.ndarray of shape (n_samples,), bool
        The same, as a mask.
    isolate_scores_ : numpy.ndarray of shape (n_samples,), float64
        Zeros.
    isolate_threshold_ : float
        Rows with a score above it are flagged.
    history_ : list of dict
        One entry an epoch: phase, epoch, objective (value minimised), loss (mean
        cross-entropy, nats), accuracy (on the training labels), learning_rate, seconds.
    n_features_in_ : int
        ``X.shape[1]``.
    input_shape_ : tuple of int
        Shape of one row of `X`.

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
        **BaseDefense._parameter_constraints,
        "epochs": [Interval(Integral, 1, None, closed="left")],
    }

    def _n_phases(self) -> int:
        return 1

    def _train(self, run: Run) -> tuple[Network, Isolation]:
        network = run.new_network()
        run.phase("train", network, CrossEntropy(), epochs=self.epochs)
        return network, flag_nothing(len(run.samples))

"""The sample weights of CBD, as a parameter of the classifier."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Literal

from sklearn.utils._param_validation import Interval, StrOptions

from antibackdoor.utils import CheckedParameters, parameters


@parameters
class RelativeLoss(CheckedParameters):
    """Sample weights of CBD: rows that a backdoored network fits too well count little.

    Give it to the classifier::

        clf = CBDClassifier(weighting=RelativeLoss(rejection=0.25)).fit(X, y)

    The weight is ``w = l(f_B) / (l(f_B) + l(f_C))``, equation 5 of the paper, with the losses of
    the backdoored network f_B and of the network f_C that is being trained.

    Parameters
    ----------
    compare : {"trajectory", "last"}, default="trajectory"
        Which losses are compared. ``"trajectory"``: geometric means of the losses seen in
        training, of f_B after the first quarter of its epochs and of f_C so far. ``"last"``, as
        in the paper: the loss under the trained f_B and that of f_C in the current step.
    rejection : float, default=0.0
        Rows whose weight is below this share of the median weight are rejected; 0, as in the
        paper: none. It applies to ``"trajectory"``, after the first quarter of the epochs of
        f_C. Rejected rows then have weight 0 and all others weight 1. If the detector lists no
        rows, the rejected rows are flagged at the end.

    References
    ----------
    Zhang, Liu, Wang, Lu & Hu, Backdoor Defense via Deconfounded Representation
    Learning, CVPR 2023, equation 5.

    Examples
    --------
    >>> from antibackdoor import CBDClassifier, LossRank, RelativeLoss
    >>> clf = CBDClassifier(detector=LossRank(ratio=None), weighting=RelativeLoss(rejection=0.25))
    """

    compare: Literal["trajectory", "last"] = "trajectory"
    rejection: float = 0.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "compare": [StrOptions({"trajectory", "last"})],
        "rejection": [Interval(Real, 0, 1, closed="left")],
    }

"""Constructors that `parameters` makes, and those that users write."""

import inspect
import re
from collections.abc import Sequence
from dataclasses import field, is_dataclass
from numbers import Real
from typing import ClassVar, Literal, get_type_hints

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import Interval

from antibackdoor import (
    ABLClassifier,
    LossRank,
    Mixed,
    PoisonSearch,
    UndefendedClassifier,
    attacks,
    defenses,
    detection,
)
from antibackdoor.attacks import SIG
from antibackdoor.detection import BaseDetector, Detection, flag_most_suspect
from antibackdoor.utils import parameters

LABELS = np.arange(40) % 4
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8)


@parameters
class Brightest(BaseDetector):
    share: float = 0.1
    batch_size: int = 16

    def _n_phases(self):
        return 0

    def _detect(self, run):
        return Detection.untested(flag_most_suspect(run.X.mean((1, 2)), self.share))


class Written(Brightest):
    """Has a constructor as scikit-learn's estimators have theirs."""

    def __init__(self, *, share=0.2, layout="auto", random_state=None):
        super().__init__(share=share, layout=layout, random_state=random_state)


#: All that users construct with `@parameters`.
PUBLIC = [
    kind
    for part in (attacks, defenses, detection)
    for name in part.__all__
    if is_dataclass(kind := getattr(part, name)) and issubclass(kind, BaseEstimator)
    if not name.startswith(("Base", "Learned"))
]


def names(kind):
    return list(inspect.signature(kind).parameters)


def test_those_of_the_class_come_first():
    assert names(ABLClassifier)[:4] == ["cure", "epochs", "detector", "batch_size"]
    assert names(ABLClassifier)[-1] == "random_state"
    assert all(
        parameter.kind is parameter.KEYWORD_ONLY
        for parameter in inspect.signature(ABLClassifier).parameters.values()
    )


def test_a_class_may_have_another_default_and_leave_a_parameter_out():
    assert UndefendedClassifier().lr_schedule == "onecycle"
    assert LossRank().lr_schedule == "constant"
    assert "lr_schedule" not in names(PoisonSearch)
    assert "label_map" not in names(SIG)
    with pytest.raises(TypeError, match="lr_schedule"):
        PoisonSearch(lr_schedule="constant")
    with pytest.raises(TypeError, match="epoch"):
        ABLClassifier(epoch=3)


@pytest.mark.parametrize(("kind", "n_flagged"), [(Brightest, 4), (Written, 8)])
def test_a_detector_of_ones_own(kind, n_flagged):
    detector = clone(kind(random_state=0)).fit(IMAGES, LABELS)
    assert len(detector.isolate_) == n_flagged
    assert detector.batch_size == 16
    assert len(clone(detector).set_params(share=0.5).fit(IMAGES, LABELS).isolate_) == 20
    classifier = ABLClassifier(
        detector=kind(), epochs=1, backbone="small-cnn", batch_size=20, random_state=0
    )
    assert len(classifier.fit(IMAGES, LABELS).isolate_) >= n_flagged


def test_constraints_of_the_bases_hold():
    @parameters
    class Narrow(Brightest):
        limit: float = 0.5

        _parameter_constraints = {"limit": [Interval(Real, 0, 1, closed="both")]}

    for name, value in {"limit": 2.0, "batch_size": 1, "layout": "sideways"}.items():
        with pytest.raises(ValueError, match=f"'{name}' parameter of Narrow"):
            Narrow(**{name: value}).fit(IMAGES, LABELS)


def test_what_fit_sets_is_no_parameter():
    @parameters
    class Fitted(BaseEstimator):
        epochs: int = 3
        history_: list = field(init=False)

    assert Fitted().get_params() == {"epochs": 3}
    assert not hasattr(Fitted(), "history_")


def test_a_default_without_a_type_is_refused():
    with pytest.raises(TypeError, match="Later.epochs has no type; wanted epochs: type = default"):

        @parameters
        class Later(UndefendedClassifier):
            epochs = 5


def test_a_class_with_a_constructor_is_refused():
    with pytest.raises(TypeError, match="Both has a constructor; wanted none"):

        @parameters
        class Both(UndefendedClassifier):
            def __init__(self, *, epochs=5):
                super().__init__(epochs=epochs)


def test_a_parameter_without_a_default_is_refused():
    with pytest.raises(TypeError, match=r"Open.strength has no default; wanted one, or field"):

        @parameters
        class Open(BaseEstimator):
            strength: float


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("strength", {"strength": 1.0, "__annotations__": {"strength": float}}),
        ("share", {"share": 0.3}),
        ("__init__", {"__init__": lambda self, *, share=0.3: None}),
    ],
)
def test_a_class_between_that_would_be_ignored_is_refused(name, written):
    between = type("Between", (Brightest,), {**written, "__module__": __name__})
    with pytest.raises(TypeError, match=rf"Between has no @parameters, and its {name} would be"):

        @parameters
        class Last(between):
            level: int = 3


def test_parameters_of_a_mixin_that_would_be_ignored_are_refused():
    class Strength:
        strength: float = 1.0

    with pytest.raises(TypeError, match="Strength has no @parameters, and its strength would be"):

        @parameters
        class Both(Strength, Brightest):
            level: int = 3


def test_a_class_between_that_lists_nothing_is_none_to_refuse():
    class Between(Brightest):
        kind: ClassVar[str] = "between"
        found_: int

        def _n_phases(self):
            return 1

    @parameters
    class Last(Between):
        level: int = 3

    assert Last(level=4, share=0.2).get_params()["share"] == 0.2


@pytest.mark.parametrize("kind", [ABLClassifier, LossRank, PoisonSearch, SIG, Mixed, Brightest])
def test_the_types_of_a_constructor_are_known(kind):
    hints = get_type_hints(kind.__init__)
    assert set(names(kind)) <= set(hints)
    assert not [name for name, hint in hints.items() if isinstance(hint, str)]


def test_the_type_is_that_of_the_class_that_lists_it_last():
    assert get_type_hints(LossRank.__init__)["augment"] == str | Sequence[str] | None
    assert get_type_hints(ABLClassifier.__init__)["batch_size"] == int | Literal["auto"]


def test_what_is_only_listed_is_described_as_the_bases_do():
    @parameters
    class First(BaseEstimator):
        """First.

        Parameters
        ----------
        epochs : int, default=3
            Passes over the data.

            Two paragraphs.
        rate : float, default=0.1
            A rate.
        """

        epochs: int = 3
        rate: float = 0.1

    @parameters
    class Second(First):
        """Second.

        Parameters
        ----------
        share : float, default=0.5
            A share.
        rate, epochs

        Notes
        -----
        rate, epochs
        """

        share: float = 0.5

    @parameters
    class Third(Second):
        """Third.

        Parameters
        ----------
        share, epochs
        unknown
        """

    share = "share : float, default=0.5\n    A share.\n"
    rate = "rate : float, default=0.1\n    A rate.\n"
    epochs = "epochs : int, default=3\n    Passes over the data.\n\n    Two paragraphs.\n"
    head = "Parameters\n----------\n"
    notes = "\nNotes\n-----\nrate, epochs"
    assert Second.__doc__ == f"Second.\n\n{head}{share}{rate}{epochs}{notes}"
    assert Third.__doc__ == f"Third.\n\n{head}{share}{epochs}unknown"


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_parameter_is_described(kind):
    for name in names(kind):
        assert re.search(rf"^{name} : .+\n    ", kind.__doc__, re.MULTILINE), name


def test_an_estimator_that_all_would_share_is_refused():
    with pytest.raises(TypeError, match=r"Shared.detector is .*, which all would share"):

        @parameters
        class Shared(BaseEstimator):
            detector: object = Brightest()


def test_verbose_may_be_a_parameter_of_ones_own():
    @parameters
    class Verbose(UndefendedClassifier):
        verbose: bool = False

    assert clone(Verbose(verbose=True)).verbose

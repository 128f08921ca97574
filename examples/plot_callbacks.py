"""
Callbacks and progress
======================

scikit-learn's callbacks watch a fit: a progress bar, a score after every epoch, and anything of
your own. Phases and epochs are the tasks that they are told of.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.callback import ProgressBar, ScoringMonitor

from antibackdoor import (
    ABLClassifier,
    HistoryDisplay,
    LossRecorder,
    PoisonSearch,
    UndefendedClassifier,
    make_asr_scorer,
    make_poisoned,
)
from antibackdoor.attacks import BadNets
from antibackdoor.datasets import load_digits_images

X, y = load_digits_images()
X_train, y_train, X_test, y_test = X[:500], y[:500], X[1400:], y[1400:]
attack = BadNets(target_label=0).fit(X_train, y_train)
X_bad, y_bad, poison_mask = make_poisoned(X_train, y_train, attack=attack, random_state=0)

# %%
# A monitor hands the training rows to its scorers. These look at rows of their own: clean ones,
# and the same with the trigger.
neg_asr = make_asr_scorer(attack)
monitor = ScoringMonitor(
    scoring={
        "clean accuracy": lambda clf, X, y: clf.score(X_test, y_test),
        "neg_ASR": lambda clf, X, y: neg_asr(clf, X_test, y_test),
    }
)
recorder = LossRecorder()
clf = ABLClassifier(detector=PoisonSearch(epochs=6), epochs=8, batch_size=32, random_state=0)
clf.set_callbacks(ProgressBar(), monitor, recorder).fit(X_bad, y_bad)
for row in clf.history_[:2]:
    print(row)

# %%
# The first network learns the trigger: the loss of the rows that are flagged in the end comes to
# near zero while that of the others is held. The last network learns that their labels say
# nothing, and gives them no more.
HistoryDisplay.from_estimator(clf, monitor=monitor, recorder=recorder)
plt.show()


# %%
# A callback of your own is any object with these four methods. One that returns True at the end
# of a task stops what the task is a part of: here, the training when it is accurate enough.
class StopWhenAccurate:
    """Ends a phase once the training rows are classified well enough."""

    def __init__(self, accuracy):
        self.accuracy = accuracy

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        return context.task_name == "epoch" and fitted_estimator.score(X, y) >= self.accuracy


stopped = UndefendedClassifier(epochs=60, batch_size=32, random_state=0)
stopped.set_callbacks(StopWhenAccurate(0.9)).fit(X_train, y_train)
print(f"stopped after {len(stopped.history_)} of 60 epochs")

"""Inspection of suspects: displays in scikit-learn's style, a review page, detection power."""

from antibackdoor.inspection._decisions import Decisions, read_decisions
from antibackdoor.inspection._drop import drop_confirmed
from antibackdoor.inspection._estimate import estimate_fit
from antibackdoor.inspection._fit_progress import FitProgress
from antibackdoor.inspection._history_display import HistoryDisplay
from antibackdoor.inspection._isolation_display import IsolationDisplay
from antibackdoor.inspection._loss_recorder import LossRecorder
from antibackdoor.inspection._power import describe_power, detection_power
from antibackdoor.inspection._report import write_report
from antibackdoor.inspection._suspects_display import SuspectsDisplay
from antibackdoor.inspection._tradeoff_display import TradeoffDisplay
from antibackdoor.inspection._trigger_display import TriggerDisplay
from antibackdoor.inspection._verdict import describe_verdict

__all__ = [
    "Decisions",
    "FitProgress",
    "HistoryDisplay",
    "IsolationDisplay",
    "LossRecorder",
    "SuspectsDisplay",
    "TradeoffDisplay",
    "TriggerDisplay",
    "describe_power",
    "describe_verdict",
    "detection_power",
    "drop_confirmed",
    "estimate_fit",
    "read_decisions",
    "write_report",
]

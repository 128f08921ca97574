"""ASR against CA, one mark a defence."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from antibackdoor.benchmark._packages import check_packages
from antibackdoor.inspection import TradeoffDisplay
from antibackdoor.utils import write_whole

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_tradeoff(summary: pandas.DataFrame, ax: Axes | None = None) -> Axes:
    """Plot the attack success rate of each attack against clean accuracy, a mark a defence.

    Parameters
    ----------
    summary : pandas.DataFrame
        As `summarise` returns it. Lines without an attack are left out.
    ax : matplotlib.axes.Axes, default=None
        None: those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not there.

    Examples
    --------
    >>> from antibackdoor.benchmark import Cell, plot_tradeoff, run_cell, summarise
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> plot_tradeoff(summarise([row])).get_xlabel()
    'clean accuracy, % (right is better)'
    """
    ax = _new_figure().add_subplot() if ax is None else ax
    attacked = summary[summary["asr"].notna()]
    display = TradeoffDisplay(
        ca=attacked["ca"],
        asr=attacked["asr"],
        ca_std=attacked["ca_std"],
        asr_std=attacked["asr_std"],
        names=attacked["defense"].astype(str),
    )
    return display.plot(ax).ax_


def save_tradeoff(summary: pandas.DataFrame, path: Path) -> None:
    """Save the plot of `plot_tradeoff` as a PNG file, whole or not at all.

    Raises
    ------
    ImportError
        If matplotlib is not there.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from antibackdoor.benchmark import Cell, run_cell, save_tradeoff, summarise
    >>> row = run_cell(Cell("digits", "badnets", 0.1, "undefended(epochs=1)", n_train=200))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tradeoff(summarise([row]), Path(folder, "tradeoff.png"))
    """
    figure = _new_figure()
    plot_tradeoff(summary, figure.add_subplot())
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_whole(path, picture.getvalue())


def _new_figure() -> Figure:
    check_packages()
    from matplotlib.figure import Figure

    # Not through pyplot: no window, and nothing that another figure of the user would meet.
    return Figure(figsize=(8, 4.5), layout="constrained")

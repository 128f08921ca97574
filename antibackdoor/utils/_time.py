"""A time in words."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Return a time of one unit or two: 40 s, 12 min, 3 h 20 min, 2 days 4 h.

    Examples
    --------
    >>> from antibackdoor.utils import in_words
    >>> in_words(12_000)
    '3 h 20 min'
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} {'day' if days == 1 else 'days'} {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

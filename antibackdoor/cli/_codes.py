"""How a command ends: the exit codes of the process."""

from __future__ import annotations

DONE, FAILED, MISUSED, FOUND, INTERRUPTED = 0, 1, 2, 3, 130

EPILOG = """\
exit codes:
  0    done; of a scan: nothing is flagged
  1    something went wrong on the way, and was said
  2    the command line cannot be used, or what it names cannot
  3    a scan has flagged something
  130  interrupted; what was finished is kept, and is said
"""

"""How a command ends: the exit codes of the process."""

from __future__ import annotations

DONE, FAILED, MISUSED, FOUND, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

EPILOG = """\
exit codes:
  0    done; of a scan: nothing is flagged
  1    something went wrong on the way, and was said: a full disk, a standard output that is closed
  2    the command line cannot be used, or what it names cannot
  3    a scan has flagged something
  130  interrupted by Ctrl-C (SIGINT); what is kept is said
  143  interrupted by SIGTERM; likewise
"""

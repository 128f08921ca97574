"""How a command ends: the exit codes of the process."""

from __future__ import annotations

DONE, FAILED, MISUSED, FOUND, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

EPILOG = """\
exit codes:
  0    done; after a scan: nothing is flagged
  1    failed while running, with a message: disk full, standard output closed
  2    the command line, or a file or folder that it names, is not valid
  3    a scan has flagged something
  130  interrupted by Ctrl-C (SIGINT), with a message on what is kept
  143  interrupted by SIGTERM, with a message on what is kept
"""

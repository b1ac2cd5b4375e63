"""Run a command, its input from ours; end all that came of it when it ends, or when the tests that run this do.

usage: supervised.py COMMAND...
"""

from __future__ import annotations

import sys

from serving.cluster.run.process_tree import Supervisor, die_with_parent

if __name__ == "__main__":
    die_with_parent()
    sys.exit(Supervisor().run(sys.argv[1:], sys.stdin.buffer.read(), {}))

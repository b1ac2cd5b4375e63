"""Imported first by the fork server of engines, so that their processes can be given names later.

setproctitle finds a process's command line from its first environment variable, once, when it is first used. Modules
that change the environment while they are imported may move that variable, and VLLM::EngineCore would go by the name
of the fork server, which whoever looks for processes that were left behind does not know.
"""

from __future__ import annotations

import setproctitle

setproctitle.getproctitle()

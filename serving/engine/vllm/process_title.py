"""First import of the engines' fork server, so that their processes can be renamed later.

setproctitle finds a process's command line from its first environment variable, once, when it is first used. Modules
that change the environment while they are imported may move that variable, and VLLM::EngineCore would go by the name
of the fork server, by which orphans are not found.
"""

from __future__ import annotations

import setproctitle

setproctitle.getproctitle()

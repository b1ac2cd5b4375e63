"""Changes to vLLM; each module names the file and the version that it patches.

WATCHED has the definitions of vLLM that a patch replaces or relies on, LOGGED the messages that it reads;
tests/engine/vllm/patches/ compares both with the installed vLLM.
"""

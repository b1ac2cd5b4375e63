"""Changes to vLLM in its own processes; each names the file and the version that it patches."""

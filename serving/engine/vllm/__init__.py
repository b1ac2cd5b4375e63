"""vLLM as an engine. Only this package imports vllm."""

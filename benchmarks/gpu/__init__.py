"""`make bench-gpu`: this server against vLLM's Python and Rust front ends, on one GPU and made-up weights."""

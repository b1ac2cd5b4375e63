"""POST /tokenize and /detokenize, as vLLM has them."""

"""Wire types of the OpenAI API and SSE framing; knows nothing of engines."""

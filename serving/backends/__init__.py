"""Other servers that answer beside our own engines: reached with OpenAI's client, checked, balanced, and kept."""

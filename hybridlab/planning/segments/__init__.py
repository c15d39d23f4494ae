"""Plain steps put together from instructions that were recorded alone, so that an edit traces what it changed."""

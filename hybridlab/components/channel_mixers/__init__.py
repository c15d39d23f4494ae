"""Channel mixers: what works on each position alone."""

"""Token mixers: what moves information along the sequence."""

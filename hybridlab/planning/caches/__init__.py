"""What a model keeps while it is read one position at a time: its bytes, and states kept for later requests."""

"""What a trace says: pure functions from its columns to frozen records."""

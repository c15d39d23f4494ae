"""What components do in another way on this machine, all alike but for rounding: chunks of scans, layouts."""

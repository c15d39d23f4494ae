"""Precision by component: some compute in bfloat16 or float16 where that is measured to be better, and right enough."""

"""From a memory budget to a plan: what a training step keeps for its backward and what it computes again."""

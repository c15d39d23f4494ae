"""The Memory page: what a step holds, what less memory costs in time, and the plan for a budget, measured."""

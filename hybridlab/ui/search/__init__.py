"""The Search page: set up a search, watch its front grow, choose a point and go on with it."""

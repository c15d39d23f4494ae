"""One file a family of published models, named by its ``model_type``."""

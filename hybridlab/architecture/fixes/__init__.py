"""One-click fixes: for a problem of a text, edits after which it is gone and nothing new is wrong. Free of torch."""

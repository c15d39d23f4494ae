"""From a file, of any size and from anyone, to the columns of a trace."""

"""The report of a verdict as pages, figures and words, on a terminal and in a notebook."""

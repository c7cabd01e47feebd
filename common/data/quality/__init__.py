"""Quality of texts: what removes documents to train on, and for which reason; and subsets of those that stay."""

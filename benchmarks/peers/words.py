"""Words that a peer's module is started with in place of a job."""

SEEN, COMPILE = "--seen", "--compile"  # to say what is here and train nothing, and to try torch.compile too

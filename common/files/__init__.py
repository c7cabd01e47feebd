"""Files: how they are read and written, what they hold, what they are called and whose they are."""

"""`twinscale check-device`: all that tells whether a machine with a GPU trains as it should, in one folder."""

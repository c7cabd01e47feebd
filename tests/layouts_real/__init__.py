"""Random models of the Hugging Face library beside ours of the same tensors, in an environment of their own (`make
layouts`)."""

"""Well-known pairs: models of KerasHub and Keras beside those of transformers and flaxmodels, in an environment of
their own (`make pairs`)."""

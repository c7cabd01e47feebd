"""`twinscale tune`: searches a space of recipes, a training a trial, with Optuna."""

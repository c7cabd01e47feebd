"""How fast a recipe trains, and how long what is still to do takes."""

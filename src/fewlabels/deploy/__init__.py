"""What ships: the artefact, and prediction from it."""

"""What a torch call does: to values (activations, normalisation) and to the places of a map (spatial)."""

"""What a pool is worth: what is in it, what is wrong with it."""

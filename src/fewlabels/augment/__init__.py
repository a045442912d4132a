"""Augmentation: a policy is data, a sampler draws from it, one kernel executes what was drawn."""

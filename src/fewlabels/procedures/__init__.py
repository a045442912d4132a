"""Procedures: sequences of whole runs."""

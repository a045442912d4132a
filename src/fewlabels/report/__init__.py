"""One self-contained HTML file that says how good a run is, and how sure that is."""

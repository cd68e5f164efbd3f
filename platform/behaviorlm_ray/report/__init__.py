"""The report of a run: one HTML file with tables and plots, readable offline, on a phone, light or dark."""

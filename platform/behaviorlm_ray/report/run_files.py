"""What the report of a run is called in its folder."""

REPORT, REPORT_DATA = "report.html", "report.json"
"""The page, and all that is on it; `behaviorlm report` makes the one from the other."""

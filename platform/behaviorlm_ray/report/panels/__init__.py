"""The panels of the report: each makes of the data what one piece of the page shows."""

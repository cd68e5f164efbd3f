"""What a look at a log shows: tables on a terminal, and a page with plots."""

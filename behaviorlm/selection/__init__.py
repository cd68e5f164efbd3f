"""How hard a sample is, and which samples B-Tuning gets."""

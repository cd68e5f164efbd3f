"""What a tuning step reads: schedule and packs."""

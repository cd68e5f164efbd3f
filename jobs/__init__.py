"""What a person submits: one small module for each job, and the configurations."""

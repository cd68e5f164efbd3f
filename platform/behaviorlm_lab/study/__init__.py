"""The comparison that the project is about, on synthetic worlds: few shots, doses of knowledge, seeds; one file a cell."""

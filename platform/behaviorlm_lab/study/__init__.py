"""The comparison that the project is about, on synthetic worlds: few shots, doses of knowledge, seeds, a file each."""

"""The laboratory: synthetic worlds, their truth, studies on them, and pretraining. The core never imports it."""

"""Chat models behind an OpenAI-compatible endpoint, asked what users do next."""

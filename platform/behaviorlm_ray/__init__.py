"""The platform: Ray Data, Ray Train with DeepSpeed, Ray Tune, and the storage they share."""

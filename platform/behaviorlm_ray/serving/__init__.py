"""The service under Ray Serve: the same app, in as many replicas as asked for."""

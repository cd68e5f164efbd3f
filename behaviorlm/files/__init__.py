"""What a file is: found, opened local or on S3, and read patiently."""

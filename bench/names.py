"""What servers and rows agree on."""

BUCKET = "bench"
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "benchmark", "benchmark-secret"

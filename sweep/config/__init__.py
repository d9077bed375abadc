"""The study's configuration: read, validated whole, its errors in the user's words."""

"""The record of what is planned, done and failed, and who may write it."""

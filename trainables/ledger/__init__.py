"""What a study leaves on storage, and how it is read and written: records, seals, files. Neither torch nor
Ray.
"""

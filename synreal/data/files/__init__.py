"""What lies on disk: paths that stay inside a folder, decoding, sets of files, smaller copies, threads."""

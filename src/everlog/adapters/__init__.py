"""One technology's SQL, connection and quirks a folder: delete a folder, lose a technology."""

"""Files API: POST /v1/files, and GET and DELETE of files and their content."""
